"""Capabilities, ``CNI_ARGS``, ``args.cni`` and devices: which plugin gets what a pod asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from podnet.errors import InvalidConfigError
from podnet.model.cniargs import parse_cni_args
from podnet.model.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from podnet.delegation.selection import NetworkSelection
    from podnet.model.attachment import Pod
    from podnet.model.conflist import NetworkConfigList

# What reaches plugins by CNI_ARGS too, so that it can be had without the capability.
_ALSO_BY_ARGS = frozenset({"ips", "mac"})
# A device reaches every plugin in its configuration (``with_device``), declared or not.
_ALSO_BY_CONFIG = frozenset({"deviceID"})


def capability_args(selection: NetworkSelection | None, device_id: str = "") -> dict[str, object]:
    """Return what a pod asks of a network, by capability (CNI CONVENTIONS.md, NPWG 4.1.2.1).

    Args:
        selection: the pod's element of the annotation; None for none.
        device_id: the device allocated to the attachment, which goes before the one asked for.
    """
    if selection is None:
        return {"deviceID": device_id} if device_id else {}
    asked: dict[str, object] = {
        "ips": list(selection.ips),
        "mac": selection.mac,
        "infinibandGUID": selection.infiniband_guid,
        "portMappings": [each.document() for each in selection.port_mappings],
        "bandwidth": selection.bandwidth.document() if selection.bandwidth else {},
        "deviceID": device_id or selection.device_id,
    }
    return {key: value for key, value in asked.items() if value}


def runtime_config(
    selection: NetworkSelection | None,
    *,
    default: bool = False,
    runtime: Mapping[str, object] | None = None,
    device_id: str = "",
) -> dict[str, object]:
    """Return the capability arguments of one attachment.

    What the runtime passed (kubelet's port mappings, bandwidth, DNS) is for the default network
    and must not reach any other (NPWG 7.5; Multus copies it to all). What the pod asks for goes
    before it. ``inject`` of the model hands each plugin what its ``capabilities`` declare.

    Args:
        selection: the pod's element of the annotation; None for none.
        default: whether it is the pod's default network.
        runtime: ``runtimeConfig`` of the configuration that the runtime passed.
        device_id: the device allocated to the attachment; empty for none.
    """
    return {
        **(dict(runtime or {}) if default else {}),
        **capability_args(selection, device_id),
    }


def unmet_capabilities(network: NetworkConfigList, asked: Mapping[str, object]) -> tuple[str, ...]:
    """Return the asked capabilities that no plugin of the network declares."""
    declared: set[str] = set()
    for plugin in network.plugins:
        capabilities = Reader(plugin).section("capabilities").document
        declared |= {key for key, value in capabilities.items() if value is True}
    return tuple(key for key in asked if key not in declared)


def verify_capabilities(
    network: NetworkConfigList, asked: Mapping[str, object], *, strict: bool = False
) -> None:
    """Let pass what the network can do for the pod; the rest must fail (NPWG 4.1.2.1.3 to .10).

    Not strict is the default, because users of Multus run definitions without ``capabilities``:
    there, ``ips`` and ``mac`` pass, for ``CNI_ARGS`` carries them to every plugin, and macvlan,
    static, whereabouts and others honour them. What has no second way fails in both modes: a pod
    whose port mapping or limit is dropped in silence looks healthy and is not.

    Args:
        network: the network.
        asked: what the pod itself asks for: ``capability_args``, without the runtime's.
        strict: whether each has to be declared, as NPWG demands.

    Raises:
        InvalidConfigError: with each capability that is missing.
    """
    excused = _ALSO_BY_CONFIG if strict else _ALSO_BY_ARGS | _ALSO_BY_CONFIG
    unmet = [key for key in unmet_capabilities(network, asked) if key not in excused]
    if unmet:
        what = "is asked for, but no plugin of the network declares the capability"
        raise InvalidConfigError(f"network {network.name}", tuple((key, what) for key in unmet))


def compose_args(
    pod: Pod | None,
    container_id: str,
    selection: NetworkSelection | None = None,
    original: str = "",
) -> str:
    """Return ``CNI_ARGS`` for a delegate.

    The pod's identity first, in the order of Multus, then what else the runtime passed, then
    ``MAC`` and ``IP`` of the pod's selection, which go before the runtime's. No key comes twice:
    which of two a plugin takes is its own choice.

    Args:
        pod: the pod; None if the runtime knows none.
        container_id: the sandbox's id.
        selection: the pod's element of the annotation; None for none.
        original: ``CNI_ARGS`` as the runtime passed it.

    Raises:
        InvalidEnvironmentError: ``original`` is not ``K=V;K2=V2``.
    """
    pairs = {"IgnoreUnknown": "true"}
    if pod is not None:
        pairs |= {
            "K8S_POD_NAMESPACE": pod.namespace,
            "K8S_POD_NAME": pod.name,
            "K8S_POD_INFRA_CONTAINER_ID": container_id,
            "K8S_POD_UID": pod.uid,
        }
    for key, value in parse_cni_args(original):
        # IgnoreUnknown stays true: Multus passes keys that the runtime did not.
        if not pairs.get(key):
            pairs[key] = value
    if selection is not None:
        pairs |= {
            key: value
            for key, value in (("MAC", selection.mac), ("IP", ",".join(selection.ips)))
            if value
        }
    return ";".join(f"{key}={value}" for key, value in pairs.items() if value)


def with_told(
    network: NetworkConfigList, key: str, told: Mapping[str, object]
) -> NetworkConfigList:
    """Return the network with something told to every plugin under a key of ``args``.

    Args:
        network: the network; ``args`` of its plugins is an object (``resolve``).
        key: names who tells it (CNI CONVENTIONS.md, "args in network config").
        told: what.
    """
    plugins = []
    for plugin in network.plugins:
        args = {**_without(Reader(plugin).section("args").document, key), key: dict(told)}
        plugins.append({**_without(plugin, "args"), "args": args})
    return evolve(network, plugins=tuple(plugins))


def with_arguments(
    network: NetworkConfigList, selection: NetworkSelection | None, device_id: str = ""
) -> NetworkConfigList:
    """Return the network with the pod's ``cni-args`` and its device in every plugin.

    ``args.cni`` is merged key by key, the pod's value first (NPWG 4.1.2.1.6). A device is told as
    ``deviceID`` and ``pciBusID``, for plugins read either (Multus ``delegateAddDeviceID``).

    Args:
        network: the network; ``args`` and ``args.cni`` of its plugins are objects (``resolve``).
        selection: the pod's element of the annotation; None for none.
        device_id: the device allocated to the attachment; empty for none.
    """
    added = {"deviceID": device_id, "pciBusID": device_id} if device_id else {}
    cni_args = selection.cni_args if selection else {}
    if not added and not cni_args:
        return network
    return evolve(
        network,
        plugins=tuple({**_with_cni_args(each, cni_args), **added} for each in network.plugins),
    )


def _with_cni_args(
    plugin: Mapping[str, object], cni_args: Mapping[str, object]
) -> Mapping[str, object]:
    if not cni_args:
        return plugin
    args = Reader(plugin).section("args")
    merged = {**_without(args.document, "cni"), "cni": {**args.section("cni").document, **cni_args}}
    return {**_without(plugin, "args"), "args": merged}


def _without(document: Mapping[str, object], key: str) -> dict[str, object]:
    return {k: v for k, v in document.items() if k.lower() != key}
