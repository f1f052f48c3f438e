"""The store in whereabouts' objects, held to the contract on the API emulator."""

from __future__ import annotations

import itertools
from hashlib import sha256
from typing import ClassVar

import pytest
from attrs import evolve

from podnet.cluster.door import Cluster
from podnet.model.block import block_key, domain_prefix, key_parts
from podnet.stores.whereabouts_store import WhereaboutsStore
from podnet.testing.kube.emulator import Emulator
from podnet.testing.store_contract import StoreContract

_numbers = itertools.count()


@pytest.fixture(scope="module")
def kube():
    with Emulator() as emulator:
        yield emulator


@pytest.fixture(scope="module")
def kubeconfig(kube, tmp_path_factory):
    return kube.kubeconfig(str(tmp_path_factory.mktemp("kube")))


class WhereaboutsContract(StoreContract):
    durable = True
    multi_process = True
    seeks = True
    threads = 4

    @pytest.fixture(autouse=True)
    def _cluster(self, kube, kubeconfig):
        self.kube = kube
        self.kubeconfig = kubeconfig

    def open(self):
        name = f"ns-{next(_numbers)}"
        self.kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        return WhereaboutsStore(Cluster(self.kubeconfig), name)

    def reopen(self, store):
        return WhereaboutsStore(Cluster(self.kubeconfig), store.namespace)


class TestPoolsOfOneBlock(WhereaboutsContract):
    """Domains that are not whereabouts': each block is an IPPool."""


class Translated:
    """Keeps IPv4 blocks of any domain in whereabouts' own pools, one for each domain."""

    domains: ClassVar[dict[str, str]] = {}

    def __init__(self, store, scheme):
        self.store = store
        self.scheme = scheme

    @property
    def namespace(self):
        return self.store.namespace

    def domain(self, domain):
        name = sha256(domain.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        there = f"{self.scheme}:n{name}@0.0.0.0/0"
        self.domains[there] = domain
        return there

    def key(self, key):
        parts = key_parts(key)
        if parts is None or parts[1] == 6 or parts[2] == TOP:
            return key
        return block_key(self.domain(parts[0]), *parts[1:])

    def back(self, key):
        parts = key_parts(key)
        if parts is None or parts[0] not in self.domains:
            return key
        return block_key(self.domains[parts[0]], *parts[1:])

    @staticmethod
    def moved(block, domain):
        leases = {n: evolve(lease, domain=domain) for n, lease in block.leases.items()}
        return evolve(block, domain=domain, leases=leases)

    def load(self, key):
        entry = self.store.load(self.key(key))
        if entry is None:
            return None
        return self.moved(entry[0], self.domains.get(entry[0].domain, entry[0].domain)), entry[1]

    def swap(self, key, new, expected):
        there = self.key(key)
        if new is not None and there != key:
            assert new.key == key
            new = self.moved(new, key_parts(there)[0])
        return self.store.swap(there, new, expected)

    def prefixes(self, prefix):
        head, slash, _ = prefix.partition("/")
        if not slash:
            return [""]
        parts = key_parts(f"{head}/4/000000")
        return [prefix, *([domain_prefix(self.domain(parts[0]))] if parts else [])]

    def keys(self, prefix):
        found = {self.back(key) for each in self.prefixes(prefix) for key in self.store.keys(each)}
        return sorted(key for key in found if key.startswith(prefix))

    def seek(self, prefix, owner):
        found = {
            self.back(k) for each in self.prefixes(prefix) for k in self.store.seek(each, owner)
        }
        return sorted(key for key in found if key.startswith(prefix))

    def close(self):
        self.store.close()


TOP = (1 << 23) - 1  # it has 255.255.255.255, which has no key


class TestWhereaboutsPools(WhereaboutsContract):
    """Domains that are whereabouts' pools, where ranges may overlap: no reservations."""

    scheme = "ippool-apart"

    def open(self):
        return Translated(super().open(), self.scheme)

    def reopen(self, store):
        return Translated(super().reopen(store), self.scheme)


class TestWhereaboutsPoolsWithReservations(TestWhereaboutsPools):
    """The same, with a reservation for each address, and whereabouts' Lease around each swap."""

    scheme = "ippool"
    threads = 3
