"""The exception tree: every class fixes its CNI error code and whose fault it is.

Codes 1-8, 11, 50 and 51 are those of the CNI specification 1.1.0 ("Error") and of
``pkg/types/types.go`` (8, invalid network namespace); 100 and above are podnet's own.
"""

from __future__ import annotations

import enum

TYPE_CHECKING = False  # `typing` costs 8 ms of import, and every process imports this module
if TYPE_CHECKING:
    from collections.abc import Sequence


class Fault(enum.Enum):
    """Whose mistake an error is: who has to act before a retry can help."""

    CONFIGURATION = "configuration"
    RUNTIME = "runtime"
    DELEGATE = "delegate"
    KERNEL = "kernel"
    STORE = "store"
    PODNET = "podnet"


class PodnetError(Exception):
    """Root of all errors podnet raises on purpose.

    Attributes:
        code: CNI error code printed for it.
        fault: whose mistake it is.
        msg: one line naming what went wrong and where.
        details: optional longer text; empty when there is none.
    """

    code: int = 999
    fault: Fault = Fault.PODNET

    def __init__(self, msg: str, details: str = "") -> None:
        super().__init__(msg)
        self.msg = msg
        self.details = details

    def __str__(self) -> str:
        return f"{self.msg}: {self.details}" if self.details else self.msg


class IncompatibleVersionError(PodnetError):
    """The configuration's ``cniVersion`` is not supported, or the verb is not in it (code 1)."""

    code = 1
    fault = Fault.CONFIGURATION


class UnsupportedFieldError(PodnetError):
    """A field of the configuration is valid but not supported; names key and value (code 2)."""

    code = 2
    fault = Fault.CONFIGURATION


class UnknownContainerError(PodnetError):
    """The container is unknown or does not exist; no DEL is needed (code 3)."""

    code = 3
    fault = Fault.RUNTIME


class InvalidEnvironmentError(PodnetError):
    """A ``CNI_*`` variable is missing or invalid; the message names it (code 4)."""

    code = 4
    fault = Fault.RUNTIME


class IOFailureError(PodnetError):
    """Reading standard input, or a file, failed (code 5)."""

    code = 5
    fault = Fault.RUNTIME


class DecodingError(PodnetError):
    """A document is not the JSON, YAML or structure it has to be (code 6)."""

    code = 6
    fault = Fault.CONFIGURATION


class InvalidConfigError(PodnetError):
    """The network configuration has mistakes; all of them are listed (code 7).

    Attributes:
        mistakes: ``(path, what)`` pairs, path in the document such as ``ipam.range``.
    """

    code = 7
    fault = Fault.CONFIGURATION

    def __init__(self, msg: str, mistakes: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(msg, "; ".join(f"{path}: {what}" for path, what in mistakes))
        self.mistakes = mistakes


class InvalidNetnsError(PodnetError):
    """``CNI_NETNS`` is no network namespace, or is the plugin's own (code 8)."""

    code = 8
    fault = Fault.RUNTIME


class NetnsMissingError(InvalidNetnsError):
    """The network namespace does not exist, or exists no more (code 8)."""


class NotNetnsError(InvalidNetnsError):
    """The path leads to another file than a namespace, or to the host's own one (code 8)."""


class TryAgainLaterError(PodnetError):
    """A passing fault: a retry of the same call can succeed (code 11)."""

    code = 11
    fault = Fault.RUNTIME


class DeadlineError(TryAgainLaterError):
    """A step did not end before its deadline (code 11)."""


class NotAvailableError(PodnetError):
    """STATUS: the plugin cannot serve ADD (code 50)."""

    code = 50
    fault = Fault.RUNTIME


class PoolExhaustedError(PodnetError):
    """No address of the pool is free; details say how many are held (code 100)."""

    code = 100
    fault = Fault.CONFIGURATION


class AddressUnavailableError(PodnetError):
    """A requested address is outside the pool, excluded, reserved or held (code 101)."""

    code = 101
    fault = Fault.CONFIGURATION


class InterfaceExistsError(PodnetError):
    """An interface of the requested name is already in the sandbox; it is left alone (code 102)."""

    code = 102
    fault = Fault.RUNTIME


class LinkNotFoundError(PodnetError):
    """A link that the configuration names, such as the master, does not exist (code 103)."""

    code = 103
    fault = Fault.CONFIGURATION


class KernelError(PodnetError):
    """The kernel refused an operation; the message names the operation and the errno (code 104)."""

    code = 104
    fault = Fault.KERNEL


class CheckFailedError(PodnetError):
    """CHECK: what exists differs from what the attachment needs; all differences listed (105)."""

    code = 105
    fault = Fault.RUNTIME


class StoreError(PodnetError):
    """The store is broken or unreachable; a lost race is never this (code 106)."""

    code = 106
    fault = Fault.STORE


class StoreBusyError(TryAgainLaterError, StoreError):
    """Others held the store for too long, or it is about to start; nothing was changed (11)."""

    fault = Fault.STORE


class RecordError(PodnetError):
    """A journal record cannot be read; it is reported, never taken for success (code 107).

    Attributes:
        place: role, network, container id and interface name that the file's name tells; empty
            texts where it cannot be known.
        settled: what the record kept was undone, and it was moved aside.
        passing: the disk did not give it just now; it may be good, and stays where it is.
    """

    code = 107
    fault = Fault.PODNET
    place: tuple[str, str, str, str] = ("", "", "", "")
    settled: bool = False
    passing: bool = False


class PluginNotFoundError(PodnetError):
    """No built-in and nothing executable in CNI_PATH has the delegate's name (code 108)."""

    code = 108
    fault = Fault.CONFIGURATION


class NetworkNotFoundError(PodnetError):
    """A selected network has no definition (code 109)."""

    code = 109
    fault = Fault.CONFIGURATION


class DelegateError(PodnetError):
    """A delegate failed; carries the delegate's own code, or 999 where it told none."""

    fault = Fault.DELEGATE

    def __init__(self, msg: str, details: str = "", code: int = 999) -> None:
        super().__init__(msg, details)
        self.code = code


def together(errors: Sequence[PodnetError]) -> PodnetError:
    """Return the first of several errors, with the others in its details."""
    first, *others = errors
    first.details = "; ".join(filter(None, (first.details, *map(str, others))))
    return first
