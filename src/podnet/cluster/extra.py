"""What the extra ``kubernetes`` brings, and what is said where it is not installed."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from podnet.errors import InvalidConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

_GUESTS = ("lightkube", "httpx2", "msgspec", "yaml")


@contextmanager
def needed_by(url: str) -> Iterator[None]:
    """Import what talks to a cluster inside.

    Raises:
        InvalidConfigError: it is not installed.
    """
    try:
        yield
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in _GUESTS:
            raise
        raise InvalidConfigError(
            f"{url!r} needs {error.name}, which is not installed: "
            "install podnet with its extra 'kubernetes'"
        ) from error
