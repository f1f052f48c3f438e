"""Sysctls and namespaces as files: what must not be opened."""

from __future__ import annotations

import errno
import os

import pytest

from podnet.errors import (
    InvalidNetnsError,
    KernelError,
    NetnsMissingError,
    NotNetnsError,
    TryAgainLaterError,
)
from podnet.kernel import libc, netns, sysctl
from podnet.kernel.sandbox import Kernel
from podnet.model.ops import Place


@pytest.mark.parametrize(
    "key",
    [
        "kernel/hostname",
        "net",
        "net/ipv4",
        "net/../kernel/hostname",
        "net//ipv4/ip_forward",
        "/net/ipv4/ip_forward",
        "net/ipv4/ip_forward/",
        "net/ipv4/./ip_forward",
        "net/ipv4/ip_forward\0",
        "",
    ],
)
def test_keys_outside_of_net(key):
    with pytest.raises(KernelError, match="not a sysctl"):
        sysctl.write(key, "0")
    with pytest.raises(KernelError, match="not a sysctl"):
        sysctl.read(key)


def test_absent_keys():
    assert sysctl.read("net/ipv4/conf/none/arp_notify") is None
    sysctl.write("net/ipv4/conf/none/arp_notify", "1", optional=True)
    with pytest.raises(KernelError, match="no such key"):
        sysctl.write("net/ipv4/conf/none/arp_notify", "1")


def test_reading():
    assert sysctl.read("net/ipv4/ip_forward") in ("0", "1")


def test_other_file_systems_and_links_are_refused(tmp_path, monkeypatch):
    (tmp_path / "net" / "ipv4").mkdir(parents=True)
    (tmp_path / "net" / "ipv4" / "ip_forward").write_text("")
    (tmp_path / "net" / "link").symlink_to("ipv4")
    (tmp_path / "net" / "ipv4" / "link").symlink_to("/proc/sys/net/ipv4/ip_forward")
    monkeypatch.setattr(sysctl, "_ROOT", str(tmp_path))
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(KernelError, match="not procfs"):
        sysctl.write("net/ipv4/ip_forward", "1")
    for key in ("net/link/ip_forward", "net/ipv4/link"):
        with pytest.raises(KernelError, match="cannot set"):
            sysctl.write(key, "1")
    assert (tmp_path / "net" / "ipv4" / "ip_forward").read_text() == ""
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_file_systems_are_told_apart(tmp_path):
    with open("/proc/self/ns/net") as own, open(tmp_path / "x", "w") as plain:
        assert libc.filesystem(own.fileno()) == libc.NSFS_MAGIC
        assert libc.filesystem(plain.fileno()) not in (libc.NSFS_MAGIC, libc.PROC_SUPER_MAGIC)
    with pytest.raises(OSError, match="Bad file descriptor"):
        libc.filesystem(99999)
    with pytest.raises(OSError, match="Bad file descriptor"):
        libc.setns(99999)


def test_own_namespace_only_where_it_is_allowed():
    own = "/proc/thread-self/ns/net"
    with pytest.raises(InvalidNetnsError, match="own network namespace"):
        netns.open_netns(own)
    fd = netns.open_netns(own, allow_host=True)
    try:
        assert netns.identity(fd).count(":") == 1
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize("path", ["", "/dev/zero", "/proc/self/ns/uts", "/", "/proc/version"])
def test_other_files(path):
    with pytest.raises(InvalidNetnsError) as caught:
        netns.open_netns(path)
    assert type(caught.value) is NotNetnsError


def test_missing_files():
    with pytest.raises(NetnsMissingError):
        netns.open_netns("/run/netns/podnet-none")


@pytest.mark.parametrize("through", ["descriptor", "sandbox"])
def test_a_namespace_that_may_not_be_entered_is_named_with_what_it_needs(monkeypatch, through):
    def setns(_fd):
        raise PermissionError(1, "Operation not permitted")

    path = "/proc/thread-self/ns/net"
    monkeypatch.setattr(libc, "setns", setns)

    def enter():
        if through == "descriptor":
            return netns.entered(0, path).__enter__()
        with Kernel() as kernel, kernel.open(path, allow_host=True) as sandbox:
            return sandbox.netlink(Place.SANDBOX)

    with pytest.raises(KernelError) as caught:
        enter()
    assert str(caught.value) == (
        f"cannot enter network namespace {path}: "
        "Operation not permitted; needs root (CAP_SYS_ADMIN)"
    )


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EMFILE, TryAgainLaterError),
        (errno.ENFILE, TryAgainLaterError),
        (errno.ENOMEM, TryAgainLaterError),
        (errno.EACCES, KernelError),
        (errno.EPERM, KernelError),
        (errno.EIO, KernelError),
        (errno.ELOOP, NotNetnsError),
        (errno.ESRCH, NetnsMissingError),
    ],
)
def test_a_namespace_that_cannot_be_opened_is_not_taken_for_gone(monkeypatch, number, kind):
    def refuse(*_args, **_kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(netns.os, "open", refuse)
    with pytest.raises(kind) as caught:
        netns.open_netns("/run/netns/x")
    assert type(caught.value) is kind
    assert "/run/netns/x" in caught.value.msg


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.EPERM, KernelError), (errno.ENOMEM, TryAgainLaterError)]
)
def test_a_namespace_that_cannot_be_entered_is_not_taken_for_gone(monkeypatch, number, kind):
    def refuse(_fd):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(libc, "setns", refuse)
    with pytest.raises(kind, match="cannot enter"), netns.entered(0, "/run/netns/x"):
        pass


def test_the_boot_is_told_or_an_error(tmp_path, monkeypatch):
    netns.boot.cache_clear()
    assert len(netns.boot()) == 36
    monkeypatch.setattr(netns, "_BOOT_ID", str(tmp_path))
    assert len(netns.boot()) == 36
    netns.boot.cache_clear()
    # Another answer than last time would make every sandbox another one.
    with pytest.raises(KernelError):
        netns.boot()
    monkeypatch.setattr(netns, "_BOOT_ID", str(tmp_path / "none"))
    assert netns.boot() == ""
    netns.boot.cache_clear()


def test_the_process_ends_where_the_way_back_fails(monkeypatch):
    class Ended(BaseException):
        pass

    def end(code):
        raise Ended(code)

    calls = iter([None, OSError(1, "no")])

    def setns(_fd):
        if error := next(calls):
            raise error

    monkeypatch.setattr(libc, "setns", setns)
    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(os, "write", lambda *_: 0)
    with pytest.raises(Ended), netns.entered(0):
        pass
