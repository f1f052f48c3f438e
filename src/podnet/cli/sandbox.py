"""A throw-away machine: a process whose networks and mounts end when it ends.

The system calls are made through libc, as Python has them from 3.12 on only.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from podnet.errors import KernelError, NotAvailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# include/uapi/linux/sched.h
_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
# include/uapi/linux/mount.h
_MS_BIND = 1 << 12
_MS_REC = 1 << 14
_MS_PRIVATE = 1 << 18
_MS_NOSUID_NODEV_NOEXEC = 2 | 4 | 8
# include/uapi/linux/prctl.h
_PR_SET_PDEATHSIG = 1

_OWN = "/proc/thread-self/ns/net"


def in_child(work: Callable[[], int]) -> int:
    """Run ``work`` in a child process that never outlives this one.

    Returns:
        Its return value; 128 and the signal's number if a signal ended it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _be_child(work, parent)
    before = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        return _exit_status(os.waitpid(child, 0)[1])
    except BaseException:
        # Whatever it has done is inside namespaces that go with it: no need to ask politely.
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Machine:
    """This process as a node: in a network and a mount namespace of its own, after ``isolate``.

    Attributes:
        root: a file system in memory that only this process sees; gone when it ends.
        node: path of the node's network namespace.
    """

    def __init__(self, root: str) -> None:
        """Take the folder that ``isolate`` prepared."""
        self.root = root
        self._folder = os.path.join(root, "netns")
        os.mkdir(self._folder, 0o700)
        self.node = self._pin("node")

    def add_namespace(self, name: str) -> str:
        """Make a network namespace and return the path that keeps it."""
        with self.inside(self.node):
            _call("unshare", ctypes.c_int(_CLONE_NEWNET))
            return self._pin(name)

    @contextmanager
    def inside(self, path: str) -> Iterator[None]:
        """Be in a network namespace for a while; sockets opened there stay there."""
        from podnet.kernel.netns import entered, open_netns

        there = open_netns(path, allow_host=True)
        try:
            with entered(there, path):
                yield
        finally:
            os.close(there)

    def _pin(self, name: str) -> str:
        path = os.path.join(self._folder, name)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY, 0o600))
        _mount(_OWN, path, flags=_MS_BIND)
        return path


def isolate(root: str) -> Machine:
    """Leave the machine's networks and mounts for new ones, for good.

    As root in new namespaces alone; otherwise in a user namespace where this user is root.

    Args:
        root: an empty folder; a file system in memory is mounted over it.

    Raises:
        NotAvailableError: the machine grants neither; the message says why and what helps.
    """
    outside = os.stat(_OWN)
    user, group = os.geteuid(), os.getegid()
    try:
        _call("unshare", ctypes.c_int(_CLONE_NEWNET | _CLONE_NEWNS))
    except OSError as refused:
        try:
            _call("unshare", ctypes.c_int(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWNS))
            _map_to_root(user, group)
        except OSError as error:
            raise _refusal(user, refused, error) from error
    inside = os.stat(_OWN)
    if (inside.st_dev, inside.st_ino) == (outside.st_dev, outside.st_ino):
        raise NotAvailableError("the kernel left this process in the machine's own network")
    try:
        # Without this a mount made here would show up outside (mount_namespaces(7)).
        _mount("none", "/", flags=_MS_REC | _MS_PRIVATE)
        _mount("tmpfs", root, kind="tmpfs", flags=_MS_NOSUID_NODEV_NOEXEC, data="mode=0700")
    except OSError as error:
        raise NotAvailableError(
            "mounting is refused in a mount namespace of one's own", error.strerror or ""
        ) from error
    return Machine(root)


def _map_to_root(user: int, group: int) -> None:
    """Become root of the new user namespace (user_namespaces(7), one line for one's own id)."""
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"0 {user} 1"),
        ("gid_map", f"0 {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def _refusal(user: int, as_root: OSError, as_user: OSError) -> NotAvailableError:
    """Say what is missing; every clause is a fact read from this machine."""
    causes = [f"namespaces as user {user}: {as_root.strerror}"]
    causes.append(f"an unprivileged user namespace: {as_user.strerror}")
    for path, bad in (
        ("kernel/unprivileged_userns_clone", "0"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1"),
        ("user/max_user_namespaces", "0"),
        ("user/max_net_namespaces", "0"),
    ):
        try:
            with open(f"/proc/sys/{path}", encoding="ascii") as file:
                value = file.read().strip()
        except OSError:
            continue
        if value == bad:
            causes.append(f"the sysctl {path.replace('/', '.')} is {bad}")
    if as_user.errno == errno.ENOSPC:
        causes.append("the limit on namespaces is reached")
    remedy = "in a container, grant it CAP_SYS_ADMIN" if user == 0 else "run it as root"
    return NotAvailableError(
        "no network namespace of one's own can be had here", "; ".join([*causes, remedy])
    )


def _be_child(work: Callable[[], int], parent: int) -> None:
    """Run ``work`` and end the process: nothing of the parent's own clean-up runs here."""
    code = 1
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        _call("prctl", ctypes.c_int(_PR_SET_PDEATHSIG), ctypes.c_ulong(signal.SIGKILL))
        # The parent may have ended before the line above.
        if os.getppid() == parent:
            code = work()
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        pass
    except BaseException:
        # A fault of podnet's own, shown here because nobody above is left to show it.
        traceback.print_exc()
    finally:
        os._exit(code)


def _leave(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def _exit_status(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _mount(source: str, target: str, *, kind: str = "", flags: int, data: str = "") -> None:
    _call(
        "mount",
        ctypes.c_char_p(os.fsencode(source)),
        ctypes.c_char_p(os.fsencode(target)),
        ctypes.c_char_p(os.fsencode(kind) or None),
        ctypes.c_ulong(flags),
        ctypes.c_char_p(os.fsencode(data) or None),
    )


def _call(name: str, *args: Any) -> None:
    """Make a system call through libc.

    Raises:
        OSError: with the call's errno.
        KernelError: libc does not have it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        function = getattr(libc, name)
    except AttributeError:
        raise KernelError(f"this system's libc has no {name}()") from None
    if function(*args) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
