"""The index of the file store: fresh whatever writers did, also killed ones."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import signal
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet import disk
from podnet.engine.leases import Ipam
from podnet.errors import IOFailureError, StoreError
from podnet.model.block import domain_prefix
from podnet.model.lease import Owner
from podnet.model.pool import Pool
from podnet.stores import file_index
from podnet.stores.file import FileStore
from podnet.testing import in_processes
from podnet.testing.strategies import blocks, owners

POOL = Pool("p", "10.0.0.0/16", picker="lowest")
PREFIX = domain_prefix("p")


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / "leases")


def store(folder):
    return FileStore(folder, durable=False)


def log(folder):
    return os.path.join(folder, "p", ".changes")


def owner(n=0):
    return Owner(f"c{n}", "eth1", "ns", f"pod-{n}", f"uid-{n}")


def reads(monkeypatch):
    names = []
    right = file_index.disk.read_file
    monkeypatch.setattr(
        file_index.disk,
        "read_file",
        lambda path, *more: names.append(os.path.basename(path)) or right(path, *more),
    )
    return names


@given(blocks(), owners())
def test_what_is_in_a_file_is_read_as_it_was_written(block, stranger):
    lines = b"".join(
        file_index.json.dumps(x.to_document(), separators=(",", ":")).encode() + b"\n"
        for x in block.leases.values()
    )
    tokens = set(file_index._tokens_in(lines))
    for lease in block.leases.values():
        assert set(file_index._tokens_of(lease.owner)) <= tokens
    mine = {(x.owner.container_id, x.owner.ifname) for x in block.leases.values()}
    if (stranger.container_id, stranger.ifname) not in mine:
        assert file_index._tokens_of(stranger)[0] not in tokens


@given(st.text(max_size=30))
def test_no_text_looks_like_another_owner(text):
    from podnet.model.addresses import Address
    from podnet.model.lease import Lease

    fake = '","container":"victim","ifname":"eth0","namespace":"","pod":"","uid":"' + text
    lease = Lease(domain="d", pool=fake, ip=Address(4, 1), length=8, owner=Owner(text or "x", fake))
    line = file_index.json.dumps(lease.to_document(), separators=(",", ":")).encode()
    assert list(file_index._tokens_in(line))[:1] == file_index._tokens_of(lease.owner)[:1]
    assert file_index._tokens_of(Owner("victim", "eth0"))[0] not in file_index._tokens_in(line)


def test_only_changed_files_are_read_again(folder, monkeypatch):
    ipam, other = Ipam(store(folder)), Ipam(store(folder))
    for n in range(5):
        ipam.allocate(POOL, owner(n), requested=f"10.0.{2 * n}.7")
    reader = store(folder)
    assert len(list(reader.seek(PREFIX, owner(3)))) == 1
    names = reads(monkeypatch)
    assert list(reader.seek(PREFIX, owner(9))) == []
    assert names == []
    other.allocate(POOL, owner(9), requested="10.0.2.9")
    names.clear()
    assert len(list(reader.seek(PREFIX, owner(9)))) == 1
    assert len(names) == 1
    other.release(owner(9))
    assert list(reader.seek(PREFIX, owner(9))) == []


def test_a_killed_writers_file_is_read_until_another_finished(folder, monkeypatch):
    ipam = Ipam(store(folder))
    ipam.allocate(POOL, owner(0))
    reader = store(folder)
    list(reader.seek(PREFIX, owner()))
    name = next(x for x in os.listdir(os.path.join(folder, "p")) if x.endswith(".block"))
    with open(log(folder), "a") as file:
        file.write(f"+{name}\n")  # and then it was killed, before or after the file was replaced
    names = reads(monkeypatch)
    for _ in range(2):
        names.clear()
        list(reader.seek(PREFIX, owner()))
        assert names == [name]
    ipam.allocate(POOL, owner(1))
    list(reader.seek(PREFIX, owner()))
    names.clear()
    list(reader.seek(PREFIX, owner()))
    assert names == []


@pytest.mark.parametrize("damage", ["begun anew", "removed", "cut short", "half a line", "garbage"])
def test_a_log_that_is_not_what_it_was_is_read_from_its_beginning(folder, damage, monkeypatch):
    ipam = Ipam(store(folder))
    for n in range(3):
        ipam.allocate(POOL, owner(n), requested=f"10.0.{2 * n}.7")
    reader = store(folder)
    list(reader.seek(PREFIX, owner()))
    if damage == "begun anew":
        monkeypatch.setattr(file_index, "_LONGEST", 10)
    elif damage == "removed":
        os.unlink(log(folder))
    elif damage == "cut short":
        os.truncate(log(folder), 40)
    elif damage == "half a line":
        with open(log(folder), "a") as file:
            file.write("+0")
    else:
        with open(log(folder), "wb") as file:
            file.write(b"\xff\xfe\n" * 500)
    ipam.allocate(POOL, owner(7), requested="10.0.8.7")
    ipam.release(owner(1))
    for n, found in ((0, 1), (1, 0), (2, 1), (7, 1)):
        assert len(list(reader.seek(PREFIX, owner(n)))) == found


def test_a_log_that_cannot_be_written_stops_the_swap(folder):
    ipam = Ipam(store(folder))
    ipam.allocate(POOL, owner(0))
    os.unlink(log(folder))
    os.symlink("/dev/null", log(folder))
    with pytest.raises(StoreError, match=r"cannot (read|write) .*\.changes"):
        ipam.allocate(POOL, owner(1))
    os.unlink(log(folder))
    assert [x.owner for x in ipam.leases()] == [owner(0)]


@pytest.mark.parametrize("damage", [b"", b"\0" * 90, b"cut", None])
@pytest.mark.parametrize("known", [True, False])
def test_a_damaged_file_may_be_anybodys(folder, damage, known):
    ipam = Ipam(store(folder))
    ipam.allocate(POOL, owner(0))
    reader = store(folder)
    if known:
        assert len(list(reader.seek(PREFIX, owner(0)))) == 1
    path = next(
        os.path.join(folder, "p", x)
        for x in os.listdir(os.path.join(folder, "p"))
        if x.endswith(".block")
    )
    with open(path, "rb") as file:
        data = file.read()
    with open(path, "wb") as file:
        file.write(data[:-4] if damage is None else damage)
    with open(log(folder), "a") as file:
        file.write(f"+{os.path.basename(path)}\n")
    for reading in (reader, store(folder)):
        assert len(list(reading.seek(PREFIX, owner(9)))) == 1


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("call", ["names", "read_file", "open", "pread"])
def test_what_could_not_be_read_once_is_read_the_next_time(folder, monkeypatch, call, first):
    """Each call in turn fails once, as all do while a process has no descriptor left."""
    right = getattr(os, call, None) or getattr(disk, call)
    left = 0

    def failing(*args, **options):
        nonlocal left
        left -= 1
        if left:
            return right(*args, **options)
        raise OSError(errno.EMFILE, "no more") if hasattr(os, call) else IOFailureError("no more")

    ipam = Ipam(store(folder))
    ipam.allocate(POOL, owner(0))
    for turn in itertools.count(1):
        reader = store(folder)
        if not first:
            list(reader.seek(PREFIX, owner()))
        ipam.allocate(POOL, owner(turn), requested=f"10.0.{turn % 3 * 2}.7")
        ipam.release(owner(turn - 1))
        left = turn
        with monkeypatch.context() as patched, contextlib.suppress(StoreError):
            patched.setattr(os if hasattr(os, call) else disk, call, failing)
            list(reader.seek(PREFIX, owner(turn)))
        for _ in range(2):
            assert len(list(reader.seek(PREFIX, owner(turn)))) == 1
            assert list(reader.seek(PREFIX, owner(turn - 1))) == []
        if left > 0:
            break


@pytest.mark.parametrize("torn", ["-4%2F0500", "+4%2F0500", "\0\0\0", "+\0.block", "-/../x.block"])
def test_a_torn_line_does_not_swallow_the_next_one(folder, torn):
    ipam = Ipam(store(folder))
    ipam.allocate(POOL, owner(0), requested="10.0.0.7")
    with open(log(folder), "a") as file:
        file.write(torn)
    reader = store(folder)
    assert list(reader.seek(PREFIX, owner(1))) == []
    in_child_killed_before_minus(lambda: ipam.allocate(POOL, owner(1), requested="10.0.2.7"))
    assert len(list(reader.seek(PREFIX, owner(1)))) == 1


def in_child_killed_before_minus(action):
    def child(_number):
        def killed(*_args):
            os._exit(0)

        file_index.ChangeLog.end = killed
        action()

    in_processes(1, child)


def test_a_head_cut_short_is_written_anew(folder):
    ipam = Ipam(store(folder))
    ipam.allocate(POOL, owner(0), requested="10.0.0.7")
    reader = store(folder)
    list(reader.seek(PREFIX, owner(1)))
    os.truncate(log(folder), 9)
    list(reader.seek(PREFIX, owner(1)))
    in_child_killed_before_minus(lambda: ipam.allocate(POOL, owner(1), requested="10.0.2.7"))
    assert len(list(reader.seek(PREFIX, owner(1)))) == 1


def test_a_line_that_is_written_in_part_stops_the_swap(folder, monkeypatch):
    ipam = Ipam(store(folder))
    ipam.allocate(POOL, owner(0))
    right = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: right(fd, data[:5]))
    with pytest.raises(StoreError, match=r"\.changes: No space left on device"):
        ipam.allocate(POOL, owner(1))
    monkeypatch.undo()
    assert [x.owner for x in ipam.leases()] == [owner(0)]


def test_what_a_busy_folder_left_unread_is_found_all_the_same(folder):
    ipam, count = Ipam(store(folder)), 3 * file_index._AT_ONCE
    reader = store(folder)
    list(reader.seek(PREFIX, owner()))
    for turn in range(2):
        for n in range(count):
            ipam.release(owner(n - count))
            ipam.allocate(POOL, owner(n), requested=f"10.0.{2 * n}.{7 + turn}")
        for n in (0, count - 1):
            assert len(list(reader.seek(PREFIX, owner(n)))) == 1
        assert list(reader.seek(PREFIX, owner(count))) == []
        for n in range(count):
            ipam.release(owner(n))
        assert list(reader.seek(PREFIX, owner(count - 1))) == []


def test_a_child_forked_while_another_thread_seeks_may_seek(folder, monkeypatch):
    ipam = Ipam(store(folder))
    ipam.allocate(POOL, owner(0))
    reader = store(folder)
    seeking, forked = threading.Event(), threading.Event()
    right = disk.read_file

    def slow(*args):
        seeking.set()
        assert forked.wait(20)
        return right(*args)

    monkeypatch.setattr(disk, "read_file", slow)
    thread = threading.Thread(target=lambda: list(reader.seek(PREFIX, owner())))
    thread.start()
    assert seeking.wait(20)
    monkeypatch.undo()

    def child(_number):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10)
        assert len(list(reader.seek(PREFIX, owner()))) == 1

    try:
        in_processes(1, child)
    finally:
        forked.set()
        thread.join(20)
