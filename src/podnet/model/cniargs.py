"""``CNI_ARGS``: ``K=V;K2=V2`` (CNI CONVENTIONS.md, ``types/args.go`` of the reference)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podnet.errors import InvalidEnvironmentError

if TYPE_CHECKING:
    from collections.abc import Collection

_BOOLEANS = {"1": True, "true": True, "0": False, "false": False}


def parse_cni_args(text: str) -> tuple[tuple[str, str], ...]:
    """Return the pairs of ``CNI_ARGS`` in order.

    Raises:
        InvalidEnvironmentError: a part has not exactly one ``=``; all such parts are named.
    """
    if not text:
        return ()
    parts = [part.split("=") for part in text.split(";")]
    wrong = ["=".join(part) for part in parts if len(part) != 2]
    if wrong:
        named = ", ".join(f"{part!a}" for part in wrong)
        raise InvalidEnvironmentError(f"ARGS: invalid pair {named}", "CNI_ARGS must be K=V;K2=V2")
    return tuple((key, value) for key, value in parts)


def load_args(text: str, known: Collection[str]) -> dict[str, str]:
    """Return the known pairs of ``CNI_ARGS``; of a key given twice the last one counts.

    Keys match with regard to case, as in the reference. ``IgnoreUnknown`` with ``1`` or ``true``
    lets other keys pass, and is itself never returned.

    Raises:
        InvalidEnvironmentError: not pairs, unknown keys, or ``IgnoreUnknown`` is no boolean.
    """
    pairs = parse_cni_args(text)
    ignore = False
    for key, value in pairs:
        if key == "IgnoreUnknown":
            if value.lower() not in _BOOLEANS:
                raise InvalidEnvironmentError(
                    f'ARGS: error parsing value of pair "{key}={value}": not a boolean',
                    "CNI_ARGS takes 1, true, 0 or false for IgnoreUnknown",
                )
            ignore = _BOOLEANS[value.lower()]
    unknown = [f'"{k}={v}"' for k, v in pairs if k not in known and k != "IgnoreUnknown"]
    if unknown and not ignore:
        raise InvalidEnvironmentError(
            f"ARGS: unknown args [{' '.join(unknown)}]",
            f"CNI_ARGS may hold {', '.join(sorted(known)) or 'nothing'} here",
        )
    return {key: value for key, value in pairs if key in known}
