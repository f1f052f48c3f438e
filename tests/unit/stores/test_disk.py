from __future__ import annotations

import errno
import os
import stat
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet import disk
from podnet.errors import DeadlineError, IOFailureError
from podnet.testing.together import in_processes

TEXTS = st.text(max_size=30) | st.text(min_size=150, max_size=400)


@given(TEXTS)
def test_safe_name_stays_in_its_folder(text):
    name = disk.safe_name(text)
    assert name
    assert "/" not in name
    assert "\0" not in name
    assert not name.startswith(".")
    assert len(os.fsencode(name)) <= disk.LONGEST_NAME


@given(TEXTS, TEXTS)
def test_safe_names_differ_as_texts_do(one, two):
    assert (disk.safe_name(one) == disk.safe_name(two)) == (one == two)


@given(TEXTS)
def test_name_gives_its_text_back(text):
    name = disk.safe_name(text)
    assert disk.text_of_name(name) == (None if "%%" in name else text)


def test_long_names_meet_no_short_ones():
    long = disk.safe_name("x" * 300)
    assert disk.text_of_name(long) is None
    assert disk.safe_name(long.replace("%%", "%")) != long


@given(st.text(st.sampled_from("ab%.2eF/+"), max_size=8))
def test_foreign_names_have_no_text(name):
    found = disk.text_of_name(name)
    assert found is None or disk.safe_name(found) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", "%"),
        (".", "%2E"),
        ("..", "%2E."),
        ("a/b", "a%2Fb"),
        ("ä", "%C3%A4"),
        ("a-b_1", "a-b_1"),
    ],
)
def test_safe_names_read_well(text, name):
    assert disk.safe_name(text) == name


def test_write_makes_a_private_file(tmp_path):
    path = str(tmp_path / "f")
    disk.write_atomic(path, b"one")
    disk.write_atomic(path, b"two")
    assert disk.read_file(path) == b"two"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert os.listdir(tmp_path) == ["f"]


def test_write_replaces_a_link_and_not_what_it_points_at(tmp_path):
    (tmp_path / "victim").write_bytes(b"victim")
    (tmp_path / "f").symlink_to("victim")
    disk.write_atomic(str(tmp_path / "f"), b"new")
    assert (tmp_path / "victim").read_bytes() == b"victim"
    assert disk.read_file(str(tmp_path / "f")) == b"new"


def test_read_follows_no_link_and_waits_for_no_pipe(tmp_path):
    (tmp_path / "victim").write_bytes(b"secret")
    (tmp_path / "link").symlink_to("victim")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", ""):
        with pytest.raises(IOFailureError, match="cannot read"):
            disk.read_file(str(tmp_path / name))
    assert disk.read_file(str(tmp_path / "missing")) is None


def test_read_refuses_what_is_too_large(tmp_path):
    (tmp_path / "f").write_bytes(b"12345")
    assert disk.read_file(str(tmp_path / "f"), most=5) == b"12345"
    with pytest.raises(IOFailureError, match="more than 4 bytes"):
        disk.read_file(str(tmp_path / "f"), most=4)


@pytest.mark.parametrize("step", ["write", "fsync", "rename"])
def test_failed_write_keeps_the_old_content(tmp_path, monkeypatch, step):
    path = str(tmp_path / "f")
    disk.write_atomic(path, b"old")

    def fail(*_args, **_names):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(IOFailureError, match=f"cannot write {path}: No space left on device"):
        disk.write_atomic(path, b"new")
    monkeypatch.undo()
    assert disk.read_file(path) == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_a_lone_writer_replaces_what_a_killed_one_left(tmp_path, monkeypatch):
    path = str(tmp_path / "f")

    def die(*_args, **_names):
        killed.setattr(os, "unlink", lambda *_args, **_names: None)  # the dead clean nothing up
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(os, "rename", die)
        with pytest.raises(KeyboardInterrupt):
            disk.write_atomic(path, b"longer than the next", alone=True)
    (left_over,) = os.listdir(tmp_path)
    assert left_over.startswith(".tmp-")
    disk.write_atomic(path, b"next", alone=True)
    assert os.listdir(tmp_path) == ["f"]
    assert disk.read_file(path) == b"next"


def test_durable_write_synchronises_file_then_folder(tmp_path, monkeypatch):
    steps = []
    for name in ("fsync", "rename"):
        right = getattr(os, name)

        def spy(*args, _name=name, _right=right, **rest):
            kind = stat.S_IFMT(os.fstat(args[0]).st_mode) if _name == "fsync" else 0
            steps.append({stat.S_IFREG: "file", stat.S_IFDIR: "folder", 0: "rename"}[kind])
            return _right(*args, **rest)

        monkeypatch.setattr(os, name, spy)
    disk.write_atomic(str(tmp_path / "f"), b"x")
    assert steps == ["file", "rename", "folder"]
    steps.clear()
    disk.write_atomic(str(tmp_path / "f"), b"x", durable=False)
    assert steps == ["rename"]


def test_short_writes_are_completed(tmp_path, monkeypatch):
    right = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: right(fd, data[:3]))
    disk.write_atomic(str(tmp_path / "f"), b"0123456789")
    monkeypatch.undo()
    assert disk.read_file(str(tmp_path / "f")) == b"0123456789"


def test_write_into_no_folder_names_the_path(tmp_path):
    with pytest.raises(IOFailureError, match="missing/f: No such file"):
        disk.write_atomic(str(tmp_path / "missing" / "f"), b"x")


def test_private_folder(tmp_path):
    path = tmp_path / "a" / "b"
    disk.make_private_dir(str(path))
    disk.make_private_dir(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(IOFailureError, match="cannot make folder"):
        disk.make_private_dir(str(tmp_path / "file"))


def test_remove_tells_whether_there_was_one(tmp_path):
    (tmp_path / "f").write_bytes(b"")
    assert disk.remove(str(tmp_path / "f")) is True
    assert disk.remove(str(tmp_path / "f")) is False
    with pytest.raises(IOFailureError, match="cannot remove"):
        disk.remove(str(tmp_path))


def test_names_are_sorted_and_not_hidden(tmp_path):
    for name in ("b", "a", ".lock", ".tmp-1"):
        (tmp_path / name).write_bytes(b"")
    assert disk.names(str(tmp_path)) == ["a", "b"]
    assert disk.names(str(tmp_path / "missing")) == []
    (tmp_path / "folder").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "broken").symlink_to("missing")
    assert disk.names(str(tmp_path), folders=True) == ["folder", "link"]


def test_sweep_takes_old_left_overs_only(tmp_path):
    for name in (".tmp-old", ".tmp-new", "f", ".lock"):
        (tmp_path / name).write_bytes(b"")
    os.utime(tmp_path / ".tmp-old", (0, 0))
    assert disk.sweep_temporary(str(tmp_path)) == 1
    assert sorted(os.listdir(tmp_path)) == [".lock", ".tmp-new", "f"]
    assert disk.sweep_temporary(str(tmp_path), older=0) == 1
    assert sorted(os.listdir(tmp_path)) == [".lock", "f"]
    assert disk.sweep_temporary(str(tmp_path / "missing")) == 0


def test_exclusive_lock_keeps_others_out(tmp_path):
    path = str(tmp_path / "lock")
    with disk.Lock(path):
        with pytest.raises(DeadlineError) as raised, disk.Lock(path, timeout=0.02):
            pass
        assert raised.value.code == 11
        with pytest.raises(DeadlineError), disk.Lock(path, shared=True, timeout=0):
            pass
    with disk.Lock(path, timeout=0):
        pass


def test_shared_locks_go_together(tmp_path):
    path = str(tmp_path / "lock")
    with (
        disk.Lock(path, shared=True),
        disk.Lock(path, shared=True, timeout=0),
        pytest.raises(DeadlineError),
        disk.Lock(path, timeout=0),
    ):
        pass


def test_lock_passes_from_thread_to_thread(tmp_path):
    path = str(tmp_path / "lock")
    inside, most = [], []

    def work():
        for _ in range(20):
            with disk.Lock(path):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.0001)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 80


def test_lock_is_free_after_a_failure_inside(tmp_path):
    path = str(tmp_path / "lock")
    with pytest.raises(RuntimeError), disk.Lock(path):
        raise RuntimeError
    with disk.Lock(path, timeout=0):
        pass


def test_lock_follows_no_link(tmp_path):
    (tmp_path / "lock").symlink_to("elsewhere")
    with pytest.raises(IOFailureError, match="cannot lock"), disk.Lock(str(tmp_path / "lock")):
        pass


def test_forked_child_neither_keeps_nor_releases_the_lock(tmp_path):
    path = str(tmp_path / "lock")
    lock = disk.Lock(path)
    with lock:

        def child(_number):
            lock.__exit__(None, None, None)
            with pytest.raises(DeadlineError), disk.Lock(path, timeout=0):
                pass

        in_processes(1, child)
        with pytest.raises(DeadlineError), disk.Lock(path, timeout=0):
            pass
    with disk.Lock(path, timeout=0):
        pass


def test_locks_leave_no_file_open(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with (
            disk.Lock(str(tmp_path / "lock")),
            pytest.raises(DeadlineError),
            disk.Lock(str(tmp_path / "lock"), timeout=0),
        ):
            pass
        disk.write_atomic(str(tmp_path / "f"), b"x")
        disk.read_file(str(tmp_path / "f"))
    assert len(os.listdir("/proc/self/fd")) == before
