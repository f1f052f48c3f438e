"""`ctr run --cni` through the installed plugin."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.containerd

SCENARIO = Path(__file__).parents[2] / "src/podnet/cli/scenario"

MACVLAN = {
    "cniVersion": "1.0.0",
    "name": "storage",
    "plugins": [
        {
            "type": "macvlan",
            "master": "eth1",
            "mode": "bridge",
            "ipam": {
                "type": "whereabouts",
                "range": "192.168.60.0/24",
                "range_start": "192.168.60.20",
                "range_end": "192.168.60.50",
            },
        }
    ],
}


def leases(state: Path) -> str:
    """All that the file store still holds, as text."""
    return "".join(
        path.read_text() for path in state.glob("leases/**/*") if path.is_file() and path.suffix
    )


def records(state: Path) -> list[str]:
    return [str(p) for p in state.glob("journal/**/*") if p.is_file()]


def use(node: Any, conflist: dict[str, Any]) -> None:
    node.inside("sh", "-c", "rm -f /etc/cni/net.d/*")
    node.write("/etc/cni/net.d/10-test.conflist", json.dumps(conflist))


def test_macvlan_with_whereabouts(containerd: Any) -> None:
    use(containerd, MACVLAN)
    done = containerd.run("direct", "ip addr show eth0; ip link show eth0")
    assert done.returncode == 0, done.stderr
    assert "inet 192.168.60.20/24 brd 192.168.60.255 scope global eth0" in done.stdout
    assert records(containerd.state) == []
    assert "direct" not in leases(containerd.state)


def test_podnet_over_the_scenarios_network(containerd: Any) -> None:
    manifests = containerd.folder / "manifests"
    manifests.mkdir()
    shutil.copy(SCENARIO / "nad.yaml", manifests)
    (containerd.folder / "podnet.conf").write_text(json.dumps({"networks": str(manifests)}))
    use(
        containerd,
        {
            "cniVersion": "1.0.0",
            "name": "cluster",
            "plugins": [{"type": "podnet", "networks": "macvlan-conf-1@eth1"}],
        },
    )
    done = containerd.run("selected", "ip addr show eth1; ip addr")
    assert done.returncode == 0, done.stderr
    assert "inet 192.168.60.20/24 brd 192.168.60.255 scope global eth1" in done.stdout
    assert records(containerd.state) == []
    assert "selected" not in leases(containerd.state)


def test_an_error_reaches_the_runtime_and_leaves_nothing(containerd: Any) -> None:
    plugin = {**MACVLAN["plugins"][0], "master": "absent0"}  # type: ignore[index]
    use(containerd, {**MACVLAN, "plugins": [plugin]})
    done = containerd.run("refused", "ip addr")
    assert done.returncode != 0
    assert "absent0" in done.stderr
    assert records(containerd.state) == []
    assert "refused" not in leases(containerd.state)
