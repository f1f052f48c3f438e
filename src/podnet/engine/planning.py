"""A request to attach a sandbox → the attachments to make, with what manifests and files say."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from podnet.delegation import arguments
from podnet.delegation.network import conflist, find_on_disk, resolve
from podnet.delegation.plan import Attachment
from podnet.delegation.selection import (
    DEFAULT_NETWORK_ANNOTATION,
    NETWORKS_ANNOTATION,
    NetworkSelection,
    assign_names,
    parse_networks,
)
from podnet.engine import registry
from podnet.errors import (
    InvalidConfigError,
    IOFailureError,
    NetworkNotFoundError,
    PodnetError,
    TryAgainLaterError,
    UnknownContainerError,
    together,
)
from podnet.ipam import claims
from podnet.model.attachment import Call, Pod
from podnet.model.reader import Reader
from podnet.model.wire import load_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from podnet.delegation.network import OnDisk
    from podnet.engine.house import House
    from podnet.model.conflist import NetworkConfigList


@frozen(kw_only=True)
class Request:
    """What is to be attached, and where.

    Attributes:
        network: CNI network name under which the sandbox is kept.
        container_id: the sandbox's id.
        netns: path of its network namespace.
        ifname: interface name on the default network.
        pod: whose sandbox; None if unknown.
        networks: text of the networks annotation.
        default: the default network: a name, a path, or a configuration; None for none.
        instead: text of the annotation that names another default network for this pod; empty
            for none.
        default_networks: names of further networks every pod gets.
        delegates: inline configurations of further networks every pod gets.
        lookup_namespace: where networks named by the configuration are looked up.
        allowed_namespaces: namespaces of networks the pod may select; None for all.
        args: ``CNI_ARGS`` as the runtime passed it.
        runtime_config: capability arguments of the runtime, for the default network.
        conf_dir: folder of on-disk configurations; empty for the installation's.
        path: directories of ``CNI_PATH``.
        timeout: seconds for all of it.
        config: configuration of the delegating plugin itself, kept for the record.
    """

    network: str
    container_id: str
    netns: str
    ifname: str = "eth0"
    pod: Pod | None = None
    networks: str = ""
    default: str | Mapping[str, Any] | None = None
    instead: str = ""
    default_networks: tuple[str, ...] = ()
    delegates: tuple[Mapping[str, Any], ...] = ()
    lookup_namespace: str = "default"
    allowed_namespaces: frozenset[str] | None = None
    args: str = ""
    runtime_config: Mapping[str, Any] = field(factory=dict)
    conf_dir: str = ""
    path: tuple[str, ...] = ()
    timeout: float = 110.0
    config: Mapping[str, Any] = field(factory=dict)

    def call(self, verb: str) -> Call:
        """Return the call of the delegating plugin that this request is."""
        return Call(
            plugin="podnet",
            verb=verb,
            container_id=self.container_id,
            netns=self.netns,
            ifname=self.ifname,
            timeout=self.timeout,
        )


def selection_of(house: House, pod: Pod | None, annotation: str = NETWORKS_ANNOTATION) -> str:
    """Return an annotation of a pod in the manifests; empty without a pod.

    Raises:
        UnknownContainerError: the manifests have no such pod.
    """
    if pod is None:
        return ""
    text = house.source.selection(pod, annotation)
    if text is None:
        raise UnknownContainerError(f"pod {pod} is not in the manifests")
    return text


def planned(house: House, request: Request) -> tuple[Attachment, ...]:
    """Return the attachments a request asks for, the default network first.

    Raises:
        InvalidConfigError: annotation or a network's configuration has mistakes.
        NetworkNotFoundError: a network has no definition.
    """
    namespace = request.pod.namespace if request.pod else "default"
    selections = parse_networks(request.networks, namespace)
    _check_isolation(selections, request, {namespace})
    first = default_network(house, request)
    common = [
        *((each.name, each) for each in _inline(request)),
        *(
            (f"{request.lookup_namespace}/{name}", named(house, request, name))
            for name in request.default_networks
        ),
    ]
    count = (1 if first else 0) + len(common)
    if not first and common:
        # Further default networks count from net1, and the annotation's from behind them.
        count += 1
    names = assign_names(selections, count, request.ifname)
    attachments = []
    if first:
        name, config, asked = first
        attachments.append(
            _attachment(house, request, name, config, request.ifname, asked, default=True)
        )
    for index, (name, config) in enumerate(common, start=1):
        attachments.append(_attachment(house, request, name, config, f"net{index}", None))
    errors: list[PodnetError] = []
    for selection, ifname in zip(selections, names, strict=True):
        name = f"{selection.namespace}/{selection.name}"
        try:
            config = _defined(house, request, selection.namespace, selection.name)
            attachments.append(_attachment(house, request, name, config, ifname, selection))
        except PodnetError as error:
            errors.append(error)
    if errors:
        raise together(errors)
    _check_distinct(attachments)
    return tuple(attachments)


def default_network(
    house: House, request: Request
) -> tuple[str, NetworkConfigList, NetworkSelection | None] | None:
    """Return name, configuration and selection of the default network, or None without one."""
    if request.instead.strip():
        return _replaced(house, request)
    given = request.default
    if given is None or given == "":
        return None
    if not isinstance(given, str):
        config = conflist(given, "", "delegates[0]")
    else:
        config = named(house, request, given)
    return config.name, config, None


def _replaced(
    house: House, request: Request
) -> tuple[str, NetworkConfigList, NetworkSelection | None]:
    """Return the default network that the pod names for itself (Multus' own annotation).

    Names without namespace are the configuration's, as in Multus; isolation holds here too, which
    Multus leaves out (multus-cni issue 1291).
    """
    selections = parse_networks(request.instead, request.lookup_namespace)
    if len(selections) != 1:
        raise InvalidConfigError(
            f"{DEFAULT_NETWORK_ANNOTATION} has to name one network, not {len(selections)}"
        )
    (asked,) = selections
    own = {request.lookup_namespace, request.pod.namespace if request.pod else "default"}
    _check_isolation(selections, request, own)
    if asked.interface:
        raise InvalidConfigError(
            f"{DEFAULT_NETWORK_ANNOTATION} cannot choose the interface: it is {request.ifname}"
        )
    config = _defined(house, request, asked.namespace, asked.name)
    return f"{asked.namespace}/{asked.name}", config, asked


def named(house: House, request: Request, name: str) -> NetworkConfigList:
    """Return the network that a configuration names: a file, a folder, or a definition's name.

    The order is Multus' (``k8sclient.getNetDelegate``): a path if there is a slash, else a
    definition, else an on-disk configuration.

    Raises:
        NetworkNotFoundError: there is none.
    """
    if "/" in name or name.endswith((".conflist", ".conf", ".json")):
        return _from_path(house, name)
    definition = house.source.definition(request.lookup_namespace, name)
    on_disk = _on_disk(house, request)
    if definition is not None:
        return resolve(definition, request.lookup_namespace, name, on_disk)
    return find_on_disk(name, on_disk())


def _from_path(house: House, path: str) -> NetworkConfigList:
    if os.path.isdir(path):
        found = house.configurations(path)
        if not found:
            raise NetworkNotFoundError(f"folder {path} has no CNI configuration")
        filename, data = found[0]
        if isinstance(data, PodnetError):
            raise data
    else:
        try:
            filename, data = path, house.configuration(path)
        except IOFailureError as error:
            raise NetworkNotFoundError(error.msg, error.details) from error
    stem = os.path.basename(filename).rsplit(".", 1)[0]
    return conflist(load_json(data, filename), stem, filename)


def _defined(house: House, request: Request, namespace: str, name: str) -> NetworkConfigList:
    definition = house.source.definition(namespace, name)
    if definition is None:
        raise NetworkNotFoundError(
            f"network {namespace}/{name} has no definition",
            "no manifest has a NetworkAttachmentDefinition of that name",
        )
    return resolve(definition, namespace, name, _on_disk(house, request))


def _on_disk(house: House, request: Request) -> Callable[[], OnDisk]:
    return lambda: house.configurations(request.conf_dir or house.settings.conf_dir)


def _inline(request: Request) -> tuple[NetworkConfigList, ...]:
    return tuple(
        conflist(each, "", f"delegates[{index}]")
        for index, each in enumerate(request.delegates, start=1)
    )


def _attachment(
    house: House,
    request: Request,
    name: str,
    config: NetworkConfigList,
    ifname: str,
    selection: NetworkSelection | None,
    *,
    default: bool = False,
) -> Attachment:
    device = selection.device_id if selection else ""
    if selection and selection.ipam_claim_reference:
        config = _with_claim(house, config, ifname, selection)
    arguments.verify_capabilities(
        config,
        arguments.capability_args(selection),
        strict=house.settings.strict_capabilities,
    )
    return Attachment(
        network=name,
        config=arguments.with_arguments(config, selection, device),
        ifname=ifname,
        runtime_config=arguments.runtime_config(
            selection, default=default, runtime=request.runtime_config, device_id=device
        ),
        args=arguments.compose_args(request.pod, request.container_id, selection, request.args),
        default=default,
        selection=selection,
    )


def _with_claim(
    house: House, config: NetworkConfigList, ifname: str, selection: NetworkSelection
) -> NetworkConfigList:
    """Return the network with the IPAMClaim that the pod refers to told to its plugins.

    Raises:
        TryAgainLaterError: there is no such claim, yet.
        InvalidConfigError: the claim is for another interface, or the network keeps no addresses.
    """
    namespace, name = selection.namespace, selection.ipam_claim_reference
    content = house.claims.claim(namespace, name)
    if content is None:
        raise TryAgainLaterError(f"IPAMClaim {namespace}/{name} does not exist, yet")
    claim = claims.parse_claim(content, f"{namespace}/{name}")
    claims.check_use(claim, config.name, ifname)
    types = (Reader(each).section("ipam").string("type") for each in config.plugins)
    if not any(kind in registry.KEEPING for kind in types):
        raise InvalidConfigError(
            f"ipam claims not supported on network {config.name}",
            (("ipam.type", f"is none of {', '.join(sorted(registry.KEEPING))}"),),
        )
    return arguments.with_told(config, claims.ARGS, claims.told(claim))


def _check_isolation(
    selections: tuple[NetworkSelection, ...], request: Request, own: set[str]
) -> None:
    allowed = request.allowed_namespaces
    if allowed is None:
        return
    mistakes = tuple(
        (
            f"[{index}].namespace",
            f"pods of {' and '.join(sorted(own))} may not use networks of {each.namespace}",
        )
        for index, each in enumerate(selections)
        if each.namespace not in own | allowed
    )
    if mistakes:
        raise InvalidConfigError("namespace isolation is on", mistakes)


def _check_distinct(attachments: list[Attachment]) -> None:
    """Refuse what the machine could not tell apart (CNI 1.1.0: state is kept per attachment)."""
    seen: dict[tuple[str, str], str] = {}
    for each in attachments:
        place = (each.config.name, each.ifname)
        if place in seen:
            raise InvalidConfigError(
                f"{each.network} and {seen[place]} are one CNI network on one interface"
            )
        seen[place] = each.network
