"""From a request to its answer: paths, tokens, roles, and discovery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from podnet.testing.kube import kinds, replies
from podnet.testing.kube.requests import BODY_MOST, Reply, Target
from podnet.testing.kube.storage import encode

if TYPE_CHECKING:
    from podnet.testing.kube.kinds import Kind
    from podnet.testing.kube.reading import Reading
    from podnet.testing.kube.requests import Request
    from podnet.testing.kube.writing import Writing

WRITING_VERBS = frozenset(("create", "update", "patch", "delete", "deletecollection"))

Roles = list[dict[str, Any]]
"""``rules`` of a ClusterRole."""


class Api:
    """Finds out what a request wants, whether it may, and has it done."""

    def __init__(self, reading: Reading, writing: Writing) -> None:
        self._reading = reading
        self._writing = writing
        self._kinds: dict[tuple[str, str, str], Kind] = {}
        self.tokens: dict[str, Roles | None] = {}

    def register(self, kind: Kind) -> None:
        """Serve a kind."""
        self._kinds[kind.group, kind.version, kind.plural] = kind

    def kind(self, resource: str) -> Kind:
        """Return the kind of a resource such as ``pods`` or ``leases.coordination.k8s.io``.

        Raises:
            KeyError: it is not served.
        """
        for kind in self._kinds.values():
            if kind.resource == resource:
                return kind
        raise KeyError(resource)

    def kinds(self) -> list[Kind]:
        """Return the kinds that are served."""
        return list(self._kinds.values())

    def authenticate(self, request: Request) -> Roles | None:
        """Return the rules that bind the caller; None binds nobody.

        Raises:
            Refusal: tokens are required, and this is none of them (401).
        """
        if not self.tokens:
            return None
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or token not in self.tokens:
            raise replies.unauthorized()
        return self.tokens[token]

    def locate(self, request: Request) -> tuple[str, Target | None]:
        """Return verb and target of a request; no target for discovery.

        Raises:
            Refusal: there is no such path (404), or the method does not fit it (405).
        """
        parts = request.path.strip("/").split("/")
        if parts[0] == "api":
            group, rest = "", parts[1:]
        elif parts[0] == "apis" and len(parts) > 1:
            group, rest = parts[1], parts[2:]
        else:
            return "discover", None
        if len(rest) < 2:
            return "discover", None
        version, *rest = rest
        namespace = None
        if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
            namespace, rest = rest[1], rest[2:]
        plural, name, sub = (*rest, "", "")[:3]
        kind = self._kinds.get((group, version, plural))
        wrong_place = kind is not None and (namespace is not None) > kind.namespaced
        if kind is None or wrong_place or len(rest) > 3 or sub not in _subs(kind):
            raise replies.no_such_path()
        target = Target(kind, namespace, name, sub)
        return _verb(target, request), target

    def carry_out(self, verb: str, target: Target | None, request: Request) -> Reply:
        """Do what a request wants.

        Raises:
            Refusal: it cannot be done.
        """
        if len(request.body) > BODY_MOST:
            raise replies.body_too_large()
        if target is None:
            return self._discover(request)
        if verb == "create":
            reply = self._writing.create(target, request)
            self._learn(target, request)
            return reply
        if verb == "deletecollection":
            found = self._reading.selected(target, request)
            return self._writing.delete_all(target, request, found)
        readers = {"get": self._reading.get, "list": self._reading.page}
        writers = {
            "watch": self._reading.watch,
            "update": self._writing.update,
            "patch": self._writing.patch,
            "delete": self._writing.delete,
        }
        defined = self._defined(target) if verb == "delete" else ()
        reply = {**readers, **writers}[verb](target, request)
        for kind in defined:
            self._kinds.pop((kind.group, kind.version, kind.plural), None)
            self._writing.drop(kind)
        if verb in ("update", "patch"):
            self._learn(target, request)
        return reply

    def _defined(self, target: Target) -> tuple[Kind, ...]:
        """Return the kinds that go with a CustomResourceDefinition that is deleted."""
        if target.kind.kind != "CustomResourceDefinition":
            return ()
        found = self._writing.find(target)
        return () if found is None else kinds.from_definition(found)

    def _learn(self, target: Target, request: Request) -> None:
        """Serve the kinds of a CustomResourceDefinition that was created or changed."""
        if target.kind.kind != "CustomResourceDefinition":
            return
        name = target.name or str(request.json()["metadata"]["name"])
        found = self._writing.find(Target(target.kind, None, name))
        if found is not None:
            for kind in kinds.from_definition(found):
                self.register(kind)

    @staticmethod
    def permit(rules: Roles | None, verb: str, target: Target | None) -> None:
        """Let a request pass that the caller's rules allow.

        Raises:
            Refusal: they do not (403).
        """
        if rules is None or target is None:
            return
        kind = target.kind
        resource = f"{kind.plural}/{target.sub}" if target.sub else kind.plural
        for rule in rules:
            if (
                {kind.group, "*"} & set(rule.get("apiGroups", ()))
                and {resource, "*"} & set(rule.get("resources", ()))
                and {verb, "*"} & set(rule.get("verbs", ()))
                and (not rule.get("resourceNames") or target.name in rule["resourceNames"])
            ):
                return
        raise replies.forbidden(verb, kind.resource, target.name)

    def _discover(self, request: Request) -> Reply:
        if request.method != "GET":
            raise replies.no_such_path()
        path = request.path.rstrip("/")
        if path in ("/healthz", "/readyz", "/livez"):
            return Reply(200, b"ok", {"Content-Type": "text/plain"})
        found = self._documents().get(path)
        if found is None:
            raise replies.no_such_path()
        return Reply(200, encode(found))

    def _documents(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "/version": {"major": "1", "minor": "31", "gitVersion": "v1.31.0+podnet.emulator"},
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
        }
        groups: dict[str, dict[str, None]] = {}
        for kind in self._kinds.values():
            if kind.group:
                groups.setdefault(kind.group, {})[kind.version] = None
            where = f"/apis/{kind.api_version}" if kind.group else "/api/v1"
            listing = found.setdefault(
                where,
                {
                    "kind": "APIResourceList",
                    "apiVersion": "v1",
                    "groupVersion": kind.api_version,
                    "resources": [],
                },
            )
            listing["resources"] += _resources(kind)
        listed = []
        for group, versions in groups.items():
            names = [{"groupVersion": f"{group}/{v}", "version": v} for v in versions]
            entry = {"name": group, "versions": names, "preferredVersion": names[0]}
            found[f"/apis/{group}"] = {"kind": "APIGroup", "apiVersion": "v1", **entry}
            listed.append(entry)
        found["/apis"] = {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
        return found


def _subs(kind: Kind) -> tuple[str, ...]:
    return ("", "status") if kind.status else ("",)


def _verb(target: Target, request: Request) -> str:
    if target.name:
        verbs = {"GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
        if request.flag("watch"):
            verbs["GET"] = "watch"
    else:
        verbs = {"GET": "list", "POST": "create", "DELETE": "deletecollection"}
        if request.flag("watch"):
            verbs["GET"] = "watch"
    namespaced = target.kind.namespaced and target.namespace is None
    if request.method not in verbs or (namespaced and (target.name or request.method != "GET")):
        text = "the server does not allow this method on the requested resource"
        raise replies.Refusal(405, "MethodNotAllowed", text)
    return verbs[request.method]


def _resources(kind: Kind) -> list[dict[str, Any]]:
    verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
    found = [
        {
            "name": kind.plural,
            "singularName": kind.kind.lower(),
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": verbs,
            "shortNames": list(kind.short_names),
        }
    ]
    if kind.status:
        found.append(
            {
                "name": f"{kind.plural}/status",
                "singularName": "",
                "namespaced": kind.namespaced,
                "kind": kind.kind,
                "verbs": ["get", "patch", "update"],
            }
        )
    return found
