"""What the API server can be asked about: resources, and how they are written in URLs."""

from __future__ import annotations

from urllib.parse import quote

from attrs import frozen


@frozen
class Resource:
    """One resource type of the API.

    Attributes:
        group: API group; empty for the core group.
        version: such as ``v1``.
        plural: as in URLs.
        kind: of its objects.
        namespaced: whether its objects live in namespaces.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        """``group/version``, or the version alone in the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", sub: str = "") -> str:
        """Return the path of a collection, of an object or of a subresource of one."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts += [self.plural, *filter(None, (name, sub))]
        return "/" + "/".join(quote(part, safe="") for part in parts)


def custom(group: str, version: str, plural: str, kind: str, *, namespaced: bool) -> Resource:
    """Return a custom resource."""
    return Resource(group, version, plural, kind, namespaced)


PODS = Resource("", "v1", "pods", "Pod", namespaced=True)
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease", namespaced=True)
DEFINITIONS = Resource(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    namespaced=False,
)
