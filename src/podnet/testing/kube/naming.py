"""Rules of object metadata: names, labels, annotations, selectors (k8s.io/apimachinery)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from podnet.testing.kube.replies import Refusal, bad_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from podnet.testing.kube.schema import Mistake

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_ANNOTATIONS_MOST = 256 * 1024

_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character"
)
_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
    "must start and end with an alphanumeric character"
)


def name_mistakes(name: str, *, label: bool) -> list[Mistake]:
    """Return what is wrong with an object's name."""
    most, form, rule = (63, _LABEL, _LABEL_RULE) if label else (253, _SUBDOMAIN, _SUBDOMAIN_RULE)
    found: list[Mistake] = []
    if len(name) > most:
        text = f'Invalid value: "{name}": must be no more than {most} bytes'
        found.append(("FieldValueInvalid", text, "metadata.name"))
    if not form.fullmatch(name):
        found.append(("FieldValueInvalid", f'Invalid value: "{name}": {rule}', "metadata.name"))
    return found


def meta_mistakes(meta: dict[str, Any]) -> list[Mistake]:
    """Return what is wrong with labels, annotations and finalizers."""
    found: list[Mistake] = []
    for kind in ("labels", "annotations"):
        values = meta.get(kind)
        if values is None:
            continue
        if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
            raise bad_request(f"metadata.{kind}: must be a map of strings to strings")
        where = f"metadata.{kind}"
        found += [
            ("FieldValueInvalid", f'Invalid value: "{key}": is no qualified name', where)
            for key in values
            if not is_qualified(key)
        ]
    for value in (meta.get("labels") or {}).values():
        if not is_label_value(value):
            text = f'Invalid value: "{value}": a valid label must be an empty string or consist of '
            text += "alphanumeric characters, '-', '_' or '.', at most 63"
            found.append(("FieldValueInvalid", text, "metadata.labels"))
    pairs = (meta.get("annotations") or {}).items()
    size = sum(len(key.encode()) + len(value.encode()) for key, value in pairs)
    if size > _ANNOTATIONS_MOST:
        text = f"Too long: may not be more than {_ANNOTATIONS_MOST} bytes"
        found.append(("FieldValueTooLong", text, "metadata.annotations"))
    found += [
        ("FieldValueInvalid", f'Invalid value: "{name}": is no qualified name', "finalizers")
        for name in meta.get("finalizers") or ()
        if not is_qualified(name)
    ]
    return found


def is_qualified(key: str) -> bool:
    """Tell whether a text is a name of at most 63 characters with an optional DNS prefix."""
    prefix, slash, name = key.rpartition("/")
    if slash and (not _SUBDOMAIN.fullmatch(prefix) or len(prefix) > 253):
        return False
    return 0 < len(name) <= 63 and bool(_QUALIFIED.fullmatch(name))


def is_label_value(value: str) -> bool:
    """Tell whether a text may be a label's value."""
    return value == "" or (len(value) <= 63 and bool(_QUALIFIED.fullmatch(value)))


Test = "Callable[[dict[str, str]], bool]"

_SET = re.compile(r"\s*(\S+)\s+(in|notin)\s*\(([^)]*)\)\s*")


def label_selector(text: str) -> Callable[[dict[str, str]], bool] | None:
    """Read a label selector; None selects everything.

    Raises:
        Refusal: it cannot be read (400).
    """
    tests = [_label_test(part) for part in re.split(r",(?![^(]*\))", text) if part.strip()]
    return (lambda labels: all(test(labels) for test in tests)) if tests else None


def _label_test(part: str) -> Callable[[dict[str, str]], bool]:
    if match := _SET.fullmatch(part):
        key, word, values = match[1], match[2], {value.strip() for value in match[3].split(",")}
        _must_be_key(key)
        if word == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    for sign in ("!=", "==", "="):
        key, found, value = (piece.strip() for piece in part.partition(sign))
        if not found:
            continue
        _must_be_key(key)
        if not is_label_value(value):
            raise _unreadable(part)
        if sign == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    name = part.strip()
    _must_be_key(name.removeprefix("!").strip())
    if name.startswith("!"):
        return lambda labels: name.removeprefix("!").strip() not in labels
    return lambda labels: name in labels


def _must_be_key(key: str) -> None:
    if not is_qualified(key):
        raise _unreadable(key)


def _unreadable(part: str) -> Refusal:
    return bad_request(f"unable to parse requirement: {part!r}")


def field_selector(text: str, known: frozenset[str]) -> Callable[[dict[str, str]], bool] | None:
    """Read a field selector; None selects everything.

    Args:
        text: such as ``spec.nodeName=a,metadata.name!=b``.
        known: fields that the kind lets select by.

    Raises:
        Refusal: it cannot be read, or names another field (400).
    """
    tests: list[Callable[[dict[str, str]], bool]] = []
    for part in filter(str.strip, text.split(",")):
        negative = "!=" in part
        key, sign, value = part.replace("!=", "=").replace("==", "=").partition("=")
        key, value = key.strip(), value.strip()
        if not sign:
            raise bad_request(f"invalid selector: {part!r}")
        if key not in known:
            raise bad_request(f"field label not supported: {key}")
        tests.append(_field_test(key, value, negative=negative))
    return (lambda fields: all(test(fields) for test in tests)) if tests else None


def _field_test(key: str, value: str, *, negative: bool) -> Callable[[dict[str, str]], bool]:
    return lambda fields: (fields.get(key, "") == value) != negative
