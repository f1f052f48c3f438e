"""Hypothesis state machines: how they are run, and a store against a dictionary."""

from __future__ import annotations

import functools
from collections import Counter
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings, stateful
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, run_state_machine_as_test

from podnet.model.addresses import Address
from podnet.model.block import BLOCK_BITS, Block, block_key
from podnet.model.lease import Lease, Owner

if TYPE_CHECKING:
    from collections.abc import Callable

    from podnet.ports import Store


def run_machine(
    factory: Callable[[], RuleBasedStateMachine],
    *,
    examples: int = 100,
    steps: int = 40,
    seed: int | None = None,
    **options: Any,
) -> None:
    """Run a machine until it has passed or shrunk a failure.

    Args:
        factory: makes the machine anew for each run.
        examples: how many runs.
        steps: calls in each run.
        seed: the same one makes the same runs; different ones each time if not given.
        options: further Hypothesis settings.
    """

    def make() -> RuleBasedStateMachine:
        return factory()

    run_state_machine_as_test(
        make if seed is None else seeded(seed)(make),  # type: ignore[arg-type] # any factory will do
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            **options,
        ),
    )


def quick() -> settings:
    """Return how Hypothesis tests of a contract are run."""
    return settings(
        max_examples=50,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )


STEPS: Counter[str] = Counter()
"""How many steps each machine of this process has made."""


def rule(**strategies: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Hypothesis' rule, counted in ``STEPS``."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def counted(self: RuleBasedStateMachine, *values: Any, **named: Any) -> None:
            STEPS[type(self).__name__] += 1
            function(self, *values, **named)

        ruled: Callable[..., None] = stateful.rule(**strategies)(counted)  # type: ignore[no-untyped-call]
        return ruled

    return decorate


_PLACES = (("a", 4, 1), ("a", 4, 2), ("a", 6, 1), ("a-b", 4, 1), ("b", 4, 1))
_KEYS = tuple(block_key(*place) for place in _PLACES)
# Two containers of one pod, another interface of it, and a container without a pod.
_OWNERS = (
    Owner("c0", "eth0", "ns", "pod", "u0"),
    Owner("c1", "eth0", "ns", "pod", "u0"),
    Owner("c0", "eth1", "ns", "pod", "u0"),
    Owner("c2", "eth0"),
)


def is_of(holder: Owner, owner: Owner) -> bool:
    """Tell whether a lease of ``holder`` is one that ``owner`` is sought by.

    This is the rule of ``podnet.ports.Seeker``, told once more.
    """
    return holder.ifname == owner.ifname and (
        holder.container_id == owner.container_id
        or bool(owner.pod_uid and holder.pod_uid == owner.pod_uid)
    )


@functools.cache
def _content(place: int, number: int) -> Block:
    """Return one of the blocks of a place: each bit of the number tells something about it."""
    domain, version, index = _PLACES[place]
    first = index << BLOCK_BITS
    bits = [number >> n & 1 for n in range(_BITS)]
    held = [offset for n, offset in enumerate((0, 1, 300, 511)) if bits[n]]
    leases = {
        offset: Lease(
            domain=domain,
            pool="p",
            ip=Address(version, first + offset),
            length=24,
            owner=_OWNERS[(n + (number >> 4)) % len(_OWNERS)],
            sequence=n,
            claim="ns/kept" if bits[6] else "",
        )
        for n, offset in enumerate(held)
    }
    return Block(
        domain=domain,
        version=version,
        index=index,
        leases=leases,
        sequence=8 + bits[7],
        freed={offset: 5.0 + offset for n, offset in ((8, 2), (9, 3)) if bits[n]},
        holder="node" if bits[10] else "",
        recalled=bool(bits[11]),
    )


_BITS = 12
_PLACE = st.integers(0, len(_PLACES) - 1)
_CONTENT = st.integers(0, (1 << _BITS) - 1)


class StoreMachine(RuleBasedStateMachine):
    """Loads, swaps, deletes and seeks; the answers must be those of a dictionary with versions."""

    def __init__(self, opened: Callable[[], Store]) -> None:
        super().__init__()
        self.store = opened()
        self.model: dict[str, tuple[Block, str]] = {}
        self.contents: dict[int, int] = {}
        self.stale: dict[str, list[str]] = {}

    def teardown(self) -> None:
        """Close the store."""
        self.store.close()

    def _version(self, key: str) -> str | None:
        return self.model[key][1] if key in self.model else None

    @rule(place=_PLACE, bit=st.integers(0, _BITS - 1))
    def change(self, place: int, bit: int) -> None:
        """Swap in what differs in little from what is there."""
        self.put(place=place, content=self.contents.get(place, 0) ^ (1 << bit))

    @rule(place=_PLACE, content=_CONTENT)
    def put(self, place: int, content: int) -> None:
        """Swap with the right expectation: it wins, with a version never seen before."""
        key, block = _KEYS[place], _content(place, content)
        self.contents[place] = content
        assert self.store.swap(key, block, self._version(key)) is True
        entry = self.store.load(key)
        assert entry is not None
        assert entry[0] == block
        assert entry[1] not in self.stale.get(key, []), "a version came back"
        self.stale.setdefault(key, []).append(entry[1])
        self.model[key] = entry
        for lease in block.leases.values():
            self._seek("", lease.owner)

    @rule(place=_PLACE, content=_CONTENT, number=st.integers(0, 9), delete=st.booleans())
    def put_stale(self, place: int, content: int, number: int, *, delete: bool) -> None:
        """Swap with a version of before, or None where a block is: it loses."""
        key, block = _KEYS[place], _content(place, content)
        current = self._version(key)
        old = [version for version in (None, *self.stale.get(key, ())) if version != current]
        if old:
            new = None if delete else block
            assert self.store.swap(key, new, old[number % len(old)]) is False

    @rule(place=_PLACE)
    def delete(self, place: int) -> None:
        """Delete with the right expectation: it wins, also where nothing is."""
        key = _KEYS[place]
        assert self.store.swap(key, None, self._version(key)) is True
        self.model.pop(key, None)

    @rule(prefix=st.sampled_from(["", "a", "a/", "a/4/", "b/", "c"]))
    def list_keys(self, prefix: str) -> None:
        """Keys with a prefix come in order."""
        assert list(self.store.keys(prefix)) == sorted(
            key for key in self.model if key.startswith(prefix)
        )

    @rule(prefix=st.sampled_from(["", "a/", "a/4/", "b/"]), owner=st.sampled_from(_OWNERS))
    def seek(self, prefix: str, owner: Owner) -> None:
        """No block with a lease of the owner is left out, where the store seeks."""
        self._seek(prefix, owner)

    def _seek(self, prefix: str, owner: Owner) -> None:
        if seek := getattr(self.store, "seek", None):
            found = set(seek(prefix, owner))
            assert all(key.startswith(prefix) for key in found)
            for key, (block, _) in self.model.items():
                holders = [lease.owner for lease in block.leases.values()]
                mine = any(is_of(holder, owner) for holder in holders)
                assert key in found or not mine or not key.startswith(prefix), f"{key} left out"

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        """Every block is the model's, in the model's version."""
        for key in _KEYS:
            assert self.store.load(key) == self.model.get(key)
