"""A stage for commands: a node that only remembers, and screens that only record."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from attrs import field, mutable

import podnet
from podnet.cli import attach, check, detach, status
from podnet.cli.main import main
from podnet.cli.output import Screen
from podnet.engine.attached import Attached, AttachedNetwork

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from podnet.model.attachment import Pod


class Terminal(io.StringIO):
    """A text stream that claims to be a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def network_of(**changes: Any) -> AttachedNetwork:
    """Return the scenario's network as attached."""
    told = {
        "name": "default/macvlan-conf-1",
        "interface": "eth1",
        "type": "macvlan",
        "ips": ("192.168.60.20/24",),
        "mac": "02:00:00:00:00:01",
        "gateway": ("192.168.60.1",),
    }
    return AttachedNetwork(**{**told, **changes})


def attached_of(**changes: Any) -> Attached:
    """Return a sandbox with the scenario's network."""
    told = {
        "container_id": "web-0-0123456789ab",
        "netns": "/run/netns/web-0",
        "pod": None,
        "stage": "done",
        "networks": (network_of(),),
        "network_status": '[{\n    "name": "default/macvlan-conf-1"\n}]',
    }
    return Attached(**{**told, **changes})


@mutable
class FakeNode:
    """Remembers what it was asked; answers what the test says."""

    manifests: tuple[Pod, ...] = ()
    answer: tuple[Attached, ...] = ()
    failure: BaseException | None = None
    asked: list[tuple[Any, ...]] = field(factory=list)
    opened: list[tuple[Any, Any]] = field(factory=list)
    closed: int = 0

    def open(self, args: Any, networks: Any = None) -> FakeNode:
        self.opened.append((args, networks))
        return self

    def __enter__(self) -> FakeNode:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.closed += 1

    def pods(self) -> tuple[Pod, ...]:
        return self.manifests

    def attach(self, netns: str, networks: str | None = None, **rest: Any) -> Attached:
        self._ask("attach", netns, networks, rest)
        return attached_of(netns=netns, pod=rest["pod"])

    def detach(self, **target: Any) -> tuple[Attached, ...]:
        return self._ask("detach", target)

    def check(self, **target: Any) -> tuple[Attached, ...]:
        return self._ask("check", target)

    def status(self) -> tuple[Attached, ...]:
        return self._ask("status")

    def _ask(self, *what: Any) -> tuple[Attached, ...]:
        self.asked.append(what)
        if self.failure is not None:
            raise self.failure
        return self.answer


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> FakeNode:
    fake = FakeNode()
    for module in (attach, detach, check, status):
        monkeypatch.setattr(module, "open_node", fake.open)
    return fake


@pytest.fixture
def attached() -> Callable[..., Attached]:
    return attached_of


@pytest.fixture
def network() -> Callable[..., AttachedNetwork]:
    return network_of


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()


@pytest.fixture
def screen() -> Callable[[str], tuple[Screen, io.StringIO, io.StringIO]]:
    def make(mode: str) -> tuple[Screen, io.StringIO, io.StringIO]:
        out, err = io.StringIO(), io.StringIO()
        return Screen(mode, out, err), out, err

    return make


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state of a node called ``here`` with nothing but its name set."""
    state = tmp_path / "state"
    monkeypatch.setenv("PODNET_STATE_DIR", str(state))
    monkeypatch.delenv("PODNET_STORE", raising=False)
    monkeypatch.setenv("PODNET_CONFIG", str(tmp_path / "podnet.conf"))
    (tmp_path / "podnet.conf").write_text(json.dumps({"node": "here"}))
    return state


@pytest.fixture
def ipam(state: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run ``podnet ipam``; status, output and errors."""

    def run(*words: str) -> tuple[int, str, str]:
        status = main(["ipam", *words])
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def leases(state: Path) -> str:
    """The node's store with two leases of each of two pools, ``a`` and ``b``."""
    url = f"file:{state}/leases"
    with podnet.open_ipam(url, node="here") as ipam:
        for pool in (podnet.Pool("a", "10.0.0.0/24"), podnet.Pool("b", "10.1.0.0/24")):
            for n in range(2):
                ipam.allocate(pool, podnet.Owner(f"c{n}", "eth1"))
    return url
