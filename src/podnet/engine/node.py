"""The front door for people and tools: attach a namespace, look at it, detach it."""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING, Any

from attrs import evolve

from podnet.delegation.selection import DEFAULT_NETWORK_ANNOTATION
from podnet.engine import attach as attaching
from podnet.engine import selecting
from podnet.engine import settings as settings_
from podnet.engine.collecting import collect
from podnet.engine.house import House, no_step
from podnet.engine.recovery import recorded_call, recover
from podnet.engine.verbs import perform
from podnet.errors import (
    CheckFailedError,
    InvalidConfigError,
    RecordError,
    UnknownContainerError,
)
from podnet.model.attachment import Call, Pod

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from podnet.engine.attach import Attached
    from podnet.engine.journal import Record
    from podnet.engine.settings import Settings

NETWORK = "podnet"
"""CNI network name under which a node's own attachments are kept; a runtime brings its own."""

_BIN_DIRS = ("/opt/cni/bin",)


class Node:
    """A node's networks: attaches sandboxes to them and remembers what it did.

    A context manager; what it opens is closed at its end, attachments stay until detached.
    """

    def __init__(
        self,
        store: str | None = None,
        networks: str | os.PathLike[str] | Sequence[str] | None = None,
        *,
        state_dir: str | None = None,
        settings: Settings | None = None,
        step: Callable[[str], None] = no_step,
        kernel: Any = None,
    ) -> None:
        """Set up a node; nothing is opened yet.

        Args:
            store: URL of the IPAM store; default from ``PODNET_STORE``, the configuration file,
                or the state folder.
            networks: file, folder or several with manifests of pods and network definitions.
            state_dir: folder for journal and locks; default likewise.
            settings: complete settings, instead of looking at environment and file.
            step: called with a short name before every side effect.
            kernel: another kernel than this machine's, such as ``podnet.testing.FakeKernel``, for
                tests of what is built on podnet.

        Raises:
            PodnetError: the configuration file has mistakes.
        """
        base = settings or settings_.load(os.environ)
        if state_dir is not None:
            state_dir = os.path.abspath(state_dir)
            base = evolve(base, state_dir=state_dir, store=f"file:{state_dir}/leases")
        if store is not None:
            base = evolve(base, store=settings_.absolute_store(store))
        if networks is not None:
            one = isinstance(networks, str | os.PathLike)
            paths = (networks,) if one else networks
            base = evolve(base, networks=tuple(os.fspath(path) for path in paths))  # type: ignore[union-attr,arg-type]  # one path or several, as told apart above
        self._house = House(base, step=step, kernel=kernel)

    def __enter__(self) -> Node:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close store and sockets. May be called again."""
        self._house.close()

    def attach(
        self,
        netns: str | os.PathLike[str],
        networks: str | Sequence[str] | None = None,
        *,
        pod: Pod | str | None = None,
        container_id: str | None = None,
        default_network: str | None = None,
        ifname: str = "eth0",
    ) -> Attached:
        """Attach a namespace to networks, all of them or none.

        Args:
            netns: path of the network namespace.
            networks: text of the networks annotation (NPWG 1.3, 4.1), or its items in short form;
                None takes it from the pod's manifest.
            pod: whose sandbox it is, also as text ``namespace/name``; its namespace is where
                networks are looked up.
            container_id: the sandbox's id; default made from ``netns``.
            default_network: the network of ``ifname``, as name of a definition or of an on-disk
                configuration, or as path of one; None for none.
            ifname: interface name on the default network.

        Raises:
            PodnetError: nothing is attached; the class tells whose fault it is.
        """
        house, pod, netns = self._house, _pod(pod), os.fspath(netns)
        instead = ""
        if networks is None:
            networks = attaching.selection_of(house, pod)
            if pod is not None:
                instead = attaching.selection_of(house, pod, DEFAULT_NETWORK_ANNOTATION)
        elif not isinstance(networks, str):
            networks = ",".join(networks)
        if not (networks.strip() or instead.strip() or default_network):
            whose = f"pod {pod} selects no network" if pod else "no network is named"
            raise InvalidConfigError(f"there is nothing to attach: {whose}, nor a default network")
        request = attaching.Request(
            network=NETWORK,
            container_id=container_id or container_id_of(netns),
            netns=netns,
            ifname=ifname,
            pod=pod,
            networks=networks,
            default=default_network,
            instead=instead,
            path=(*house.settings.bin_dirs, *_BIN_DIRS),
            timeout=house.settings.timeout,
        )
        with house.exclusive("sandbox", request.call("ADD")):
            return attaching.attach(house, request)

    def detach(
        self,
        netns: str | os.PathLike[str] | None = None,
        *,
        container_id: str | None = None,
        pod: Pod | str | None = None,
    ) -> tuple[Attached, ...]:
        """Undo what the record of the sandbox says, and nothing else; needs no manifest.

        Args:
            netns: path of the network namespace.
            container_id: the sandbox's id, or a beginning of it that no other has.
            pod: whose sandbox it is, also as text ``namespace/name``.

        Returns:
            What was detached; empty if nothing was attached.

        Raises:
            RecordError: the sandbox's record cannot be read; what is known of it was undone, and
                the record moved aside.
            PodnetError: something could not be undone; the record is kept for a retry.
        """
        path = None if netns is None else os.fspath(netns)
        everything = selecting.known(self._house.journal)
        if container_id is not None:
            container_id = selecting.whole_id(everything, container_id)
        done = []
        for record in selecting.choose(everything, path, container_id, _pod(pod)):
            detached = self._detach(record)
            if detached is not None:
                done.append(attaching.listed(detached))
        named = {container_id, container_id_of(path) if path else None}
        for error in everything.unreadable:
            if error.place[0] == "sandbox" and error.place[2] in named:
                with self._house.exclusive("sandbox", _lost(error)):
                    raise recover(self._house, error, error.place) from error
        if not done:
            # What is looked for may be what cannot be read.
            for error in everything.unreadable:
                role, _, of, _ = error.place
                if of in (container_id, "") or (container_id is None and role == "sandbox"):
                    raise error
        return tuple(done)

    def _detach(self, record: Record) -> Record | None:
        """Return what was detached, as it was when its turn came; None if it was gone by then."""
        house = self._house
        if record.role != "sandbox":
            perform(house, evolve(recorded_call(record), verb="DEL"))
            return record
        with house.exclusive("sandbox", _call("DEL", record)):
            now = house.journal.find(*attaching.key(record))
            if now is not None:
                attaching.detach(house, now)
        return now

    def check(
        self,
        netns: str | os.PathLike[str] | None = None,
        *,
        container_id: str | None = None,
        pod: Pod | str | None = None,
    ) -> tuple[Attached, ...]:
        """Compare the sandbox's attachments with the kernel and the store.

        Args:
            netns: path of the network namespace.
            container_id: the sandbox's id, or a beginning of it that no other has.
            pod: whose sandbox it is, also as text ``namespace/name``.

        Raises:
            UnknownContainerError: nothing is attached there.
            CheckFailedError: all differences, listed.
        """
        path = None if netns is None else os.fspath(netns)
        everything = selecting.known(self._house.journal)
        records = selecting.choose(everything, path, container_id, _pod(pod))
        if not records:
            # What cannot be read must not stop the others, but it may be what is looked for.
            if everything.unreadable:
                raise everything.unreadable[0]
            raise UnknownContainerError(f"nothing is attached to {path or container_id or pod}")
        for record in records:
            self._check(record)
        return tuple(attaching.listed(record) for record in records)

    def _check(self, record: Record) -> None:
        if record.role != "sandbox":
            _require_done(record)
            perform(self._house, selecting.check_call(record))
            return
        with self._house.exclusive("sandbox", _call("CHECK", record)):
            now = self._house.journal.find(*attaching.key(record))
            if now is None:
                raise UnknownContainerError(f"container {record.container_id} was detached")
            _require_done(now)
            attaching.check(self._house, now)

    def status(self) -> tuple[Attached, ...]:
        """Return all that podnet has attached on this node.

        Sandboxes first; then what a runtime made by calling a single plugin. A record that cannot
        be read is listed with stage ``unreadable``.
        """
        everything = selecting.known(self._house.journal).everything
        return tuple(attaching.listed(entry) for entry in everything)

    def gc(self, valid: Iterable[tuple[str, str]]) -> tuple[Attached, ...]:
        """Detach every sandbox that is not among ``valid`` (container id, interface name).

        Raises:
            PodnetError: some could not be undone; the others are.
        """
        call = Call(plugin=NETWORK, verb="GC", timeout=self._house.settings.timeout)
        with self._house.exclusive("sandbox", call):
            gone = collect(self._house, NETWORK, frozenset(valid))
        return tuple(attaching.describe(record) for record in gone)

    def pods(self) -> tuple[Pod, ...]:
        """Return the pods of the manifests, in order."""
        source = self._house.source
        return tuple(source.pods())  # type: ignore[attr-defined]  # the directory source's own


def _pod(pod: Pod | str | None) -> Pod | None:
    if not isinstance(pod, str):
        return pod
    namespace, slash, name = pod.rpartition("/")
    return Pod(namespace if slash else "default", name)


def container_id_of(netns: str) -> str:
    """Return a container id for a namespace path: its last part if that can be one, else a hash.

    The path is part of the hash, so two folders of namespaces never share an id.
    """
    path = selecting.settled_path(netns)
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
    stem = re.sub(r"[^a-zA-Z0-9_.-]", "-", os.path.basename(path)).lstrip("_.-")[:40]
    return f"{stem or 'netns'}-{digest}"


def _call(verb: str, record: Record) -> Call:
    return Call(
        plugin=record.network,
        verb=verb,
        container_id=record.container_id,
        netns=record.netns,
        ifname=record.ifname,
        timeout=record.timeout,
    )


def _require_done(record: Record) -> None:
    if record.stage != "done":
        raise CheckFailedError(
            f"container {record.container_id} is only partly attached",
            "an ADD was interrupted; detach it",
        )


def _lost(error: RecordError) -> Call:
    _, network, container_id, ifname = error.place
    return Call(plugin=network, verb="DEL", container_id=container_id, ifname=ifname)
