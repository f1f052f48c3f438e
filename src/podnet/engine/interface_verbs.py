"""The verbs of plugins that make an interface: the same for every kind.

ADD is a transaction with its intent in the journal: create the link, ask IPAM, configure the link.
The link comes first, so that an interface of the requested name is refused before any address is
taken, and because DHCP needs a link to ask through. DEL needs nothing but the record.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from attrs import evolve

from podnet.engine import registry
from podnet.engine.comparing import STORED, compare, previous_of
from podnet.engine.ipam_delegate import ipam_type, run_ipam
from podnet.engine.journal import Record
from podnet.engine.links import owned_by
from podnet.engine.making import Making
from podnet.engine.unmaking import (
    ROLE,
    key,
    network_of,
    reconstructed,
    release_unrecorded,
    unmake,
)
from podnet.errors import (
    CheckFailedError,
    InterfaceExistsError,
    InvalidConfigError,
    LinkNotFoundError,
    NotAvailableError,
    PodnetError,
    RecordError,
    together,
)
from podnet.interface.identity import ask_owned
from podnet.model.conf import valid_attachments, with_valid_attachments
from podnet.model.facts import Probe
from podnet.model.ops import Place
from podnet.model.printing import result_document
from podnet.model.reader import INVALID, Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from podnet.engine.house import House
    from podnet.interface.identity import Owned
    from podnet.model.attachment import Call
    from podnet.model.result import Result

_DRIVERS = {"macvlan": "podnet.interface.macvlan", "ptp": "podnet.interface.ptp"}


class InterfacePlugin:
    """A plugin that makes one interface of a kind."""

    def __init__(self, house: House, kind: str) -> None:
        """Take the parts; ``kind`` is the plugin's type, ``macvlan`` or ``ptp``."""
        self._house = house
        self._kind = kind
        self._driver: Any = import_module(_DRIVERS[kind])

    def add(self, call: Call) -> Result:
        """Make the interface, or nothing.

        Raises:
            InterfaceExistsError: one of that name is there already; it is left alone.
            PodnetError: it could not be made, and everything was undone; the first error.
        """
        house, driver = self._house, self._driver
        self.validate(call)
        want = driver.read(call, node=house.settings.node)
        with house.kernel.open(call.netns) as sandbox:
            self._clear_the_way(call, sandbox)
            have = sandbox.probe(driver.parents(want))
            ops = driver.plan(want, have)
            self._refuse_existing(driver.owned(want, have), sandbox)
            record = Record(
                role=ROLE,
                network=network_of(call),
                container_id=call.container_id,
                ifname=call.ifname,
                netns=call.netns,
                netns_id=sandbox.identity,
                config=call.config,
                args=call.args,
                path=call.path,
                parent=house.parent,
                store=house.store_url,
                timeout=call.timeout,
                body={
                    "links": [each.document() for each in driver.owned(want, have)],
                    "memory": driver.memory(want, have),
                },
            )
            house.step("journal.intend")
            house.journal.intend(record)
            making = Making(house, driver, call, sandbox)
            try:
                result = making.run(want, have, ops)
                body = {**record.body, "result": result_document(result, STORED)}
                house.step("journal.finish")
                house.journal.finish(evolve(record, stage="done", body=body))
            except Exception as error:
                self._undo(record, error, making)
                raise
        return result

    def validate(self, call: Call) -> None:
        """Let a configuration pass that ADD can do, as far as it tells; nothing is done.

        Raises:
            InvalidConfigError: with every mistake, those of a built-in IPAM plugin included.
            PodnetError: a field is not supported, or the store cannot be opened.
        """
        mistakes: list[tuple[str, str]] = []
        checks: list[Callable[[], object]] = [
            lambda: self._driver.read(call, node=self._house.settings.node)
        ]
        ipam = ipam_type(call.config)
        if registry.role_of(ipam) == "ipam":
            checks.append(lambda: self._house.plugin(ipam).validate(call))
        for check in checks:
            try:
                check()
            except InvalidConfigError as error:
                if not error.mistakes:
                    raise
                # Both read the same document, so a mistake in what they share is told once.
                mistakes += [each for each in error.mistakes if each not in mistakes]
        if mistakes:
            raise InvalidConfigError(INVALID, tuple(mistakes))

    def delete(self, call: Call) -> None:
        """Undo what the record tells, then have IPAM release; nothing recorded is no error.

        Raises:
            PodnetError: something could not be undone; a retry can help.
        """
        house = self._house
        lost: RecordError | None = None
        try:
            record = self._find(call)
            if record is not None:
                owned_by(record)
        except RecordError as error:
            lost, record = error, reconstructed(house, self._driver, call)
        if record is None:
            release_unrecorded(house, call)
            return
        errors = unmake(house, record, forget=lost is None)
        if lost and not errors:
            # Told once; what the record should have told is undone as far as it can be known.
            aside = house.journal.quarantine(*key(record))
            raise RecordError(lost.msg, f"{lost.details}; it was undone and moved to {aside}")
        _raise(errors)

    def check(self, call: Call) -> None:
        """Compare the interface with what the previous result says.

        Raises:
            CheckFailedError: it differs; every difference is listed.
            InvalidConfigError: there is no previous result to compare with.
            DelegateError: IPAM's own check failed, and nothing else differs.
        """
        want = self._driver.read(call, node=self._house.settings.node)
        record = self._find(call)
        previous = previous_of(call, record)
        ipam: list[PodnetError] = []
        try:
            with self._house.at_store(record.store if record else ""):
                run_ipam(self._house.executor, call, "CHECK")
        except PodnetError as error:
            ipam.append(error)
        differences = compare(self._house, self._driver, want, previous, record)
        if differences:
            what = f"{self._kind} interface {call.ifname} is not as it was made"
            differences += [str(error) for error in ipam]
            raise CheckFailedError(what, "; ".join(differences))
        _raise(ipam)

    def gc(self, call: Call) -> None:
        """Undo every recorded interface of this network that the runtime does not name.

        Raises:
            PodnetError: some could not be undone; all others are.
        """
        house = self._house
        house.journal.tidy()
        errors: list[PodnetError] = []
        valid = valid_attachments(call.config)
        if valid is not None:
            kept, errors = self._sweep(network_of(call), frozenset(valid))
            if any(not container_id for container_id, _ in kept):
                raise together(errors)  # whose leases have to stay cannot be known
            # What stays keeps its addresses, whether the runtime knows of it or not.
            config = with_valid_attachments(call.config, sorted({*valid, *kept}))
            call = evolve(call, config=config)
        try:
            run_ipam(house.executor, call, "GC")
        except PodnetError as error:
            errors.append(error)
        _raise(errors)

    def _sweep(
        self, network: str, valid: frozenset[tuple[str, str]]
    ) -> tuple[list[tuple[str, str]], list[PodnetError]]:
        """Undo the stale records of a network; return whose records stay, and what went wrong."""
        kept: list[tuple[str, str]] = []
        errors: list[PodnetError] = []
        for record in self._house.journal.all(ROLE):
            if isinstance(record, RecordError):
                errors.append(record)
                kept.append(record.place[2:])
                continue
            if record.network != network:
                continue
            left = unmake(self._house, record) if self._is_stale(record, valid) else None
            if left != []:
                kept.append((record.container_id, record.ifname))
            errors += left or ()
        return kept, errors

    def status(self, call: Call) -> None:
        """Let a node pass on which ADD can work: the master exists, IPAM is ready.

        Raises:
            NotAvailableError: there is no master.
            DelegateError: IPAM is not ready.
        """
        want = self._driver.read(call, node=self._house.settings.node)
        needs = self._driver.parents(want)
        # With linkInContainer the master is the sandbox's, and STATUS knows no sandbox.
        if needs == needs.only(Place.HOST) != Probe():
            with self._house.kernel.host() as sandbox:
                have = sandbox.probe(needs)
            try:
                self._driver.plan(want, have)
            except LinkNotFoundError as error:
                raise NotAvailableError(error.msg, error.details) from error
        run_ipam(self._house.executor, call, "STATUS")

    def _find(self, call: Call) -> Record | None:
        return self._house.journal.find(ROLE, network_of(call), call.container_id, call.ifname)

    def _refuse_existing(self, owned: Iterable[Owned], sandbox: Any) -> None:
        """Refuse where a name is taken, before there is a record that could claim the link.

        One that comes later is refused by the kernel.
        """
        for each in owned:
            if sandbox.exists(each.link):
                raise InterfaceExistsError(
                    f"interface {each.link} exists already; it was left alone"
                )

    def _clear_the_way(self, call: Call, sandbox: Any) -> None:
        """Undo what an interrupted ADD left; refuse to make an interface twice."""
        record = self._find(call)
        if record is None:
            return
        if record.stage == "done" and record.netns_id == sandbox.identity:
            own = [each for each in owned_by(record) if each.link.place is Place.SANDBOX]
            if sandbox.probe(ask_owned(own)).links:
                raise InterfaceExistsError(
                    f"interface {call.ifname} exists already; it was left alone",
                    f"container {call.container_id} has it on network {record.network}",
                )
        _raise(unmake(self._house, record))

    def _undo(self, record: Record, error: Exception, making: Making) -> None:
        """Take a failed ADD back; what that fails at is told beside the first error."""
        failures = unmake(
            self._house, record, links=not making.found_another, release=making.asked_ipam
        )
        if failures and isinstance(error, PodnetError):
            left = "; ".join(str(each) for each in failures)
            error.details = f"{error.details}; undoing failed: {left}".lstrip("; ")

    def _is_stale(self, record: Record, valid: frozenset[tuple[str, str]]) -> bool:
        if record.parent and not self._house.served_by_sandbox:
            # The runtime was given the sandbox and does not know of its parts.
            return False
        is_valid = (record.container_id, record.ifname) in valid
        return Reader(record.config).string("type") == self._kind and not is_valid


def _raise(errors: list[PodnetError]) -> None:
    """Raise the first error with the others in its details; nothing if there are none."""
    if errors:
        raise together(errors)
