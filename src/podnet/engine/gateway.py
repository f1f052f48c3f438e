"""Default-route surgery in the sandbox: look, plan, apply, and tell in the results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from podnet.delegation.gateway import DefaultRoute, Surgery, plan_default_route, rewrite_result
from podnet.model.facts import Probe
from podnet.model.ops import MAIN_TABLE, AddRoute, DeleteRoute, LinkName, Place, RouteKey
from podnet.model.printing import result_document

if TYPE_CHECKING:
    from podnet.delegation.plan import Standing
    from podnet.engine.house import House
    from podnet.model.facts import Have
    from podnet.model.ops import Op


def move_default_route(
    house: House, netns: str, made: tuple[Standing, ...]
) -> tuple[Standing, ...]:
    """Give the default route to the attachment whose selection asks for it.

    Args:
        house: the parts.
        netns: path of the sandbox's namespace.
        made: all attachments of the sandbox.

    Returns:
        The attachments, with results that tell the routes as they now are.

    Raises:
        PodnetError: the kernel refused; what was changed is undone with the attachments.
    """
    asked = {
        each.attachment.ifname: (
            each.attachment.selection.default_route if each.attachment.selection else None
        )
        for each in made
    }
    if all(gateways is None for gateways in asked.values()):
        return made
    with house.kernel.open(netns) as sandbox:
        have = sandbox.probe(Probe(default_routes=frozenset({Place.SANDBOX})))
        surgery = plan_default_route(asked, _present(have))
        sandbox.apply(_ops(surgery), house.step)
    return tuple(_told(surgery, each) for each in made)


def _present(have: Have) -> list[DefaultRoute]:
    return [
        DefaultRoute(
            ifname=fact.link.name,
            version=6 if ":" in fact.dst else 4,
            gateway=fact.gateway,
            metric=fact.priority,
        )
        for fact in have.routes
        if fact.link.place is Place.SANDBOX and fact.table == MAIN_TABLE
    ]


def _ops(surgery: Surgery) -> list[Op]:
    return [
        *(DeleteRoute(key=_key(route)) for route in surgery.delete),
        *(AddRoute(key=_key(route)) for route in surgery.add),
    ]


def _key(route: DefaultRoute) -> RouteKey:
    return RouteKey(
        link=LinkName(Place.SANDBOX, route.ifname),
        dst=route.destination,
        gateway=route.gateway,
        priority=route.metric,
    )


def _told(surgery: Surgery, standing: Standing) -> Standing:
    if standing.result is None:
        return standing
    result = rewrite_result(surgery, standing.attachment.ifname, standing.result)
    if result == standing.result:
        return standing
    version = standing.attachment.config.cni_version
    return evolve(standing, result=result, document=result_document(result, version))
