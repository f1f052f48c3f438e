"""A node of dictionaries, with manifests on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import podnet
from podnet.testing.fake_kernel import FakeKernel

RANGE = {"type": "whereabouts", "range": "192.168.60.0/24", "range_start": "192.168.60.20"}


def nad(name: str, config: dict[str, Any], namespace: str = "default") -> dict[str, Any]:
    return {
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"config": json.dumps(config)},
    }


def macvlan(**keys: Any) -> dict[str, Any]:
    return {"cniVersion": "0.3.1", "type": "macvlan", "master": "eth1", "ipam": RANGE, **keys}


def manifests(folder: Path, *documents: dict[str, Any]) -> Path:
    """Write each document into a file of its own; return the folder."""
    target = folder / "manifests"
    target.mkdir(exist_ok=True)
    for index, document in enumerate(documents):
        (target / f"{index}.json").write_text(json.dumps(document))
    return target


class Lab:
    """A podnet node over a fake kernel with an uplink ``eth1`` and sandboxes ``/ns/a`` …"""

    def __init__(self, folder: Path, *documents: dict[str, Any], step: Any = None) -> None:
        self.folder = folder
        self.kernel = FakeKernel()
        self.kernel.add_link(self.kernel.node, "eth1", mtu=1500, up=True)
        for name in "abc":
            self.kernel.add_sandbox(f"/ns/{name}")
        self.documents = manifests(folder, *documents)
        self.state = folder / "state"
        keys = {} if step is None else {"step": step}
        self.node = podnet.Node(
            state_dir=str(self.state), networks=self.documents, kernel=self.kernel, **keys
        )

    def links(self, sandbox: str) -> set[str]:
        """Names of a sandbox's links, without lo."""
        return {link for path, link in self.kernel.every_link() if path == sandbox} - {"lo"}

    def records(self) -> list[Path]:
        return [path for path in self.state.glob("journal/**/*") if path.is_file()]

    def leases(self) -> list[str]:
        with podnet.open_ipam(f"file:{self.state}/leases") as ipam:
            return [str(lease.address) for lease in ipam.leases()]

    def assert_nothing_is_left(self) -> None:
        assert self.records() == []
        assert self.leases() == []
        for name in "abc":
            assert self.links(f"/ns/{name}") == set()
