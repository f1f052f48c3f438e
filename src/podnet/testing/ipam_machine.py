"""A Hypothesis state machine: address management against a set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant

from podnet.engine.leases import Ipam
from podnet.errors import AddressUnavailableError, PoolExhaustedError, StoreError
from podnet.ipam.pick import Lowest
from podnet.model.addresses import Address
from podnet.model.lease import Owner
from podnet.model.pool import Pool
from podnet.testing.faults import BEATEN, FINE, LOST, REFUSED, FaultyStore
from podnet.testing.machines import rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from podnet.model.lease import Lease
    from podnet.ports import Store

# Small enough to run full, across the border of two blocks, with every kind of gap; the second
# meets the first in the same domain, the third does not, the fourth is far above 64 bits. The
# network of the fifth has more blocks than are read for each request.
_DOMAIN = "machine"
POOLS = (
    Pool(
        "wide",
        "10.0.0.0/22",
        first="10.0.1.252",
        last="10.0.2.4",
        exclude=["10.0.1.254/31"],
        reserved=["10.0.2.2"],
        gateway="10.0.2.1",
        domain=_DOMAIN,
    ),
    Pool("narrow", "10.0.2.0/29", edges="inner", domain=_DOMAIN),
    Pool("apart", "10.0.2.0/30"),
    Pool("six", "2001:db8:0:1::/126", domain=_DOMAIN),
    Pool("vast", "10.0.0.0/12", first="10.0.3.254", last="10.0.4.1", domain=_DOMAIN),
)
# Worked out by hand, not by the code under test.
_MAY_HAND_OUT = {
    "wide": ["10.0.1.252", "10.0.1.253", "10.0.2.0", "10.0.2.3", "10.0.2.4"],
    "narrow": [f"10.0.2.{n}" for n in range(1, 7)],
    "apart": ["10.0.2.1", "10.0.2.2"],
    "six": [f"2001:db8:0:1::{n}" for n in (1, 2, 3)],
    "vast": ["10.0.3.254", "10.0.3.255", "10.0.4.0", "10.0.4.1"],
}
# Next to those, and in the gaps between them.
_MUST_NOT_HAND_OUT = {
    "wide": ["10.0.1.251", "10.0.1.254", "10.0.1.255", "10.0.2.1", "10.0.2.2", "10.0.2.5"],
    "narrow": ["10.0.2.0", "10.0.2.7"],
    "apart": ["10.0.2.0", "10.0.2.3"],
    "six": ["2001:db8:0:1::", "2001:db8:0:1::4"],
    "vast": ["10.0.3.253", "10.0.4.2", "10.0.0.0"],
}
_FAULTS = st.lists(st.sampled_from([FINE, FINE, FINE, REFUSED, LOST, BEATEN]), max_size=6)
_POOLS = st.sampled_from([pool.name for pool in POOLS])
_BY_NAME = {pool.name: pool for pool in POOLS}
_PODS, _CLAIMS = range(6), range(6, 8)
_NUMBERS = st.integers(0, 7)


def _pod(number: int, container: str) -> Owner:
    return Owner(container, f"net{number % 2}", "default", f"pod-{number}", f"uid-{number}")


def _home(number: int) -> int:
    """Return whose container a number stands for: the last two are interfaces of one."""
    return min(number, 4)


def _claim(number: int) -> str:
    return f"default/claim-{number}" if number in _CLAIMS else ""


def _one(one: Owner, other: Owner) -> bool:
    same = one.container_id == other.container_id or "" != one.pod_uid == other.pod_uid
    return same and one.ifname == other.ifname


class IpamMachine(RuleBasedStateMachine):
    """Allocates, renews and releases through two handles on one store that may fail.

    The model is the set of leases: ``(domain, address) → lease``, and the times of releases. Pods
    are six; a pod's container may be replaced by a new one, whose predecessor's release then comes
    late. Two claims keep addresses without any pod.
    """

    def __init__(self, opened: Callable[[], Store]) -> None:
        super().__init__()
        self.inner = opened()
        self.store = FaultyStore(self.inner)
        self.now = 1000.0
        self.ipams = [self._ipam("node-0"), self._ipam("node-1")]
        self.model: dict[tuple[str, str], Lease] = {}
        self.former: list[Lease] = []
        self.newest: dict[tuple[str, str], int] = {}
        self.freed: dict[tuple[str, str], float] = {}
        self.containers = dict.fromkeys(_PODS, 0)

    def _ipam(self, node: str) -> Ipam:
        return Ipam(
            self.store,
            clock=lambda: self.now,
            node=node,
            picker=Lowest(),
            attempts=20,
            jitter=lambda: 0.0,
            sleep=lambda _: None,
        )

    def teardown(self) -> None:
        """Close the store."""
        self.inner.close()

    @initialize()
    def start(self) -> None:
        """Begin without faults."""
        self.store.plan(())

    def _owner(self, number: int) -> Owner:
        if number in _CLAIMS:
            return Owner(f"claim:{_claim(number)}", "net0", "default")
        home = _home(number)
        pod = _pod(home, f"container-{home}-{self.containers[home]}")
        return evolve(pod, ifname=f"net{number % 2}")

    def _held(self, pool: Pool, owner: Owner) -> Lease | None:
        for lease in self.model.values():
            if lease.pool == pool.name and _one(lease.owner, owner):
                return lease
        return None

    def _free(self, pool: Pool) -> list[str]:
        may = _MAY_HAND_OUT[pool.name]
        return [text for text in may if (pool.domain, text) not in self.model]

    def _adopt(self, pool: Pool, lease: Lease) -> None:
        key = pool.domain, str(lease.ip)
        if lease != self.model.get(key):
            assert lease.sequence > self.newest.get(key, 0), f"{lease} repeats a sequence"
        self.newest[key] = lease.sequence
        self.model[key] = lease
        self.freed.pop(key, None)

    def _give_up(self, key: tuple[str, str]) -> None:
        self.former.append(self.model.pop(key))
        self.freed[key] = self.now

    @rule(name=_POOLS, number=_NUMBERS, handle=st.integers(0, 1))
    def allocate(self, name: str, number: int, handle: int) -> None:
        """The pod's own address again, else the lowest free one, else a clear refusal."""
        pool = _BY_NAME[name]
        owner, held, free = self._owner(number), None, self._free(pool)
        held = self._held(pool, owner)
        self.now += 1
        try:
            lease = self.ipams[handle].allocate(pool, owner, network="net", claim=_claim(number))
        except PoolExhaustedError:
            assert held is None, "refused to an owner that holds an address"
            assert not free, f"refused although {free} are free"
            return
        if held is not None:
            assert lease.ip == held.ip
            assert lease.since == (held.since if held.owner == owner else self.now)
            if held.owner != owner:
                self.former.append(held)
                assert lease.sequence > held.sequence
        else:
            assert free, f"{lease.ip} handed out although nothing is free"
            # Of a pool of many blocks, what another node freed need not be known.
            lowest = free if pool.name == "vast" else free[:1]
            assert str(lease.ip) in lowest, f"{lease.ip} is not the lowest of {free}"
            assert lease.since == self.now
        assert (lease.owner, lease.claim) == (owner, _claim(number))
        assert lease.length == pool.network.length
        self._adopt(pool, lease)

    @rule(name=_POOLS, number=_NUMBERS, choice=st.integers(0, 10), handle=st.integers(0, 1))
    def allocate_requested(self, name: str, number: int, choice: int, handle: int) -> None:
        """The requested address if it is free and may be handed out, else a refusal."""
        pool = _BY_NAME[name]
        owner = self._owner(number)
        may = [*_MAY_HAND_OUT[pool.name], *_MUST_NOT_HAND_OUT[pool.name]]
        wanted = may[choice % len(may)]
        held = self._held(pool, owner)
        possible = str(held.ip) == wanted if held else wanted in self._free(pool)
        try:
            lease = self.ipams[handle].allocate(
                pool, owner, network="net", requested=wanted, claim=_claim(number)
            )
        except AddressUnavailableError:
            assert not possible, f"{wanted} refused although it is free"
            return
        assert possible, f"{wanted} handed out although it is not to be had"
        assert str(lease.ip) == wanted
        if held is not None and held.owner != owner:
            self.former.append(held)
        self._adopt(pool, lease)

    @rule(number=_NUMBERS)
    def replace_container(self, number: int) -> None:
        """The pod's container dies without a release; the next one is the same pod's."""
        if number in _PODS:
            self.containers[_home(number)] += 1

    @rule(choice=st.integers(0, 20), handle=st.integers(0, 1))
    def succeed(self, choice: int, handle: int) -> None:
        """The container of a pod that holds an address dies, and its successor asks for it."""
        held = [
            (number, lease.pool)
            for _, lease in sorted(self.model.items())
            for number in _PODS
            if _one(lease.owner, self._owner(number))
        ]
        if held:
            number, name = held[choice % len(held)]
            self.replace_container(number=number)
            self.allocate(name=name, number=number, handle=handle)

    @rule(name=_POOLS, number=_NUMBERS, handle=st.integers(0, 1), hint=st.booleans())
    def release(self, name: str, number: int, handle: int, *, hint: bool) -> None:
        """Exactly the owner's leases of the pool come back, twice makes no difference."""
        pool = _BY_NAME[name]
        owner = self._owner(number)
        mine = {
            key: lease
            for key, lease in self.model.items()
            if lease.pool == pool.name and lease.owner.key == owner.key
        }
        hints = [lease.ip for lease in mine.values()] if hint else []
        released = self.ipams[handle].release(owner, pool=pool, hints=hints)
        assert sorted(str(lease.ip) for lease in released) == sorted(key[1] for key in mine)
        for key in mine:
            self._give_up(key)
        assert self.ipams[handle].release(owner, pool=pool) == ()

    @rule(choice=st.integers(0, 6), handle=st.integers(0, 1))
    def release_late(self, choice: int, handle: int) -> None:
        """A release of a grant that is over frees nothing, whoever holds the address now."""
        # Mostly of an address that is held anew, best by the same owner: they differ in little.
        old = max(
            self.former[choice::7],
            key=self._likeness,
            default=None,
        )
        if old is not None:
            freed = self.ipams[handle].release(old)
            assert freed == (), f"a late release of {old} freed {freed}"

    @rule(choice=st.integers(0, 20), handle=st.integers(0, 1))
    def come_back(self, choice: int, handle: int) -> None:
        """An owner gives an address back and gets it again; then the first grant is over."""
        held = [
            (number, lease)
            for _, lease in sorted(self.model.items())
            for number in (*_PODS, *_CLAIMS)
            if lease.owner.key == self._owner(number).key
        ]
        if held:
            number, old = held[choice % len(held)]
            self.release(name=old.pool, number=number, handle=handle, hint=True)
            place = _MAY_HAND_OUT[old.pool].index(str(old.ip))
            self.allocate_requested(name=old.pool, number=number, choice=place, handle=handle)
            assert self.ipams[handle].release(old) == (), f"{old} is over, and was ended again"

    def _likeness(self, former: Lease) -> int:
        held = self.model.get((former.domain, str(former.ip)))
        return 0 if held is None else 1 + (held.owner.key == former.owner.key)

    @rule(alive=st.sets(_NUMBERS), handle=st.integers(0, 1))
    def sweep(self, alive: set[int], handle: int) -> None:
        """GC frees what this node's lost attachments to the network had, and no other's."""
        valid = {self._owner(number).key for number in alive}
        node = f"node-{handle}"
        gone = {
            key
            for key, lease in self.model.items()
            if lease.node == node and not lease.claim and lease.owner.key not in valid
        }
        assert self.ipams[handle].sweep("other network", valid) == ()
        swept = self.ipams[handle].sweep("net", valid)
        assert {(lease.domain, str(lease.ip)) for lease in swept} == gone
        for key in gone:
            self._give_up(key)

    @rule(name=_POOLS, numbers=st.permutations(range(6)), handle=st.integers(0, 1))
    def meet(self, name: str, numbers: list[int], handle: int) -> None:
        """Another node allocates between this one's look and its swap: both get their own."""
        pool = _BY_NAME[name]
        first, second = self._owner(numbers[0]), self._owner(numbers[1])
        if self._held(pool, first) or self._held(pool, second) or len(self._free(pool)) < 2:
            return
        other = Ipam(self.inner, clock=lambda: self.now, node="node-2", sleep=lambda _: None)
        met: list[Lease] = []
        self.store.interfere(lambda: met.append(other.allocate(pool, second, network="net")))
        mine = self.ipams[handle].allocate(pool, first, network="net")
        assert mine.ip != met[0].ip, f"{mine.ip} handed out twice"
        self._adopt(pool, mine)
        self._adopt(pool, met[0])

    @rule(name=_POOLS, number=_NUMBERS, faults=_FAULTS, release=st.booleans())
    def act_with_faults(self, name: str, number: int, faults: list[str], *, release: bool) -> None:
        """The store fails here and there: whatever is told, nothing is held twice or for nobody."""
        pool = _BY_NAME[name]
        owner = self._owner(number)
        before = dict(self.model)
        self.store.plan(faults)
        try:
            if release:
                self.ipams[0].release(owner, pool=pool)
            else:
                self.ipams[0].allocate(pool, owner, network="net", claim=_claim(number))
        except (StoreError, PoolExhaustedError):
            # What then is held is unknown to the caller; the owner's leases alone may differ.
            pass
        finally:
            self.store.plan(())
        self.model = {(lease.domain, str(lease.ip)): lease for lease in Ipam(self.inner).leases()}
        changed = {key for key in {*before, *self.model} if before.get(key) != self.model.get(key)}
        for key in changed:
            for lease in (before.get(key), self.model.get(key)):
                assert lease is None or (_one(lease.owner, owner) and lease.pool == pool.name), (
                    f"the lease of {lease.owner} changed by what {owner} did"
                )
            if key in before:
                self.former.append(before[key])
            if key in self.model:
                self.newest[key] = self.model[key].sequence
        self.freed = dict(self._rested())

    def _rested(self) -> Iterator[tuple[tuple[str, str], float]]:
        for key in self.inner.keys(""):
            entry = self.inner.load(key)
            assert entry is not None
            block = entry[0]
            for offset, when in block.freed.items():
                yield (block.domain, str(Address(block.version, block.first + offset))), when

    @invariant()
    def store_holds_what_the_model_holds(self) -> None:
        """The leases are the model's, each on an address its pool may hand out, none twice."""
        leases = list(Ipam(self.inner).leases())
        held = {(lease.domain, str(lease.ip)): lease for lease in leases}
        assert len(held) == len(leases), "an address is held twice"
        assert held == self.model
        for lease in leases:
            assert str(lease.ip) in _MAY_HAND_OUT[lease.pool]
        assert dict(self._rested()) == self.freed, "times of releases"
        owned = [
            (x.domain, x.pool, x.owner.pod_uid or x.owner.container_id, x.owner.ifname)
            for x in leases
        ]
        assert len(set(owned)) == len(owned), "an owner holds two addresses of one pool"
