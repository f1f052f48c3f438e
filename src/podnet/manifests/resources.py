"""The CustomResourceDefinition of ``IPBlock``: 512 neighbouring addresses of one domain."""

from __future__ import annotations

from typing import Any

GROUP = "ipam.podnet.dev"
VERSION = "v1alpha1"
KIND = "IPBlock"
PLURAL = "ipblocks"

LABEL_DOMAIN = f"{GROUP}/domain"
LABEL_FAMILY = f"{GROUP}/family"
LABEL_HOLDER = f"{GROUP}/holder"

_ADDRESSES = 512


def _text(what: str) -> dict[str, Any]:
    return {"type": "string", "description": what}


def _count(what: str, most: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": 0, "maximum": most, "description": what}


def _number(what: str) -> dict[str, Any]:
    return {"x-kubernetes-int-or-string": True, "description": what}


_HOISTED = {
    "pool": _text("Pool the address was handed out from."),
    "length": _count("Prefix length of the pool's network.", 128),
    "network": _text("CNI network it is for."),
    "interface": _text("Interface in the pod."),
    "namespace": _text("The pod's namespace."),
    "node": _text("Node that asked for it."),
}

_LEASE = {
    "type": "object",
    "description": "Who holds the address. A field that is left out has the value in spec.common.",
    "properties": {
        "container": _text("CNI_CONTAINERID, or another name that is unique among holders."),
        "pod": _text("The pod's name."),
        "uid": _text("The pod's UID."),
        **_HOISTED,
        "since": _text("When it was granted; RFC 3339."),
        "sequence": _number("Number of the grant; text if it is above 2^53."),
        "claim": _text("What keeps the address beyond the pod's life; empty or left out: nothing."),
    },
}

_SPEC = {
    "type": "object",
    "required": ["key", "domain", "family", "cidr"],
    "properties": {
        "key": _text("The store's key, of which metadata.name is made."),
        "domain": _text("Collision domain: inside one, an address is held once."),
        "family": {"type": "integer", "enum": [4, 6], "description": "IP version."},
        "cidr": _text("The addresses of the block."),
        "holder": _text("Node that alone hands out of the block; empty: every node may."),
        "recalled": {
            "type": "boolean",
            "description": "Another node asks the holder to give the block back.",
        },
        "sequence": _number("Number of the last grant in the block; it never goes back."),
        "common": {
            "type": "object",
            "description": "What leases have in common.",
            "properties": _HOISTED,
        },
        "leases": {
            "type": "object",
            "description": "Address to its holder.",
            "maxProperties": _ADDRESSES,
            # One entry in managedFields instead of one for each field of each lease.
            "x-kubernetes-map-type": "atomic",
            "additionalProperties": _LEASE,
        },
        "freed": {
            "type": "object",
            "description": "Address that was held before to the time of its release; RFC 3339.",
            "maxProperties": _ADDRESSES,
            "x-kubernetes-map-type": "atomic",
            "additionalProperties": {"type": "string"},
        },
    },
}

_STATUS = {
    "type": "object",
    "properties": {
        "used": _count("Addresses held.", _ADDRESSES),
        "free": _count("Addresses not held, whether a pool contains them or not.", _ADDRESSES),
    },
}


def _column(name: str, kind: str, path: str, priority: int = 0) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path}
    return {**column, "priority": priority} if priority else column


COLUMNS = (
    _column("Domain", "string", ".spec.domain"),
    _column("CIDR", "string", ".spec.cidr"),
    _column("Holder", "string", ".spec.holder"),
    _column("Used", "integer", ".status.used"),
    _column("Free", "integer", ".status.free"),
    _column("Age", "date", ".metadata.creationTimestamp"),
    # What the store lists, so that it need not read metadata or leases.
    _column("Key", "string", ".spec.key", 1),
    _column("Version", "string", ".metadata.resourceVersion", 1),
)


def definition() -> dict[str, Any]:
    """Return the manifest of the CustomResourceDefinition.

    ``status`` is no subresource: used and free are written together with the leases, in one write.
    """
    properties = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": _SPEC,
        "status": _STATUS,
    }
    description = (
        "IPBlock is 512 neighbouring addresses of one collision domain and who holds them. podnet "
        "writes it; `podnet ipam` shows it, releases addresses and reconciles."
    )
    schema = {
        "type": "object",
        "description": description,
        "required": ["spec"],
        "properties": properties,
    }
    names = {
        "kind": KIND,
        "listKind": f"{KIND}List",
        "plural": PLURAL,
        "singular": KIND.lower(),
        "shortNames": ["ipb"],
        "categories": ["podnet"],
    }
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "additionalPrinterColumns": list(COLUMNS),
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {"group": GROUP, "names": names, "scope": "Cluster", "versions": [version]},
    }
