"""Strategies for taking one of the free addresses (the Picker seam)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from podnet.model.addresses import Address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from podnet.model.lease import Owner
    from podnet.model.pool import Pool


@frozen(kw_only=True)
class Ask:
    """What a picker may consider.

    Attributes:
        pool: where the address is handed out from.
        owner: who asks.
        node: node that asks; empty if unknown.
        requested: the one address the owner wants, or None.
    """

    pool: Pool
    owner: Owner
    node: str = ""
    requested: Address | None = None


class Lowest:
    """Takes the lowest free address, as whereabouts does."""

    def pick(self, free: Iterator[tuple[int, int]], ask: object) -> int | None:  # noqa: ARG002
        """Return the lowest number of ``free``, or None if there is none."""
        for low, _ in free:
            return low
        return None


class Requested:
    """Takes the address that was asked for, or none."""

    def pick(self, free: Iterator[tuple[int, int]], ask: object) -> int | None:
        """Return ``ask.requested`` if it is free."""
        wanted = ask.requested.value if isinstance(ask, Ask) and ask.requested else None
        if wanted is None:
            return None
        for low, high in free:
            if wanted <= high:
                return wanted if wanted >= low else None
        return None
