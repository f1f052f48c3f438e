from __future__ import annotations

import errno
import fcntl
import itertools
import json
import os
import stat
from functools import partial

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

import podnet.testing
from podnet.engine.leases import Ipam
from podnet.errors import InvalidConfigError, StoreBusyError, StoreError
from podnet.model.addresses import Address, parse_address
from podnet.model.block import BLOCK_BITS, Block, block_key
from podnet.model.lease import UNREADABLE, Lease, Owner
from podnet.model.names import network_name_fault
from podnet.model.pool import Pool
from podnet.stores import host_local
from podnet.stores.host_local import HostLocalStore
from podnet.stores.host_local_names import (
    EMPTY_FILE,
    address_of_file,
    cursor_name,
    domain_of_folder,
    file_name,
    folder_name,
)

from .host_local_hands import Hands, ends, in_child_killed_at


class TestHostLocalStore(podnet.testing.StoreContract):
    durable = multi_process = True
    odd_keys = False

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.folders = (str(tmp_path / str(n)) for n in itertools.count())

    def open(self):
        return HostLocalStore(next(self.folders))

    def reopen(self, store):
        return HostLocalStore(store.folder)


@pytest.fixture
def hands(tmp_path):
    """Have host-local's own doings in the folder of a network."""
    return Hands(str(tmp_path / "net"))


@pytest.fixture
def store(tmp_path, hands):
    return HostLocalStore(str(tmp_path))


KEY = block_key("net", 4, 0x0A010200 >> BLOCK_BITS)
FIRST = 0x0A010200 >> BLOCK_BITS << BLOCK_BITS


def lease(text, container, sequence=1, **fields):
    given = {"pool": "0", "length": 24, "network": "net", "node": "n", "since": 5.0, **fields}
    owner = Owner(container, "eth0", "ns", "pod", f"u-{container}")
    return Lease(domain="net", ip=parse_address(text), owner=owner, sequence=sequence, **given)


def block(*leases, **rest):
    by_offset = {each.ip.value - FIRST: each for each in leases}
    sequence = max((each.sequence for each in leases), default=0)
    given = {"index": FIRST >> BLOCK_BITS, "sequence": sequence, **rest}
    return Block(domain="net", version=4, leases=by_offset, **given)


def put(store, new):
    entry = store.load(KEY)
    assert store.swap(KEY, new, entry and entry[1])
    assert store.load(KEY)[0] == new
    return store.load(KEY)[1]


def held(store):
    entry = store.load(KEY)
    return {str(each.ip): each.owner.key for each in entry[0].leases.values()} if entry else {}


def sidecars(store, name="net"):
    folder = os.path.join(store.folder, ".podnet", name)
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


A = lease("10.1.2.2", "a")
B = lease("10.1.2.3", "b", 2)


def test_files_are_host_local_s(store, hands):
    put(store, block(A, B))
    folder = hands.folder
    assert hands.files() == {"10.1.2.2": b"a\r\neth0", "10.1.2.3": b"b\r\neth0"}
    assert sorted(set(os.listdir(folder)) - hands.files().keys()) == ["last_reserved_ip.0", "lock"]
    for name in hands.files():
        status = os.stat(os.path.join(folder, name))
        assert (stat.S_IMODE(status.st_mode), status.st_nlink) == (0o600, 1)
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o755
    assert stat.S_IMODE(os.stat(os.path.join(store.folder, ".podnet")).st_mode) == 0o700
    assert [each.partition(".")[2] for each in sidecars(store)] == ["json"]
    put(store, block(B))
    assert hands.files() == {"10.1.2.3": b"b\r\neth0"}


def test_cursor_follows_every_new_lease_of_a_range_set(store, hands):
    assert store.cursor("net", "0") is None
    put(store, block(A, B, lease("10.1.2.200", "c", pool="storage")))
    assert hands.read("last_reserved_ip.0") == b"10.1.2.3"
    assert store.cursor("net", "0") == B.ip
    put(store, block(A))
    put(store, block(evolve(A, owner=Owner("new", "eth0"), sequence=3)))
    assert store.cursor("net", "0") == B.ip, "neither a release nor a change of hands moves it"
    put(store, block(A, lease("10.1.2.9", "d", 4, pool="1")))
    assert (store.cursor("net", "1"), store.cursor("net", "0")) == (parse_address("10.1.2.9"), B.ip)
    hands.write("last_reserved_ip.0", b"10.1.2.77")
    assert store.cursor("net", "0") == parse_address("10.1.2.77")
    for broken in (b"", b"10.1.2", b"\xff\xfe", b"nonsense"):
        hands.write("last_reserved_ip.0", broken)
        assert store.cursor("net", "0") is None
    put(store, block(lease("10.1.2.50", "late", 8), lease("10.1.2.99", "early", 7)))
    assert store.cursor("net", "0") == parse_address("10.1.2.50"), "the last one, not the highest"
    for pool in ("storage", "", "00", "-1", "١", "../x", "1" * 400):
        assert store.cursor("net", pool) is None


@pytest.mark.parametrize("kind", ["folder", "link", "locked away"])
def test_a_cursor_that_cannot_be_used_stops_nothing(store, hands, kind, monkeypatch):
    path = os.path.join(hands.folder, "last_reserved_ip.0")
    put(store, block(A))
    os.unlink(path)
    if kind == "folder":
        os.mkdir(path)
    elif kind == "link":
        os.symlink(path, path)
    else:
        right = os.open

        def refusing(where, *args, **options):
            if where == path:
                raise PermissionError(errno.EACCES, "no", path)
            return right(where, *args, **options)

        monkeypatch.setattr(os, "open", refusing)
    put(store, block(A, B))
    assert store.cursor("net", "0") is None
    assert [each.partition(".")[2] for each in sidecars(store)] == ["json"]


def test_what_host_local_gave_is_a_lease(store, hands):
    hands.take("10.1.2.9", "x", at=1234.5)
    ((found, version), keys) = store.load(KEY), list(store.keys(""))
    assert keys == [KEY]
    assert version
    assert found == Block(
        domain="net",
        version=4,
        index=FIRST >> BLOCK_BITS,
        leases={
            9: Lease(
                domain="net",
                pool="",
                ip=parse_address("10.1.2.9"),
                length=32,
                owner=Owner("x", "eth0"),
                network="net",
                since=1234.5,
            )
        },
    )
    new = block(A, *found.leases.values())
    assert store.swap(KEY, new, version)
    assert store.load(KEY)[0] == new
    with open(os.path.join(store.folder, ".podnet", "net", sidecars(store)[0])) as file:
        assert '"x"' not in file.read(), "what the file tells is not told twice"
    assert hands.free("x") == ["10.1.2.9"]
    assert store.load(KEY)[0] == block(A)


def test_what_host_local_freed_is_free(store, hands):
    put(store, block(A, B))
    assert hands.free("a") == ["10.1.2.2"]
    assert store.load(KEY)[0] == block(B)
    put(store, block(B, lease("10.1.2.2", "c", 3)))


def test_what_host_local_gave_to_another_since_is_the_other_s(store, hands):
    put(store, block(A, B))
    hands.free("a")
    hands.take("10.1.2.2", "z")
    assert held(store) == {"10.1.2.2": ("z", "eth0"), "10.1.2.3": ("b", "eth0")}
    assert store.load(KEY)[0].sequence == 2
    assert [each.owner.container_id for each in Ipam(store).release(A)] == []


def test_every_change_of_host_local_is_another_version(store, hands):
    seen = {None, put(store, block(A))}
    for change in (
        lambda: hands.take("10.1.2.9", "x"),
        lambda: hands.free("a"),
        lambda: hands.take("10.1.2.2", "a2"),
        lambda: hands.free("x"),
        lambda: hands.take("10.1.2.9", "y"),
    ):
        stale = store.load(KEY)[1]
        change()
        assert store.swap(KEY, block(A, B), stale) is False
        assert store.swap(KEY, None, stale) is False
        assert store.load(KEY)[1] not in seen
        seen.add(store.load(KEY)[1])
    assert hands.files().keys() == {"10.1.2.2", "10.1.2.9"}


def test_a_block_that_only_host_local_wrote_is_there_before_any_swap(store, hands):
    hands.take("10.1.2.9", "x")
    assert store.swap(KEY, block(A), None) is False
    assert store.swap(KEY, None, None) is False
    assert store.swap(KEY, None, store.load(KEY)[1]) is True
    assert hands.files() == {}
    assert store.load(KEY) is None


ODD_CONTENTS = {
    b"": (Owner(EMPTY_FILE, "-"), ""),
    b" \r\n": (Owner(EMPTY_FILE, "-"), ""),
    b"legacy": (Owner("legacy", ""), ""),
    b"legacy\n": (Owner("legacy", ""), ""),
    b" c1\r\neth0 \n": (Owner("c1", "eth0"), ""),
    b"c1\neth0": (Owner("c1\neth0", ""), UNREADABLE),
    b"c1\r\neth/0": (Owner("c1", "eth/0"), UNREADABLE),
    b"\xff\xfe": (Owner("(no text)", "-"), UNREADABLE),
    b"../x\r\neth0": (Owner("../x", "eth0"), UNREADABLE),
}


@pytest.mark.parametrize("content", ODD_CONTENTS)
def test_an_address_is_held_whatever_its_file_says(store, hands, content):
    hands.write("10.1.2.9", content)
    (found,) = store.load(KEY)[0].leases.values()
    assert (found.owner, found.claim) == ODD_CONTENTS[content]
    put(store, block(A, found))
    assert hands.read("10.1.2.9") == content
    put(store, block(A))
    assert "10.1.2.9" not in hands.files()


@pytest.mark.parametrize("kind", ["folder", "link", "fifo"])
def test_what_is_no_file_holds_its_address_and_is_left_alone(store, hands, kind, tmp_path):
    put(store, block(A))
    path = os.path.join(hands.folder, "10.1.2.9")
    make = {
        "folder": os.mkdir,
        "link": lambda path: os.symlink("/etc/passwd", path),
        "fifo": os.mkfifo,
    }
    make[kind](path)
    found, version = store.load(KEY)
    assert found.leases[9].claim == UNREADABLE
    assert store.swap(KEY, block(A, B, found.leases[9]), version)
    with pytest.raises(StoreError, match=r"10\.1\.2\.9 of .* is no regular file"):
        store.swap(KEY, block(A), store.load(KEY)[1])
    assert os.path.lexists(path)
    assert store.load(KEY)[0] == block(A, B, found.leases[9])


def test_other_files_are_neither_read_nor_touched(store, hands):
    others = {
        *(
            "notes.txt",
            "10.1.2",
            "10.1.2.300",
            "010.1.2.9",
            "10.1.2.9.bak",
            "2001:DB8::9",
            "::1%lo",
        ),
        *("last_reserved_ip.7", ".hidden", "1", "fe80", "10.1.2.9/24".replace("/", "_")),
    }
    for name in others:
        hands.write(name, b"a\r\neth0")
    assert list(store.keys("")) == []
    put(store, block(A))
    assert store.swap(KEY, None, store.load(KEY)[1])
    assert others == set(os.listdir(hands.folder)) - {"lock", "last_reserved_ip.0"}


def test_change_of_hands_is_in_place(store, hands):
    """Not by a new file: in between host-local would find the address free."""
    put(store, block(A, B))
    inode = os.stat(os.path.join(hands.folder, "10.1.2.2")).st_ino
    for container in ("a-longer-name", "c"):
        new = evolve(A, owner=Owner(container, "eth1", "ns", "pod", "u"), sequence=3)
        put(store, block(new, B))
        assert hands.read("10.1.2.2") == f"{container}\r\neth1".encode()
        assert os.stat(os.path.join(hands.folder, "10.1.2.2")).st_ino == inode
    assert hands.free("a") == []
    assert hands.free("c", "eth1") == ["10.1.2.2"]


def test_what_only_podnet_knows_of_a_lease_leaves_the_file_alone(store, hands):
    hands.take("10.1.2.2", "a")
    before = os.stat(os.path.join(hands.folder, "10.1.2.2"))
    put(store, block(A))
    put(store, block(evolve(A, claim="ns/x", pool="1")))
    after = os.stat(os.path.join(hands.folder, "10.1.2.2"))
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_file_that_somebody_put_there_without_the_lock_wins(store, hands, monkeypatch):
    put(store, block(A))
    version = store.load(KEY)[1]
    link = os.link

    def late(source, path, **options):
        hands.write("10.1.2.200", b"rude\r\neth0")
        return link(source, path, **options)

    monkeypatch.setattr(os, "link", late)
    assert store.swap(KEY, block(A, B, lease("10.1.2.200", "c", 3)), version) is False
    monkeypatch.undo()
    assert held(store) == {"10.1.2.2": ("a", "eth0"), "10.1.2.200": ("rude", "eth0")}
    assert len(sidecars(store)) == 1


def test_without_sidecars_the_files_still_tell_who_has_which(store, hands):
    put(store, block(A, B))
    os.rename(os.path.join(store.folder, ".podnet"), os.path.join(store.folder, ".gone"))
    assert held(HostLocalStore(store.folder)) == {
        "10.1.2.2": ("a", "eth0"),
        "10.1.2.3": ("b", "eth0"),
    }


def test_without_the_folder_nothing_is_held_and_the_sequence_goes_on(store, hands):
    put(store, block(A, B))
    for name in os.listdir(hands.folder):
        os.unlink(os.path.join(hands.folder, name))
    os.rmdir(hands.folder)
    assert list(store.keys("")) == [KEY]
    assert store.load(KEY)[0] == block(sequence=2)
    put(store, block(lease("10.1.2.2", "c", 3)))


DAMAGES = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "a flipped bit": lambda data: data[:-8] + bytes([data[-8] ^ 4]) + data[-7:],
    "zeros": lambda data: bytes(len(data)),
    "no JSON": lambda data: b"\xff\n" + data,
    "no header": lambda data: data.partition(b"\n")[2],
    "deep JSON": lambda data: b"[" * 100000 + b"\n" + data,
    "another kind": lambda data: data.replace(b"host-local block", b"something else"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_sidecar_is_an_error_that_names_it_and_says_what_to_do(store, damage):
    put(store, block(A))
    path = os.path.join(store.folder, ".podnet", "net", sidecars(store)[0])
    with open(path, "rb") as file:
        data = file.read()
    with open(path, "wb") as file:
        file.write(DAMAGES[damage](data))
    other = HostLocalStore(store.folder)
    for act in (lambda: other.load(KEY), lambda: other.swap(KEY, block(B), "v")):
        with pytest.raises(StoreError, match="is damaged") as raised:
            act()
        assert path in raised.value.msg
        assert "move it away" in raised.value.details
    os.unlink(path)
    assert held(other) == {"10.1.2.2": ("a", "eth0")}


def test_sidecar_of_another_block_is_damaged(store):
    put(store, block(A))
    (name,) = sidecars(store)
    folder = os.path.join(store.folder, ".podnet", "net")
    other = name.replace("-", "-1")
    os.rename(os.path.join(folder, name), os.path.join(folder, other))
    with pytest.raises(StoreError, match="it is of the block"):
        HostLocalStore(store.folder).load(block_key("net", 4, int(other[2:-5], 16)))


def test_the_lock_is_host_local_s(store, tmp_path, hands):
    impatient = HostLocalStore(str(tmp_path), timeout=0.02)
    put(impatient, block(A))
    with open(os.path.join(hands.folder, "lock")) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for act in (
            lambda: impatient.load(KEY),
            lambda: impatient.swap(KEY, block(B), "v"),
            lambda: impatient.keys(""),
            lambda: impatient.cursor("net", "0"),
        ):
            with pytest.raises(StoreBusyError, match="is locked by others"):
                act()
        fcntl.flock(file, fcntl.LOCK_SH)
        assert impatient.load(KEY)[0] == block(A)
    assert stat.S_ISREG(os.stat(os.path.join(hands.folder, "lock")).st_mode)


@pytest.mark.parametrize("call", ["write", "link", "fsync", "unlink", "replace"])
def test_disk_that_fails_is_a_store_error_and_nothing_is_torn(store, hands, monkeypatch, call):
    put(store, block(A, B))
    before = store.load(KEY)[0]
    new = block(evolve(B, owner=Owner("b2", "eth0")), lease("10.1.2.9", "c", 3))
    real, left = getattr(os, call), [0]

    def full(*args, **options):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **options)

    def swap(calls):
        """Swap with a disk that does so many calls; return what it was told by."""
        left[0] = calls
        with monkeypatch.context() as patched:
            patched.setattr(os, call, full)
            try:
                return store.swap(KEY, new, store.load(KEY)[1])
            except StoreError as error:
                return str(error)

    outcomes = []
    while outcomes[-1:] != [True]:
        put(store, before)
        outcomes.append(swap(len(outcomes)))
        assert store.load(KEY)[0] in (before, new)
        assert held(store).keys() == hands.files().keys()
    assert len(outcomes) > 1
    assert all("No space left on device" in each for each in outcomes[:-1])
    assert store.load(KEY)[0] == new


def test_an_error_names_the_file_that_could_not_be_written(store, hands, monkeypatch):
    put(store, block(A))
    changed = evolve(A, owner=Owner("a2", "eth0"), sequence=2)
    for call, new, name in (
        ("write", block(A, B), r"/\.podnet/net/[^/]+\.new-3"),
        ("write", block(changed), r"/\.podnet/net/\.tmp-alone|/\.podnet/net/[^/]+\.commit"),
        ("ftruncate", block(changed), "/net/10.1.2.2"),
    ):
        version = store.load(KEY)[1]

        def full(*_args):
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, call, full)
            with pytest.raises(StoreError, match=f"({name}): No space left"):
                store.swap(KEY, new, version)


def test_a_key_with_other_digits_is_no_block_s(store):
    domain = "net-" + "é" * 60
    key = block_key(domain, 4, A.ip.value >> BLOCK_BITS)
    new = evolve(block(), domain=domain)
    assert store.swap(key, new, None) is True
    start, _, digits = key.rpartition("/")
    assert store.load(key) is not None
    short, long = digits.lstrip("0"), "0" + digits
    for other in ("zz", "", "-1", "-00001", "f" * 40, "f" * 6, short, long, digits + "/"):
        assert store.load(f"{start}/{other}") is None, other
        assert store.swap(f"{start}/{other}", None, None) is True
        with pytest.raises(StoreError, match="cannot be kept under the key"):
            store.swap(f"{start}/{other}", new, None)


def test_another_block_s_key_is_refused(store):
    for key, new in ((block_key("net", 4, 1), block(A)), ("a/b", block(A))):
        with pytest.raises(StoreError, match="cannot be kept under the key"):
            store.swap(key, new, None)
    assert store.load("a/b") is None
    assert store.swap("a/b", None, None) is True
    assert store.swap("a/b", None, "v") is False
    assert os.listdir(store.folder) == []


def test_asking_makes_nothing_in_strange_folders(store, tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "10.1.2.9").write_bytes(b"x\r\neth0")
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "lost+found").mkdir()
    (tmp_path / ".podnet" / "net").mkdir(parents=True)
    (tmp_path / ".podnet" / "net" / "notes.json").write_bytes(b"")
    key = block_key("results", 4, FIRST >> BLOCK_BITS)
    assert list(store.keys("")) == [key]
    assert len(store.load(key)[0].leases) == 1
    assert store.cursor("results", "0") is None
    assert os.listdir(tmp_path / "results") == ["10.1.2.9"]
    assert sorted(os.listdir(tmp_path)) == [".podnet", "file", "lost+found", "results"]


def test_asking_makes_nothing(store):
    assert store.load(KEY) is None
    assert store.swap(KEY, None, None) is True
    assert os.listdir(store.folder) == []
    assert list(store.keys("")) == []
    assert store.cursor("net", "0") is None


LONG = "日本" * 40
DOMAINS = (
    *("net", "NET", "a.b-c_d", "x" * 255, "x" * 256, "..", "../evil", ".podnet", LONG, "a b", "%"),
    "lock",
)


def test_domains_are_kept_apart_and_never_leave_the_folder(tmp_path):
    store = HostLocalStore(str(tmp_path / "networks"))
    blocks = {}
    for n, domain in enumerate(DOMAINS):
        new = evolve(
            block(sequence=9),
            domain=domain,
            leases={n: evolve(lease("10.1.2.0", f"c{n}"), domain=domain, ip=Address(4, FIRST + n))},
        )
        assert store.swap(new.key, new, None), domain
        blocks[new.key] = new
    for each in (store, HostLocalStore(store.folder)):
        assert list(each.keys("")) == sorted(blocks)
        for key, new in blocks.items():
            assert each.load(key)[0] == new
    assert os.listdir(tmp_path) == ["networks"]
    assert "net" in os.listdir(store.folder)
    assert "x" * 255 in os.listdir(store.folder)
    for key in blocks:
        assert store.swap(key, None, store.load(key)[1])
    assert list(store.keys("")) == []


@given(st.text(min_size=1), st.text(min_size=1))
def test_folder_names(one, other):
    names = [folder_name(each) for each in (one, other)]
    assert (names[0] == names[1]) == (one == other)
    for text, name in zip((one, other), names, strict=True):
        assert name not in ("", ".", "..")
        assert not name.startswith(".")
        assert "/" not in name
        assert "\0" not in name
        assert len(os.fsencode(name)) <= 255
        assert domain_of_folder(name) in (text, None)
        # What is not a network's name cannot be taken for one.
        assert (network_name_fault(name) == "") == (name == text and not network_name_fault(text))


GO_TEXTS = [
    *("0.0.0.0", "255.255.255.255", "10.0.0.1", "::", "::1", "1::", "2001:db8::1", "1:0:2::3"),
    *("2001:db8:0:1::", "2001:db8:0:1:1:1:1:1", "1:2:3:4:5:6:7:8", "1:0:0:2::3"),
    *("64:ff9b::102:304", "::1:0:0", "fe80::1:0:0:1"),
]


@pytest.mark.parametrize("text", GO_TEXTS)
def test_names_of_addresses_are_go_s(text):
    assert file_name(parse_address(text)) == text
    assert address_of_file(text) == parse_address(text)


def test_ipv4_in_ipv6_has_a_name_of_its_own():
    mapped = Address(6, (0xFFFF << 32) + 0x01020304)
    assert file_name(mapped) == "::ffff:102:304"
    assert address_of_file("::ffff:102:304") == mapped
    assert address_of_file("::ffff:1.2.3.4") is None


@given(st.integers(0, (1 << 128) - 1))
def test_names_of_addresses_come_back(value):
    for address in (Address(6, value), Address(4, value & 0xFFFFFFFF)):
        assert address_of_file(file_name(address)) == address


def test_names_of_cursors():
    assert [cursor_name(pool) for pool in ("0", "12", "01", "x", "", "²")] == [
        "last_reserved_ip.0",
        "last_reserved_ip.12",
        *[None] * 4,
    ]


C = lease("10.1.2.9", "c", 3)
D = lease("10.1.2.10", "d", 4)
B2 = evolve(B, owner=Owner("b-of-a-longer-name", "eth0", "ns", "pod", "u-b"), sequence=5)
OLD = block(A, B)
SWAPS = {
    "grant": block(A, B, C),
    "grant two": block(A, B, C, D),
    "release": block(B),
    "change of hands": block(A, B2),
    "all at once": block(B2, C, D),
    "sequence only": block(A, B, sequence=9),
    "delete": None,
    "first block": None,
}


def prepared(folder, name):
    """Return a store before a swap, and the swap."""
    # A kill takes nothing back that was written, synchronised or not.
    store = HostLocalStore(str(folder), durable=False)
    if name == "first block":
        return store, None, OLD
    put(store, OLD)
    return store, OLD, SWAPS[name]


def every_kill(tmp_path, name):
    """Yield the folder after a kill before each system call of a swap that changes the disk."""
    for number in itertools.count(1):
        folder = tmp_path / str(number)
        store, old, new = prepared(folder, name)
        version = store.load(KEY)[1] if old is not None else None
        killed, call = in_child_killed_at(number, partial(store.swap, KEY, new, version))
        if not killed:
            assert number > 2
            return
        yield HostLocalStore(str(folder), durable=False), old, new, call


def content(store):
    entry = store.load(KEY)
    return None if entry is None else entry[0]


@pytest.mark.parametrize("name", SWAPS)
def test_killed_anywhere_a_swap_is_done_whole_or_not_at_all(tmp_path, name):
    outcomes = set()
    for store, old, new, call in every_kill(tmp_path, name):
        found = content(store)
        assert found in (old, new), call
        outcomes.add(found == new)
        for each in () if found is None else found.leases.values():
            assert Hands(os.path.join(store.folder, "net")).owner(str(each.ip)) == each.owner.key
        assert list(store.keys("")) == ([] if found is None else [KEY])
        # Nothing is left of the killed one, and the next goes well.
        put(store, block(D, sequence=20))
        assert [each.rpartition(".")[2] for each in sidecars(store)] == ["json"], call
        assert Hands(os.path.join(store.folder, "net")).files() == {"10.1.2.10": b"d\r\neth0"}
    # Without files to change it is done with the last call.
    assert outcomes == ({False} if name == "sequence only" else {True, False})


@pytest.mark.parametrize("name", ["grant", "grant two", "all at once"])
def test_what_host_local_took_after_a_kill_is_its_own(tmp_path, name):
    """Neither is its lease taken away, nor is a part of the killed swap left."""
    taken = 0
    for store, old, new, call in every_kill(tmp_path, name):
        hands = Hands(os.path.join(store.folder, "net"))
        # To another, and to the very owner that the killed swap meant it for.
        who = "else" if taken % 2 else "c"
        if hands.take("10.1.2.9", who):
            taken += 1
            found = content(store)
            theirs = found.leases[C.ip.value - FIRST]
            assert (theirs.owner, theirs.pool) == (Owner(who, "eth0"), ""), call
            ours = {n: each for n, each in found.leases.items() if each != theirs}
            assert evolve(found, leases=ours) == old
            assert hands.free(who) == ["10.1.2.9"]
            assert content(store) == old
        else:
            assert content(store) in (old, new)
    assert taken > 2


@pytest.mark.parametrize("name", ["release", "delete"])
def test_what_host_local_gave_to_the_same_owner_after_a_kill_stays(tmp_path, name):
    """Only the very file that the killed swap was to remove goes."""
    taken = 0
    for store, _, _, call in every_kill(tmp_path, name):
        hands = Hands(os.path.join(store.folder, "net"))
        if hands.take("10.1.2.2", "a"):
            taken += 1
            assert content(store).leases[A.ip.value - FIRST].pool == "", call
            assert "10.1.2.2" in hands.files()
    assert taken > 0


@pytest.mark.parametrize("name", [n for n, new in SWAPS.items() if new is not None])
def test_what_host_local_freed_after_a_kill_is_free(tmp_path, name):
    for store, old, new, call in every_kill(tmp_path, name):
        hands = Hands(os.path.join(store.folder, "net"))
        gone = [*hands.free("a"), *hands.free("c"), *hands.free("b")]
        found = content(store)
        left = {str(each.ip) for each in found.leases.values()}
        assert left.isdisjoint(gone), call
        assert left == hands.files().keys()
        for expected in (old, new):
            kept = {n: x for n, x in expected.leases.items() if str(x.ip) not in gone}
            if found == evolve(expected, leases=kept):
                break
        else:
            raise AssertionError(f"neither the old nor the new block: {found}, killed at {call}")


def test_a_kill_in_recovery_is_recovered_from(tmp_path):
    for store, old, new, _ in every_kill(tmp_path, "all at once"):
        for number in itertools.count(1):
            if not in_child_killed_at(number, lambda store=store: store.load(KEY))[0]:
                break
        assert content(store) in (old, new)
        # What a killed write left of its own, the next one removes.
        assert ends(sidecars(store)) <= {"json", "tmp-alone"}


def test_unchanged_files_are_not_read_again(store, hands, monkeypatch):
    put(store, block(*(lease(f"10.1.2.{n}", f"c{n}", n) for n in range(2, 50))))
    hands.age()
    other = HostLocalStore(store.folder)
    first = other.load(KEY)
    opened = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest: opened.append(path) or real(path, *rest))
    assert other.load(KEY)[0] is first[0]
    assert [path for path in opened if "10.1.2" in path] == []
    hands.write("10.1.2.7", b"x\r\neth0")
    assert other.load(KEY)[0].leases[7].owner == Owner("x", "eth0")


def test_a_file_changed_within_a_tick_of_the_clock_is_read_again(store, hands):
    hands.take("10.1.2.9", "x")
    path = os.path.join(hands.folder, "10.1.2.9")
    when = os.stat(path).st_mtime_ns
    assert held(store) == {"10.1.2.9": ("x", "eth0")}
    hands.write("10.1.2.9", b"y\r\neth0")
    os.utime(path, ns=(when, when))
    assert held(store) == {"10.1.2.9": ("y", "eth0")}


@pytest.mark.parametrize(
    ("url", "folder"),
    [("host-local:{}/x", "{}/x"), ("host-local://{}/x/", "{}/x"), ("host-local:{}/x/../y", "{}/y")],
)
def test_urls(tmp_path, url, folder):
    assert host_local.open(url.format(tmp_path)).folder == folder.format(tmp_path)
    assert os.listdir(tmp_path) == [], "nothing is made before something is kept"


@pytest.mark.parametrize(
    "url", ["host-local:", "host-local", "file:/x", "host-local://h/x", "", "host-local:/"]
)
def test_other_urls_are_refused(url):
    with pytest.raises(InvalidConfigError, match="store"):
        host_local.open(url)


def test_fault_tells_of_folders_that_cannot_be_used(tmp_path):
    store = HostLocalStore(str(tmp_path / "a/b"))
    assert store.fault("net") == ""
    (tmp_path / "a").write_bytes(b"")
    assert store.fault("net") == f"{tmp_path}/a is no folder"
    other = HostLocalStore(str(tmp_path))
    assert other.fault("net") == ""
    (tmp_path / "net").symlink_to("/proc/sys/nowhere")
    assert other.fault("net") == f"{tmp_path}/net is no folder"


def test_pools_of_any_store_are_at_home_here(store, hands):
    """Not only those of host-local's own configuration."""
    ipam = Ipam(store, clock=lambda: 7.0)
    six = Pool("six", "2001:db8::/64", domain="whereabouts:red")
    for n in range(3):
        ipam.allocate(six, Owner(f"c{n}", "eth0"))
    assert [str(each.ip) for each in ipam.leases()] == [f"2001:db8::{n}" for n in (1, 2, 3)]
    assert os.listdir(store.folder) == [".podnet", "whereabouts%3Ared"]
    ipam.release(Owner("c1", "eth0"))
    (path,) = sidecars(store, "whereabouts%3Ared")
    with open(os.path.join(store.folder, ".podnet", "whereabouts%3Ared", path)) as file:
        assert json.loads(file.read().partition("\n")[2])["block"]["freed"] == [[2, 7.0]]
