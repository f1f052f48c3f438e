"""The verbs of the loopback plugin: nothing is made, so nothing is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podnet.engine.links import observer
from podnet.errors import CheckFailedError, KernelError, NetnsMissingError, NotNetnsError
from podnet.interface import loopback
from podnet.model.conf import network_config

if TYPE_CHECKING:
    from podnet.engine.house import House
    from podnet.model.attachment import Call
    from podnet.model.result import Result


class LoopbackPlugin:
    """Sets ``lo`` up, whatever ``CNI_IFNAME`` says."""

    def __init__(self, house: House, kind: str) -> None:
        """Take the parts; the kind is always ``loopback``."""
        assert kind == "loopback"
        self._house = house

    def add(self, call: Call) -> Result:
        """Set the interface up; a previous result is passed through.

        Raises:
            InvalidNetnsError: the sandbox cannot be opened.
            KernelError: it cannot be set up, or has an address that is not loopback's.
        """
        previous = network_config(call.config).prev_result
        want = loopback.Want(sandbox=call.netns)
        with self._house.kernel.open(call.netns) as sandbox:
            sandbox.apply(
                loopback.plan(want, sandbox.probe(loopback.ask(want))), observer(self._house)
            )
            # The kernel gives addresses when the link comes up: only now can they be told.
            have = sandbox.probe(loopback.ask(want))
        if faults := loopback.faults(have):
            raise KernelError(faults[0])
        return previous if previous is not None else loopback.result(want, have)

    def validate(self, call: Call) -> None:
        """Let a configuration pass that ADD can do; there are no keys of its own.

        Raises:
            InvalidConfigError: with every mistake.
        """
        network_config(call.config)

    def delete(self, call: Call) -> None:
        """Set the interface down; a sandbox that is gone is no error.

        Raises:
            KernelError, TryAgainLaterError: the sandbox cannot be opened, or the interface not
                be set down.
        """
        want = loopback.Want(sandbox=call.netns, up=False)
        try:
            with self._house.kernel.open(call.netns) as sandbox:
                ops = loopback.plan(want, sandbox.probe(loopback.ask(want)))
                sandbox.apply(ops, observer(self._house))
        except (NetnsMissingError, NotNetnsError):
            return

    def check(self, call: Call) -> None:
        """Let an interface that is up pass.

        Raises:
            CheckFailedError: it is down, or has an address that is not loopback's.
        """
        want = loopback.Want(sandbox=call.netns)
        with self._house.kernel.open(call.netns) as sandbox:
            have = sandbox.probe(loopback.ask(want))
        differences = [f"has to {op}" for op in loopback.plan(want, have)]
        differences += loopback.faults(have)
        if differences:
            raise CheckFailedError(
                "loopback interface is not as it was made", "; ".join(differences)
            )

    def gc(self, call: Call) -> None:
        """Do nothing: there is nothing that outlives the sandbox."""

    def status(self, call: Call) -> None:
        """Do nothing: every kernel has a loopback interface."""
