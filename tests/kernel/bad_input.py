"""What a row of the table of bad input is, and how things are arranged to be bad.

Each arrangement is a context for a ``Scene`` (see ``test_bad_input``): what it enters is bad, what
it leaves is good again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from podnet.testing.namespaces import inside, ip

from .rig import DELEGATING, MACVLAN

RANGE = MACVLAN["ipam"]
POOL = {
    "type": "podnet-ipam",
    "pools": [{"name": "lan", "network": "10.7.0.0/24", "first": "10.7.0.10", "last": "10.7.0.11"}],
}
L2 = {key: value for key, value in MACVLAN.items() if key != "ipam"}
PTP = {"cniVersion": "1.1.0", "name": "routed", "type": "ptp"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One call that must fail, or must do nothing.

    In texts ``{netns}``, ``{folder}``, ``{node}`` and ``{state}`` stand for the sandbox's path, a
    folder of the row's own, the node's, and podnet's state.

    Attributes:
        name: what is wrong; what has to come of it is in ``bad_input.toml`` under this name.
        config: standard input, as JSON values; or a function of the scene that returns them.
        verb: ``CNI_COMMAND``.
        env: variables that differ from the usual; ``STATE`` and ``STORE`` are podnet's settings.
        given: what is arranged before.
        timeout: seconds podnet has.
        keeps: the failed ADD keeps its record, because what it may hold could not be released;
            DEL ends it once things are good again.
    """

    name: str
    config: Any = field(default_factory=lambda: MACVLAN)
    verb: str = "ADD"
    env: Mapping[str, str] = field(default_factory=dict)
    given: Callable[..., Any] | None = None
    timeout: float = 20
    keeps: bool = False


def macvlan(**changes):
    return {**MACVLAN, **changes}


def ranged(**changes):
    return macvlan(ipam={**RANGE, **changes})


def pods(networks=None, **changes):
    return {**DELEGATING, **({} if networks is None else {"networks": networks}), **changes}


def network(**keys):
    """A network annotation over a definition that the row writes; see ``defined``."""
    return pods("lab@eth1", **keys)


@contextmanager
def attached(scene):
    """The container is attached, by the row's own configuration or the usual one."""
    config = scene.config if scene.config.get("type") == "podnet" else MACVLAN
    scene.good("ADD", config)
    yield
    scene.good("DEL", config)


def both(*parts):
    @contextmanager
    def given(scene):
        if not parts:
            yield
            return
        with parts[0](scene), both(*parts[1:])(scene):
            yield

    return given


def linked(*commands, sandbox=False):
    """Links made with iproute2, each command's words in one text."""

    @contextmanager
    def given(scene):
        space = scene.container.namespace.fd if sandbox else scene.rig_fd
        with inside(space):
            for command in commands:
                ip(*command.split())
        yield

    return given


def script(name, text, mode=0o755):
    """An executable of CNI_PATH."""

    @contextmanager
    def given(scene):
        path = scene.folder / "bin" / name
        (scene.folder / "bin").mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        scene.env["CNI_PATH"] = str(scene.folder / "bin")
        yield

    return given


def file(name, text="", mode=0o644):
    @contextmanager
    def given(scene):
        path = scene.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        yield

    return given


def made(what, name):
    """A FIFO, folder or link at a name."""

    @contextmanager
    def given(scene):
        path = scene.folder / name
        if what == "fifo":
            os.mkfifo(path)
        elif what == "folder":
            path.mkdir()
        else:
            path.symlink_to(what)
        yield

    return given


def defined(config):
    """A network definition ``default/lab`` of that configuration."""
    spec = {} if config is None else {"config": config}
    if isinstance(config, dict):
        spec = {"config": json.dumps(config)}
    return manifest(
        {
            "apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": "lab", "namespace": "default"},
            "spec": spec,
        }
    )


def manifest(document):
    @contextmanager
    def given(scene):
        path = scene.rig.folder / "manifests" / "lab.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        yield
        path.unlink()

    return given


@contextmanager
def gone(scene):
    """The runtime took the namespace away; its path leads to something else."""
    namespace = scene.container.namespace
    with open(os.devnull) as other:
        os.dup2(other.fileno(), namespace.fd, inheritable=False)
        number, namespace.fd = namespace.fd, -1
        yield
        os.close(number)


def held(*addresses, config=None):
    """Other containers hold these addresses of the pool ``lan``, or of the configuration's."""

    @contextmanager
    def given(scene):
        others = []
        for number, address in enumerate(addresses):
            other = scene.rig.container(f"holder{number}")
            others.append(other)
            asked = config or {**L2, "ipam": POOL, "args": {"cni": {"ips": [address]}}}
            scene.good("ADD", asked, other)
        scene.others = others
        yield
        for other in others:
            scene.good("DEL", config or {**L2, "ipam": POOL}, other)
            scene.rig.end(other)

    return given


def spoilt(pattern, content):
    """Files of the state that match hold something else for the call; links point there."""

    @contextmanager
    def given(scene):
        paths = sorted(scene.rig.state.glob(pattern))
        assert paths, pattern
        before = [path.read_bytes() for path in paths]
        target = scene.folder / "target"
        target.write_bytes(b"not podnet's")
        for path in paths:
            path.unlink()
            if content is None:
                path.symlink_to(target)
            else:
                path.write_bytes(content)
        yield
        assert target.read_bytes() == b"not podnet's"
        for path, data in zip(paths, before, strict=True):
            path.unlink(missing_ok=True)
            path.write_bytes(data)
            path.with_suffix(".unreadable").unlink(missing_ok=True)

    return given
