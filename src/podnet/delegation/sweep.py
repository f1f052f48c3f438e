"""DEL, CHECK, GC and STATUS: calls that are all made, whatever becomes of any of them.

Driven as ``chain.Adding`` is. Sections are those of the CNI specification 1.1.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from podnet.delegation.plan import Attachment, Standing, check_names, plugin_call
from podnet.delegation.verdict import hear, joined
from podnet.model.conf import VALID_ATTACHMENTS
from podnet.model.versions import allows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from podnet.delegation.plan import Sandbox
    from podnet.errors import PodnetError
    from podnet.model.attachment import Call, Done
    from podnet.model.conflist import NetworkConfigList


@frozen
class Step:
    """One call, and the attachment it is for."""

    standing: Standing
    call: Call


class Sweep:
    """Calls that are all made, whatever becomes of any of them.

    Attributes:
        failure: the first error, naming plugin, network and verb, with the plugin's code; the
            others are in its details. None as long as there is none.
        failed: attachments that a call failed for, in the order of the calls.
        skipped: attachments left out, and why.
    """

    def __init__(
        self, steps: Iterable[Step], skipped: Iterable[tuple[Attachment, str]] = ()
    ) -> None:
        self._steps = tuple(steps)
        self._at = 0
        self.failure: PodnetError | None = None
        self.failed: tuple[Attachment, ...] = ()
        self.skipped = tuple(skipped)

    def next(self) -> Call | None:
        """Return the call to run now, the same until it is fed; None if all are done."""
        return self._steps[self._at].call if self._at < len(self._steps) else None

    def feed(self, outcome: Done | PodnetError) -> None:
        """Take what became of the call that ``next`` returned.

        Raises:
            RuntimeError: there is none.
        """
        if self._at == len(self._steps):
            raise RuntimeError("no call is due")
        step = self._steps[self._at]
        self._at += 1
        attachment = step.standing.attachment
        error = hear(step.call, outcome, attachment.config.name)
        if error is None:
            return
        if not any(each is attachment for each in self.failed):
            self.failed = (*self.failed, attachment)
        self.failure = error if self.failure is None else joined(self.failure, "also", error)


class Deleting(Sweep):
    """DEL of attachments: the last first, and of each its plugins in reverse (NPWG 7.2).

    Other than libcni, which ends at a list's first error, it calls every plugin: what the others
    hold would be held for ever.
    """

    def __init__(self, standings: Iterable[Standing], sandbox: Sandbox) -> None:
        """Prepare the machine.

        Args:
            standings: the attachments in the order they were made.
            sandbox: where; ``netns`` may be empty.

        Raises:
            UnknownContainerError, InvalidEnvironmentError, InvalidConfigError: container id, an
                interface's or a network's name is invalid; they become parts of paths.
        """
        standings = tuple(standings)
        check_names([each.attachment for each in standings], sandbox)
        super().__init__(
            Step(standing, plugin_call("DEL", standing, index, sandbox))
            for standing in reversed(standings)
            for index in reversed(range(len(standing.attachment.config.plugins)))
        )


class Checking(Sweep):
    """CHECK of attachments, in the order they were made.

    Networks that disable CHECK or are of a version without it are skipped.
    """

    def __init__(self, standings: Iterable[Standing], sandbox: Sandbox) -> None:
        """Prepare the machine.

        Args:
            standings: the attachments in the order they were made, each with its final result.
            sandbox: where.

        Raises:
            UnknownContainerError, InvalidEnvironmentError, InvalidConfigError: as ``Deleting``.
        """
        standings = tuple(standings)
        check_names([each.attachment for each in standings], sandbox)
        due, skipped = _due("CHECK", standings)
        super().__init__(_forward("CHECK", due, sandbox), skipped)


class Collecting(Sweep):
    """GC of networks: every plugin is told the attachments that are valid (section 4)."""

    def __init__(
        self,
        networks: Iterable[tuple[NetworkConfigList, Iterable[tuple[str, str]]]],
        sandbox: Sandbox,
    ) -> None:
        """Prepare the machine.

        Args:
            networks: each network with its valid attachments, ``(container id, ifname)``.
            sandbox: where plugins are found.
        """
        steps: list[Step] = []
        skipped: list[tuple[Attachment, str]] = []
        for config, pairs in networks:
            entries = [{"containerID": cid, "ifname": ifname} for cid, ifname in pairs]
            extra = dict.fromkeys(VALID_ATTACHMENTS, entries)
            due, left = _due("GC", [_whole(config)])
            steps.extend(_forward("GC", due, sandbox, extra))
            skipped.extend(left)
        super().__init__(steps, skipped)


class Reporting(Sweep):
    """STATUS of networks: whether their plugins can serve ADD."""

    def __init__(self, networks: Iterable[NetworkConfigList], sandbox: Sandbox) -> None:
        """Prepare the machine.

        Args:
            networks: the networks.
            sandbox: where plugins are found.
        """
        due, skipped = _due("STATUS", [_whole(config) for config in networks])
        super().__init__(_forward("STATUS", due, sandbox), skipped)


def _whole(config: NetworkConfigList) -> Standing:
    """Return a network as what GC and STATUS are about: no attachment in particular."""
    return Standing(attachment=Attachment(network=config.name, config=config, ifname=""))


# What a list can switch a verb off with (section 1, "Network configuration format").
_SWITCHES = {"CHECK": "disable_check", "GC": "disable_gc"}


def _due(
    verb: str, standings: Iterable[Standing]
) -> tuple[list[Standing], list[tuple[Attachment, str]]]:
    """Return those the verb is for, and the others with the reason."""
    due, skipped = [], []
    for standing in standings:
        config = standing.attachment.config
        if not allows(config.cni_version, verb):
            reason = f"version {config.cni_version} has no {verb}"
        elif verb in _SWITCHES and getattr(config, _SWITCHES[verb]):
            reason = f"the network disables {verb}"
        else:
            due.append(standing)
            continue
        skipped.append((standing.attachment, reason))
    return due, skipped


def _forward(
    verb: str,
    standings: Iterable[Standing],
    sandbox: Sandbox,
    extra: Mapping[str, object] | None = None,
) -> Iterator[Step]:
    for standing in standings:
        for index in range(len(standing.attachment.config.plugins)):
            yield Step(standing, plugin_call(verb, standing, index, sandbox, extra))
