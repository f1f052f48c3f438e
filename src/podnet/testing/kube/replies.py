"""Answers of the API server that are not objects: ``Status`` documents of failures.

Codes, reasons and texts are those of ``k8s.io/apimachinery/pkg/api/errors`` and of the storage
layer of ``k8s.io/apiserver`` (1.31).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


class Refusal(Exception):  # noqa: N818 - an answer, not a mistake of this program
    """A request that gets a ``Status`` instead of an object.

    Attributes:
        code: HTTP status.
        reason: machine-readable reason; empty where the API server gives none.
        message: text for people.
        details: the ``details`` of the ``Status``, without ``causes``.
        causes: ``(reason, message, field)`` of each single mistake.
        headers: further HTTP headers.
        meta: ``metadata`` of the ``Status``; the continue token of an expired list stands there.
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: dict[str, Any] | None = None,
        causes: Iterable[tuple[str, str, str]] = (),
        headers: dict[str, str] | None = None,
        meta: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = dict(details or {})
        self.causes = list(causes)
        self.headers = dict(headers or {})
        self.meta = dict(meta or {})

    def status(self) -> dict[str, Any]:
        """Return the ``Status`` object."""
        details = dict(self.details)
        if self.causes:
            keys = ("reason", "message", "field")
            details["causes"] = [dict(zip(keys, cause, strict=True)) for cause in self.causes]
        found: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": self.meta,
            "status": "Failure",
            "message": self.message,
            "code": self.code,
        }
        if self.reason:
            found["reason"] = self.reason
        if details:
            found["details"] = details
        return found


def bad_request(message: str) -> Refusal:
    """The request cannot be understood (400)."""
    return Refusal(400, "BadRequest", message)


def not_found(resource: str, name: str) -> Refusal:
    """There is no such object (404)."""
    return Refusal(
        404, "NotFound", f'{resource} "{name}" not found', details=_about(resource, name)
    )


def no_such_path() -> Refusal:
    """There is no such resource (404)."""
    return Refusal(404, "NotFound", "the server could not find the requested resource")


def already_exists(resource: str, name: str) -> Refusal:
    """An object of that name exists (409)."""
    message = f'{resource} "{name}" already exists'
    return Refusal(409, "AlreadyExists", message, details=_about(resource, name))


def conflict(resource: str, name: str, why: str = "") -> Refusal:
    """The object is not at the version that the request names (409)."""
    why = why or (
        "the object has been modified; please apply your changes to the latest version and try "
        "again"
    )
    message = f'Operation cannot be fulfilled on {resource} "{name}": {why}'
    return Refusal(409, "Conflict", message, details=_about(resource, name))


def invalid(
    resource: str, kind: str, name: str, mistakes: Iterable[tuple[str, str, str]]
) -> Refusal:
    """The object breaks its schema or the rules of object metadata (422).

    Args:
        resource: plural with its group.
        kind: of the object.
        name: of the object.
        mistakes: ``(reason, message, field)`` of each.
    """
    causes = list(mistakes)
    shown = [f"{field}: {message}" for _, message, field in causes]
    text = shown[0] if len(shown) == 1 else f"[{', '.join(shown)}]"
    group = resource.partition(".")[2]
    return Refusal(
        422,
        "Invalid",
        f'{kind}{"." + group if group else ""} "{name}" is invalid: {text}',
        details={"name": name, "group": group, "kind": kind},
        causes=causes,
    )


def unprocessable(message: str) -> Refusal:
    """A patch cannot be applied, a JSON Patch ``test`` that fails included (422)."""
    return Refusal(422, "Invalid", message)


def gone(message: str = "too old resource version", meta: dict[str, Any] | None = None) -> Refusal:
    """What the request refers to was compacted (410)."""
    return Refusal(410, "Expired", message, meta=meta)


def unauthorized() -> Refusal:
    """The bearer token is missing, unknown or expired (401)."""
    return Refusal(401, "Unauthorized", "Unauthorized")


def forbidden(verb: str, resource: str, name: str) -> Refusal:
    """The token's roles do not allow it (403)."""
    message = f'{resource} "{name}" is forbidden: cannot {verb} resource "{resource}"'
    return Refusal(403, "Forbidden", message, details=_about(resource, name))


def throttled(seconds: int, code: int = 429) -> Refusal:
    """Try again later (429, or 503 while the API server starts or stops)."""
    reason = "TooManyRequests" if code == 429 else "ServiceUnavailable"
    message = "the server is currently unable to handle the request"
    if code == 429:
        message = "the server has received too many requests and has asked us to try again later"
    return Refusal(
        code,
        reason,
        message,
        details={"retryAfterSeconds": seconds},
        headers={"Retry-After": str(seconds)},
    )


def body_too_large() -> Refusal:
    """The request's body is over the API server's limit (413)."""
    message = "Request entity too large: limit is 3145728"
    return Refusal(413, "RequestEntityTooLarge", message)


def object_too_large() -> Refusal:
    """The object is over etcd's limit; it comes without a reason (500)."""
    return Refusal(500, "", "etcdserver: request is too large")


def version_on_create() -> Refusal:
    """A new object names a resourceVersion (500, as the storage layer's errors are)."""
    return Refusal(500, "", "resourceVersion should not be set on objects to be created")


def _about(resource: str, name: str) -> dict[str, Any]:
    plural, _, group = resource.partition(".")
    return {"name": name, "group": group, "kind": plural}
