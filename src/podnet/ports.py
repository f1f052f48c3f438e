"""The seams of the house as Protocols, and nothing else.

Each has one contract suite in ``podnet.testing`` that every adapter and every fake passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from podnet.ipam.pick import Ask
    from podnet.model.attachment import Call, Done, Pod
    from podnet.model.block import Block
    from podnet.model.facts import Have, Probe
    from podnet.model.lease import Owner
    from podnet.model.ops import Op

    # Imported for annotations only: the ground floor stands below the model at run time.


class Store(Protocol):
    """A versioned map of blocks that knows nothing of addresses.

    Keys are non-empty texts of printable characters; ``/`` separates their parts. A version is
    opaque, never empty, and never comes back for the same key: a block deleted and created anew
    has another version than before.
    """

    def load(self, key: str) -> tuple[Block, str] | None:
        """Return the block and its version, or None where there is none.

        Raises:
            StoreError: the store is broken or unreachable.
        """
        ...

    def swap(self, key: str, new: Block | None, expected: str | None) -> bool:
        """Replace the block at ``key`` if it is still at version ``expected``.

        Args:
            key: where.
            new: the block to put there, durable once this returns; None deletes.
            expected: version that ``load`` gave; None if there was none.

        Returns:
            True if replaced; False if somebody else won, and then nothing changed.

        Raises:
            StoreError: the store is broken; whether the write happened is unknown.
        """
        ...

    def keys(self, prefix: str) -> Iterable[str]:
        """Return the keys that start with ``prefix``, in order."""
        ...

    def close(self) -> None:
        """Release what is held; further calls are undefined. May be called again."""
        ...


class Seeker(Protocol):
    """What a store may offer besides: finding an owner's blocks without reading all of them.

    Pools of a few blocks need it not: their blocks are loaded. A store without it still serves
    large pools, at a cost that grows with the number of their blocks.
    """

    def seek(self, prefix: str, owner: Owner) -> Iterable[str]:
        """Return the keys under ``prefix`` of blocks that may have a lease of the owner.

        A lease is the owner's if its interface name is, and its container id or, where the owner
        has one, its pod's UID. More keys than these may be returned, but none left out whose swap
        was complete before the call. The one exception: a store that is told of changes instead
        of asking may be late with swaps of other processes; by how much, it has to say.

        Raises:
            StoreError: the store is broken or unreachable.
        """
        ...


class Queue(Protocol):
    """What a store may offer besides: a line for those who want to change the same blocks.

    Of many who load, decide and swap at once, one wins, and the work of all others is lost.
    """

    def queue(self, prefix: str) -> AbstractContextManager[None]:
        """Return what to load, decide and swap inside, one after the other.

        It is a courtesy: who does not queue may win all the same, and who has waited for some
        seconds goes on without a turn. It raises nothing.

        Args:
            prefix: of the keys of the blocks.
        """
        ...


class FreeAddresses(Protocol):
    """The free addresses of a pool as numbers."""

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Return inclusive intervals, ascending, none overlapping; read as far as needed."""
        ...

    def after(self, value: int) -> Iterator[tuple[int, int]]:
        """Return the same, but only from the number ``value`` upward."""
        ...

    def known(self) -> Iterator[tuple[int, int]]:
        """Return the same, but only of blocks that are known to exist."""
        ...


class Picker(Protocol):
    """Chooses which free address is handed out next."""

    def pick(self, free: FreeAddresses, ask: Ask) -> int | None:
        """Return a number of one of the intervals of ``free``, or None if it takes none.

        Args:
            free: what may be taken; a pool may be a ``/0``, so read no more than needed.
            ask: who asks, and what is known of the pool.
        """
        ...


class Driver(Protocol):
    """One kind of interface: decides what to read from the kernel and what to change."""

    def ask(self, want: object) -> Probe:
        """Name the facts ``plan`` needs."""
        ...

    def plan(self, want: object, have: Have) -> tuple[Op, ...]:
        """Return the operations from ``have`` to ``want``; empty means nothing differs.

        Raises:
            InvalidConfigError, LinkNotFoundError, InterfaceExistsError: ``want`` cannot be had.
        """
        ...


class NetworkSource(Protocol):
    """Where pods and network definitions come from. Fetches; understanding is pure."""

    def selection(self, pod: Pod, annotation: str = ...) -> str | None:
        """Return the text of an annotation of the pod; None if the pod is unknown.

        A pod without the annotation has the empty text.

        Args:
            pod: which; known by namespace and name.
            annotation: its key; ``k8s.v1.cni.cncf.io/networks`` if not given.
        """
        ...

    def definition(self, namespace: str, name: str) -> bytes | None:
        """Return the network definition as a JSON object's bytes, or None if there is none.

        The object is the NetworkAttachmentDefinition itself, with ``metadata`` and ``spec``.
        """
        ...


class ClaimSource(Protocol):
    """Where IPAMClaims come from, and where it is told which addresses they hold."""

    def claim(self, namespace: str, name: str) -> bytes | None:
        """Return the IPAMClaim as a JSON object's bytes, or None if there is none.

        Raises:
            PodnetError: it cannot be read.
        """
        ...

    def tell(self, namespace: str, name: str, ips: Sequence[str], pod: str) -> None:
        """Write to the claim's status which addresses it holds, and which pod uses them.

        A source that cannot be written to does nothing: the leases are in podnet's store.

        Args:
            namespace: of the claim.
            name: of the claim.
            ips: ``address/length``; those that the status has already are not replaced.
            pod: name of the pod.

        Raises:
            PodnetError: it cannot be written, or the status has other addresses.
        """
        ...

    def close(self) -> None:
        """Release what is held."""
        ...


class Executor(Protocol):
    """Runs a delegate plugin."""

    def has(self, plugin: str) -> bool:
        """Tell whether this executor can run the plugin of that name."""
        ...

    def run(self, call: Call) -> Done:
        """Run it and return what it said; a non-zero exit is data.

        Raises:
            PluginNotFoundError: there is no such plugin here.
            DeadlineError: it did not end in ``call.timeout`` seconds and was ended.
        """
        ...
