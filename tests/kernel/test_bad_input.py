"""Bad input, end to end: each row ends in its error, word for word, and leaves nothing behind."""

from __future__ import annotations

import fnmatch
import os
import socket
import tomllib
from contextlib import nullcontext
from pathlib import Path

import pytest
from attrs import evolve

from podnet.errors import PodnetError
from podnet.testing.namespaces import inside, ip

from .bad_input import L2, POOL
from .bad_input_rows import ROWS
from .rig import MACVLAN, call, links, rig_in, way_of

pytestmark = pytest.mark.kernel

GOLDEN = tomllib.loads(Path(__file__).with_name("bad_input.toml").read_text())


@pytest.fixture
def rig(tmp_path):
    (tmp_path / "node").mkdir()
    with rig_in(tmp_path / "node") as rig:
        yield rig


class Scene:
    """What a row is asked of: a node, a container, and a folder of the row's own."""

    def __init__(self, rig, row, folder):
        self.rig = rig
        self.rig_fd = rig.machine.fd
        self.folder = folder
        self.container = rig.container("c")
        self.env = {}
        self.config = row.config(self) if callable(row.config) else row.config
        folder.mkdir()

    def places(self):
        return (
            ("{netns}", self.container.netns),
            ("{folder}", str(self.folder)),
            ("{state}", str(self.rig.state)),
            ("{node}", str(self.rig.folder)),
        )

    def filled(self, value):
        """Put the places into texts."""
        if isinstance(value, dict):
            return {key: self.filled(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self.filled(each) for each in value]
        if isinstance(value, str):
            for name, text in self.places():
                value = value.replace(name, text)
        return value

    def told(self, text):
        """Put names for the places into an answer."""
        for name, place in self.places():
            text = text.replace(place, name)
        return text

    def mac(self, name):
        return ip("link", "show", name)[0]["address"]

    def good(self, verb, config, container=None):
        """Call podnet so that it must succeed."""
        container = container or self.container
        code, answer = call(
            self.rig.settings,
            verb,
            self.filled(config),
            container=container.name,
            netns=container.netns,
            ifname="eth1",
        )
        assert code == 0, answer

    def ask(self, row):
        """Make the row's call; return exit code and answer."""
        variables = {**self.env, **{key: self.filled(text) for key, text in row.env.items()}}
        settings = evolve(self.rig.settings, timeout=row.timeout)
        if state := variables.pop("STATE", ""):
            settings = evolve(settings, state_dir=state, store=f"file:{state}/leases")
        if store := variables.pop("STORE", ""):
            settings = evolve(settings, store=store)
        names = {
            "container": variables.pop("CNI_CONTAINERID", self.container.name),
            "netns": variables.pop("CNI_NETNS", self.container.netns),
            "ifname": variables.pop("CNI_IFNAME", "eth1"),
        }
        return call(settings, row.verb, self.filled(self.config), **names, **variables)

    def remains(self):
        """Everything that podnet could have left."""
        return {
            "links of the sandbox": self._sandbox_links(),
            "links of the node": sorted(socket.if_nameindex()),
            "leases": self._leases(),
            "records": self.rig.records(),
            "temporary files": self.rig.temporary(),
            "files": sorted(
                os.path.join(folder, name)
                for folder, folders, files in os.walk(self.rig.folder.parent)
                if str(self.rig.state) not in folder
                for name in [*folders, *files]
            ),
        }

    def _sandbox_links(self):
        if self.container.namespace.fd < 0:
            return []
        with inside(self.container.namespace.fd):
            return sorted(socket.if_nameindex())

    def _leases(self):
        try:
            return self.rig.leases()
        except PodnetError:  # a row spoilt them: then nobody may write there
            files = [each for each in (self.rig.state / "leases").rglob("*") if not each.is_dir()]
            return sorted((str(each), each.read_bytes()) for each in files)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_bad_input(rig, tmp_path, row):
    expected = GOLDEN[row.name]
    scene = Scene(rig, row, tmp_path / "row")
    with row.given(scene) if row.given else nullcontext():
        before = scene.remains()
        exit_code, answer = scene.ask(row)
        after = scene.remains()
    if expected["code"] == 0:
        assert (exit_code, answer) == (0, None)
    else:
        assert (exit_code, answer["code"]) == (1, expected["code"])
        assert scene.told(answer["msg"]) == expected["msg"]
        details = scene.told(answer.get("details", ""))
        assert fnmatch.fnmatchcase(details, expected.get("details", "").replace("[", "[[]"))
        assert set(answer) <= {"cniVersion", "code", "msg", "details"}
    if row.keeps:
        assert set(after.pop("records")) - set(before.pop("records")) == {("interface", "c")}
    assert after == before
    if row.keeps:
        scene.good("DEL", scene.config)
        assert rig.records() == []
        assert rig.leases() == {}


def test_the_table_is_whole():
    assert [row.name for row in ROWS] == list(GOLDEN)
    assert len(GOLDEN) >= 60


def lan(**changes):
    return {**L2, "ipam": {**POOL, "pools": [{**POOL["pools"][0], **changes}]}}


NASTY = {
    "pool a path": (lan(name="../../../evil"), {}),
    "pool absolute": (lan(name="/evil"), {}),
    "pool dots": (lan(name=".."), {}),
    "pool long": (lan(name="x/" * 400), {}),
    "pool not ASCII": (lan(name="käse\u2603"), {}),
    "pool control characters": (lan(name="a\n\t\x7f"), {}),
    "domain a path": (lan(domain="../../evil"), {}),
    "domain hidden": (lan(domain=".hidden"), {}),
    "network_name a path": (
        {**MACVLAN, "ipam": {**MACVLAN["ipam"], "network_name": "../../../evil"}},
        {},
    ),
    "network with dots": ({**MACVLAN, "name": "a..b...c"}, {}),
    "network long": ({**MACVLAN, "name": "n" * 300}, {}),
    "container with dots": (MACVLAN, {"container": "a..b"}),
    "container long": (MACVLAN, {"container": "c" * 300}),
    "container like an option": (MACVLAN, {"container": "0--help"}),
    "interface not ASCII": (MACVLAN, {"ifname": "käse\u2603"}),
    "interface of dots": (MACVLAN, {"ifname": "..."}),
    "interface like an option": (MACVLAN, {"ifname": "--help"}),
    "pod a path": (MACVLAN, {"CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME=../../x"}),
}


@pytest.mark.parametrize("name", NASTY)
def test_names_that_are_allowed_stay_inside_the_state(rig, tmp_path, name):
    config, names = NASTY[name]
    scene = Scene(rig, ROWS[0], tmp_path / "row")
    before = scene.remains()
    given = {"container": "c", "ifname": "eth1", "netns": scene.container.netns, **names}
    code, answer = call(rig.settings, "ADD", config, **given)
    assert code == 0, answer
    assert links(scene.container) == [given["ifname"]]
    assert list(rig.leases().values()) == [(given["container"], given["ifname"])]
    assert scene.remains()["files"] == before["files"]
    config = {**config, "prevResult": answer}
    assert call(rig.settings, "CHECK", config, **given) == [0, None]
    assert call(rig.settings, "DEL", config, **given) == [0, None]
    assert scene.remains() == before


@pytest.mark.parametrize("what", ["nothing", "another file", "the node's own"])
@pytest.mark.parametrize("name", ["macvlan", "podnet", "node"])
def test_between_add_and_del_the_namespace_becomes(rig, tmp_path, name, what):
    way = way_of(rig, name)
    container = rig.container("c")
    path = tmp_path / "netns"
    path.symlink_to(container.netns)
    container.netns = str(path)
    assert way.add(container)[0] == 0
    rig.end(container)
    path.unlink()
    if what == "another file":
        path.write_text("")
    elif what == "the node's own":
        path.symlink_to(rig.machine.path)
    code, answer = way.delete(container)
    if code:
        # The runtime's mistake is told; it goes on to DEL without a namespace.
        assert (what, answer["code"]) == ("the node's own", 8)
        container.netns = ""
        code, answer = way.delete(container)
    assert code == 0, answer
    assert (rig.leases(), rig.records(), rig.new_host_links()) == ({}, [], [])


@pytest.mark.parametrize(
    ("name", "role"), [("macvlan", "interface"), ("podnet", "interface"), ("podnet", "sandbox")]
)
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\0" * 100, b'{"format": 1}'])
def test_del_with_an_unreadable_record_undoes_everything_and_tells_once(rig, name, role, content):
    way = way_of(rig, name)
    container = rig.container("c")
    assert way.add(container)[0] == 0
    paths = list((rig.state / "journal" / role).glob("*.json"))
    for path in paths:
        path.write_bytes(content)
    code, answer = way.delete(container)
    assert (code, answer["code"]) == (1, 107)
    for _ in range(2):
        assert way.delete(container) == [0, None]
    assert (links(container), rig.new_host_links()) == ([], [])
    assert (rig.leases(), rig.records()) == ({}, [])
    aside = sorted(path.name for path in rig.state.rglob("*.unreadable"))
    assert len(aside) == len(paths)
