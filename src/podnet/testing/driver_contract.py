"""What every interface driver promises, as a pytest class to inherit from.

::

    class TestMacvlan(DriverContract):
        driver = macvlan

        def calls(self):
            return macvlan_calls()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podnet.errors import PodnetError
from podnet.model.facts import Probe
from podnet.model.ops import (
    AddRoute,
    CreateLink,
    DeleteAddress,
    DeleteLink,
    DeleteRoute,
    LinkName,
    Place,
    RouteKey,
    SetLink,
)
from podnet.model.result import IP, Result, Route
from podnet.testing.fake_kernel import FakeKernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from podnet.model.attachment import Call
    from podnet.model.ops import Op
    from podnet.testing.fake_kernel import FakeSandbox

SANDBOX = "/run/netns/pod"
MASTER = "uplink0"
_OTHER_MAC = "0a:ff:ff:ff:ff:01"


@st.composite
def answers(draw: st.DrawFn) -> Result:
    """Answers of an IPAM plugin: up to two addresses of each family, gateways, routes."""
    ips: list[IP] = []
    for version in draw(st.sampled_from([(4,), (6,), (4, 6), (4, 4), (6, 4, 6)])):
        host = draw(st.integers(2, 250))
        net = len(ips) + 1
        if version == 4:
            length = draw(st.sampled_from([16, 24, 32]))
            ips.append(IP(f"10.{net}.0.{host}/{length}", f"10.{net}.0.1"))
        else:
            length = draw(st.sampled_from([64, 128]))
            ips.append(IP(f"fd00:{net}::{host:x}/{length}", f"fd00:{net}::1"))
    families = {ip.version for ip in ips}
    destinations = [("0.0.0.0/0", 4), ("192.168.0.0/16", 4), ("::/0", 6), ("fd99::/32", 6)]
    possible = [dst for dst, version in destinations if version in families]
    routes = tuple(
        Route(
            dst,
            mtu=draw(st.sampled_from([0, 1400])),
            priority=draw(st.sampled_from([0, 100])),
            table=draw(st.sampled_from([None, 254, 1000])),
        )
        for dst in draw(st.lists(st.sampled_from(possible), unique=True))
    )
    return Result(ips=tuple(ips), routes=routes)


def machine() -> FakeKernel:
    """Return a kernel with an uplink that has the default route, in host and sandbox alike."""
    kernel = FakeKernel()
    for space in (kernel.node, kernel.add_sandbox(SANDBOX)):
        kernel.add_link(space, MASTER, up=True)
    with kernel.open(SANDBOX) as sandbox:
        for place in Place:
            link = LinkName(place, MASTER)
            key = RouteKey(link=link, dst="0.0.0.0/0", gateway="172.16.0.1")
            sandbox.apply([AddRoute(key=key)])
    return kernel


def _property(test: Callable[..., None]) -> Callable[..., None]:
    """Make a test of drawn data that several classes of one run may inherit.

    Hypothesis warns of that, as examples it saved for one class are tried for the others; here
    that costs nothing, because every class draws whatever it needs from the same data.
    """
    unwarned = settings(suppress_health_check=[HealthCheck.differing_executors])
    wrapped: Callable[..., None] = unwarned(given(st.data())(test))
    return wrapped


class DriverContract:
    """Inherit, set ``driver`` and define ``calls``."""

    driver: Any

    def calls(self) -> st.SearchStrategy[Call]:
        """Return ADD calls for ``SANDBOX``; masters are called ``MASTER``."""
        raise TypeError(
            "calls() has to be overridden: it tells which ADD calls the driver is tried with"
        )

    @_property
    def test_plan_is_a_function_of_want_and_have(self, data: st.DataObject) -> None:
        """The same question has the same answer, on kernels that are alike."""
        call, answer = data.draw(self.calls()), data.draw(answers())
        plans = []
        for _ in range(2):
            with machine().open(SANDBOX) as sandbox:
                want = self._want(call, answer)
                plans.append(self.driver.plan(want, sandbox.probe(self.driver.ask(want))))
        assert plans[0] == plans[1]
        assert isinstance(plans[0][0], CreateLink)

    @_property
    def test_nothing_differs_once_the_plan_is_applied(self, data: st.DataObject) -> None:
        """ADD leaves what CHECK finds right."""
        call, answer = data.draw(self.calls()), data.draw(answers())
        with machine().open(SANDBOX) as sandbox:
            want = self._attach(sandbox, call, answer)
            assert self.driver.plan(want, sandbox.probe(self.driver.ask(want))) == ()

    @_property
    def test_two_phases_do_what_one_does(self, data: st.DataObject) -> None:
        """Creating before IPAM has answered, and unread, ends in the same state."""
        call, answer = data.draw(self.calls()), data.draw(answers())
        kernels = [machine(), machine()]
        with kernels[0].open(SANDBOX) as sandbox:
            self._attach(sandbox, call, answer)
        with kernels[1].open(SANDBOX) as sandbox:
            want = self.driver.read(call)
            have = sandbox.probe(self.driver.parents(want))
            first = self.driver.plan(want, have)
            sandbox.apply(first)
            for op in first:
                if isinstance(op, CreateLink):
                    have = have.created(op)
            if want.ipam:
                want = self.driver.configured(want, answer)
                sandbox.apply(self.driver.plan(want, have))
        for path in ("host", SANDBOX):
            spaces = [k.node if path == "host" else k.sandboxes[path] for k in kernels]
            assert spaces[0].links == spaces[1].links
            assert spaces[0].addresses == spaces[1].addresses
            assert spaces[0].routes == spaces[1].routes
            assert spaces[0].sysctls == spaces[1].sysctls

    @_property
    def test_absence_takes_its_own_links_and_nothing_else(self, data: st.DataObject) -> None:
        """DEL leaves the machine as it was."""
        call, answer = data.draw(self.calls()), data.draw(answers())
        kernel = machine()
        before = kernel.every_link()
        with kernel.open(SANDBOX) as sandbox:
            want = self._attach(sandbox, call, answer)
            absent = evolve(want, present=False)
            ops = self.driver.plan(absent, sandbox.probe(self.driver.ask(absent)))
            assert {type(op) for op in ops} == {DeleteLink}
            sandbox.apply(ops)
            assert self.driver.plan(absent, sandbox.probe(self.driver.ask(absent))) == ()
        assert kernel.every_link() == before

    @_property
    def test_absence_leaves_a_link_of_another_kind(self, data: st.DataObject) -> None:
        """A link that only has the right name is somebody else's."""
        call = data.draw(self.calls())
        kernel = machine()
        kernel.add_link(kernel.sandboxes[SANDBOX], call.ifname, kind="dummy")
        with kernel.open(SANDBOX) as sandbox:
            absent = evolve(self.driver.read(call), present=False)
            assert self.driver.plan(absent, sandbox.probe(self.driver.ask(absent))) == ()

    @_property
    def test_a_link_of_another_kind_is_refused(self, data: st.DataObject) -> None:
        """No plan leads from somebody else's link to ours."""
        call, answer = data.draw(self.calls()), data.draw(answers())
        kernel = machine()
        kernel.add_link(kernel.sandboxes[SANDBOX], call.ifname, kind="dummy")
        with kernel.open(SANDBOX) as sandbox:
            want = self._want(call, answer)
            have = sandbox.probe(self.driver.ask(want))
            with pytest.raises(PodnetError):
                self.driver.plan(want, have)

    @_property
    def test_every_single_difference_is_found(self, data: st.DataObject) -> None:
        """CHECK: whatever one thing is taken away, the plan is not empty, or says why not."""
        call, answer = data.draw(self.calls()), data.draw(answers())
        with machine().open(SANDBOX) as sandbox:
            want = self._attach(sandbox, call, answer)
            everything = _everything(sandbox, want.link)
            sandbox.apply([data.draw(st.sampled_from(everything))])
            try:
                found = self.driver.plan(want, sandbox.probe(self.driver.ask(want)))
            except PodnetError:
                return
            assert found
            assert all(str(op) for op in found)

    def _want(self, call: Call, answer: Result) -> Any:
        want = self.driver.read(call)
        return self.driver.configured(want, answer) if want.ipam else want

    def _attach(self, sandbox: FakeSandbox, call: Call, answer: Result) -> Any:
        want = self._want(call, answer)
        sandbox.apply(self.driver.plan(want, sandbox.probe(self.driver.ask(want))))
        return want


def _everything(sandbox: FakeSandbox, link: LinkName) -> list[Op]:
    """Return the ops that each take one thing of a link away."""
    only = frozenset({link})
    have = sandbox.probe(Probe(links=only, addresses=only, routes=only))
    fact = have.links[link]
    ops: list[Op] = [
        DeleteLink(link=link, kind=fact.kind, index=fact.index),
        SetLink(link=link, up=False),
        SetLink(link=link, mac=_OTHER_MAC),
    ]
    ops += [DeleteAddress(link=link, address=each.address) for each in have.addresses]
    for route in have.routes:
        if route.protocol != 2:  # the kernel's own routes come and go with addresses
            key = RouteKey(
                link=link,
                dst=route.dst,
                gateway=route.gateway,
                table=route.table,
                priority=route.priority,
            )
            ops.append(DeleteRoute(key=key))
    return ops
