"""CHECK and GC of networks whose version has no such verb, where podnet itself does the work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from podnet.engine.registry import PLUGINS
from podnet.model.printing import result_document
from podnet.model.reader import Reader
from podnet.model.result import Interface, Result
from podnet.model.versions import SINCE, allows, requires_address

if TYPE_CHECKING:
    from collections.abc import Mapping

    from podnet.delegation.plan import Standing


def lifted(standing: Standing, verb: str) -> Standing:
    """Return an attachment in a version that has the verb, if podnet itself makes all of it.

    A network of version 0.3.1 knows neither CHECK nor GC, and an executable must not be called
    with them. Built-ins can do both whatever the version says, and people expect it of
    ``podnet check`` and of what a crash left behind.
    """
    config = standing.attachment.config
    since = SINCE[verb]
    if allows(config.cni_version, verb) or not all(_is_builtin(p) for p in config.plugins):
        return standing
    document = standing.document
    if standing.result is not None:
        document = result_document(_whole_result(standing), since)
    newer = evolve(standing.attachment, config=evolve(config, cni_version=since))
    return evolve(standing, attachment=newer, document=document)


def _whole_result(standing: Standing) -> Result:
    """Return the result with the interface that versions up to 0.2.0 have no word for."""
    result = standing.result or Result()
    if not requires_address(standing.attachment.config.cni_version):
        return result
    # CHECK gets the path of the namespace by itself: here it only tells inside from outside.
    interface = Interface(standing.attachment.ifname, sandbox="sandbox")
    ips = tuple(evolve(ip, interface=0) for ip in result.ips)
    return evolve(result, interfaces=(interface,), ips=ips)


def _is_builtin(plugin: Mapping[str, object]) -> bool:
    reader = Reader(plugin)
    ipam = reader.section("ipam").string("type")
    return reader.string("type") in PLUGINS and (not ipam or ipam in PLUGINS)
