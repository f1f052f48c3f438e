"""From every kind of store to every other and back, while both are in somebody's settings."""

from __future__ import annotations

import itertools

import pytest

import podnet
from podnet.engine.migration import migrate

KINDS = ("file", "sqlite", "host-local", "whereabouts", "kubernetes")
NETWORK = "10.9.0.0/24"


@pytest.fixture
def cluster(tmp_path):
    pytest.importorskip("lightkube")
    from podnet.manifests.resources import definition
    from podnet.testing.kube.emulator import Emulator

    with Emulator([definition()]) as emulator:
        yield emulator.kubeconfig(str(tmp_path))


@pytest.fixture
def urls(request, tmp_path):
    def url(kind):
        if kind == "sqlite":
            pytest.importorskip("sqlalchemy")
            return f"sqlite:///{tmp_path}/leases.db"
        if kind in ("file", "host-local"):
            return f"{kind}:{tmp_path}/{kind}"
        return f"{kind}:{request.getfixturevalue('cluster')}"

    return url


def owner(n):
    return podnet.Owner(f"c{n}", "eth1", "default", f"pod-{n}", f"uid-{n}")


def name_in(kind, other):
    if kind == "whereabouts":
        return f"ippool:{NETWORK}"
    return "whereabouts" if other == "whereabouts" else "lan"


@pytest.mark.parametrize(("old", "new"), list(itertools.permutations(KINDS, 2)))
def test_pods_keep_their_addresses(urls, old, new):
    kinds = {old: urls(old), new: urls(new)}
    pools = {
        kind: podnet.Pool(
            "0" if "host-local" in kinds else NETWORK,
            NETWORK,
            gateway="10.9.0.1",
            domain=name_in(kind, other),
            edges="inner",
            picker="lowest",
        )
        for kind, other in ((old, new), (new, old))
    }
    ipams = {kind: podnet.open_ipam(url, node="node-7") for kind, url in kinds.items()}
    held = {}

    def allocate(kind, n):
        lease = ipams[kind].allocate(pools[kind], owner(n), network="lan")
        assert held.setdefault(n, str(lease.ip)) == str(lease.ip)
        assert len(set(held.values())) == len(held)

    def release(kind, n):
        (gone,) = ipams[kind].release(owner(n), pool=pools[kind])
        assert str(gone.ip) == held.pop(n)

    def all_are_seen():
        for kind, url in kinds.items():
            with podnet.open_ipam(url) as fresh:
                leases = list(fresh.leases(pools[kind].domain))
                assert {e.owner.container_id: str(e.ip) for e in leases} == {
                    f"c{n}": ip for n, ip in held.items()
                }
                if "host-local" not in kinds:
                    assert {e.owner.pod_uid for e in leases} == {f"uid-{n}" for n in held}

    for n in range(5):
        allocate(old, n)
    release(old, 1)
    for source, target in ((old, new), (new, old)):
        (moved,) = migrate(kinds[source], kinds[target])
        assert moved.complete
        all_are_seen()
        for n, kind in enumerate((old, new, old, new)):
            allocate(kind, n)
        allocate(source, 11)
        allocate(target, 12)
        release(source, 0)
        release(target, 2)
        all_are_seen()
    for ipam in ipams.values():
        ipam.close()
