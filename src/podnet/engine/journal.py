"""The intent journal: what podnet is about to own, durable before it owns it.

One file per attachment and role. A record is written with stage ``intent`` before the first side
effect and with stage ``done`` after the last, so that DEL or GC can undo whatever a kill at any
instruction left behind.
"""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING, Any

from attrs import asdict, field, frozen

from podnet import disk
from podnet.errors import IOFailureError, RecordError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_FORMAT = 1
_SUFFIX = ".json"
# disk.safe_name keeps at least this many bytes of a text too long for a file name.
_SAME = 100
# Seconds: a write takes milliseconds, so a temporary file of that age is a killed process's.
_LEFT_OVER = 60.0


@frozen(kw_only=True)
class Record:
    """What one attachment owns and how it came about.

    Attributes:
        role: whose record: ``interface`` (one plugin's link) or ``sandbox`` (a pod's attachments).
        network: CNI network name.
        container_id: ``CNI_CONTAINERID``.
        ifname: ``CNI_IFNAME``.
        netns: path of the sandbox as given.
        netns_id: identity of the namespace behind that path, as the kernel room
            tells it; empty if unknown.
        stage: ``intent`` until all side effects are done, then ``done``.
        config: the final network configuration, as the plugin got it.
        args: ``CNI_ARGS``.
        path: directories of ``CNI_PATH``.
        parent: the sandbox's record that an interface's record belongs to, as its network,
            container id and interface name; empty for what a runtime made by itself.
        store: URL of the IPAM store in use, where its leases are, whatever the settings say later.
        timeout: seconds the call might take.
        body: what the role itself needs for undoing; JSON values only.
    """

    role: str
    network: str
    container_id: str
    ifname: str
    netns: str = ""
    netns_id: str = ""
    stage: str = "intent"
    config: Mapping[str, Any] = field(factory=dict)
    args: str = ""
    path: tuple[str, ...] = ()
    parent: tuple[str, ...] = ()
    store: str = ""
    timeout: float = 60.0
    body: Mapping[str, Any] = field(factory=dict)


class Journal:
    """Records under one folder; every file 0600, every folder 0700."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def intend(self, record: Record) -> None:
        """Make the record durable; call it before the first side effect.

        Raises:
            IOFailureError: it cannot be written.
        """
        self._write(record)

    def finish(self, record: Record) -> None:
        """Replace the record by its final form.

        Durable as well: results that CHECK and DEL compare with must survive power loss together
        with the interfaces of a machine that did not lose its namespaces.
        """
        self._write(record)

    def find(self, role: str, network: str, container_id: str, ifname: str) -> Record | None:
        """Return the record, or None if there is none.

        Raises:
            RecordError: there is one but it cannot be understood; the message names the file.
        """
        path = self._path(role, network, container_id, ifname)
        record = self._read(path)
        if record is not None and (
            (record.role, record.network, record.container_id, record.ifname)
            != (role, network, container_id, ifname)
        ):
            raise RecordError(f"journal record {path} belongs to another attachment")
        return record

    def forget(self, role: str, network: str, container_id: str, ifname: str) -> None:
        """Remove the record; a missing one is fine."""
        disk.remove(self._path(role, network, container_id, ifname))

    def tidy(self) -> None:
        """Remove what killed processes left of records that they were writing.

        Raises:
            IOFailureError: a folder cannot be read or a file not be removed.
        """
        for role in disk.names(self._folder):
            disk.sweep_temporary(os.path.join(self._folder, role), older=_LEFT_OVER)

    def all(self, role: str, container_id: str | None = None) -> Iterator[Record | RecordError]:
        """Yield the records of a role, of one container if given, in order of their names.

        An unreadable record is yielded as the error that reading it raises, never left out.
        """
        folder = os.path.join(self._folder, role)
        prefix = "" if container_id is None else disk.safe_name(f"{container_id}+")[:_SAME]
        for name in disk.names(folder):
            if not name.endswith(_SUFFIX) or not name.startswith(prefix):
                continue
            try:
                record = self._read(os.path.join(folder, name))
            except (RecordError, IOFailureError) as error:
                yield _listed(error, (role, *_told_by(name.removesuffix(_SUFFIX))))
                continue
            if record is not None and container_id in (None, record.container_id):
                yield record

    def quarantine(self, role: str, network: str, container_id: str, ifname: str) -> str:
        """Move an unreadable record aside and return where it now is."""
        path = self._path(role, network, container_id, ifname)
        aside = path.removesuffix(_SUFFIX) + ".unreadable"
        try:
            os.replace(path, aside)
        except OSError as error:
            raise IOFailureError(f"cannot move {path}", error.strerror or "") from error
        return aside

    def _path(self, role: str, network: str, container_id: str, ifname: str) -> str:
        return os.path.join(self._folder, role, _stem(container_id, ifname, network) + _SUFFIX)

    def _write(self, record: Record) -> None:
        path = self._path(record.role, record.network, record.container_id, record.ifname)
        document = {"format": _FORMAT, **asdict(record, recurse=False)}
        data = json.dumps(document, separators=(",", ":")).encode()
        disk.make_private_dir(os.path.dirname(path))
        disk.write_atomic(path, data)

    def _read(self, path: str) -> Record | None:
        try:
            data = disk.read_file(path)
        except IOFailureError as error:
            if not _is_other_than_a_file(path):
                raise  # a passing fault of the machine; the record may be good
            raise RecordError(f"cannot read journal record {path}", str(error)) from error
        if data is None:
            return None
        try:
            document = json.loads(data)
            if document.pop("format") != _FORMAT:
                raise ValueError("unknown format")
            for key in ("path", "parent"):
                document[key] = tuple(document[key])
            return _checked(Record(**document))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise RecordError(f"journal record {path} is unreadable", str(error)) from error


def _is_other_than_a_file(path: str) -> bool:
    try:
        return not stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _listed(error: RecordError | IOFailureError, place: tuple[str, str, str, str]) -> RecordError:
    """Return the error as an entry of a list: one record's fault must not hide the others."""
    entry = error
    if isinstance(entry, IOFailureError):
        entry = RecordError(error.msg, error.details)
        entry.passing = True
        entry.__cause__ = error
    entry.place = place
    return entry


_BODIES = {"sandbox": "attachments", "interface": "links"}
_TEXTS = (
    "role",
    "network",
    "container_id",
    "ifname",
    "netns",
    "netns_id",
    "stage",
    "args",
    "store",
)


def _checked(record: Record) -> Record:
    """Return the record if its fields are of their types; a disk may have changed them."""
    wrong = [name for name in _TEXTS if not isinstance(getattr(record, name), str)]
    for name in ("path", "parent"):
        if not all(isinstance(each, str) for each in getattr(record, name)):
            wrong.append(name)
    if isinstance(record.timeout, bool) or not isinstance(record.timeout, int | float):
        wrong.append("timeout")
    wrong += [name for name in ("config", "body") if not isinstance(getattr(record, name), dict)]
    if wrong:
        raise ValueError(f"wrong type of {', '.join(wrong)}")
    part = _BODIES.get(record.role)
    if part and not isinstance(record.body.get(part), list):
        raise ValueError(f"it does not tell its {part}")
    return record


def _told_by(stem: str) -> tuple[str, str, str]:
    """Return network, container id and interface name of a record's file name."""
    container_id, _, rest = (disk.text_of_name(stem) or "").partition("+")
    ifname, _, network = rest.rpartition("+")
    return network, container_id, ifname


def _stem(container_id: str, ifname: str, network: str) -> str:
    """Return the file name of an attachment; neither id nor network name can hold a ``+``."""
    return disk.safe_name(f"{container_id}+{ifname}+{network}")
