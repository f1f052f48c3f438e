"""What the configurations of several kinds share: MAC address sources, IPAM, resolver settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podnet.errors import InvalidEnvironmentError
from podnet.model.addresses import parse_mac
from podnet.model.cniargs import load_args
from podnet.model.names import plugin_type_fault

if TYPE_CHECKING:
    from podnet.model.attachment import Call
    from podnet.model.reader import Reader

MAX_MTU = (1 << 31) - 1
"""IFLA_MTU is 32 bits wide and the kernel keeps it as ``int`` (net/core/dev.c)."""


def mac_fault(mac: str) -> str:
    """Return why no interface can have this MAC address; empty if one can."""
    octets = mac.split(":")
    if len(octets) != 6:
        return f"{mac} is not an Ethernet address of 6 bytes"
    if int(octets[0], 16) & 1:
        return f"{mac} is a multicast address"
    return "" if any(octet != "00" for octet in octets) else f"{mac} is all zero"


def read_mac(reader: Reader, call: Call) -> str:
    """Return the MAC address asked for; empty if none is.

    Of the sources the last one given counts: key ``mac``, ``CNI_ARGS`` (``MAC=``),
    ``runtimeConfig.mac``, ``args.cni.mac``. The first three are macvlan's own order
    (macvlan.go, loadConf), the place of the fourth is tuning's.

    Raises:
        InvalidEnvironmentError: ``CNI_ARGS`` is wrong.
    """
    asked = _own_mac(reader, "mac")
    if text := load_args(call.args, ("MAC",)).get("MAC", ""):
        try:
            asked = parse_mac(text)
        except ValueError as error:
            raise InvalidEnvironmentError(f"CNI_ARGS: MAC: {error}") from None
        if fault := mac_fault(asked):
            raise InvalidEnvironmentError(f"CNI_ARGS: MAC: {fault}")
    asked = _own_mac(reader.section("runtimeConfig"), "mac") or asked
    return _own_mac(reader.section("args").section("cni"), "mac") or asked


def _own_mac(reader: Reader, key: str) -> str:
    mac = reader.mac(key)
    if mac and (fault := mac_fault(mac)):
        reader.mistake(key, fault)
        return ""
    return mac


def read_ipam(reader: Reader, *, required: bool = False) -> str:
    """Return the IPAM plugin's type; empty if the interface is to have no addresses."""
    ipam = reader.section("ipam")
    plugin = ipam.string("type", required=required)
    if plugin and (fault := plugin_type_fault(plugin)):
        ipam.mistake("type", fault)
    return plugin
