"""The delegating plugin as a CNI plugin: types ``podnet`` and ``multus``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from podnet.delegation.conf import read_config
from podnet.delegation.plan import Sandbox
from podnet.delegation.selection import DEFAULT_NETWORK_ANNOTATION
from podnet.delegation.sweep import Reporting
from podnet.engine import attach as attaching
from podnet.engine.attached import find_sandbox
from podnet.engine.collecting import collect
from podnet.engine.driving import drive
from podnet.engine.planning import Request, planned
from podnet.engine.recovery import recover
from podnet.errors import (
    CheckFailedError,
    NotAvailableError,
    RecordError,
    TryAgainLaterError,
    UnknownContainerError,
)
from podnet.model.attachment import Pod
from podnet.model.cniargs import load_args
from podnet.model.conf import valid_attachments
from podnet.model.reader import Reader
from podnet.model.result import Result

if TYPE_CHECKING:
    from podnet.delegation.conf import DelegationConfig
    from podnet.engine.house import House
    from podnet.model.attachment import Call
    from podnet.model.conflist import NetworkConfigList

_POD_ARGS = ("K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_UID", "K8S_POD_INFRA_CONTAINER_ID")


class AttachPlugin:
    """Gives a pod its default network and the networks its annotation selects."""

    def __init__(self, house: House, name: str) -> None:
        self._house = house
        self._name = name

    def add(self, call: Call) -> Result:
        """Attach the sandbox; the result is the default network's, else the first network's.

        Raises:
            PodnetError: nothing is attached.
        """
        config = read_config(call.config)
        _check_ready(config)
        attached = attaching.attach(self._house, self._request(call, config))
        chosen = [each for each in attached.networks if each.default] or attached.networks
        return chosen[0].result if chosen else Result()

    def delete(self, call: Call) -> None:
        """Undo what the sandbox's record says; needs no manifest and no configuration.

        Raises:
            PodnetError: something is left that a retry can undo.
        """
        network = _network(call)
        place = ("sandbox", network, call.container_id, call.ifname)
        try:
            record = find_sandbox(self._house.journal, *place[1:])
        except RecordError as error:
            raise recover(self._house, error, place) from error
        if record is None:
            return
        attaching.detach(self._house, record)

    def check(self, call: Call) -> None:
        """Compare the sandbox's attachments with what exists.

        Raises:
            UnknownContainerError: the container has no record.
            PodnetError: what differs.
        """
        network = _network(call)
        record = self._house.journal.find("sandbox", network, call.container_id, call.ifname)
        if record is None:
            raise UnknownContainerError(
                f"container {call.container_id} is not attached to network {network}"
            )
        if record.stage != "done":
            raise CheckFailedError(
                f"container {call.container_id} is only partly attached", "an ADD was interrupted"
            )
        attaching.check(self._house, record)

    def gc(self, call: Call) -> None:
        """Detach what the runtime no longer has, and let every network collect.

        Raises:
            PodnetError: what could not be undone; everything else is.
        """
        valid = valid_attachments(call.config)
        if valid is None:
            return
        collect(self._house, _network(call), frozenset(valid))

    def status(self, call: Call) -> None:
        """Tell whether ADD can be served, for every network the configuration names.

        Raises:
            NotAvailableError: it cannot.
            PodnetError: a network's own reason.
        """
        config = read_config(call.config)
        if config.readiness_file and not os.path.exists(config.readiness_file):
            raise NotAvailableError(f"readiness file {config.readiness_file} does not exist")
        request = self._request(call, config)
        sandbox = Sandbox(path=request.path, timeout=call.timeout)
        machine = Reporting(self._networks(request), sandbox)
        drive(self._house, machine)
        if machine.failure is not None:
            raise machine.failure

    def _networks(self, request: Request) -> list[NetworkConfigList]:
        """Return the networks that the configuration itself names, annotation text included."""
        return [each.config for each in planned(self._house, request)]

    def _request(self, call: Call, config: DelegationConfig) -> Request:
        pod = _pod(call)
        namespace = pod.namespace if pod else "default"
        text, instead = config.networks, ""
        if call.verb == "ADD" and self._knows_pods():
            if text is None:
                text = self._annotation_of(
                    pod, required=not (config.cluster_network or config.delegates)
                )
            instead = self._default_of(pod)
        further = () if namespace in config.system_namespaces else config.default_networks
        return Request(
            network=config.name,
            container_id=call.container_id,
            netns=call.netns,
            ifname=call.ifname,
            pod=pod,
            networks=text or "",
            instead=instead,
            default=config.cluster_network or next(iter(config.delegates), None),
            default_networks=further,
            delegates=config.delegates[1:],
            lookup_namespace=config.multus_namespace,
            allowed_namespaces=(
                frozenset(config.global_namespaces) if config.namespace_isolation else None
            ),
            args=call.args,
            runtime_config=config.runtime_config,
            conf_dir=config.conf_dir,
            path=(*([config.bin_dir] if config.bin_dir else []), *self._paths(call)),
            timeout=call.timeout,
            config=call.config,
        )

    def _annotation_of(self, pod: Pod | None, *, required: bool) -> str:
        """Return what a pod of the manifests selects.

        A node's other pods have their default network and nothing else; where there is no default
        network, an ADD that does nothing would be no help.
        """
        try:
            return attaching.selection_of(self._house, pod)
        except UnknownContainerError:
            if required:
                raise
            return ""

    def _default_of(self, pod: Pod | None) -> str:
        """Return the default network that a pod of the manifests asks for; empty for none."""
        if pod is None:
            return ""
        return self._house.source.selection(pod, DEFAULT_NETWORK_ANNOTATION) or ""

    def _paths(self, call: Call) -> tuple[str, ...]:
        return (*self._house.settings.bin_dirs, *call.path)

    def _knows_pods(self) -> bool:
        return bool(self._house.settings.networks)


def _check_ready(config: DelegationConfig) -> None:
    """Refuse ADD while the default network is not ready (NPWG 1.3, 6.1.2); the runtime retries."""
    if config.readiness_file and not os.path.exists(config.readiness_file):
        raise TryAgainLaterError(f"readiness file {config.readiness_file} does not exist")


def _network(call: Call) -> str:
    return Reader(call.config).string("name")


def _pod(call: Call) -> Pod | None:
    known = load_args(call.args + (";" if call.args else "") + "IgnoreUnknown=1", _POD_ARGS)
    name = known.get("K8S_POD_NAME", "")
    if not name:
        return None
    return Pod(known.get("K8S_POD_NAMESPACE") or "default", name, known.get("K8S_POD_UID", ""))
