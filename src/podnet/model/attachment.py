"""Nouns of delegation: pods, plugin calls and what they said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from podnet.errors import PodnetError

VERBS = ("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION")


@frozen
class Pod:
    """A pod's identity. Empty texts mean unknown."""

    namespace: str
    name: str
    uid: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@frozen(kw_only=True)
class Call:
    """One call of one CNI plugin.

    Attributes:
        plugin: the plugin's name, the ``type`` of its configuration.
        verb: one of ``VERBS``.
        container_id: ``CNI_CONTAINERID``; empty for GC, STATUS and VERSION.
        netns: ``CNI_NETNS``, a path; empty if there is none.
        ifname: ``CNI_IFNAME``; empty for GC, STATUS and VERSION.
        args: ``CNI_ARGS`` as text, ``K=V;K2=V2``.
        path: directories of ``CNI_PATH`` in order.
        config: the whole network configuration the plugin reads from standard input.
        timeout: seconds it may take.
    """

    plugin: str
    verb: str
    container_id: str = ""
    netns: str = ""
    ifname: str = ""
    args: str = ""
    path: tuple[str, ...] = ()
    config: Mapping[str, object] = field(factory=dict)
    timeout: float = 60.0

    def environment(self) -> dict[str, str]:
        """Return the ``CNI_*`` variables of this call (CNI 1.1.0, section 2, "Parameters")."""
        pairs = {
            "CNI_COMMAND": self.verb,
            "CNI_CONTAINERID": self.container_id,
            "CNI_NETNS": self.netns,
            "CNI_IFNAME": self.ifname,
            "CNI_ARGS": self.args,
            "CNI_PATH": ":".join(self.path),
        }
        return {k: v for k, v in pairs.items() if v or k in ("CNI_COMMAND", "CNI_PATH")}


@frozen
class Done:
    """What a plugin said.

    Attributes:
        exit_code: 0 for success; negative if a signal ended it.
        stdout: its standard output: a result, or an error object.
        stderr: its standard error, for people.
        error: the very error, of a plugin that ran in this process; None of any other.
    """

    exit_code: int
    stdout: bytes = b""
    stderr: bytes = b""
    error: PodnetError | None = field(default=None, eq=False)
