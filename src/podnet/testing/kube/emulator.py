"""A Kubernetes API server's strict sides, in this process, for tests and benchmarks.

::

    with Emulator() as kube:
        kube.define(manifest)                       # a CustomResourceDefinition
        store = open(f"kubernetes:{kube.kubeconfig(folder)}")
        kube.fail(Drop(applied=True), verb="patch") # the reply to one PATCH is lost
        ...
        assert kube.count("patch") == 1

It holds objects to their structural schemas, enforces ``resourceVersion``, pages lists, ends
watches, refuses what is too large, and goes wrong on demand. What it does not do: admission,
garbage collection by owner references, conversion between versions, CEL rules, strategic merge.
"""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

from podnet.testing.kube import foreign, kinds, replies
from podnet.testing.kube.api import WRITING_VERBS, Api
from podnet.testing.kube.counting import Counting, Logged
from podnet.testing.kube.faults import Drop, Fault, Faults, Refuse, Rule, Slow, Throttle
from podnet.testing.kube.kubeconfig import write_kubeconfig
from podnet.testing.kube.reading import Reading, Streams
from podnet.testing.kube.requests import Reply, Request, Target
from podnet.testing.kube.storage import Storage, encode
from podnet.testing.kube.wire import Hangup, Server
from podnet.testing.kube.writing import Writing

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from podnet.testing.kube.api import Roles
    from podnet.testing.kube.reading import Streams as _Streams

__all__ = ["Drop", "Emulator", "Logged", "Refuse", "Slow", "Throttle"]

_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


class Emulator(Counting):
    """An API server on 127.0.0.1; a context manager. All methods may be called by any thread."""

    def __init__(
        self,
        definitions: Iterable[dict[str, Any]] = (),
        *,
        port: int = 0,
        write_latency: float = 0.0,
        read_latency: float = 0.0,
        bookmarks: float = 60.0,
        history: int = 2000,
        tls: ssl.SSLContext | None = None,
        seed: int = 0,
    ) -> None:
        """Prepare it; ``start`` or ``with`` serves.

        Args:
            definitions: CustomResourceDefinitions to register besides those of whereabouts, NPWG
                networks and IPAMClaims.
            port: to listen on; 0 for any that is free.
            write_latency: seconds that every write takes, as etcd's disk does; writes of several
                clients wait side by side.
            read_latency: seconds that every other request takes.
            bookmarks: seconds between the bookmarks of a watch that asked for them.
            history: changes of each resource that watches can start from.
            tls: serve HTTPS.
            seed: of the random numbers of faults with a chance.
        """
        super().__init__()
        self.write_latency = write_latency
        self.read_latency = read_latency
        self._storage = Storage(history=history)
        self._streams: _Streams = Streams(bookmarks=bookmarks)
        self._reading = Reading(self._storage, self._streams)
        self._api = Api(self._reading, Writing(self._storage))
        self._faults = Faults(seed)
        for kind in kinds.builtin():
            self._api.register(kind)
        for manifest in (*foreign.DEFINITIONS, *definitions):
            self.define(manifest)
        self._server = Server(self._answer, port, tls)
        self._scheme = "http" if tls is None else "https"
        self._thread: threading.Thread | None = None
        for name in _NAMESPACES:
            self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    # --- life

    @property
    def url(self) -> str:
        """Where it listens, such as ``http://127.0.0.1:41234``."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> Emulator:
        """Serve in the background."""
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """End, and close all connections; it cannot be started again."""
        self.end_watches()
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.hang_up()
        self._server.server_close()

    def __enter__(self) -> Emulator:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def kubeconfig(
        self, path: str, *, token: str = "", namespace: str = "default", token_file: str = ""
    ) -> str:
        """Write a kubeconfig that leads here; return its path.

        Args:
            path: the file, or a folder to put ``kubeconfig`` in.
            token: bearer token to send.
            namespace: of the context.
            token_file: file to read the bearer token from instead.
        """
        return write_kubeconfig(
            self.url, path, token=token, namespace=namespace, token_file=token_file
        )

    # --- objects, past HTTP, latency, tokens and faults

    def define(self, manifest: dict[str, Any]) -> None:
        """Register a CustomResourceDefinition.

        Raises:
            ValueError: it is none, or cannot be enforced here.
        """
        for kind in kinds.from_definition(manifest):
            self._api.register(kind)

    def create(self, document: dict[str, Any]) -> dict[str, Any]:
        """Create an object, held to all rules; return it.

        Raises:
            Refusal: it breaks one.
        """
        kind = self._kind_of(document)
        namespace = None
        if kind.namespaced:
            namespace = document["metadata"].get("namespace", "default")
        return self._direct("POST", "create", Target(kind, namespace), document)

    def replace(self, document: dict[str, Any]) -> dict[str, Any]:
        """Replace an object, as another client or a person would; return it.

        Raises:
            Refusal: it breaks a rule.
        """
        meta = document["metadata"]
        target = self._target(self._kind_of(document).resource, meta["name"], meta.get("namespace"))
        return self._direct("PUT", "update", target, document)

    def get(self, resource: str, name: str, namespace: str = "default") -> dict[str, Any] | None:
        """Return a copy of an object, or None."""
        target = self._target(resource, name, namespace)
        with self._storage.lock:
            found = self._storage.find(target.kind.resource, target.namespace or "", name)
        return None if found is None else json.loads(found.raw)

    def delete(self, resource: str, name: str, namespace: str = "default") -> None:
        """Delete an object.

        Raises:
            Refusal: there is none.
        """
        self._direct("DELETE", "delete", self._target(resource, name, namespace), {})

    def objects(self, resource: str, namespace: str | None = None) -> list[dict[str, Any]]:
        """Return copies of all objects of a resource, in order."""
        with self._storage.lock:
            found = self._storage.select(self._api.kind(resource).resource, namespace)
        return [json.loads(one.raw) for one in found]

    def size(self, resource: str, name: str, namespace: str = "default") -> int:
        """Return how many bytes of JSON an object takes."""
        target = self._target(resource, name, namespace)
        found = self._storage.find(target.kind.resource, target.namespace or "", name)
        return 0 if found is None else len(found.raw)

    def _kind_of(self, document: dict[str, Any]) -> kinds.Kind:
        for kind in self._api.kinds():
            if (kind.api_version, kind.kind) == (document.get("apiVersion"), document.get("kind")):
                return kind
        raise KeyError(f"{document.get('apiVersion')} {document.get('kind')} is not served")

    def _target(self, resource: str, name: str, namespace: str | None) -> Target:
        kind = self._api.kind(resource)
        return Target(kind, (namespace or "default") if kind.namespaced else None, name)

    def _direct(
        self, method: str, verb: str, target: Target, document: dict[str, Any]
    ) -> dict[str, Any]:
        request = Request(method, "", {}, {"user-agent": "emulator"}, encode(document))
        found: dict[str, Any] = json.loads(self._api.carry_out(verb, target, request).body)
        return found

    # --- what goes wrong

    def fail(
        self,
        fault: Fault,
        *,
        verb: str = "",
        resource: str = "",
        name: str = "",
        skip: int = 0,
        times: int | None = 1,
        chance: float = 1.0,
    ) -> Rule:
        """Plan a fault; see ``podnet.testing.kube.faults.Rule``. Its ``struck`` counts."""
        return self._faults.add(Rule(fault, verb, resource, name, skip, times, chance))

    def heal(self) -> None:
        """Forget all planned faults."""
        self._faults.clear()

    def allow(self, token: str, rules: Roles | None = None) -> None:
        """Require bearer tokens from now on, and let this one in.

        Args:
            token: what the client sends.
            rules: ``rules`` of a ClusterRole that limit it; None allows everything.
        """
        self._api.tokens[token] = rules

    def expire(self, token: str) -> None:
        """Have a token be refused with 401."""
        self._api.tokens.pop(token)
        self._api.tokens.setdefault("\0nobody", None)

    def end_watches(self, *, gone: bool = False, cut: bool = False) -> None:
        """End all running watches in order, with an ERROR event of 410, or by a reset."""
        with self._storage.lock:
            if gone:
                self._streams.gone += 1
            elif cut:
                self._streams.cut += 1
            else:
                self._streams.ended += 1
            self._storage.changed.notify_all()

    def stall_watches(self, *, stalled: bool = True) -> None:
        """Send nothing to watches, as on a connection that died without notice."""
        with self._storage.lock:
            self._streams.stalled = stalled
            self._storage.changed.notify_all()

    def compact(self) -> None:
        """Forget history and continue tokens: 410 for whoever refers to either."""
        self._storage.compact()
        self._reading.expire()

    def freeze_cache(self, *, frozen: bool = True) -> None:
        """Have reads at ``resourceVersion=0`` show what is there now, until thawed."""
        self._storage.freeze(frozen=frozen)

    # --- one request

    def _answer(self, request: Request) -> Reply:
        verb, target = "discover", None
        reply = Reply(0)
        try:
            try:
                rules = self._api.authenticate(request)
                verb, target = self._api.locate(request)
                self._api.permit(rules, verb, target)
                reply = self._carry_out(verb, target, request)
            except replies.Refusal as refusal:
                body = encode(refusal.status())
                reply = Reply(refusal.code, body, refusal.headers)
            return reply
        finally:
            self.note(verb, target, request, reply)

    def _carry_out(self, verb: str, target: Target | None, request: Request) -> Reply:
        resource = target.kind.resource if target else ""
        fault = self._faults.strike(verb, resource, target.name if target else "")
        if isinstance(fault, Throttle | Refuse):
            raise fault.refusal()
        if isinstance(fault, Drop) and not fault.applied:
            raise Hangup
        if isinstance(fault, Slow) and not fault.applied:
            time.sleep(fault.seconds)
        latency = self.write_latency if verb in WRITING_VERBS else self.read_latency
        if latency:
            time.sleep(latency)
        try:
            reply = self._api.carry_out(verb, target, request)
        except replies.Refusal as refusal:
            if isinstance(fault, Drop):
                raise Hangup from refusal
            raise
        finally:
            if isinstance(fault, Slow) and fault.applied:
                time.sleep(fault.seconds)
        if isinstance(fault, Drop):
            raise Hangup(reply if fault.partial else None)
        return reply
