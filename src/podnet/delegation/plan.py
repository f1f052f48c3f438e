"""What is to be made, where, and the call that each plugin gets for it.

Sections are those of the CNI specification 1.1.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen

from podnet.model.attachment import Call
from podnet.model.conf import inject, takes_prev_result
from podnet.model.names import check_container_id, check_ifname, check_network_name
from podnet.model.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from podnet.delegation.selection import NetworkSelection
    from podnet.model.conflist import NetworkConfigList
    from podnet.model.result import Result


@frozen(kw_only=True)
class Attachment:
    """One interface of one pod on one network, as it is to be made.

    Attributes:
        network: the network's name in the pod's network-status, such as ``default/storage``.
        config: the network's plugins, with the pod's arguments and device in them.
        ifname: ``CNI_IFNAME``.
        runtime_config: capability arguments; each plugin gets those it declares.
        args: ``CNI_ARGS``.
        default: whether it is the pod's default network.
        selection: the element of the pod's annotation that asks for it; None for none.
    """

    network: str
    config: NetworkConfigList
    ifname: str
    runtime_config: Mapping[str, object] = field(factory=dict)
    args: str = ""
    default: bool = False
    selection: NetworkSelection | None = None


@frozen(kw_only=True)
class Sandbox:
    """Where a pod's attachments are made, and how plugins are found and waited for.

    Attributes:
        container_id: ``CNI_CONTAINERID``.
        netns: ``CNI_NETNS``; empty if it is gone.
        path: directories of ``CNI_PATH``.
        timeout: seconds one plugin may take.
    """

    container_id: str = ""
    netns: str = ""
    path: tuple[str, ...] = ()
    timeout: float = 60.0


@frozen(kw_only=True)
class Standing:
    """An attachment that was made, or may have been.

    Attributes:
        attachment: as it was to be made.
        document: the last result of its ADD, in its configuration's version; None if there is none.
        result: the same, parsed; may be None beside a document that came from a record.
    """

    attachment: Attachment
    document: Mapping[str, object] | None = None
    result: Result | None = None


def check_names(attachments: Iterable[Attachment], sandbox: Sandbox) -> None:
    """Let pass what may become part of a path, in podnet or in a delegate.

    libcni checks on ADD only, and so removes what ``../`` in a container id of DEL leads to.

    Raises:
        UnknownContainerError: there is no container id.
        InvalidEnvironmentError: container id or an interface's name is invalid.
        InvalidConfigError: a network's name is.
    """
    check_container_id(sandbox.container_id)
    for attachment in attachments:
        check_ifname(attachment.ifname)
        check_network_name(attachment.config.name)


def plugin_call(
    verb: str,
    standing: Standing,
    index: int,
    sandbox: Sandbox,
    extra: Mapping[str, object] | None = None,
) -> Call:
    """Return the call of one plugin of an attachment (section 3, "Deriving").

    Args:
        verb: ``ADD``, ``DEL`` or ``CHECK``; or ``GC`` or ``STATUS``, which know no container.
        standing: the attachment, with its result so far.
        index: position of the plugin in its list.
        sandbox: where.
        extra: further keys of the configuration.
    """
    attachment, config = standing.attachment, standing.attachment.config
    plugin = config.plugins[index]
    of_network = verb in ("GC", "STATUS")
    return Call(
        plugin=Reader(plugin).string("type"),
        verb=verb,
        container_id="" if of_network else sandbox.container_id,
        netns="" if of_network else sandbox.netns,
        ifname=attachment.ifname,
        args=attachment.args,
        path=sandbox.path,
        config=inject(
            plugin,
            config.name,
            config.cni_version,
            prev_result=standing.document if takes_prev_result(config.cni_version, verb) else None,
            runtime_config=attachment.runtime_config,
            extra=extra,
        ),
        timeout=sandbox.timeout,
    )
