"""The store in whereabouts' objects keeps its contract on a real API server."""

from __future__ import annotations

import secrets

import pytest

from podnet.cluster import resource
from podnet.cluster.answers import MissingError
from podnet.cluster.door import Cluster
from podnet.engine.leases import Ipam
from podnet.errors import InvalidConfigError, PoolExhaustedError
from podnet.ipam.whereabouts import PoolRef
from podnet.model.addresses import parse_prefix
from podnet.model.lease import Owner
from podnet.model.pool import INNER, SHARED, Pool
from podnet.stores.whereabouts_store import WhereaboutsStore
from podnet.testing import StoreContract
from podnet.testing.kube import foreign
from podnet.testing.together import in_processes

pytestmark = pytest.mark.cluster

NAMESPACES = resource.Resource("", "v1", "namespaces", "Namespace", namespaced=False)


@pytest.fixture(scope="session")
def whereabouts(admin, until_served):
    """Its definitions: those of the cluster, or the tests' own until they end."""
    made: list[str] = []
    manifests = (
        foreign.IP_POOL,
        foreign.OVERLAPPING_RANGE_IP_RESERVATION,
        foreign.NODE_SLICE_POOL,
    )
    for manifest in manifests:
        spec = manifest["spec"]
        kind = resource.custom(
            spec["group"],
            spec["versions"][0]["name"],
            spec["names"]["plural"],
            spec["names"]["kind"],
            namespaced=True,
        )
        try:
            admin.list_all(kind)
        except InvalidConfigError:
            admin.create(resource.DEFINITIONS, manifest)
            made.append(manifest["metadata"]["name"])
            until_served(admin, kind)
    yield
    for name in made:
        admin.delete(resource.DEFINITIONS, name)


@pytest.fixture(scope="class")
def namespaces(request, admin, kubeconfig, whereabouts):
    """Makes a namespace for each store, and deletes all of them."""
    made = []

    def make():
        made.append(f"podnet-test-{secrets.token_hex(4)}")
        admin.create(NAMESPACES, {"metadata": {"name": made[-1]}})
        return made[-1]

    request.cls.make = staticmethod(make)
    request.cls.handle = staticmethod(
        lambda name: WhereaboutsStore(Cluster(kubeconfig, timeout=30), name)
    )
    yield
    for name in made:
        try:
            admin.delete(NAMESPACES, name)
        except MissingError:
            continue


@pytest.mark.usefixtures("namespaces")
class TestContract(StoreContract):
    durable = True
    multi_process = True
    seeks = True
    threads = 4

    def open(self):
        return self.handle(self.make())

    def reopen(self, store):
        return self.handle(store.namespace)


def pool_of(cidr):
    ref = PoolRef(network=parse_prefix(cidr))
    return Pool(cidr, cidr, domain=ref.domain, edges=INNER, picker="lowest", mode=SHARED)


def owner(number):
    return Owner(f"c{number}", "net1", "ns", f"p{number}", f"uid-{number}")


@pytest.mark.usefixtures("namespaces")
class TestWhereaboutsPools:
    """Pools as whereabouts makes them, with reservations, and its Lease."""

    def test_overlapping_pools_of_two_handles(self):
        wide, narrow = pool_of("10.0.0.0/16"), pool_of("10.0.0.0/30")
        name = self.make()
        with Ipam(self.handle(name)) as one, Ipam(self.handle(name)) as two:
            found = [one.allocate(narrow, owner(0)), two.allocate(wide, owner(1))]
            assert [str(lease.ip) for lease in found] == ["10.0.0.1", "10.0.0.2"]
            with pytest.raises(PoolExhaustedError):
                one.allocate(narrow, owner(2))
            assert one.release(owner(0), pool=narrow) == (found[0],)
            assert two.release(owner(1), pool=wide) == (found[1],)
            assert str(one.allocate(narrow, owner(2)).ip) == "10.0.0.1"

    def test_a_pool_of_some_size_is_asked_for_its_version_only(self):
        """Single objects as tables tell their resourceVersion."""
        wide, name = pool_of("10.1.0.0/16"), self.make()
        with Ipam(self.handle(name)) as one, Ipam(self.handle(name)) as two:
            for number in range(105):
                one.allocate(wide, owner(number))
            assert len({lease.ip for lease in two.leases(wide)}) == 105
            two.release(owner(50), pool=wide)
            assert owner(50) not in [lease.owner for lease in one.leases(wide)]

    def test_processes_of_several_nodes(self):
        """None gets what another has, whichever of two overlapping pools it asks."""
        pools, name = (pool_of("10.2.0.0/24"), pool_of("10.2.0.0/25")), self.make()

        def node(number):
            with Ipam(self.handle(name), node=f"node-{number}", attempts=500) as ipam:
                mine = [owner(f"{number}-{n}") for n in range(10)]
                return [str(ipam.allocate(pools[n % 2], who).ip) for n, who in enumerate(mine)]

        told = [ip for ips in in_processes(3, node) for ip in ips]
        assert len(set(told)) == 30
