"""CNI specification versions: which there are, their order, and what each brought."""

from __future__ import annotations

from podnet.errors import IncompatibleVersionError

SUPPORTED = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
CURRENT = SUPPORTED[-1]

# The version that brought each verb. VERSION carries no configuration, so none can refuse it.
SINCE = {
    "ADD": "0.1.0",
    "DEL": "0.1.0",
    "VERSION": "0.1.0",
    "CHECK": "0.4.0",
    "GC": "1.1.0",
    "STATUS": "1.1.0",
}

# libcni hands the cached result to DEL from this version on (api.go, delNetwork).
DEL_PREV_RESULT_SINCE = "0.4.0"

# Results of the same shape: each is one Go type of the reference, which takes them for each other.
FAMILIES = (("0.1.0", "0.2.0"), ("0.3.0", "0.3.1", "0.4.0"), ("1.0.0", "1.1.0"))


def parse_version(text: str) -> tuple[int, int, int]:
    """Return a version as numbers that order as versions do.

    Missing parts are 0, as in the reference (``version.ParseVersion``): ``"1.1"`` is 1.1.0.

    Raises:
        ValueError: it is none; the message quotes it.
    """
    parts = text.split(".")
    if len(parts) > 3 or not all(p.isascii() and p.isdigit() and len(p) < 10 for p in parts):
        raise ValueError(f'"{text}" is not a version (major.minor.micro)')
    major, minor, micro = (*map(int, parts), 0, 0)[:3]
    return major, minor, micro


def reconcile(config_version: str) -> str:
    """Return the version to speak: the configuration's, 0.1.0 where it names none.

    0.1.0 rather than the 0.2.0 of the specification's prose: it is what every peer's code does
    (``types/create/create.go``, DecodeVersion).

    Raises:
        IncompatibleVersionError: it is not one of ``SUPPORTED``, compared as text.
    """
    version = config_version or SUPPORTED[0]
    if version not in SUPPORTED:
        known = " ".join(f'"{each}"' for each in SUPPORTED)
        raise IncompatibleVersionError(
            "incompatible CNI versions",
            f'config is "{version[:64]}", plugin supports [{known}]',
        )
    return version


def at_least(version: str, other: str) -> bool:
    """Tell whether the supported ``version`` is ``other`` or newer."""
    return SUPPORTED.index(version) >= SUPPORTED.index(other)


def allows(version: str, verb: str) -> bool:
    """Tell whether the supported ``version`` has the verb."""
    return at_least(version, SINCE[verb])


def check_verb(version: str, verb: str) -> None:
    """Let the verb pass if the supported ``version`` has it.

    Raises:
        IncompatibleVersionError: it has not.
    """
    if not allows(version, verb):
        raise IncompatibleVersionError(
            f"config version does not allow {verb}",
            f'config is "{version}", {verb} came with "{SINCE[verb]}"',
        )


def family(version: str) -> tuple[str, ...]:
    """Return the versions whose results have the same shape as those of ``version``."""
    return next(each for each in FAMILIES if version in each)


def requires_address(version: str) -> bool:
    """Tell whether a result of that version cannot be told without an IP address.

    0.1.0 and 0.2.0 know only ``ip4`` and ``ip6``; an interface without address has no place there.
    """
    return version in FAMILIES[0]
