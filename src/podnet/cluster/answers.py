"""What the API server says instead of giving an object, as exceptions.

A refusal that callers act on has a class of its own; all are ``StoreError``. What a retry can
help is a ``TryAgainLaterError`` as well and has its code 11.
"""

from __future__ import annotations

from typing import Any

from podnet.errors import Fault, InvalidConfigError, PodnetError, StoreError, TryAgainLaterError


class RefusedError(StoreError):
    """The API server refused a request and changed nothing.

    Attributes:
        status: HTTP status.
        reason: ``reason`` of the ``Status`` object; empty if it has none.
        causes: ``field`` of each of its causes.
    """

    def __init__(self, msg: str, details: str = "", *, status: int = 0, reason: str = "") -> None:
        super().__init__(msg, details)
        self.status = status
        self.reason = reason
        self.causes: tuple[str, ...] = ()


class MissingError(RefusedError):
    """There is no such object (404)."""


class ExistsError(RefusedError):
    """An object of that name exists already (409 AlreadyExists)."""


class ConflictError(RefusedError):
    """The object is at another version, has another UID, or a field another owner (409)."""


class InvalidObjectError(RefusedError):
    """The object breaks its schema, or a JSON Patch ``test`` failed (422)."""


class ExpiredError(RefusedError):
    """The resourceVersion or continue token is too old (410): list again."""


class TooLargeError(RefusedError):
    """The object is larger than the API server or etcd takes (413, or 500 by etcd)."""


class DeniedError(RefusedError):
    """The credentials are not accepted (401), or do not allow this (403)."""


class UnreachableError(TryAgainLaterError, StoreError):
    """Nothing was changed, and a retry can help: no connection, throttled, out of time (11)."""

    fault = Fault.STORE


class UnknownOutcomeError(TryAgainLaterError, StoreError):
    """A write was sent and its reply was lost: whether it took effect is not known (11).

    Attributes:
        again_after: seconds to wait before it is repeated, if the answer asked for some.
    """

    fault = Fault.STORE

    def __init__(self, msg: str, details: str = "", *, again_after: float = 0.0) -> None:
        super().__init__(msg, details)
        self.again_after = again_after


_BY_REASON: dict[str, type[RefusedError]] = {
    "AlreadyExists": ExistsError,
    "Conflict": ConflictError,
    "NotFound": MissingError,
    "Gone": ExpiredError,
    "Expired": ExpiredError,
    "Invalid": InvalidObjectError,
    "RequestEntityTooLarge": TooLargeError,
    "Unauthorized": DeniedError,
    "Forbidden": DeniedError,
}
_BY_CODE: dict[int, type[RefusedError]] = {
    401: DeniedError,
    403: DeniedError,
    404: MissingError,
    409: ConflictError,
    410: ExpiredError,
    413: TooLargeError,
    422: InvalidObjectError,
}
_LONGEST = 600


def refusal(what: str, code: int, document: object) -> PodnetError:
    """Return the exception for an answer that is no success.

    Args:
        what: the request, such as ``patch ipblocks.ipam.podnet.dev/a``.
        code: HTTP status.
        document: the body's JSON values, a ``Status`` object if it came from the API server.
    """
    status: dict[str, Any] = document if is_status(document) else {}  # type: ignore[assignment]
    reason, details = str(status.get("reason") or ""), status.get("details") or {}
    said = str(status.get("message") or f"HTTP status {code}")[:_LONGEST]
    if code == 404 and not details.get("name"):
        # A Status about an object names it; this one is about the whole resource.
        hint = "the cluster does not know this resource; `podnet ipam crds` prints its definition"
        return InvalidConfigError(f"cannot {what}: {hint}")
    kind = _BY_REASON.get(reason) or _BY_CODE.get(code, RefusedError)
    if "request is too large" in said:
        kind = TooLargeError
    error = kind(f"cannot {what}", said, status=code, reason=reason)
    error.causes = tuple(str(cause.get("field", "")) for cause in details.get("causes") or ())
    return error


def is_status(document: object) -> bool:
    """Tell whether a document is the API server's own ``Status`` of a failure."""
    return (
        isinstance(document, dict)
        and document.get("kind") == "Status"
        and document.get("status") != "Success"
    )
