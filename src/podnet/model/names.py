"""The names a caller may choose, and what they may look like.

They become parts of paths, link names and store keys, so they are checked on every verb, before
any of these is built. Rules and messages are those of the reference's ``pkg/utils/utils.go``.
"""

from __future__ import annotations

import re

from podnet.errors import InvalidConfigError, InvalidEnvironmentError, UnknownContainerError

# Linux: include/uapi/linux/if.h, IFNAMSIZ is 16 bytes with the terminating zero.
IFNAME_MAX_BYTES = 15

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")


def container_id_fault(container_id: str) -> str:
    """Return what is wrong with a container id; empty if nothing is."""
    if not container_id:
        return "missing containerID"
    return "" if _NAME.fullmatch(container_id) else "invalid characters in containerID"


def network_name_fault(name: str) -> str:
    """Return what is wrong with a network's name; empty if nothing is."""
    if not name:
        return "missing network name"
    return "" if _NAME.fullmatch(name) else "invalid characters found in network name"


def ifname_fault(ifname: str) -> str:
    """Return what is wrong with an interface name; empty if nothing is."""
    if not ifname:
        return "interface name is empty"
    if any("\ud800" <= each <= "\udfff" for each in ifname):
        # The kernel would take it, but no result could tell it: JSON is UTF-8.
        return "interface name is not UTF-8"
    if len(ifname.encode()) > IFNAME_MAX_BYTES:
        return "interface name is too long"
    if ifname in (".", ".."):
        return "interface name is . or .."
    if any(each in "/:\0" or each.isspace() for each in ifname):
        return "interface name contains / or : or whitespace characters"
    if "%" in ifname:
        # The kernel takes it for a template: "eth%d" becomes eth0 (net/core/dev.c, dev_alloc_name).
        return "interface name contains %"
    return ""


def plugin_type_fault(plugin: str) -> str:
    """Return what is wrong with a plugin's ``type``; empty if nothing is.

    CVE-2021-20206: a ``type`` with ``../`` ran any executable of the host.
    """
    if not plugin:
        return "missing 'type'"
    if "/" in plugin or "\\" in plugin or "\0" in plugin or plugin in (".", ".."):
        return "plugin type must be a file name, without path separators"
    return ""


def check_container_id(container_id: str) -> None:
    """Let a valid ``CNI_CONTAINERID`` pass.

    Raises:
        UnknownContainerError: it is empty.
        InvalidEnvironmentError: it has characters other than ASCII letters, digits, ``_.-``.
    """
    fault = container_id_fault(container_id)
    if fault and not container_id:
        raise UnknownContainerError(fault)
    if fault:
        raise InvalidEnvironmentError(fault, f"CNI_CONTAINERID is {container_id!a}")


def check_network_name(name: str) -> None:
    """Let a valid network name pass.

    Raises:
        InvalidConfigError: it is empty or has other characters than a container id may have.
    """
    if fault := network_name_fault(name):
        raise InvalidConfigError(fault, (("name", f"is {name!a}" if name else "is required"),))


def check_ifname(ifname: str) -> None:
    """Let a valid ``CNI_IFNAME`` pass: 1 to 15 bytes without ``/``, ``:`` and whitespace.

    Raises:
        InvalidEnvironmentError: it is not valid.
    """
    if fault := ifname_fault(ifname):
        raise InvalidEnvironmentError(fault, f"CNI_IFNAME is {ifname!a}")
