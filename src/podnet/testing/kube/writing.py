"""The verbs that change objects."""

from __future__ import annotations

import secrets
import uuid
from typing import TYPE_CHECKING, Any

from podnet.testing.kube import ownership, patches, replies, rules
from podnet.testing.kube.requests import Form, Reply
from podnet.testing.kube.storage import OBJECT_MOST

if TYPE_CHECKING:
    from podnet.testing.kube.kinds import Kind
    from podnet.testing.kube.ownership import Owned
    from podnet.testing.kube.requests import Request, Target
    from podnet.testing.kube.schema import Mistake
    from podnet.testing.kube.storage import Storage, Stored

_SET_BY_SERVER = (
    "uid",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
)
_FIXED = ("name", "namespace", "uid", "creationTimestamp", "generateName")

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


class Writing:
    """Create, update, patch, apply and delete on a storage."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._owned: dict[tuple[str, str, str], Owned] = {}

    def create(self, target: Target, request: Request) -> Reply:
        """POST."""
        kind, document = target.kind, request.json()
        rules.must_be(kind, document)
        meta = rules.meta_of(document)
        if meta.get("resourceVersion"):
            raise replies.version_on_create()
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = f"{meta['generateName'][:58]}{secrets.token_hex(3)[:5]}"
        if meta.get("namespace") and meta["namespace"] != (target.namespace or ""):
            raise replies.bad_request(
                "the namespace of the provided object does not match the namespace sent on the "
                "request"
            )
        with self._storage.lock:
            return self._create(target, request, {**document, "metadata": meta})

    def _create(self, target: Target, request: Request, document: dict[str, Any]) -> Reply:
        kind, meta = target.kind, dict(document["metadata"])
        for name in _SET_BY_SERVER:
            meta.pop(name, None)
        meta["uid"] = str(uuid.uuid4())
        meta["creationTimestamp"] = rules.now()
        if kind.custom or "spec" in document:
            meta["generation"] = 1
        if kind.namespaced:
            meta["namespace"] = target.namespace
            if self._storage.find("namespaces", "", str(target.namespace)) is None:
                raise replies.not_found("namespaces", str(target.namespace))
        new = {**document, "metadata": meta}
        if kind.status:
            new.pop("status", None)
        new = rules.checked(kind, new, None, request)
        if self._storage.find(kind.resource, meta.get("namespace", ""), meta["name"]) is not None:
            raise replies.already_exists(kind.resource, meta["name"])
        return self._store(target, request, new, 201)

    def find(self, target: Target) -> dict[str, Any] | None:
        """Return the object that a target names, as it is now."""
        with self._storage.lock:
            found = self._storage.find(target.kind.resource, target.namespace or "", target.name)
            return None if found is None else self._storage.document(found)

    def drop(self, kind: Kind) -> None:
        """Delete all objects of a kind that is no longer defined."""
        with self._storage.lock:
            for one in self._storage.select(kind.resource, None):
                self._owned.pop((kind.resource, one.namespace, one.name), None)
                self._storage.remove(kind, one)

    def update(self, target: Target, request: Request) -> Reply:
        """PUT."""
        kind, document = target.kind, request.json()
        rules.must_be(kind, document)
        meta = rules.meta_of(document)
        if meta.get("name") != target.name:
            raise replies.bad_request(
                f"the name of the object ({meta.get('name')}) does not match the name on the URL "
                f"({target.name})"
            )
        meta.setdefault("namespace", target.namespace)
        with self._storage.lock:
            old = self._existing(target)
            current = self._storage.document(old)
            if meta.get("uid") not in (None, "", current["metadata"]["uid"]):
                raise replies.conflict(
                    kind.resource, target.name, rules.other_uid(meta["uid"], current)
                )
            if not meta.get("resourceVersion") and kind.custom:
                text = "Invalid value: 0x0: must be specified for an update"
                mistake = ("FieldValueInvalid", text, "metadata.resourceVersion")
                raise replies.invalid(kind.resource, kind.kind, target.name, [mistake])
            return self._replace(target, request, old, {**document, "metadata": meta})

    def patch(self, target: Target, request: Request) -> Reply:
        """PATCH, by the content type."""
        kind, media = target.kind, request.content_type
        if media == APPLY_PATCH:
            return self._apply(target, request)
        if media not in (JSON_PATCH, MERGE_PATCH):
            # Strategic merge needs the Go types' patch strategies; for custom resources the API
            # server refuses it, too.
            raise replies.Refusal(
                415,
                "UnsupportedMediaType",
                "the body of the request was in an unknown format - accepted media types include: "
                f"{JSON_PATCH}, {MERGE_PATCH}, {APPLY_PATCH}",
            )
        change = request.json()
        if media == MERGE_PATCH and not isinstance(change, dict):
            raise replies.bad_request("a merge patch must be an object")
        with self._storage.lock:
            old = self._existing(target)
            current = self._storage.document(old)
            apply = patches.merge if media == MERGE_PATCH else patches.json_patch
            new = apply(current, change)
            rules.must_be(kind, new)
            return self._replace(target, request, old, {**new, "metadata": rules.meta_of(new)})

    def _apply(self, target: Target, request: Request) -> Reply:
        if "fieldManager" not in request.query:
            mistake = "fieldManager is required for apply patch"
            raise replies.bad_request(mistake)
        kind, config = target.kind, rules.read_yaml(request)
        rules.must_be(kind, config)
        meta = rules.meta_of(config)
        if meta.get("managedFields"):
            raise replies.bad_request("metadata.managedFields must be nil")
        meta.setdefault("name", target.name)
        key = (kind.resource, target.namespace or "", target.name)
        with self._storage.lock:
            stored = self._storage.find(*key)
            old: dict[str, Any] = {}
            if stored is not None:
                old = self._storage.document(stored)
            elif meta.get("uid") or meta.get("resourceVersion"):
                raise replies.conflict(kind.resource, target.name, "the object does not exist")
            schema = kind.schema
            new, owned = ownership.applied(
                old,
                {**config, "metadata": {k: v for k, v in meta.items() if v is not None}},
                schema=schema,
                owned=self._owned.get(key, {}),
                manager=request.manager,
                force=request.flag("force"),
            )
            if schema is not None:
                pruned = schema.prune(new, None, "", [])
                owned = {
                    who: what & ownership.paths(pruned, schema).keys() | _metas(what)
                    for who, what in owned.items()
                }
            before = self._owned.get(key)
            self._owned[key] = owned
            try:
                if stored is None:
                    return self._create(target, request, new)
                return self._replace(target, request, stored, new, apply=True)
            except replies.Refusal:
                self._owned.pop(key)
                if before is not None:
                    self._owned[key] = before
                raise

    def _replace(
        self,
        target: Target,
        request: Request,
        old: Stored,
        new: dict[str, Any],
        *,
        apply: bool = False,
    ) -> Reply:
        """Store a new state of an object if it is allowed; under the lock."""
        kind, current = target.kind, self._storage.document(old)
        meta, was = dict(new["metadata"]), current["metadata"]
        if meta.get("resourceVersion") not in (None, "", was["resourceVersion"]):
            raise replies.conflict(kind.resource, target.name)
        mistakes: list[Mistake] = [
            (
                "FieldValueInvalid",
                f'Invalid value: "{meta[name]}": field is immutable',
                f"metadata.{name}",
            )
            for name in _FIXED
            if meta.get(name) and meta[name] != was.get(name)
        ]
        if mistakes:
            raise replies.invalid(kind.resource, kind.kind, target.name, mistakes)
        for name in (*_SET_BY_SERVER, *_FIXED):
            meta.pop(name, None)
            if name in was:
                meta[name] = was[name]
        meta["resourceVersion"] = was["resourceVersion"]
        new = rules.limited(kind, target.sub, {**new, "metadata": meta}, current)
        new = rules.checked(kind, new, current, request)
        key = (kind.resource, old.namespace, old.name)
        if key in self._owned:
            if not apply:
                self._owned[key] = ownership.moved(
                    current, new, kind.schema, self._owned[key], request.manager
                )
            meta = {**new["metadata"]}
            meta["managedFields"] = ownership.rendered(
                self._owned[key], kind.api_version, rules.now()
            )
            new["metadata"] = meta
        if rules.is_same(new, current):
            return Reply(200, Form(kind, request, self._storage).one(old))
        if "generation" in was and rules.spec_of(kind, new) != rules.spec_of(kind, current):
            new["metadata"] = {**new["metadata"], "generation": was["generation"] + 1}
        if was.get("deletionTimestamp") and not new["metadata"].get("finalizers"):
            self._owned.pop(key, None)
            last = self._storage.remove(kind, old)
            return Reply(200, Form(kind, request, self._storage).one(last))
        return self._store(target, request, new, 200)

    def delete(self, target: Target, request: Request) -> Reply:
        """DELETE of one object."""
        options = request.json() if request.body.strip() else {}
        with self._storage.lock:
            old = self._existing(target)
            return self._delete(target, request, old, options)

    def delete_all(self, target: Target, request: Request, found: list[Stored]) -> Reply:
        """DELETE of a collection, of which these were selected."""
        with self._storage.lock:
            for one in found:
                current = self._storage.find(target.kind.resource, one.namespace, one.name)
                if current is not None:
                    self._delete(target, request, current, {})
        return Reply(200, Form(target.kind, request, self._storage).many(found, {}))

    def _delete(
        self, target: Target, request: Request, old: Stored, options: dict[str, Any]
    ) -> Reply:
        kind, current = target.kind, self._storage.document(old)
        meta = current["metadata"]
        wanted = options.get("preconditions") or {}
        if wanted.get("uid") not in (None, meta["uid"]):
            raise replies.conflict(kind.resource, old.name, rules.other_uid(wanted["uid"], current))
        if wanted.get("resourceVersion") not in (None, meta["resourceVersion"]):
            why = (
                f"Precondition failed: ResourceVersion in precondition: "
                f"{wanted['resourceVersion']}, ResourceVersion in object meta: "
                f"{meta['resourceVersion']}"
            )
            raise replies.conflict(kind.resource, old.name, why)
        form = Form(kind, request, self._storage)
        if meta.get("finalizers"):
            if not meta.get("deletionTimestamp"):
                more = {"deletionTimestamp": rules.now(), "deletionGracePeriodSeconds": 0}
                if "generation" in meta:
                    more["generation"] = meta["generation"] + 1
                stored, document = self._storage.make(
                    kind, {**current, "metadata": {**meta, **more}}
                )
                self._storage.put(kind, stored, document)
                old = stored
            return Reply(200, form.one(old))
        self._owned.pop((kind.resource, old.namespace, old.name), None)
        last = self._storage.remove(kind, old)
        if kind.resource == "namespaces":
            self._storage.clear(old.name)
        if kind.custom:
            details = {"name": old.name, "group": kind.group, "kind": kind.plural}
            status = {
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Success",
                "details": {**details, "uid": meta["uid"]},
            }
            from podnet.testing.kube.storage import encode

            return Reply(200, encode(status))
        return Reply(200, form.one(last))

    def _existing(self, target: Target) -> Stored:
        old = self._storage.find(target.kind.resource, target.namespace or "", target.name)
        if old is None:
            raise replies.not_found(target.kind.resource, target.name)
        return old

    def _store(self, target: Target, request: Request, new: dict[str, Any], code: int) -> Reply:
        kind = target.kind
        key = (kind.resource, new["metadata"].get("namespace", ""), new["metadata"]["name"])
        if code == 201 and key in self._owned:
            owners = ownership.rendered(self._owned[key], kind.api_version, rules.now())
            new = {**new, "metadata": {**new["metadata"], "managedFields": owners}}
        stored, document = self._storage.make(kind, new)
        if len(stored.raw) > OBJECT_MOST:
            raise replies.object_too_large()
        if request.query.get("dryRun") != "All":
            self._storage.put(kind, stored, document)
        return Reply(code, Form(kind, request, self._storage).one(stored))


def _metas(what: set[ownership.Path]) -> set[ownership.Path]:
    return {path for path in what if path[0] == "f:metadata"}
