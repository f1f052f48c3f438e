"""Nodes that hold blocks, on a table: stores that count, a clock that is set by hand."""

from __future__ import annotations

from attrs import evolve

from podnet.engine.owning import Manner, Owning
from podnet.engine.owning_ipam import OwnedIpam
from podnet.model.lease import Owner
from podnet.stores.memory import MemoryStore

MANNER = Manner()


class Counting(MemoryStore):
    """Counts writes, those that are lost as well."""

    def __init__(self):
        super().__init__()
        self.writes = self.reads = 0

    def swap(self, key, new, expected):
        self.writes += 1
        return super().swap(key, new, expected)

    def load(self, key):
        self.reads += 1
        return super().load(key)


class Lab:
    """Several nodes on one store.

    Attributes:
        now: seconds since the epoch, for all.
        waits: what is done while somebody waits.
    """

    def __init__(self, shared=None):
        self.shared = shared or Counting()
        self.local = {}
        self.now = 1e9
        self.waits = lambda: None

    def node(self, name, *, resident=True, local=None, chance=0.0, **options):
        mine = local or self.local.setdefault(name, MemoryStore())
        store = Owning(
            self.shared,
            mine,
            node=name,
            resident=resident,
            clock=lambda: self.now,
            chance=lambda: chance,
            manner=options.pop("manner", MANNER),
            **options,
        )
        return OwnedIpam(
            store, clock=lambda: self.now, patience=5.0, jitter=lambda: 1.0, sleep=self._sleep
        )

    def _sleep(self, seconds):
        self.now += seconds
        self.waits()

    def block(self, key):
        return self.shared.load(key)[0]

    def blocks(self):
        return [self.block(key) for key in self.shared.keys("")]

    def told(self):
        return [lease for block in self.blocks() for _, lease in sorted(block.leases.items())]


def owner(number, prefix="c"):
    name = f"{prefix}{number}"
    return Owner(name, "eth1", "ns", f"pod-{name}", f"uid-{name}")


def eager(**changes):
    return evolve(MANNER, **changes)
