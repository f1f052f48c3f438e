"""Never run: what a user's type checker sees of the public API (`tox -e typing`)."""

from __future__ import annotations

from typing import assert_type

import netaddr  # noqa: F401 - results are netaddr's

import podnet

pool = podnet.Pool("storage", "192.168.60.0/24", first="192.168.60.20", last="192.168.60.50")
assert_type(pool, podnet.Pool)

with podnet.open_ipam("memory:") as ipam:
    assert_type(ipam, podnet.Ipam)
    lease = ipam.allocate(pool, owner=podnet.Owner("web-0", "eth1"))
    assert_type(lease, podnet.Lease)
    assert_type(ipam.release(lease.owner), tuple[podnet.Lease, ...])

with podnet.Node(store="memory:", networks="networks/") as node:
    attached = node.attach("/run/netns/web-0", "storage@eth1, backup")
    assert_type(attached, podnet.Attached)
    assert_type(attached.network_status, str)
    assert_type(node.detach("/run/netns/web-0"), tuple[podnet.Attached, ...])

for selection in podnet.parse_networks("storage@eth1", "default"):
    assert_type(selection.name, str)

error: podnet.PodnetError = podnet.errors.PoolExhaustedError("full")
assert_type(error.code, int)
