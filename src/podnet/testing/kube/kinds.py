"""Kinds of objects that the emulator serves: built in, or registered from a manifest."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from podnet.testing.kube.schema import Schema


@frozen(kw_only=True)
class Column:
    """A printer column.

    Attributes:
        name: heading.
        type: ``string``, ``integer``, ``number``, ``boolean`` or ``date``.
        path: simple JSON path such as ``.spec.cidr``.
        priority: 0 is shown always, others with ``-o wide``.
    """

    name: str
    type: str
    path: str
    priority: int = 0


_AGE = Column(name="Age", type="date", path=".metadata.creationTimestamp")


@frozen(kw_only=True)
class Kind:
    """One kind of object at one version.

    Attributes:
        group: API group; empty for the core group.
        version: such as ``v1alpha1``.
        kind: such as ``IPBlock``.
        plural: as in URLs.
        namespaced: whether objects live in namespaces.
        schema: what objects are held to; None takes anything.
        status: whether ``status`` is a resource of its own.
        columns: printer columns.
        custom: defined by a CustomResourceDefinition: PUT needs a resourceVersion, and strategic
            merge patches are refused.
        short_names: for ``kubectl``.
        fields: names of fields for field selectors besides name and namespace.
        labels: whether names have to be DNS labels (63 characters, no dots).
    """

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool
    schema: Schema | None = None
    status: bool = False
    columns: tuple[Column, ...] = ()
    custom: bool = False
    short_names: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    labels: bool = False
    resource: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        name = f"{self.plural}.{self.group}" if self.group else self.plural
        object.__setattr__(self, "resource", name)
        object.__setattr__(self, "columns", self.columns or (_AGE,))

    @property
    def api_version(self) -> str:
        """``group/version``, or the version alone in the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version


def from_definition(manifest: dict[str, Any]) -> tuple[Kind, ...]:
    """Return the kinds of a CustomResourceDefinition, one for each served version.

    Raises:
        ValueError: it is no such manifest, or a schema is not structural or not enforceable here.
    """
    if manifest.get("kind") != "CustomResourceDefinition":
        raise ValueError(f"kind {manifest.get('kind')!r} is no CustomResourceDefinition")
    if manifest.get("apiVersion") != "apiextensions.k8s.io/v1":
        raise ValueError("apiVersion is not apiextensions.k8s.io/v1")
    spec = manifest["spec"]
    names = spec["names"]
    if manifest["metadata"]["name"] != f"{names['plural']}.{spec['group']}":
        raise ValueError(f"metadata.name must be {names['plural']}.{spec['group']}")
    if [version["storage"] for version in spec["versions"]].count(True) != 1:
        raise ValueError("exactly one version must be the storage version")
    kinds = []
    for version in spec["versions"]:
        if not version["served"]:
            continue
        schema = Schema(version["schema"]["openAPIV3Schema"])
        if schema.type != "object":
            raise ValueError("spec.versions.schema: the root must be of type object")
        kinds.append(
            Kind(
                group=spec["group"],
                version=version["name"],
                kind=names["kind"],
                plural=names["plural"],
                namespaced=spec["scope"] == "Namespaced",
                schema=schema,
                status="status" in version.get("subresources", {}),
                columns=tuple(
                    Column(
                        name=column["name"],
                        type=column["type"],
                        path=column["jsonPath"],
                        priority=column.get("priority", 0),
                    )
                    for column in version.get("additionalPrinterColumns", ())
                ),
                custom=True,
                short_names=tuple(names.get("shortNames", ())),
                fields=tuple(
                    entry["jsonPath"].lstrip(".") for entry in version.get("selectableFields", ())
                ),
            )
        )
    return tuple(kinds)


_TIME = {"type": "string", "format": "date-time", "nullable": True}
_LEASE = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "holderIdentity": {"type": "string", "nullable": True},
                "leaseDurationSeconds": {"type": "integer", "format": "int32", "nullable": True},
                "acquireTime": _TIME,
                "renewTime": _TIME,
                "leaseTransitions": {"type": "integer", "format": "int32", "nullable": True},
                "strategy": {"type": "string", "nullable": True},
                "preferredHolder": {"type": "string", "nullable": True},
            },
        }
    },
}


def builtin() -> tuple[Kind, ...]:
    """Return the built-in kinds: of core objects only what field selectors name is known."""
    return (
        Kind(
            group="",
            version="v1",
            kind="Namespace",
            plural="namespaces",
            namespaced=False,
            short_names=("ns",),
            fields=("status.phase",),
            labels=True,
        ),
        Kind(
            group="",
            version="v1",
            kind="Pod",
            plural="pods",
            namespaced=True,
            status=True,
            short_names=("po",),
            fields=("spec.nodeName", "status.phase", "spec.serviceAccountName"),
        ),
        Kind(group="", version="v1", kind="Node", plural="nodes", namespaced=False, status=True),
        Kind(
            group="",
            version="v1",
            kind="ConfigMap",
            plural="configmaps",
            namespaced=True,
            short_names=("cm",),
        ),
        Kind(
            group="",
            version="v1",
            kind="Event",
            plural="events",
            namespaced=True,
            short_names=("ev",),
            fields=("involvedObject.name", "involvedObject.namespace", "reason", "type"),
        ),
        Kind(
            group="coordination.k8s.io",
            version="v1",
            kind="Lease",
            plural="leases",
            namespaced=True,
            schema=Schema(_LEASE),
        ),
        Kind(
            group="apiextensions.k8s.io",
            version="v1",
            kind="CustomResourceDefinition",
            plural="customresourcedefinitions",
            namespaced=False,
            status=True,
            short_names=("crd",),
        ),
        *(
            Kind(
                group="rbac.authorization.k8s.io",
                version="v1",
                kind=kind,
                plural=f"{kind.lower()}s",
                namespaced=not kind.startswith("Cluster"),
            )
            for kind in ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
        ),
        Kind(
            group="",
            version="v1",
            kind="ServiceAccount",
            plural="serviceaccounts",
            namespaced=True,
            short_names=("sa",),
        ),
    )
