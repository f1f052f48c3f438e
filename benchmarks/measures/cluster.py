"""The API server's emulator, in a process of its own, so that it takes no time of the client's."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from typing import TYPE_CHECKING, Any, Self

from podnet.manifests.resources import GROUP, KIND, VERSION, definition
from podnet.stores import crd_object
from podnet.testing.kube.emulator import Emulator

from .blocks import full_blocks

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

WRITE = 0.005
"""Seconds that a write takes, as the issue says."""


def _serve(pipe: Connection, latency: float) -> None:
    kube = Emulator([definition()], write_latency=latency)
    with tempfile.TemporaryDirectory() as folder, kube:
        pipe.send(kube.kubeconfig(os.path.join(folder, "kubeconfig")))
        for what, *more in iter(pipe.recv, ("stop",)):
            if what == "fill":
                _fill(kube, more[0])
                pipe.send(None)
            else:
                pipe.send((kube.writes, kube.count() - kube.writes))


def _fill(kube: Emulator, leases: int) -> None:
    for block in full_blocks(leases):
        body: dict[str, Any] = crd_object.first(block.key, block).body
        kube.create({"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, **body})


class Cluster:
    """An emulated API server; a context manager.

    Attributes:
        url: of the store in it.
    """

    def __init__(self, latency: float = WRITE) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, latency), daemon=True)
        self._process.start()
        self.url = f"kubernetes:{self._pipe.recv()}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.send(("stop",))
        self._process.join(10)

    def fill(self, leases: int) -> None:
        """Put so many leases into it."""
        self._pipe.send(("fill", leases))
        self._pipe.recv()

    def asked(self) -> tuple[int, int]:
        """Return how many requests to write and to read there were."""
        self._pipe.send(("asked",))
        found: tuple[int, int] = self._pipe.recv()
        return found
