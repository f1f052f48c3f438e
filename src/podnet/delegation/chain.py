"""ADD: told what each plugin said, the machine tells which to call next, or what to undo.

Pure: it runs nothing and has no clock. A loop drives it::

    while call := machine.next():
        machine.feed(run(call))  # a Done, or the PodnetError that running ended in
    if machine.failure:
        raise machine.failure
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from podnet.delegation.plan import Standing, check_names, plugin_call
from podnet.delegation.sweep import Step, Sweep
from podnet.delegation.verdict import hear_result, joined
from podnet.errors import DelegateError, PluginNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from podnet.delegation.plan import Attachment, Sandbox
    from podnet.errors import PodnetError
    from podnet.model.attachment import Call, Done
    from podnet.model.result import Result


class Adding:
    """ADD of a pod's attachments, in order, as one transaction.

    Each plugin gets the result of the one before it (CNI 1.1.0, section 3). After a
    failure nothing more is added, and the calls that follow undo what was done, in reverse: a DEL
    for the plugin that failed, for it may have left something, and for each that had succeeded,
    every one exactly once and whether or not another's DEL fails (NPWG 7.2). A plugin that never
    ran, because there is none of that name, gets no DEL.

    Attributes:
        made: the attachments that stand, in order; none of them after a failure.
        failure: the first error, naming plugin, network and verb, with the plugin's code; errors
            of undoing are in its details. None as long as there is none.
        unclean: after a failure, the attachments that a DEL failed for: they may have left
            something and need another.
    """

    def __init__(self, attachments: Iterable[Attachment], sandbox: Sandbox) -> None:
        """Prepare the machine.

        Args:
            attachments: in the order they are to be made.
            sandbox: where.

        Raises:
            UnknownContainerError, InvalidEnvironmentError, InvalidConfigError: container id, an
                interface's or a network's name is invalid; they become parts of paths.
        """
        standings = [Standing(attachment=each) for each in attachments]
        check_names([each.attachment for each in standings], sandbox)
        self._sandbox = sandbox
        self._standings = standings
        self._places = [
            (number, index)
            for number, standing in enumerate(standings)
            for index in range(len(standing.attachment.config.plugins))
        ]
        self._at = 0
        self._undo: Sweep | None = None
        self.failure: PodnetError | None = None
        self._call = self._due()

    @property
    def made(self) -> tuple[Standing, ...]:
        """The attachments that stand."""
        if self.failure:
            return ()
        whole = self._places[self._at][0] if self._at < len(self._places) else None
        return tuple(self._standings[:whole])

    @property
    def results(self) -> tuple[Result | None, ...]:
        """The final result of each attachment; None for one that does not stand."""
        missing = len(self._standings) - len(self.made)
        return (*(each.result for each in self.made), *(None,) * missing)

    @property
    def unclean(self) -> tuple[Attachment, ...]:
        """The attachments that a DEL of undoing failed for."""
        return self._undo.failed if self._undo else ()

    def next(self) -> Call | None:
        """Return the call to run now, the same until it is fed; None if all is done."""
        return self._undo.next() if self._undo else self._call

    def feed(self, outcome: Done | PodnetError) -> None:
        """Take what became of the call that ``next`` returned.

        Raises:
            RuntimeError: there is none.
        """
        if self._undo:
            self._undo.feed(outcome)
            if self.failure and self._undo.failure and self._undo.next() is None:
                self.failure = joined(self.failure, "undoing", self._undo.failure)
            return
        if self._call is None:
            raise RuntimeError("no call is due")
        number, _ = self._places[self._at]
        standing = self._standings[number]
        said = hear_result(self._call, outcome, standing.attachment.config)
        if isinstance(said, DelegateError):
            self._fail(said, ran=not isinstance(outcome, PluginNotFoundError))
            return
        result, document = said
        self._standings[number] = evolve(standing, result=result, document=document)
        self._at += 1
        self._call = self._due()

    def _due(self) -> Call | None:
        if self._at == len(self._places):
            return None
        number, index = self._places[self._at]
        return plugin_call("ADD", self._standings[number], index, self._sandbox)

    def _fail(self, error: DelegateError, *, ran: bool) -> None:
        self.failure = error
        self._undo = Sweep(
            Step(
                self._standings[number],
                plugin_call("DEL", self._standings[number], index, self._sandbox),
            )
            for number, index in reversed(self._places[: self._at + ran])
        )
