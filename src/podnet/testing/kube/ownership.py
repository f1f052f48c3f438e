"""Server-side apply: which manager owns which field, and what an applied configuration changes.

Ownership is kept for objects that were applied at least once; from then on every other change
moves the fields it changes to its own manager, as the API server does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from podnet.testing.kube.replies import Refusal

if TYPE_CHECKING:
    from podnet.testing.kube.schema import Schema

Path = tuple[str, ...]
Owned = dict[tuple[str, str], set[Path]]
"""``(manager, operation)`` to the paths it owns; the operation is ``Apply`` or ``Update``."""

_IDENTITY = {"apiVersion", "kind"}
_SERVER_META = frozenset(
    (
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "managedFields",
        "selfLink",
        "generateName",
    )
)


def paths(document: dict[str, Any], schema: Schema | None) -> dict[Path, Any]:
    """Return the paths of an object that can be owned, with their values."""
    found: dict[Path, Any] = {}
    for name, value in document.items():
        if name == "metadata":
            kept = {k: v for k, v in value.items() if k not in _SERVER_META}
            if kept:
                _collect(kept, None, ("f:metadata",), found)
        elif name not in _IDENTITY:
            below = schema.properties.get(name) if schema else None
            _collect(value, below, (f"f:{name}",), found)
    return found


def _collect(value: Any, schema: Schema | None, path: Path, found: dict[Path, Any]) -> None:
    keys = _keys(schema)
    if isinstance(value, dict) and value and not (schema and schema.atomic):
        for name, entry in value.items():
            below = (schema.properties.get(name) or schema.more) if schema else None
            _collect(entry, below, (*path, f"f:{name}"), found)
    elif isinstance(value, list) and keys is not None:
        for entry in value:
            _collect(entry, schema and schema.items, (*path, _key(entry, keys)), found)
    else:
        found[path] = value


def _keys(schema: Schema | None) -> tuple[str, ...] | None:
    """Return the keys of a list whose entries are owned singly; empty for a set."""
    if schema is None or schema.type != "array" or schema.atomic:
        return None
    return tuple(schema.raw.get("x-kubernetes-list-map-keys", ()))


def _key(entry: Any, keys: tuple[str, ...]) -> str:
    import json

    if not keys:
        return f"v:{json.dumps(entry)}"
    return f"k:{json.dumps({name: entry.get(name) for name in keys}, separators=(',', ':'))}"


def applied(
    old: dict[str, Any],
    config: dict[str, Any],
    *,
    schema: Schema | None,
    owned: Owned,
    manager: str,
    force: bool,
) -> tuple[dict[str, Any], Owned]:
    """Return the object with a configuration applied, and who owns what then.

    Raises:
        Refusal: another manager owns a field to which this gives another value (409).
    """
    me = (manager, "Apply")
    wanted, there = paths(config, schema), paths(old, schema)
    owned = {who: set(what) for who, what in owned.items()}
    clashes = [
        (who, path)
        for who, what in owned.items()
        if who != me
        for path in sorted(what & wanted.keys())
        if there.get(path) != wanted[path]
    ]
    if clashes and not force:
        raise _clash(clashes)
    for who, path in clashes:
        owned[who].discard(path)
    dropped = owned.get(me, set()) - wanted.keys()
    for path in dropped:
        if not any(path in what for who, what in owned.items() if who != me):
            old = _without(old, path)
    owned[me] = set(wanted)
    return _merged(old, config, schema), {who: what for who, what in owned.items() if what}


def moved(
    old: dict[str, Any], new: dict[str, Any], schema: Schema | None, owned: Owned, manager: str
) -> Owned:
    """Return who owns what after a change that was no apply."""
    before, after = paths(old, schema), paths(new, schema)
    changed = {path for path, value in after.items() if before.get(path, old) != value}
    gone = before.keys() - after.keys()
    me = (manager, "Update")
    found = {who: what - gone - changed for who, what in owned.items()}
    found[me] = found.get(me, set()) | changed
    return {who: what for who, what in found.items() if what}


def rendered(owned: Owned, api_version: str, when: str) -> list[dict[str, Any]]:
    """Return ``metadata.managedFields``."""
    entries = []
    for (manager, operation), what in sorted(owned.items()):
        fields: dict[str, Any] = {}
        for path in sorted(what):
            place = fields
            for step in path:
                place = place.setdefault(step, {})
        entries.append(
            {
                "manager": manager,
                "operation": operation,
                "apiVersion": api_version,
                "time": when,
                "fieldsType": "FieldsV1",
                "fieldsV1": fields,
            }
        )
    return entries


def _merged(old: Any, config: Any, schema: Schema | None) -> Any:
    keys = _keys(schema)
    if isinstance(config, dict) and isinstance(old, dict) and not (schema and schema.atomic):
        new = dict(old)
        for name, value in config.items():
            below = (schema.properties.get(name) or schema.more) if schema else None
            new[name] = _merged(old[name], value, below) if name in old else value
        return new
    if isinstance(config, list) and isinstance(old, list) and keys is not None:
        by_key = {_key(entry, keys): entry for entry in old}
        for entry in config:
            key = _key(entry, keys)
            below = schema.items if schema else None
            by_key[key] = _merged(by_key[key], entry, below) if key in by_key else entry
        return list(by_key.values())
    return config


def _without(document: Any, path: Path) -> Any:
    step, *rest = path
    if isinstance(document, list):
        kept = []
        for entry in document:
            keys = tuple(_named(step)) if step.startswith("k:") else ()
            if _key(entry, keys) != step:
                kept.append(entry)
            elif rest:
                less = _without(entry, tuple(rest))
                # Whoever gives up an entry's key gives up the entry.
                if all(name in less for name in keys):
                    kept.append(less)
        return kept
    name = step.removeprefix("f:")
    if not isinstance(document, dict) or name not in document:
        return document
    copy = dict(document)
    if rest:
        copy[name] = _without(copy[name], tuple(rest))
    else:
        del copy[name]
    return copy


def _named(step: str) -> dict[str, Any]:
    import json

    found: dict[str, Any] = json.loads(step.removeprefix("k:"))
    return found


def _clash(clashes: list[tuple[tuple[str, str], Path]]) -> Refusal:
    causes = [
        (
            "FieldManagerConflict",
            f'conflict with "{who[0]}"',
            ".".join(["", *(step.removeprefix("f:") for step in path)]),
        )
        for who, path in clashes
    ]
    count = len(causes)
    text = f"Apply failed with {count} conflict{'s' if count > 1 else ''}: {causes[0][1]}"
    return Refusal(409, "Conflict", text, causes=causes)
