"""A stage for commands: a node that only remembers, and screens that only record."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from attrs import field, frozen, mutable

from podnet.cli import attach, check, detach, status
from podnet.cli.output import Screen

if TYPE_CHECKING:
    from collections.abc import Callable

    from podnet.model.attachment import Pod


class Terminal(io.StringIO):
    """A text stream that claims to be a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@frozen(kw_only=True)
class FakeNetwork:
    """Like engine.attach.AttachedNetwork."""

    name: str = "default/macvlan-conf-1"
    interface: str = "eth1"
    type: str = "macvlan"
    ips: tuple[str, ...] = ("192.168.60.20/24",)
    mac: str = "02:00:00:00:00:01"
    gateway: tuple[str, ...] = ("192.168.60.1",)
    default: bool = False


@frozen(kw_only=True)
class FakeAttached:
    """Like engine.attach.Attached."""

    container_id: str = "web-0-0123456789ab"
    netns: str = "/run/netns/web-0"
    pod: Pod | None = None
    stage: str = "done"
    networks: tuple[FakeNetwork, ...] = (FakeNetwork(),)
    network_status: str = '[{\n    "name": "default/macvlan-conf-1"\n}]'


@mutable
class FakeNode:
    """Remembers what it was asked; answers what the test says."""

    manifests: tuple[Pod, ...] = ()
    answer: tuple[FakeAttached, ...] = ()
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

    def attach(self, netns: str, networks: str | None = None, **rest: Any) -> FakeAttached:
        self._ask("attach", netns, networks, rest)
        return FakeAttached(netns=netns, pod=rest["pod"])

    def detach(self, **target: Any) -> tuple[FakeAttached, ...]:
        return self._ask("detach", target)

    def check(self, **target: Any) -> tuple[FakeAttached, ...]:
        return self._ask("check", target)

    def status(self) -> tuple[FakeAttached, ...]:
        return self._ask("status")

    def _ask(self, *what: Any) -> tuple[FakeAttached, ...]:
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
def attached() -> type[FakeAttached]:
    return FakeAttached


@pytest.fixture
def network() -> type[FakeNetwork]:
    return FakeNetwork


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()


@pytest.fixture
def screen() -> Callable[[str], tuple[Screen, io.StringIO, io.StringIO]]:
    def make(mode: str) -> tuple[Screen, io.StringIO, io.StringIO]:
        out, err = io.StringIO(), io.StringIO()
        return Screen(mode, out, err), out, err

    return make
