"""CustomResourceDefinitions of the systems that podnet works beside, as their projects ship them.

Sources: whereabouts v0.9.3 ``doc/crds/*.yaml``; the NPWG's NetworkAttachmentDefinition; IPAMClaim
v0.5.1-alpha. All fields that those have are here; descriptions are left out.
"""

from __future__ import annotations

from typing import Any

_TEXT = {"type": "string"}


def _object(
    properties: dict[str, Any], required: tuple[str, ...] = (), **more: object
) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "object", "properties": properties, **more}
    if required:
        found["required"] = list(required)
    return found


def _definition(
    group: str,
    version: str,
    kind: str,
    plural: str,
    parts: dict[str, Any],
    *,
    required: tuple[str, ...] = (),
    status: bool = False,
    short_names: tuple[str, ...] = (),
) -> dict[str, Any]:
    top = {"apiVersion": _TEXT, "kind": _TEXT, "metadata": {"type": "object"}, **parts}
    names = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()}
    served: dict[str, Any] = {
        "name": version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _object(top, required)},
    }
    if status:
        served["subresources"] = {"status": {}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "names": {**names, **({"shortNames": list(short_names)} if short_names else {})},
            "scope": "Namespaced",
            "versions": [served],
        },
    }


_WHEREABOUTS = "whereabouts.cni.cncf.io"
_ALLOCATION = _object({"id": _TEXT, "podref": _TEXT, "ifname": _TEXT}, ("id", "podref"))

IP_POOL = _definition(
    _WHEREABOUTS,
    "v1alpha1",
    "IPPool",
    "ippools",
    {
        "spec": _object(
            {
                "allocations": {"type": "object", "additionalProperties": _ALLOCATION},
                "range": _TEXT,
            },
            ("allocations", "range"),
        )
    },
)

OVERLAPPING_RANGE_IP_RESERVATION = _definition(
    _WHEREABOUTS,
    "v1alpha1",
    "OverlappingRangeIPReservation",
    "overlappingrangeipreservations",
    {"spec": _object({"containerid": _TEXT, "podref": _TEXT, "ifname": _TEXT}, ("podref",))},
    required=("spec",),
)

NODE_SLICE_POOL = _definition(
    _WHEREABOUTS,
    "v1alpha1",
    "NodeSlicePool",
    "nodeslicepools",
    {
        "spec": _object({"range": _TEXT, "sliceSize": _TEXT}, ("range", "sliceSize")),
        "status": _object(
            {
                "allocations": {
                    "type": "array",
                    "items": _object(
                        {"nodeName": _TEXT, "sliceRange": _TEXT}, ("nodeName", "sliceRange")
                    ),
                }
            },
            ("allocations",),
        ),
    },
)

NETWORK_ATTACHMENT_DEFINITION = _definition(
    "k8s.cni.cncf.io",
    "v1",
    "NetworkAttachmentDefinition",
    "network-attachment-definitions",
    {"spec": _object({"config": _TEXT})},
    short_names=("net-attach-def",),
)

_CONDITION = _object(
    {
        "type": {"type": "string", "maxLength": 316},
        "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
        "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
        "lastTransitionTime": {"type": "string", "format": "date-time"},
        "reason": {"type": "string", "minLength": 1, "maxLength": 1024},
        "message": {"type": "string", "maxLength": 32768},
    },
    ("lastTransitionTime", "message", "reason", "status", "type"),
)

IPAM_CLAIM = _definition(
    "k8s.cni.cncf.io",
    "v1alpha1",
    "IPAMClaim",
    "ipamclaims",
    {
        "spec": _object({"network": _TEXT, "interface": _TEXT}, ("interface", "network")),
        "status": _object(
            {
                "ips": {"type": "array", "items": _TEXT},
                "ownerPod": _object({"name": _TEXT}, ("name",)),
                "conditions": {
                    "type": "array",
                    "items": _CONDITION,
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["type"],
                },
            },
            ("ips",),
        ),
    },
    status=True,
)

DEFINITIONS = (
    IP_POOL,
    OVERLAPPING_RANGE_IP_RESERVATION,
    NODE_SLICE_POOL,
    NETWORK_ATTACHMENT_DEFINITION,
    IPAM_CLAIM,
)
"""All of them; a new emulator has them registered."""
