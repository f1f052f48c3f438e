"""JSON Patch (RFC 6902) and JSON merge patch (RFC 7386) that leave what they are given unchanged.

Parts of a document that a patch does not touch are the same objects before and after, so that
checking them again can be left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from podnet.testing.kube.replies import Refusal, bad_request, unprocessable

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_OPERATIONS = 10_000
"""``maxJSONPatchOperations`` of k8s.io/apiserver."""

_MISSING = object()


def merge(old: Any, patch: Any) -> Any:
    """Return what a JSON merge patch makes of a document."""
    if not isinstance(patch, dict):
        return patch
    new = dict(old) if isinstance(old, dict) else {}
    for name, value in patch.items():
        if value is None:
            new.pop(name, None)
        else:
            new[name] = merge(new.get(name), value)
    return new


def json_patch(old: Any, operations: Any) -> Any:
    """Return what a JSON Patch makes of a document.

    As in the API server's library (evanphx/json-patch), ``test`` against null succeeds where
    there is nothing; whereabouts relies on it.

    Raises:
        Refusal: it is no patch (400), has too many operations (413), or cannot be applied (422).
    """
    if not isinstance(operations, list) or not all(isinstance(op, dict) for op in operations):
        raise bad_request("error decoding patch: it is no list of operations")
    if len(operations) > MOST_OPERATIONS:
        message = f"The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}"
        raise Refusal(413, "RequestEntityTooLarge", message)
    document = old
    for operation in operations:
        try:
            document = _apply(document, operation)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise unprocessable(
                f"the server rejected our request due to an error in our request: {error}"
            ) from error
    return document


def _apply(document: Any, operation: dict[str, Any]) -> Any:
    name, tokens = operation.get("op"), _tokens(operation.get("path"))
    if name == "test":
        found = _get(document, tokens)
        found = None if found is _MISSING else found
        if found != operation.get("value") or type(found) is not type(operation.get("value")):
            raise ValueError(f"testing path {operation['path']} failed")
        return document
    if name in ("add", "replace") and "value" not in operation:
        raise ValueError(f"{name} operation without value")
    if name == "add":
        return _change(document, tokens, lambda part, key: _add(part, key, operation["value"]))
    if name == "replace":
        if _get(document, tokens) is _MISSING:
            raise KeyError(f"replace operation does not apply: no path {operation['path']}")
        return _change(document, tokens, lambda part, key: _set(part, key, operation["value"]))
    if name == "remove":
        return _change(document, tokens, _remove)
    if name in ("move", "copy"):
        source = _tokens(operation.get("from"))
        value = _get(document, source)
        if value is _MISSING:
            raise KeyError(f"{name} operation does not apply: no path {operation['from']}")
        if name == "move":
            document = _change(document, source, _remove)
        return _change(document, tokens, lambda part, key: _add(part, key, value))
    raise ValueError(f"unexpected kind: {name}")


def _tokens(path: Any) -> list[str]:
    if not isinstance(path, str) or (path and not path.startswith("/")):
        raise ValueError(f"{path!r} is no JSON pointer")
    return [token.replace("~1", "/").replace("~0", "~") for token in path.split("/")[1:]]


def _get(document: Any, tokens: list[str]) -> Any:
    for token in tokens:
        if isinstance(document, dict):
            document = document.get(token, _MISSING)
        elif isinstance(document, list):
            number = int(token)
            document = document[number] if 0 <= number < len(document) else _MISSING
        else:
            return _MISSING
    return document


def _change(document: Any, tokens: list[str], change: Callable[[Any, str], None]) -> Any:
    """Return the document with its containers on the way to a path copied, the last one changed."""
    if not tokens:
        holder = {"": document}
        change(holder, "")
        return holder.get("")
    copy = dict(document) if isinstance(document, dict) else list(document)
    first, *rest = tokens
    if not rest:
        change(copy, first)
        return copy
    key: Any = first if isinstance(copy, dict) else int(first)
    if isinstance(copy, dict) and key not in copy:
        raise KeyError(f"no path /{'/'.join(tokens)}")
    copy[key] = _change(copy[key], rest, change)
    return copy


def _add(part: Any, key: str, value: Any) -> None:
    if isinstance(part, dict):
        part[key] = value
        return
    number = len(part) if key == "-" else int(key)
    if not 0 <= number <= len(part):
        raise IndexError(f"index {key} is out of range")
    part.insert(number, value)


def _set(part: Any, key: str, value: Any) -> None:
    part[key if isinstance(part, dict) else int(key)] = value


def _remove(part: Any, key: str) -> None:
    if isinstance(part, dict):
        if key not in part:
            raise KeyError(f"remove operation does not apply: no key {key}")
        del part[key]
    else:
        del part[int(key)]
