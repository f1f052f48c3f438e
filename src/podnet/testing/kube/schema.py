"""Structural schemas: pruning, defaulting and validation as the API server does them.

The rules are those of the Kubernetes documentation, "Extend the Kubernetes API with
CustomResourceDefinitions". A schema that this cannot hold objects to is refused when it is
registered, never half obeyed.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

Mistake = tuple[str, str, str]
"""``(reason, message, field)`` as in the causes of a ``Status``."""

_KNOWN = frozenset(
    [
        "type",
        "properties",
        "additionalProperties",
        "items",
        "required",
        "enum",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "minLength",
        "maxLength",
        "pattern",
        "format",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "multipleOf",
        "nullable",
        "default",
        "description",
        "title",
        "example",
        "externalDocs",
        "anyOf",
        "oneOf",
        "allOf",
        "not",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-int-or-string",
        "x-kubernetes-embedded-resource",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-map-type",
    ]
)
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "array": (list,),
    "object": (dict,),
}
_SIZES: dict[type, tuple[str, str, str]] = {
    str: ("minLength", "maxLength", "chars long"),
    list: ("minItems", "maxItems", "items"),
    dict: ("minProperties", "maxProperties", "properties"),
}
_ANYTHING = "x-kubernetes-preserve-unknown-fields"
_INT_OR_STRING = "x-kubernetes-int-or-string"
_COMBINED = ("anyOf", "oneOf", "allOf")


class Schema:
    """One node of a structural schema, with those below it."""

    def __init__(self, raw: dict[str, Any], path: str = "") -> None:
        """Read a schema.

        Raises:
            ValueError: it is not structural, or has a keyword that cannot be held to.
        """
        unknown = sorted(raw.keys() - _KNOWN)
        if unknown:
            raise ValueError(f"schema of {path or '.'}: {unknown[0]} cannot be enforced here")
        self.raw = raw
        self.path = path
        self.anything = bool(raw.get(_ANYTHING))
        self.int_or_string = bool(raw.get(_INT_OR_STRING))
        self.type = str(raw.get("type", ""))
        if self.type and self.type not in _TYPES:
            raise ValueError(f"schema of {path or '.'}: there is no type {self.type!r}")
        if not self.type and not self.anything and not self.int_or_string:
            raise ValueError(f"schema of {path or '.'}: type is missing, it is not structural")
        self.properties = {
            name: Schema(below, f"{path}.{name}")
            for name, below in raw.get("properties", {}).items()
        }
        more = raw.get("additionalProperties")
        if more is not None and self.properties:
            raise ValueError(f"schema of {path}: properties and additionalProperties exclude")
        self.more = Schema(more, f"{path}[*]") if isinstance(more, dict) else None
        self.open = self.anything or more is True
        items = raw.get("items")
        if self.type == "array" and not isinstance(items, dict):
            raise ValueError(f"schema of {path}: an array needs items, it is not structural")
        self.items = Schema(items, f"{path}[]") if isinstance(items, dict) else None
        self.nullable = bool(raw.get("nullable"))
        self.pattern = re.compile(raw["pattern"]) if "pattern" in raw else None
        self.atomic = raw.get("x-kubernetes-map-type") == "atomic" or (
            self.type == "array" and raw.get("x-kubernetes-list-type", "atomic") == "atomic"
        )
        self.required: tuple[str, ...] = tuple(raw.get("required", ()))
        self.defaults: bool = any(b.defaults or "default" in b.raw for b in self._below())

    def _below(self) -> list[Schema]:
        return [*self.properties.values(), *filter(None, (self.more, self.items))]

    def prune(self, value: Any, old: Any, path: str, dropped: list[str]) -> Any:
        """Return the value without fields that the schema does not know; it is not changed.

        Args:
            value: what was sent.
            old: what is stored; parts that are the very same object need no look.
            path: of the value, for messages.
            dropped: gets the paths of what was taken out.
        """
        if value is old or self.anything or not isinstance(value, dict | list):
            return value
        if isinstance(value, list):
            if self.items is None:
                return value
            return [
                self.items.prune(entry, None, f"{path}[{n}]", dropped)
                for n, entry in enumerate(value)
            ]
        before = old if isinstance(old, dict) else {}
        kept: dict[str, Any] = {}
        for name, entry in value.items():
            below = self.properties.get(name) or self.more
            if entry is before.get(name, kept) or (below is None and self.open):
                kept[name] = entry
            elif below is None:
                dropped.append(f"{path}.{name}" if path else name)
            else:
                joined = f"{path}.{name}" if path else name
                kept[name] = below.prune(entry, before.get(name), joined, dropped)
        return kept

    def fill(self, value: Any) -> Any:
        """Return the value with defaults put in; null is replaced where it is not allowed."""
        if not self.defaults:
            return value
        if isinstance(value, list) and self.items is not None:
            return [self.items.fill(entry) for entry in value]
        if not isinstance(value, dict):
            return value
        filled = dict(value)
        for name, below in self.properties.items():
            missing = name not in filled or (filled[name] is None and not below.nullable)
            if missing and "default" in below.raw:
                filled[name] = below.raw["default"]
            if name in filled:
                filled[name] = below.fill(filled[name])
        if self.more is not None:
            filled = {name: self.more.fill(entry) for name, entry in filled.items()}
        return filled

    def check(self, value: Any, old: Any, path: str, mistakes: list[Mistake]) -> None:
        """Collect what the value breaks; parts that are the very stored object are passed over."""
        if value is old and old is not None:
            return
        if value is None:
            if not self.nullable:
                mistakes.append(_wrong_type(path, self._typename(), "null"))
            return
        if not self._is_of_type(value):
            mistakes.append(_wrong_type(path, self._typename(), _typename(value)))
            return
        self._check_value(value, path, mistakes)
        if isinstance(value, dict):
            self._check_object(value, old if isinstance(old, dict) else {}, path, mistakes)
        elif isinstance(value, list) and self.items is not None:
            before = old if isinstance(old, list) else []
            for n, entry in enumerate(value):
                was = before[n] if n < len(before) else None
                self.items.check(entry, was, f"{path}[{n}]", mistakes)
            self._check_keys(value, path, mistakes)

    def _typename(self) -> str:
        return self.type or "integer,string"

    def _is_of_type(self, value: Any) -> bool:
        if self.int_or_string:
            return isinstance(value, int | str) and not isinstance(value, bool)
        if not self.type:
            return True
        if isinstance(value, bool):
            return self.type == "boolean"
        if self.type == "integer" and isinstance(value, float):
            # Go has no other type for a number too large for int64 or written with a point.
            return value.is_integer() and abs(value) < 2**63
        return isinstance(value, _TYPES[self.type])

    def _check_object(
        self, value: dict[str, Any], old: dict[str, Any], path: str, mistakes: list[Mistake]
    ) -> None:
        for name in self.required:
            if name not in value:
                field = f"{path}.{name}" if path else name
                mistakes.append(("FieldValueRequired", "Required value", field))
        for name, entry in value.items():
            below = self.properties.get(name) or self.more
            if below is None or (entry is not None and entry is old.get(name)):
                continue
            joined = f"{path}[{name}]" if below is self.more else f"{path}.{name}" if path else name
            below.check(entry, old.get(name), joined, mistakes)

    def _check_keys(self, value: list[Any], path: str, mistakes: list[Mistake]) -> None:
        kind, names = (
            self.raw.get("x-kubernetes-list-type"),
            self.raw.get("x-kubernetes-list-map-keys", ()),
        )
        if kind not in ("set", "map"):
            return
        seen = []
        for n, entry in enumerate(value):
            key = entry if kind == "set" else [entry.get(name) for name in names]
            if key in seen:
                mistakes.append(("FieldValueDuplicate", "Duplicate value", f"{path}[{n}]"))
            seen.append(key)

    def _check_value(self, value: Any, path: str, mistakes: list[Mistake]) -> None:
        raw = self.raw
        for text in _bounds(raw, value):
            mistakes.append(("FieldValueInvalid", f"Invalid value: {_show(value)}: {text}", path))
        if "enum" in raw and value not in raw["enum"]:
            choices = ", ".join(_show(choice) for choice in raw["enum"])
            message = f"Unsupported value: {_show(value)}: supported values: {choices}"
            mistakes.append(("FieldValueNotSupported", message, path))
        if self.pattern is not None and isinstance(value, str) and not self.pattern.search(value):
            text = f"Invalid value: {_show(value)}: {path} in body should match '{raw['pattern']}'"
            mistakes.append(("FieldValueInvalid", text, path))
        if isinstance(value, str) and not _is_format(str(raw.get("format", "")), value):
            text = f"Invalid value: {_show(value)}: {path} in body must be of type {raw['format']}"
            mistakes.append(("FieldValueInvalid", text, path))
        for word in _COMBINED:
            if word in raw and not _combined(word, raw[word], value, path):
                message = f"Invalid value: {_show(value)}: {path} in body must validate {word}"
                mistakes.append(("FieldValueInvalid", message, path))


def _combined(word: str, parts: list[dict[str, Any]], value: Any, path: str) -> bool:
    passed = []
    for part in parts:
        found: list[Mistake] = []
        # The parts of a combination carry no types of their own in a structural schema.
        Schema({_ANYTHING: True, **part}, path).check(value, None, path, found)
        passed.append(not found)
    return {"anyOf": any(passed), "allOf": all(passed), "oneOf": passed.count(True) == 1}[word]


def _bounds(raw: dict[str, Any], value: Any) -> list[str]:
    """Return what a value's size breaks."""
    if isinstance(value, bool):
        return []
    size: Any = len(value) if isinstance(value, str | list | dict) else value
    least, most, noun = _SIZES.get(type(value), ("minimum", "maximum", ""))
    found = []
    low, high = raw.get(least), raw.get(most)
    if low is not None and (size < low or (raw.get("exclusiveMinimum") and size == low)):
        found.append(f"should be at least {low} {noun}".rstrip())
    if high is not None and (size > high or (raw.get("exclusiveMaximum") and size == high)):
        found.append(f"should be at most {high} {noun}".rstrip())
    if raw.get("multipleOf") and not noun and value % raw["multipleOf"]:
        found.append(f"should be a multiple of {raw['multipleOf']}")
    if raw.get("format") in ("int32", "int64") and not noun:
        bits = 31 if raw["format"] == "int32" else 63
        if not -(1 << bits) <= value < 1 << bits:
            found.append(f"should be of type {raw['format']}")
    return found


def _is_format(name: str, value: str) -> bool:
    if name != "date-time":
        return True
    try:
        # Go's RFC 3339 takes any number of digits after the second; Python's no more than six.
        datetime.fromisoformat(re.sub(r"\.(\d{1,6})\d*", r".\1", value))
    except ValueError:
        return False
    return "T" in value.upper() and bool(re.search(r"(Z|[+-]\d\d:\d\d)$", value, re.IGNORECASE))


def _wrong_type(path: str, wanted: str, have: str) -> Mistake:
    text = f'Invalid value: "{have}": {path} in body must be of type {wanted}: "{have}"'
    return "FieldValueTypeInvalid", text, path


def _typename(value: Any) -> str:
    for name in ("boolean", "integer", "number", "string", "array", "object"):
        if isinstance(value, _TYPES[name]):
            return name
    return "null"


def _show(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)
