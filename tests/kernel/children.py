"""Processes of their own, forked from the test's: killed at any step, or all at once.

What podnet remembers from one call to the next is then on the disk or in the kernel.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import traceback


class Ending:
    """How a child ended.

    Attributes:
        killed: it ended by SIGKILL.
        steps: what it was about to do, one after the other; the last one it did not do if killed.
        value: what it returned; None if killed.
    """

    def __init__(self, killed, steps, value):
        self.killed = killed
        self.steps = steps
        self.value = value


class Child:
    """A process of its own that runs ``do(step)``.

    Args:
        do: gets the observer of steps, or None, and returns what JSON can say.
        die_at: number of the step, from 1, before which the process is killed; 0 for none.
        syscalls: steps are the system calls that leave something, instead of podnet's own steps;
            podnet then has no observer, and kernel operations ride together as they usually do.
    """

    def __init__(self, do, *, die_at=0, syscalls=False):
        self._told, tell = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._told)
            _be_child(do, tell, die_at, syscalls)
        os.close(tell)

    def ending(self):
        """Wait for its end."""
        with os.fdopen(self._told, "rb") as pipe:
            lines = pipe.read().decode().splitlines()
        _, status = os.waitpid(self._pid, 0)
        steps = [line[1:] for line in lines if line[0] == "."]
        said = [json.loads(line[1:]) for line in lines if line[0] == "="]
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            return Ending(True, steps, None)
        assert said, "\n".join(line[1:] for line in lines if line[0] == "!")
        return Ending(False, steps, said[0])


def in_child(do, **how):
    """Run ``do(step)`` in a process of its own and return how it ended; see ``Child``."""
    return Child(do, **how).ending()


def at_once(jobs):
    """Run all jobs at the same time, each in a process of its own; return what they returned."""
    gate, opener = os.pipe()

    def job_of(job):
        def do(step):
            os.close(opener)
            os.read(gate, 1)
            return job(step)

        return do

    children = [Child(job_of(job)) for job in jobs]
    os.close(opener)
    os.close(gate)
    return [child.ending().value for child in children]


def _be_child(do, tell, die_at, syscalls):
    write = os.write
    gc.disable()  # a collection would touch, and so copy, all of the parent's memory
    count = 0

    def step(name, cut=None):
        nonlocal count
        count += 1
        write(tell, f".{name}\n".encode())
        if count == die_at:
            if cut:
                cut()
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        if syscalls:
            _watch_syscalls(step)
        value = do(None if syscalls else step)
        write(tell, f"={json.dumps(value)}\n".encode())
    except BaseException:
        write(tell, "".join(f"!{line}\n" for line in traceback.format_exc().splitlines()).encode())
    finally:
        os._exit(0)


def _watch_syscalls(step):
    """Have every call that changes disk or kernel be a step; a killed write wrote one half."""
    write, send = os.write, socket.socket.send

    def watched(name):
        original = getattr(os, name)

        def call(*args, **kwargs):
            step(f"{name} {_place(args)}")
            return original(*args, **kwargs)

        setattr(os, name, call)

    def cut_write(fd, data):
        step(f"write {len(data)}", lambda: write(fd, bytes(data)[: len(data) // 2]))
        return write(fd, data)

    def watched_send(self, *args):
        step("send")
        return send(self, *args)

    for name in ("mkdir", "rename", "replace", "unlink", "fsync"):
        watched(name)
    os.write = cut_write
    socket.socket.send = watched_send


def _place(args):
    return os.path.basename(args[0]) if isinstance(args[0], str) else ""
