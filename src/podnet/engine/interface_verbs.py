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
from podnet.engine.ipam_delegate import NO_VERSION, add_ipam, ipam_type, run_ipam
from podnet.engine.journal import Record
from podnet.engine.links import delete_links, observer, owned_by
from podnet.errors import (
    CheckFailedError,
    DelegateError,
    InterfaceExistsError,
    InvalidConfigError,
    LinkNotFoundError,
    NotAvailableError,
    PluginNotFoundError,
    PodnetError,
    RecordError,
)
from podnet.interface.identity import ask_owned
from podnet.model.attachment import Call
from podnet.model.conf import valid_attachments
from podnet.model.facts import Probe
from podnet.model.ops import CreateLink, Place
from podnet.model.printing import result_document
from podnet.model.reader import INVALID, Reader

if TYPE_CHECKING:
    from collections.abc import Callable

    from podnet.engine.house import House
    from podnet.model.result import Result

_DRIVERS = {"macvlan": "podnet.interface.macvlan", "ptp": "podnet.interface.ptp"}
_ROLE = "interface"


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
            record = Record(
                role=_ROLE,
                network=_network(call),
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
            making = _Making(house, driver, call, sandbox)
            try:
                result = making.run(want, have, ops)
                body = {**record.body, "result": result_document(result, STORED)}
                house.step("journal.finish")
                house.journal.finish(evolve(record, stage="done", body=body))
            except Exception as error:
                self._undo(record, error, release=making.asked_ipam)
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
        """Undo what the record tells, and have IPAM release; nothing recorded is no error.

        Raises:
            PodnetError: something could not be undone; a retry can help.
        """
        lost: RecordError | None = None
        try:
            record = self._find(call)
        except RecordError as error:
            lost, record = error, self._reconstructed(call)
        if record is None:
            self._release_unrecorded(call)
            return
        errors = self._unmake(record, forget=lost is None)
        if lost and not errors:
            # Told once; what the record should have told is undone as far as it can be known.
            aside = self._house.journal.quarantine(*_key(record))
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
        for record in house.journal.all(_ROLE) if valid is not None else ():
            if isinstance(record, RecordError):
                errors.append(record)
            elif self._is_stale(record, _network(call), frozenset(valid or ())):
                errors += self._unmake(record)
        try:
            run_ipam(house.executor, call, "GC")
        except PodnetError as error:
            errors.append(error)
        _raise(errors)

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

    def _release_unrecorded(self, call: Call) -> None:
        """Have IPAM release what an attachment without record may hold.

        That there is no such IPAM plugin is no error here: it is what kept ADD from making the
        interface, most likely a misspelt type, and a retry would fail the same way for ever.
        """
        try:
            run_ipam(self._house.executor, call, "DEL")
        except DelegateError as error:
            if not isinstance(error.__cause__, PluginNotFoundError):
                raise

    def _find(self, call: Call) -> Record | None:
        key = (_ROLE, _network(call), call.container_id, call.ifname)
        return self._house.journal.find(*key)

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
        _raise(self._unmake(record))

    def _undo(self, record: Record, error: Exception, *, release: bool) -> None:
        """Take a failed ADD back; what that fails at is told beside the first error."""
        failures = self._unmake(record, release=release)
        if failures and isinstance(error, PodnetError):
            left = "; ".join(str(each) for each in failures)
            error.details = f"{error.details}; undoing failed: {left}".lstrip("; ")

    def _unmake(
        self, record: Record, *, release: bool = True, forget: bool = True
    ) -> list[PodnetError]:
        """Delete links and release addresses, each whatever becomes of the other.

        The record goes when all of it is undone, unless ``forget`` is False.
        """
        house = self._house
        errors: list[PodnetError] = []

        def release_addresses() -> None:
            if release and ipam_type(record.config):
                house.step("ipam.del")
                run_ipam(house.executor, _recorded_call(record), "DEL")

        def remove_links() -> None:
            delete_links(house, record)

        steps = [remove_links, release_addresses]
        if ipam_type(record.config) == "dhcp":  # a lease is released through its link
            steps.reverse()
        for step in steps:
            try:
                with house.at_store(record.store):
                    step()
            except PodnetError as error:
                errors.append(error)
        if forget and not errors:
            house.step("journal.forget")
            house.journal.forget(*_key(record))
        return errors

    def _reconstructed(self, call: Call) -> Record:
        """Return what an unreadable record most likely said.

        Links are known again by the name and MAC address that podnet would choose for this call.
        """
        links: list[dict[str, str]] = []
        try:
            want = self._driver.read(call, node=self._house.settings.node)
            links = [each.document() for each in self._driver.expected(want)]
        except PodnetError:
            links = []
        return Record(
            role=_ROLE,
            network=_network(call),
            container_id=call.container_id,
            ifname=call.ifname,
            netns=call.netns,
            config=call.config,
            args=call.args,
            path=call.path,
            timeout=call.timeout,
            body={"links": links},
        )

    def _is_stale(self, record: Record, network: str, valid: frozenset[tuple[str, str]]) -> bool:
        return (
            record.network == network
            and Reader(record.config).string("type") == self._kind
            and (record.container_id, record.ifname) not in valid
        )


class _Making:
    """The part of ADD that has effects."""

    def __init__(self, house: House, driver: Any, call: Call, sandbox: Any) -> None:
        self._house = house
        self._driver = driver
        self._call = call
        self._sandbox = sandbox
        self.asked_ipam = False

    def run(self, want: Any, have: Any, ops: tuple[Any, ...]) -> Result:
        house = self._house
        self._sandbox.apply(ops, observer(house))
        if want.ipam:
            house.step("ipam.add")
            # From here on addresses may be held, whatever the plugin says of its success.
            self.asked_ipam = True
            try:
                answer = add_ipam(house.executor, self._call)
            except DelegateError as error:
                # What does not exist holds nothing, and cannot be asked to release it either.
                self.asked_ipam = not isinstance(error.__cause__, PluginNotFoundError)
                raise
            want = self._driver.configured(want, answer)
            for op in ops:
                if isinstance(op, CreateLink):
                    have = have.created(op)
            self._sandbox.apply(self._driver.plan(want, have), observer(house))
        result: Result = self._driver.result(want, have)
        # Versions up to 0.2.0 cannot tell of an interface without addresses: better none than one
        # that the runtime takes for failed (cni plugins, macvlan_test.go:174 leaves the link).
        result_document(result, Reader(self._call.config).string("cniVersion") or NO_VERSION)
        return result


def _network(call: Call) -> str:
    return Reader(call.config).string("name")


def _key(record: Record) -> tuple[str, str, str, str]:
    return (record.role, record.network, record.container_id, record.ifname)


def _recorded_call(record: Record) -> Call:
    return Call(
        plugin=Reader(record.config).string("type"),
        verb="DEL",
        container_id=record.container_id,
        netns=record.netns,
        ifname=record.ifname,
        args=record.args,
        path=tuple(record.path),
        config=record.config,
        timeout=record.timeout,
    )


def _raise(errors: list[PodnetError]) -> None:
    """Raise the first error with the others in its details; nothing if there are none."""
    if not errors:
        return
    first, *others = errors
    if others:
        first.details = "; ".join(filter(None, (first.details, *map(str, others))))
    raise first
