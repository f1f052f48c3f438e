"""The store in whereabouts' objects keeps its contract on a real API server."""

from __future__ import annotations

import secrets

import pytest

from podnet.cluster import resource
from podnet.cluster.answers import MissingError
from podnet.cluster.door import Cluster
from podnet.errors import InvalidConfigError
from podnet.stores.whereabouts_store import WhereaboutsStore
from podnet.testing import StoreContract
from podnet.testing.kube import foreign

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
