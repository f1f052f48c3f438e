"""The roles that podnet's processes and the people who look after pools need, and no more."""

from __future__ import annotations

from typing import Any

from podnet.manifests.resources import GROUP, PLURAL

NAMESPACE = "kube-system"
ACCOUNT = "podnet"

NODE_VERBS = ("get", "list", "watch", "create", "patch", "delete")
"""What the store of ``kubernetes:`` asks of IPBlocks; it never replaces one as a whole."""


def node_rules() -> list[dict[str, Any]]:
    """Return the rules of the node agent and of the plugin without one."""
    return [{"apiGroups": [GROUP], "resources": [PLURAL], "verbs": list(NODE_VERBS)}]


def claim_rules() -> list[dict[str, Any]]:
    """Return the rules of who serves IPAMClaims: reads them, and tells addresses in them."""
    group = ["k8s.cni.cncf.io"]
    return [
        {"apiGroups": group, "resources": ["ipamclaims"], "verbs": ["get"]},
        {"apiGroups": group, "resources": ["ipamclaims/status"], "verbs": ["patch"]},
    ]


def whereabouts_rules() -> list[dict[str, Any]]:
    """Return the rules of the store in whereabouts' own objects."""
    group = ["whereabouts.cni.cncf.io"]
    return [
        {
            "apiGroups": group,
            "resources": ["ippools"],
            "verbs": ["get", "list", "create", "patch", "delete"],
        },
        {
            "apiGroups": group,
            "resources": ["overlappingrangeipreservations"],
            "verbs": ["get", "list", "create", "delete"],
        },
        {"apiGroups": group, "resources": ["nodeslicepools"], "verbs": ["get"]},
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "verbs": ["get", "create", "update"],
        },
        # Whether the pod of a reservation that is in the way still exists.
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
    ]


def viewer_rules() -> list[dict[str, Any]]:
    """Return the rules of who may look at blocks."""
    return [{"apiGroups": [GROUP], "resources": [PLURAL], "verbs": ["get", "list", "watch"]}]


def roles() -> list[dict[str, Any]]:
    """Return the manifests of account, roles and binding."""
    viewer = _role("podnet-viewer", viewer_rules())
    # Whoever may view a cluster's objects may view its blocks.
    viewer["metadata"]["labels"] = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": ACCOUNT, "namespace": NAMESPACE},
        },
        _role("podnet-node", [*node_rules(), *claim_rules()]),
        viewer,
        _binding("podnet-node"),
    ]


def whereabouts_roles() -> list[dict[str, Any]]:
    """Return the manifests of role and binding for clusters with whereabouts' objects."""
    return [_role("podnet-whereabouts", whereabouts_rules()), _binding("podnet-whereabouts")]


def _binding(role: str) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": role},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": role,
        },
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}],
    }


def _role(name: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": rules,
    }
