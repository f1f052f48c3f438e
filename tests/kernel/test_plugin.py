"""The installed executable under its names, called as container runtimes call it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext

import pytest

import podnet
from podnet.model.versions import SUPPORTED
from podnet.testing.namespaces import inside, ip

from .rig import DELEGATING, MACVLAN, addresses, links, rig_in

pytestmark = pytest.mark.kernel

NAMES = (
    *("podnet", "multus", "macvlan", "ptp", "loopback"),
    *("whereabouts", "static", "podnet-ipam", "host-local"),
)
PEERS = "/usr/lib/cni"
# CHECK of Debian's release does not find routes that go by the default gateway.
ROUTELESS = {key: value for key, value in MACVLAN["ipam"].items() if key != "routes"}
needs_peers = [
    pytest.mark.peers,
    pytest.mark.skipif(
        not os.path.exists(f"{PEERS}/macvlan"), reason="needs Debian's containernetworking-plugins"
    ),
]


COMMAND = [sys.executable, "-m", "podnet.cli.main"]
SOURCE = os.path.dirname(os.path.dirname(podnet.__file__))
# How a call is done: in its own process, by a shim that finds no agent, or by an agent.
WAYS = ("process", "shim", "agent")


def install(folder, *options):
    subprocess.run(
        [*COMMAND, "plugin", "install", "--bin-dir", str(folder), *options, "--name", *NAMES],
        env={**os.environ, "PYTHONPATH": SOURCE},
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture(scope="module")
def bin_dir(tmp_path_factory):
    """``podnet plugin install`` puts the executable there."""
    return install(tmp_path_factory.mktemp("bin"))


@pytest.fixture(scope="module")
def shim_dir(tmp_path_factory):
    """The executable that asks an agent."""
    return install(tmp_path_factory.mktemp("shims"), "--agent")


def start_agent(runtime):
    """Return a ``podnet agent`` on the rig's node, with its settings, that listens."""
    path = runtime.environ["PODNET_SOCKET"]
    before = os.stat(path).st_ino if os.path.exists(path) else 0
    process = subprocess.Popen(
        [*COMMAND, "agent", "--output", "json"],
        env={**runtime.environ, "PYTHONPATH": SOURCE},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
    )
    ends = time.monotonic() + 30
    while not os.path.exists(path) or os.stat(path).st_ino == before:
        if process.poll() is not None or time.monotonic() > ends:
            process.kill()
            raise AssertionError(process.communicate()[1].decode())
        time.sleep(0.02)
    return process


@contextmanager
def agent_of(runtime):
    """Have an agent; it ends as it should."""
    process = start_agent(runtime)
    try:
        yield process
    finally:
        process.terminate()
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")
    runtime.told = json.loads(out)
    assert not os.path.exists(runtime.environ["PODNET_SOCKET"])


class Runtime:
    """Calls the executables; the node's state is the rig's."""

    def __init__(self, rig, bin_dir):
        self.rig = rig
        self.bin_dir = bin_dir
        config = rig.folder / "podnet.conf"
        config.write_text(
            json.dumps(
                {
                    "stateDir": str(rig.state),
                    "networks": list(rig.settings.networks),
                    "confDir": rig.settings.conf_dir,
                    "node": "node-1",
                    "timeout": 20,
                }
            )
        )
        # Nothing of the test's own environment: a runtime's has neither PYTHONPATH nor HOME.
        self.environ = {
            "PATH": "/usr/bin:/bin",
            "CNI_PATH": f"{bin_dir}:{PEERS}",
            "PODNET_CONFIG": str(config),
            "PODNET_SOCKET": str(rig.folder / "agent" / "agent.sock"),
        }

    def run(self, program, verb, config, container=None, ifname="eth1", **variables):
        """Return exit code, standard output as JSON, and standard error."""
        environ = {**self.environ, "CNI_COMMAND": verb}
        if container is not None:
            environ |= {
                "CNI_CONTAINERID": container.name,
                "CNI_NETNS": container.netns,
                "CNI_IFNAME": ifname,
            }
        data = config if isinstance(config, bytes) else json.dumps(config).encode()
        done = subprocess.run(
            [os.path.join(self.bin_dir, program)],
            input=data,
            env={**environ, **variables},
            capture_output=True,
            check=False,
            timeout=60,
            cwd="/",
        )
        answer = json.loads(done.stdout) if done.stdout else None
        return done.returncode, answer, done.stderr.decode()

    def good(self, *args, **kwargs):
        code, answer, noise = self.run(*args, **kwargs)
        assert (code, noise) == (0, ""), answer
        return answer

    def bad(self, *args, **kwargs):
        code, answer, noise = self.run(*args, **kwargs)
        assert (code, noise) == (1, ""), answer
        return answer["code"], answer["msg"]


@pytest.fixture(params=WAYS)
def way(request):
    return request.param


@pytest.fixture
def runtime(tmp_path, request, way):
    folder = request.getfixturevalue("bin_dir" if way == "process" else "shim_dir")
    (tmp_path / "node").mkdir()
    with rig_in(tmp_path / "node") as rig:
        runtime = Runtime(rig, folder)
        with agent_of(runtime) if way == "agent" else nullcontext():
            yield runtime


def assert_nothing_is_left(runtime, *containers):
    rig = runtime.rig
    assert [links(each) for each in containers] == [[] for _ in containers]
    assert (rig.leases(), rig.records(), rig.temporary()) == ({}, [], [])
    assert rig.new_host_links() == []


@pytest.mark.parametrize("name", NAMES)
def test_every_name_tells_its_versions(runtime, name):
    told = runtime.good(name, "VERSION", b"{}")
    assert told == {"cniVersion": "1.1.0", "supportedVersions": list(SUPPORTED)}


def test_a_person_who_starts_it_learns_what_it_is(runtime):
    code, told, noise = runtime.run("macvlan", "", b"")
    assert (code, told) == (0, None)
    assert noise.startswith("macvlan: podnet, CNI plugin")


def test_macvlan_lives_and_ends(runtime):
    rig = runtime.rig
    container, other = rig.container("c1"), rig.container("c2")
    runtime.good("macvlan", "STATUS", MACVLAN)
    result = runtime.good("macvlan", "ADD", MACVLAN, container)
    assert list(result) == ["cniVersion", "interfaces", "ips", "routes"]
    (interface,) = result["interfaces"]
    assert (interface["name"], interface["sandbox"]) == ("eth1", container.netns)
    shown = container.namespace.link("eth1")
    assert (shown["linkinfo"]["info_kind"], shown["address"]) == ("macvlan", interface["mac"])
    assert result["ips"] == [
        {"address": "192.168.60.20/24", "gateway": "192.168.60.1", "interface": 0}
    ]
    assert container.namespace.addresses("eth1") == ["192.168.60.20/24"]

    runtime.good("macvlan", "CHECK", {**MACVLAN, "prevResult": result}, container)
    assert runtime.bad("macvlan", "ADD", MACVLAN, container) == (
        102,
        "interface eth1 exists already; it was left alone",
    )
    runtime.good("macvlan", "ADD", MACVLAN, other)
    assert addresses(other) == {"eth1": "192.168.60.21"}

    with inside(container.namespace.fd):
        ip("address", "delete", "192.168.60.20/24", "dev", "eth1")
    code, _ = runtime.bad("macvlan", "CHECK", {**MACVLAN, "prevResult": result}, container)
    assert code == 105

    valid = {"cni.dev/valid-attachments": [{"containerID": "c2", "ifname": "eth1"}]}
    runtime.good("macvlan", "GC", {**MACVLAN, **valid})
    assert (links(container), links(other)) == ([], ["eth1"])
    assert rig.leases() == {"192.168.60.21": ("c2", "eth1")}
    for _ in range(2):
        runtime.good("macvlan", "DEL", MACVLAN, other)
    assert_nothing_is_left(runtime, container, other)


def test_a_name_decides_before_the_type_does(runtime):
    """An IPAM plugin is called with the configuration of the plugin that delegates to it."""
    container = runtime.rig.container("c1")
    result = runtime.good("whereabouts", "ADD", MACVLAN, container)
    assert result == {
        "cniVersion": "1.1.0",
        "ips": [{"address": "192.168.60.20/24", "gateway": "192.168.60.1"}],
        "routes": [{"dst": "10.96.0.0/12"}],
    }
    assert links(container) == []
    assert runtime.rig.leases() == {"192.168.60.20": ("c1", "eth1")}
    runtime.good("whereabouts", "CHECK", {**MACVLAN, "prevResult": result}, container)
    runtime.good("whereabouts", "DEL", MACVLAN, container)
    assert_nothing_is_left(runtime, container)


@pytest.mark.parametrize("name", ["podnet", "multus"])
def test_the_scenario_s_pod(runtime, name):
    rig = runtime.rig
    container = rig.container("c1")
    config = {**DELEGATING, "type": name, "clusterNetwork": str(rig.default)}
    result = runtime.good(name, "ADD", config, container, ifname="eth0")
    assert [each["name"] for each in result["interfaces"] if "sandbox" in each] == ["eth0"]
    assert addresses(container) == {"eth0": "10.250.225.223", "eth1": "192.168.60.20"}
    runtime.good(name, "CHECK", {**config, "prevResult": result}, container, ifname="eth0")
    runtime.good(name, "STATUS", config)
    valid = {"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]}
    runtime.good(name, "GC", {**config, **valid})
    assert links(container) == ["eth0", "eth1"]
    rig.end(container)
    # Manifests and default network may be gone by then.
    os.unlink(rig.default)
    runtime.good(name, "DEL", config, container, ifname="eth0", CNI_NETNS="")
    assert_nothing_is_left(runtime)


def test_loopback(runtime):
    container = runtime.rig.container("c1")
    config = {"cniVersion": "1.0.0", "name": "lo", "type": "loopback"}
    result = runtime.good("loopback", "ADD", config, container, ifname="lo")
    assert [each["address"] for each in result["ips"]] == ["127.0.0.1/8", "::1/128"]
    runtime.good("loopback", "DEL", config, container, ifname="lo")


BAD = {
    "unknown verb": ("macvlan", {"CNI_COMMAND": "UPDATE"}, None, 4, "unknown CNI_COMMAND: UPDATE"),
    "lower case": ("podnet", {"CNI_COMMAND": "add"}, None, 4, "unknown CNI_COMMAND: add"),
    "no container": (
        "macvlan",
        {"CNI_CONTAINERID": ""},
        None,
        4,
        "required env variables [CNI_CONTAINERID] missing",
    ),
    "container a path": (
        "whereabouts",
        {"CNI_CONTAINERID": "../../x"},
        None,
        4,
        "invalid characters in containerID",
    ),
    "interface no text": (
        "macvlan",
        {"CNI_IFNAME": "eth\udcff"},
        None,
        4,
        "interface name is not UTF-8",
    ),
    "no JSON": (
        "macvlan",
        {},
        b"\xff\xfe",
        6,
        "error unmarshall network config: not UTF-8 at byte 0",
    ),
    "nothing": (
        "podnet",
        {},
        b"",
        6,
        "error unmarshall network config: Expecting value at line 1 column 1",
    ),
    "type a path": (
        "podnet",
        {},
        b'{"name": "x", "type": "../macvlan"}',
        7,
        "invalid network configuration",
    ),
    "type unknown": (
        "podnet",
        {},
        b'{"name": "x", "type": "magic"}',
        108,
        "podnet has no built-in plugin 'magic'",
    ),
    "own namespace": (
        "macvlan",
        {"CNI_NETNS": "/proc/self/ns/net"},
        None,
        8,
        "plugin's netns and netns from CNI_NETNS should not be the same",
    ),
    "settings missing": (
        "macvlan",
        {"PODNET_CONFIG": "/nowhere"},
        None,
        5,
        "cannot read PODNET_CONFIG /nowhere",
    ),
    "state nowhere": (
        "macvlan",
        {"PODNET_STATE_DIR": "/proc/podnet"},
        None,
        5,
        "cannot make folder /proc/podnet: No such file or directory",
    ),
}


# An agent has its own settings.
OTHER_BY_AGENT = {"state nowhere": (4, "podnet's agent has other settings than its caller")}


@pytest.mark.parametrize("row", BAD)
def test_bad_input_ends_in_json_and_nothing_else(runtime, row, way):
    program, variables, stdin, code, msg = BAD[row]
    if way == "agent":
        code, msg = OTHER_BY_AGENT.get(row, (code, msg))
    container = runtime.rig.container("c1")
    config = MACVLAN if stdin is None else stdin
    assert runtime.bad(program, "ADD", config, container, **variables) == (code, msg)
    assert_nothing_is_left(runtime, container)


def test_standard_files_that_are_closed(runtime):
    container = runtime.rig.container("c1")
    environ = {
        **runtime.environ,
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": container.netns,
        "CNI_IFNAME": "eth1",
    }

    def run(verb, closed):
        return subprocess.run(
            ["/bin/sh", "-c", f"exec {runtime.bin_dir}/macvlan {closed}"],
            input=json.dumps(MACVLAN).encode(),
            env={**environ, "CNI_COMMAND": verb},
            capture_output=True,
            check=False,
        )

    done = run("ADD", "<&-")
    assert (done.returncode, done.stderr) == (1, b"")
    assert json.loads(done.stdout)["code"] == 6
    assert_nothing_is_left(runtime, container)
    done = run("ADD", ">&- 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert addresses(container) == {"eth1": "192.168.60.20"}
    done = run("DEL", ">/dev/full 2>&-")
    assert (done.returncode, done.stderr) == (0, b"")
    assert_nothing_is_left(runtime, container)


def test_a_result_that_nobody_reads(runtime):
    container = runtime.rig.container("c1")
    environ = {
        **runtime.environ,
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": container.netns,
        "CNI_IFNAME": "eth1",
    }
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer) as nobody:
        done = subprocess.run(
            [f"{runtime.bin_dir}/macvlan"],
            input=json.dumps(MACVLAN).encode(),
            env=environ,
            stdout=nobody,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, b"")
    assert links(container) == ["eth1"]
    runtime.good("macvlan", "DEL", MACVLAN, container)
    assert_nothing_is_left(runtime, container)


class TestBesideDebiansPlugins:
    pytestmark = needs_peers

    def test_their_macvlan_and_our_whereabouts(self, runtime):
        rig = runtime.rig
        container = rig.container("c1")
        config = {**MACVLAN, "cniVersion": "1.0.0", "ipam": ROUTELESS}
        theirs = f"{PEERS}/macvlan"
        result = runtime.good(theirs, "ADD", config, container)
        assert result["ips"][0]["address"] == "192.168.60.20/24"
        assert addresses(container) == {"eth1": "192.168.60.20"}
        assert rig.leases() == {"192.168.60.20": ("c1", "eth1")}
        runtime.good(theirs, "CHECK", {**config, "prevResult": result}, container)
        runtime.good(theirs, "DEL", config, container)
        assert_nothing_is_left(runtime, container)

    def test_one_folder_for_their_host_local_and_ours(self, runtime):
        """Under their macvlan and ours; which of the two host-locals it is, CNI_PATH decides."""
        data = runtime.rig.folder / "host-local"
        ipam = {"type": "host-local", "ranges": [[{"subnet": "10.9.0.0/24"}]], "dataDir": str(data)}
        config = {**MACVLAN, "cniVersion": "1.0.0", "ipam": ipam}
        theirs = f"{PEERS}/macvlan"
        ways = [
            (theirs, {"CNI_PATH": PEERS}, False),
            (theirs, {}, True),
            ("macvlan", {}, True),
        ]
        for n, (macvlan, path, is_ours) in enumerate(ways):
            container = runtime.rig.container(f"c{n}")
            result = runtime.good(macvlan, "ADD", config, container, **path)
            assert result["ips"][0]["address"] == f"10.9.0.{n + 2}/24"
            assert addresses(container) == {"eth1": f"10.9.0.{n + 2}"}
            assert (data / ".podnet").exists() == is_ours
            told = {**config, "prevResult": result}
            runtime.good(macvlan, "CHECK", told, container, **path)
        names = {each.name for each in (data / "storage").glob("10.*")}
        assert names == {"10.9.0.2", "10.9.0.3", "10.9.0.4"}
        for container, (macvlan, path, _) in zip(runtime.rig.containers, ways, strict=True):
            runtime.good(macvlan, "DEL", config, container, **path)
        assert list((data / "storage").glob("10.*")) == []
        assert_nothing_is_left(runtime, *runtime.rig.containers)

    def test_podnet_and_their_bridge_and_our_whereabouts(self, runtime):
        """Three processes deep, podnet above and below: it must not wait for itself."""
        rig = runtime.rig
        container = rig.container("c1")
        bridge = {"type": "bridge", "bridge": "br7", "ipam": ROUTELESS}
        lan = {"cniVersion": "1.0.0", "name": "lan", "plugins": [bridge, {"type": "tuning"}]}
        config = {**DELEGATING, "delegates": [lan]}
        result = runtime.good("podnet", "ADD", config, container, ifname="eth0")
        assert result["interfaces"][0]["name"] == "br7"
        assert addresses(container) == {"eth0": "192.168.60.20", "eth1": "192.168.60.21"}
        assert len(rig.leases()) == 2
        code, _ = runtime.bad("podnet", "ADD", config, container, ifname="eth0")
        assert code == 102
        runtime.good("podnet", "CHECK", {**config, "prevResult": result}, container, ifname="eth0")
        runtime.good("podnet", "GC", {**config, "cni.dev/valid-attachments": []})
        ip("link", "delete", "br7")
        assert_nothing_is_left(runtime, container)
