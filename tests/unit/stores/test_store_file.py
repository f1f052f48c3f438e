from __future__ import annotations

import errno
import glob
import itertools
import os
import stat

import pytest
from attrs import evolve

import podnet.testing
from podnet import disk
from podnet.errors import (
    Fault,
    InvalidConfigError,
    StoreBusyError,
    StoreError,
    TryAgainLaterError,
)
from podnet.model.addresses import Address
from podnet.model.block import BLOCK_BITS, Block
from podnet.model.lease import Lease, Owner
from podnet.stores import file as file_store
from podnet.stores.file import FileStore

FIRST = Address(4, 7 << BLOCK_BITS)


class TestFileStore(podnet.testing.StoreContract):
    seeks = True
    durable = multi_process = True

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.folders = (str(tmp_path / str(n)) for n in itertools.count())

    def open(self):
        return FileStore(next(self.folders))

    def reopen(self, store):
        return FileStore(store._folder)


@pytest.fixture
def store(tmp_path):
    return FileStore(str(tmp_path / "leases"))


def block(sequence=1, **rest):
    return Block(domain="d", version=4, index=7, sequence=sequence, **rest)


def the_file(store):
    (found,) = glob.glob(os.path.join(store._folder, "*", "*.block"))
    return found


DAMAGES = {
    "empty": lambda data: b"",
    "no header": lambda data: data.partition(b"\n")[2],
    "half": lambda data: data[: len(data) // 2],
    "header only": lambda data: data.partition(b"\n")[0] + b"\n",
    "a flipped bit": lambda data: data[:-8] + bytes([data[-8] ^ 4]) + data[-7:],
    "another owner": lambda data: data.replace(b'"pod":"web"', b'"pod":"wed"'),
    "zeros": lambda data: bytes(len(data)),
    "a line more": lambda data: data + data.rpartition(b"\n")[0].rpartition(b"\n")[2] + b"\n",
    "another key": lambda data: data.replace(b'"key": "d/4/000007"', b'"key": "d/4/000008"'),
    "no version": lambda data: data.replace(b'"version"', b'"visions"', 1),
    "no JSON": lambda data: b"\xff\n" + data,
    "deep JSON": lambda data: b"[" * 100000 + b"\n" + data,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_is_an_error_that_names_it(store, damage):
    owner = Owner("c", "eth1", "ns", "web")
    lease = Lease(domain="d", pool="p", ip=FIRST, length=8, owner=owner, sequence=1)
    key = block().key
    store.swap(key, block(leases={0: lease}), None)
    path = the_file(store)
    with open(path, "rb") as file:
        data = file.read()
    damaged = DAMAGES[damage](data)
    assert damaged != data
    with open(path, "wb") as file:
        file.write(damaged)
    with pytest.raises(StoreError, match="is damaged") as raised:
        FileStore(store._folder).load(key)
    assert path in raised.value.msg
    assert "not handed out" in raised.value.details


@pytest.mark.parametrize("data", [b"", b"\0" * 512])
def test_damaged_file_is_not_overwritten(store, data):
    key = block().key
    store.swap(key, block(), None)
    with open(the_file(store), "wb") as file:
        file.write(data)
    with pytest.raises(StoreError, match="is damaged"):
        store.swap(key, block(2), None)
    with open(the_file(store), "rb") as file:
        assert file.read() == data


def test_left_over_of_an_interrupted_write_is_no_block_and_is_swept(store):
    store.swap("d/4/000007", block(), None)
    folder = os.path.dirname(the_file(store))
    left_over = os.path.join(folder, ".tmp-1-00")
    open(left_over, "w").close()
    assert list(store.keys("")) == ["d/4/000007"]
    store.swap("d/4/000008", block(), None)
    assert not os.path.exists(left_over)


def test_files_are_private(store):
    store.swap("d/4/000007", block(), None)
    for folder, _, files in os.walk(store._folder):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        for name in files:
            assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o600


def test_foreign_files_are_left_alone(store):
    store.swap("d/4/000007", block(), None)
    for folder in (store._folder, os.path.dirname(the_file(store))):
        foreign = os.path.join(folder, "README")
        open(foreign, "w").close()
        assert list(store.keys("")) == ["d/4/000007"]
        assert list(store.seek("", Owner("c", "e"))) == []
        assert os.path.exists(foreign)


def test_keys_cannot_leave_the_folder(store, tmp_path):
    for key in ("../../evil", "..", "../x", "/etc/passwd", "a/../../evil"):
        store.swap(key, block(), None)
    assert os.listdir(tmp_path) == ["leases"]
    assert len(list(store.keys(""))) == 5


def test_disk_that_is_full_is_a_store_error(store, monkeypatch):
    def full(*_args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store.swap("d/4/000007", block(), None)
    version = store.load("d/4/000007")[1]
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError, match="No space left on device"):
        store.swap("d/4/000007", block(2), version)
    monkeypatch.undo()
    assert store.load("d/4/000007") == (block(1), version)


def test_others_holding_the_lock_is_worth_a_retry(tmp_path):
    store = FileStore(str(tmp_path), timeout=0.02)
    store.swap("d/4/000007", block(), None)
    with (
        disk.Lock(os.path.join(os.path.dirname(the_file(store)), ".lock")),
        pytest.raises(StoreBusyError, match="is locked by others") as raised,
    ):
        store.swap("d/4/000007", block(2), store.load("d/4/000007")[1])
    assert isinstance(raised.value, StoreError)
    assert isinstance(raised.value, TryAgainLaterError)
    assert (raised.value.code, raised.value.fault) == (11, Fault.STORE)


def test_folder_that_cannot_be_made_is_a_store_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot make folder"):
        FileStore(str(tmp_path / "file"))


def test_unchanged_leases_are_neither_encoded_nor_decoded_again(store, monkeypatch):
    lease = Lease(domain="d", pool="p", ip=FIRST, length=8, owner=Owner("c", "e"))
    other = FileStore(store._folder)
    store.swap("k", block(leases={0: lease}), None)
    loaded, version = other.load("k")
    added = evolve(lease, ip=Address(4, FIRST.value + 1))
    calls = []
    monkeypatch.setattr(Lease, "to_document", lambda self: calls.append(self.ip) or right(self))
    assert store.swap("k", block(2, leases={0: lease, 1: added}), version)
    assert calls == [added.ip]
    assert other.load("k")[0].leases[0] is loaded.leases[0]


right = Lease.to_document


@pytest.mark.parametrize(
    ("url", "folder"),
    [("file:{}/x", "{}/x"), ("file://{}/x", "{}/x"), ("file://localhost{}/x", "{}/x")],
)
def test_urls(tmp_path, url, folder):
    store = file_store.open(url.format(tmp_path))
    assert store._folder == folder.format(tmp_path)


def test_relative_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert file_store.open("file:a/b")._folder == str(tmp_path / "a/b")


@pytest.mark.parametrize("url", ["file:", "file", "memory:x", "file://other/x", ""])
def test_other_urls_are_refused(url):
    with pytest.raises(InvalidConfigError, match="store"):
        file_store.open(url)
