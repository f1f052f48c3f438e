from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from podnet.delegation.gateway import (
    DefaultRoute,
    Surgery,
    plan_default_route,
    rewrite_result,
)
from podnet.model.result import Result, Route
from podnet.testing.strategies_wire import ip_addresses


def v4(ifname: str, gateway: str, metric: int = 0) -> DefaultRoute:
    return DefaultRoute(ifname=ifname, version=4, gateway=gateway, metric=metric)


def v6(ifname: str, gateway: str, metric: int = 1024) -> DefaultRoute:
    return DefaultRoute(ifname=ifname, version=6, gateway=gateway, metric=metric)


ETH0 = [v4("eth0", "10.0.0.1"), v6("eth0", "fd00::1")]


def test_nobody_asks() -> None:
    assert plan_default_route({"eth0": None, "net1": None}, ETH0) == Surgery()


def test_the_gateway_replaces_all_of_its_family_and_no_other() -> None:
    have = [*ETH0, v4("net2", "10.2.0.1", 5), v4("net1", "10.1.0.9")]
    plan = plan_default_route({"eth0": None, "net1": ("10.1.0.254",), "net2": None}, have)
    assert plan.carrier == "net1"
    assert plan.versions == {4}
    assert plan.delete == (ETH0[0], have[2], have[3])
    assert plan.add == (v4("net1", "10.1.0.254"),)


def test_several_gateways_have_rising_metrics() -> None:
    asked = ("10.1.0.1", "fd01::1", "10.1.0.2", "10.1.0.1", "fd01::2")
    plan = plan_default_route({"net1": asked}, [])
    assert plan.add == (
        v4("net1", "10.1.0.1", 0),
        v6("net1", "fd01::1", 1024),
        v4("net1", "10.1.0.2", 1),
        v6("net1", "fd01::2", 1025),
    )


def test_empty_keeps_what_the_network_gives() -> None:
    own = v4("net1", "10.1.0.1")
    plan = plan_default_route({"eth0": None, "net1": ()}, [*ETH0, own])
    assert plan.delete == (ETH0[0],)
    assert plan.add == ()


def test_empty_without_a_route_of_its_own_leaves_the_way_out() -> None:
    plan = plan_default_route({"eth0": None, "net1": ()}, ETH0)
    assert (plan.delete, plan.add) == ((), ())


def test_interfaces_that_are_not_ours_are_left_alone() -> None:
    other = v4("wg0", "10.9.0.1")
    assert plan_default_route({"net1": ("10.1.0.1",)}, [other]).delete == ()


def test_a_right_route_is_not_touched() -> None:
    right = v4("net1", "10.1.0.1")
    plan = plan_default_route({"net1": ("10.1.0.1",)}, [right])
    assert (plan.delete, plan.add) == ((), ())


def test_results_follow() -> None:
    plan = plan_default_route({"eth0": None, "net1": ("10.1.0.1", "10.1.0.2")}, ETH0)
    kept = (
        Route("0.0.0.0/1", "10.0.0.1"),
        Route("10.96.0.0/12", "10.0.0.1"),
        Route("0.0.0.0/0", "10.0.0.1", table=100),
        Route("::/0", "fd00::1"),
    )
    eth0 = Result(routes=(Route("0.0.0.0/0", "10.0.0.1"), *kept))
    assert rewrite_result(plan, "eth0", eth0).routes == kept
    assert rewrite_result(plan, "net1", eth0).routes == (
        *kept,
        Route("0.0.0.0/0", "10.1.0.1"),
        Route("0.0.0.0/0", "10.1.0.2", priority=1),
    )
    second = plan_default_route({"net1": ("fd01::1", "fd01::2")}, [])
    assert rewrite_result(second, "net1", Result()).routes == (
        Route("::/0", "fd01::1"),
        Route("::/0", "fd01::2", priority=1025),
    )


def test_results_of_a_carrier_that_keeps_its_own_stay() -> None:
    own = Result(routes=(Route("0.0.0.0/0", "10.1.0.1"),))
    plan = plan_default_route({"eth0": None, "net1": ()}, [*ETH0, v4("net1", "10.1.0.1")])
    assert rewrite_result(plan, "net1", own) is own
    assert rewrite_result(plan, "eth0", own).routes == ()
    assert rewrite_result(Surgery(), "eth0", own) is own


ifnames = st.sampled_from(["eth0", "net1", "net2", "wg0"])
routes = st.one_of(
    st.builds(v4, ifnames, ip_addresses(4), st.integers(0, 2)),
    st.builds(v6, ifnames, ip_addresses(6), st.sampled_from([1024, 1])),
)


@given(
    st.lists(routes, unique=True, max_size=6),
    st.one_of(st.none(), st.lists(ip_addresses(), max_size=3).map(tuple)),
)
def test_a_second_plan_is_empty(have: list[DefaultRoute], asked: tuple[str, ...] | None) -> None:
    interfaces = {"eth0": None, "net1": asked, "net2": None}
    plan = plan_default_route(interfaces, have)
    assert set(plan.delete) <= set(have)
    assert not set(plan.add) & set(have)
    after = [each for each in have if each not in plan.delete] + list(plan.add)
    second = plan_default_route(interfaces, after)
    assert (second.delete, second.add) == ((), ())
    ours = {each for each in after if each.ifname != "wg0"}
    for version in plan.versions:
        assert {each.ifname for each in ours if each.version == version} == {"net1"}
    # A family that had a way out still has one.
    for version in {each.version for each in have}:
        assert any(each.version == version for each in after)
