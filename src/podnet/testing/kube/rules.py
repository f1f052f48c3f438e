"""What every write is held to: types, schemas, names, and what the client must not set."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from podnet.testing.kube import naming, replies

if TYPE_CHECKING:
    from podnet.testing.kube.kinds import Kind
    from podnet.testing.kube.requests import Request
    from podnet.testing.kube.schema import Mistake


def checked(
    kind: Kind, new: dict[str, Any], old: dict[str, Any] | None, request: Request
) -> dict[str, Any]:
    """Return the object pruned and with defaults, or refuse it."""
    meta, name = new["metadata"], new["metadata"].get("name") or ""
    mistakes: list[Mistake] = []
    if old is None:
        if name:
            mistakes += naming.name_mistakes(name, label=kind.labels)
        else:
            text = "Required value: name or generateName is required"
            mistakes.append(("FieldValueRequired", text, "metadata.name"))
    mistakes += naming.meta_mistakes(meta)
    if kind.schema is not None:
        dropped: list[str] = []
        content = {k: v for k, v in new.items() if k not in ("apiVersion", "kind", "metadata")}
        content = kind.schema.fill(kind.schema.prune(content, old, "", dropped))
        if dropped and request.query.get("fieldValidation") == "Strict":
            shown = ", ".join(f'unknown field "{path}"' for path in dropped)
            raise replies.bad_request(f"strict decoding error: {shown}")
        kind.schema.check(content, old, "", mistakes)
        new = {
            "apiVersion": new["apiVersion"],
            "kind": new["kind"],
            "metadata": meta,
            **content,
        }
    if mistakes:
        raise replies.invalid(kind.resource, kind.kind, name, mistakes)
    return new


def must_be(kind: Kind, document: Any) -> None:
    """Refuse what is no object of the kind (400)."""
    if not isinstance(document, dict):
        raise replies.bad_request("the body is no object")
    for name, wanted in (("apiVersion", kind.api_version), ("kind", kind.kind)):
        if document.get(name) != wanted:
            raise replies.bad_request(
                f"{name} in the data ({document.get(name) or ''}) does not match the expected "
                f"{name} ({wanted})"
            )


def meta_of(document: dict[str, Any]) -> dict[str, Any]:
    """Return ``metadata`` without what is null."""
    meta = document.get("metadata")
    if meta is not None and not isinstance(meta, dict):
        raise replies.bad_request("metadata is no object")
    return {name: value for name, value in (meta or {}).items() if value is not None}


def limited(kind: Kind, sub: str, new: dict[str, Any], current: dict[str, Any]) -> dict[str, Any]:
    """Return the new state with what this resource must not change as it was."""
    if not kind.status:
        return new
    if sub == "status":
        kept = {**current, "metadata": new["metadata"]}
        kept.pop("status", None)
        return {**kept, "status": new["status"]} if "status" in new else kept
    kept = {name: value for name, value in new.items() if name != "status"}
    return {**kept, "status": current["status"]} if "status" in current else kept


def spec_of(kind: Kind, document: dict[str, Any]) -> dict[str, Any]:
    """Return what counts for the generation: all but metadata, and status if it is apart."""
    left_out = ("metadata", "status") if kind.status else ("metadata",)
    return {name: value for name, value in document.items() if name not in left_out}


def is_same(new: dict[str, Any], old: dict[str, Any]) -> bool:
    """Tell whether an update changes nothing: then the API server writes nothing."""
    for name in new.keys() | old.keys():
        if new.get(name) is old.get(name):
            continue
        one, two = new.get(name), old.get(name)
        if name == "metadata":
            one = {k: v for k, v in one.items() if k != "managedFields"}  # type: ignore[union-attr]
            two = {k: v for k, v in two.items() if k != "managedFields"}  # type: ignore[union-attr]
        if one != two:
            return False
    return True


def read_yaml(request: Request) -> Any:
    """Return the JSON values of a body that may be YAML, or refuse it (400)."""
    if request.body.lstrip()[:1] == b"{":
        return request.json()
    import yaml

    try:
        return yaml.safe_load(request.body)
    except yaml.YAMLError as error:
        raise replies.bad_request(f"error decoding YAML: {error}") from error


def other_uid(wanted: str, current: dict[str, Any]) -> str:
    """Return why an object is another than the caller means."""
    have = current["metadata"]["uid"]
    return f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {have}"


def now() -> str:
    """Return the time as metadata has it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
