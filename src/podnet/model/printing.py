"""What a plugin prints: results in any CNI version, errors, versions; byte for byte as the peers.

Key order and omissions are those of the reference's Go types ``types/020``, ``types/040`` and
``types/100``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podnet.errors import InvalidConfigError
from podnet.model.versions import CURRENT, FAMILIES, SUPPORTED
from podnet.model.wire import print_json

if TYPE_CHECKING:
    from podnet.errors import PodnetError
    from podnet.model.result import IP, Interface, Result, Route

OLD, STRUCT, _ = FAMILIES


def result_document(result: Result, version: str) -> dict[str, object]:
    """Return the result as a JSON object of the supported ``version``, keys in printing order.

    What the version has no place for is left out, as the reference does: up to 0.2.0 interfaces
    and all but the first address of a family, up to 0.4.0 an interface's MTU, socket and PCI id.

    Raises:
        InvalidConfigError: up to 0.2.0, a result without any address.
    """
    dns = _given(
        nameservers=list(result.dns.nameservers),
        domain=result.dns.domain,
        search=list(result.dns.search),
        options=list(result.dns.options),
    )
    if version in OLD:
        return {"cniVersion": version, **_old_families(result, version), "dns": dns}
    struct = version in STRUCT
    document: dict[str, object] = {
        "cniVersion": version,
        **_given(
            interfaces=[_interface_document(each, struct=struct) for each in result.interfaces],
            ips=[_ip_document(each, struct=struct) for each in result.ips],
            routes=[_route_document(each) for each in result.routes],
        ),
    }
    if struct:
        return {**document, "dns": dns}
    # types/100 marshals by way of a map: keys come out in alphabetical order at every level.
    ordered = _sorted({**document, **_given(dns=dns)})
    assert isinstance(ordered, dict)
    return ordered


def print_result(result: Result, version: str) -> bytes:
    """Return what ADD prints: the result in ``version``, indented by 4, without a newline.

    Raises:
        InvalidConfigError: the version has no place for it; see ``result_document``.
    """
    return print_json(result_document(result, version))


def print_error(error: PodnetError) -> bytes:
    """Return what a failed verb prints.

    The specification's ``cniVersion`` is left out: the reference prints none (``types.Error``).
    """
    return print_json(
        {
            "code": error.code,
            "msg": error.msg,
            **({"details": error.details} if error.details else {}),
        }
    )


def print_versions() -> bytes:
    """Return what VERSION prints, on one line with a newline, as the reference's encoder."""
    return print_json({"cniVersion": CURRENT, "supportedVersions": SUPPORTED}, indent=None) + b"\n"


def _given(**values: object) -> dict[str, object]:
    return {key: value for key, value in values.items() if value not in ("", 0, [], {}, None)}


def _sorted(value: object) -> object:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_sorted(each) for each in value]
    return value


def _interface_document(interface: Interface, *, struct: bool) -> dict[str, object]:
    document = {
        "name": interface.name,
        **_given(mac=interface.mac, sandbox=interface.sandbox),
    }
    if not struct:
        document |= _given(
            mtu=interface.mtu, socketPath=interface.socket_path, pciID=interface.pci_id
        )
    return document


def _ip_document(ip: IP, *, struct: bool) -> dict[str, object]:
    return {
        **({"version": str(ip.version)} if struct else {}),
        **({} if ip.interface is None else {"interface": ip.interface}),
        "address": ip.address,
        **_given(gateway=ip.gateway),
    }


def _route_document(route: Route) -> dict[str, object]:
    return {
        "dst": route.dst,
        **_given(gw=route.gw, mtu=route.mtu, advmss=route.advmss, priority=route.priority),
        **({} if route.table is None else {"table": route.table}),
        **({} if route.scope is None else {"scope": route.scope}),
    }


def _old_families(result: Result, version: str) -> dict[str, object]:
    families: dict[str, object] = {}
    for number in (4, 6):
        ip = next((each for each in result.ips if each.version == number), None)
        if ip is None:
            continue
        routes = [
            {"dst": route.dst, **_given(gw=route.gw)}
            for route in result.routes
            if route.version == number
        ]
        families[f"ip{number}"] = {"ip": ip.address, **_given(gateway=ip.gateway, routes=routes)}
    if not families:
        raise InvalidConfigError(
            "cannot convert: no valid IP addresses",
            (("cniVersion", f'a result of "{version}" must have an IP address'),),
        )
    return families
