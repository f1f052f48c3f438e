"""Default-route surgery: the pod's default route goes over the attachment that asks for it.

NPWG 1.3, 4.1.2.1.9, family by family: a list of IPv4 gateways leaves IPv6 as it is. A default route
is one whose destination has prefix length 0 in the main table: 0.0.0.0/1, which VPNs use, is none,
and routes to the cluster's services stay (multus-cni issues 847, 1552).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve, frozen

from podnet.model.addresses import parse_address
from podnet.model.result import Route

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from podnet.model.result import Result

_DESTINATION = {4: "0.0.0.0/0", 6: "::/0"}
# What the kernel makes of a route without a metric (IP6_RT_PRIO_USER for IPv6).
_FIRST_METRIC = {4: 0, 6: 1024}
_MAIN_TABLE = 254


@frozen(kw_only=True)
class DefaultRoute:
    """A default route of the main table, as it is or is to be.

    Attributes:
        ifname: interface it leads over.
        version: 4 or 6.
        gateway: next hop, canonical text; empty if there is none.
        metric: as the kernel shows it: the lower one wins; 0 is IPv4's first, 1024 IPv6's.
    """

    ifname: str
    version: int
    gateway: str = ""
    metric: int = 0

    @property
    def destination(self) -> str:
        """``0.0.0.0/0`` or ``::/0``."""
        return _DESTINATION[self.version]


@frozen(kw_only=True)
class Surgery:
    """What to change, first all of ``delete``, then all of ``add``.

    Attributes:
        carrier: interface that carries the default route; empty if no attachment asked for it.
        versions: families concerned.
        gateways: gateways asked for, canonical text; empty to keep the carrier's own.
        delete: routes that have to go.
        add: routes that are missing.
    """

    carrier: str = ""
    versions: frozenset[int] = frozenset()
    gateways: tuple[str, ...] = ()
    delete: tuple[DefaultRoute, ...] = ()
    add: tuple[DefaultRoute, ...] = ()


def plan_default_route(
    asked: Mapping[str, tuple[str, ...] | None], have: Iterable[DefaultRoute]
) -> Surgery:
    """Return what makes the attachment that asks for it carry the default route.

    With gateways, their families' default routes go from every attachment, and the gateways come
    to the carrier, in their order of preference by rising metric (Multus refuses several of a
    family). Without, the carrier keeps what its network gave it, and in the families that it has a
    default route of the others lose theirs; families it has none of are left alone, or the pod
    would have no way out (multus-cni issue 1011). What is right already is not touched, so a
    second plan after the first is empty.

    Args:
        asked: the pod's interfaces, with ``default_route`` of their selections; None where it does
            not ask, as for the default network. Interfaces not named here are not touched.
        have: default routes of the sandbox's main table.
    """
    carrier = next((name for name, gateways in asked.items() if gateways is not None), "")
    if not carrier:
        return Surgery()
    present = [route for route in have if route.ifname in asked]
    gateways = asked[carrier] or ()
    wanted = tuple(_wanted(carrier, gateways))
    own = {route for route in present if route.ifname == carrier}
    kept = set(wanted) if gateways else own
    versions = frozenset(route.version for route in kept)
    return Surgery(
        carrier=carrier,
        versions=versions,
        gateways=gateways,
        delete=tuple(r for r in present if r.version in versions and r not in kept),
        add=tuple(route for route in wanted if route not in present),
    )


def rewrite_result(surgery: Surgery, ifname: str, result: Result) -> Result:
    """Return an attachment's result as it is after the surgery.

    For network-status, and for CHECK, which compares routes with the result (Multus leaves the
    one and misses ``::/0`` in the other).

    Args:
        surgery: what was planned, and done.
        ifname: the attachment's interface.
        result: what its ADD told.
    """
    keeps = ifname == surgery.carrier and not surgery.gateways
    if not surgery.versions or keeps:
        return result
    routes = tuple(route for route in result.routes if not _concerned(surgery, route))
    if ifname == surgery.carrier:
        routes += tuple(_told(each) for each in _wanted(ifname, surgery.gateways))
    return evolve(result, routes=routes)


def _concerned(surgery: Surgery, route: Route) -> bool:
    return (
        route.dst.endswith("/0")
        and route.version in surgery.versions
        and route.table in (None, _MAIN_TABLE)
    )


def _told(route: DefaultRoute) -> Route:
    """Return it as a result tells it, where no priority is the kernel's first."""
    first = route.metric == _FIRST_METRIC[route.version]
    return Route(route.destination, route.gateway, priority=0 if first else route.metric)


def _wanted(carrier: str, gateways: tuple[str, ...]) -> Iterator[DefaultRoute]:
    metrics = dict(_FIRST_METRIC)
    for gateway in dict.fromkeys(gateways):
        version = parse_address(gateway).version
        yield DefaultRoute(
            ifname=carrier, version=version, gateway=gateway, metric=metrics[version]
        )
        metrics[version] += 1
