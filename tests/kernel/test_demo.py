"""The command on real namespaces: the demo as a whole, and attach to detach one by one."""

from __future__ import annotations

import importlib
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import podnet
from podnet.cli.demo import SCENARIO

pytestmark = pytest.mark.kernel

SRC = os.path.dirname(os.path.dirname(podnet.__file__))
PODNET = [sys.executable, "-m", "podnet.cli.main"]
NOBODY = 65534
SYSTEM_PYTHON = "/usr/bin/python3"
# A user's run is root of a user namespace that has no other users (tests/kernel/conftest.py).
IS_ROOT = len(Path("/proc/self/uid_map").read_text().split("\n")[0].split()[2]) == 10


@pytest.fixture
def scratch():
    """A folder that any user may write, as /tmp is: what a demo leaves would be in it."""
    with tempfile.TemporaryDirectory(prefix="podnet-test-") as folder:
        os.chmod(folder, 0o777)
        yield folder


def environment(scratch, **more):
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    quiet = {"PYTHONPATH": SRC, "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": scratch}
    return {**kept, **quiet, **more}


def demo(scratch, *arguments, before=(), **options):
    return subprocess.run(
        [*before, *PODNET, "demo", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd="/",
        env=environment(scratch),
        **options,
    )


def machine_links():
    with open("/proc/net/dev") as file:
        return sorted(line.split(":")[0].strip() for line in file.readlines()[2:])


def assert_both_pods_lived(done):
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["ok"], document["checked"], document["left"]) == (True, True, [])
    for n, (pod, name) in enumerate(
        zip(document["pods"], ("test-webhook", "test-webhook-2"), strict=True)
    ):
        assert pod["pod"] == f"default/{name}"
        eth0, eth1, lo = pod["interfaces"]
        assert (eth0["name"], eth0["kind"], eth0["mtu"]) == ("eth0", "veth", 1440)
        assert eth0["addresses"][0] == f"10.250.225.{223 + n}/24"
        assert (eth1["name"], eth1["kind"], eth1["mtu"]) == ("eth1", "macvlan", 1500)
        assert eth1["addresses"][0] == f"192.168.60.{20 + n}/24"
        assert (eth1["state"], eth1["network"]) == ("up", "default/macvlan-conf-1")
        assert lo["name"] == "lo"
        status = {entry["interface"]: entry for entry in json.loads(pod["networkStatus"])}
        assert status["eth1"]["name"] == "default/macvlan-conf-1"
        assert status["eth1"]["ips"] == [f"192.168.60.{20 + n}"]
        assert status["eth1"]["mac"] == eth1["mac"]
        assert status["eth0"]["default"] is True
    macs = [i["mac"] for pod in document["pods"] for i in pod["interfaces"] if i["mac"]]
    assert len(set(macs)) == 4
    ways = [(ping["from"], ping["to"]) for ping in document["pings"]]
    assert ways == [
        ("192.168.60.20", "192.168.60.21"),
        ("192.168.60.20", "192.168.60.1"),
        ("192.168.60.21", "192.168.60.20"),
        ("192.168.60.21", "192.168.60.1"),
    ]
    assert all(ping["ms"] > 0 for ping in document["pings"])


def test_the_demo_ends_with_two_pods_that_ping_and_nothing_left(scratch):
    before = machine_links()
    assert_both_pods_lived(demo(scratch))
    assert machine_links() == before
    assert os.listdir(scratch) == []


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_the_demo_prints_on_any_stream(scratch, encoding):
    done = subprocess.run(
        [*PODNET, "demo", "-o", "table"],
        capture_output=True,
        check=False,
        timeout=120,
        cwd="/",
        env=environment(scratch, PYTHONIOENCODING=encoding),
    )
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode(encoding).splitlines()
    assert "+ checked: kernel and leases are as attached" in lines
    assert "uplink 192.168.60.1 -- node eth1 +- macvlan -- test-webhook eth1 192.168.60.20" in lines
    assert any("ping 192.168.60.20 -> 192.168.60.21 over eth1" in line for line in lines)


def assert_it_works_in_a_user_namespace(scratch, done):
    if done.returncode == 1 and '"code": 50' in done.stdout:
        pytest.skip(f"no user namespace for users here: {done.stderr}")
    assert_both_pods_lived(done)
    assert os.listdir(scratch) == []


@pytest.mark.skipif(not IS_ROOT, reason="the test above runs as this user already")
def test_the_demo_works_for_an_unprivileged_user(scratch, request):
    user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    command = [sys.executable, "-m", "podnet.cli.main"]
    try:
        subprocess.run([*command, "--version"], check=True, capture_output=True, cwd="/", **user)
    except (PermissionError, subprocess.CalledProcessError):
        # Interpreter and library are below a home that is closed to others: the system's
        # interpreter, and a copy of the library.
        command = [SYSTEM_PYTHON, "-P", "-m", "podnet.cli.main"]
        folder = Path(tempfile.mkdtemp(prefix="podnet-library-"))
        request.addfinalizer(lambda: shutil.rmtree(folder))
        library = folder / "library"
        for name in ("podnet", "attr", "attrs", "netaddr", "pyroute2", "yaml"):
            shutil.copytree(Path(importlib.import_module(name).__file__).parent, library / name)
        os.chmod(folder, 0o755)
        user["env"] = {**environment(scratch), "PYTHONPATH": str(library)}
    done = subprocess.run(
        [*command, "demo"],
        **{"env": environment(scratch), **user},
        capture_output=True, text=True, check=False, timeout=120, cwd="/",
    )  # fmt: skip
    assert_it_works_in_a_user_namespace(scratch, done)


@pytest.mark.skipif(not IS_ROOT, reason="a user has no capabilities to drop")
@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv")
def test_the_demo_works_for_root_without_capabilities(scratch):
    # As in a container. Files of others stay readable, for the interpreter's sake, and mapping
    # user 0 takes CAP_SETFCAP (user_namespaces(7), since Linux 5.12).
    drop = ["setpriv", "--bounding-set", "-all,+dac_override,+dac_read_search,+setfcap"]
    assert_it_works_in_a_user_namespace(scratch, demo(scratch, before=drop))


def test_where_no_namespace_can_be_had_the_demo_says_what_is_missing(scratch):
    # In a user namespace without a mapping nobody may make another (user_namespaces(7)).
    done = demo(scratch, before=["unshare", "--user"])
    assert done.returncode == 1
    assert done.stderr.startswith("podnet: error: no network namespace of one's own can be had")
    assert "run it as root" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout)["code"] == 50


def sabotaged(scratch, sabotage):
    """Play the demo after some lines of code that break podnet."""
    code = f"{sabotage}\nimport sys\nfrom podnet.cli.main import main\nsys.exit(main(['demo']))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=environment(scratch),
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert os.listdir(scratch) == []
    return json.loads(done.stdout), done.stderr


def test_a_demo_that_leaves_something_fails_and_names_it(scratch):
    document, errors = sabotaged(
        scratch,
        "from podnet.engine.node import Node\nNode.detach = lambda self, netns: ()",
    )
    assert document["ok"] is False
    for thing in (
        "link eth1 in test-webhook",
        "address 192.168.60.21/24 on eth1 in test-webhook-2",
        "lease of 192.168.60.20/24 by default/test-webhook (eth1)",
    ):
        assert thing in document["left"]
        assert f"podnet: error: left behind: {thing}\n" in errors
    # The node's ends of the default network's pairs, the records and their files.
    for start, least in (("link ", 6), ("record of container test-webhook", 2), ("file ", 2)):
        assert sum(thing.startswith(start) for thing in document["left"]) >= least


def test_a_demo_whose_pods_cannot_reach_each_other_fails(scratch):
    document, errors = sabotaged(
        scratch,
        "from podnet.cli import ping\n"
        "ping.request = lambda ident, sequence: bytes(8)\n"
        "ping.ping.__kwdefaults__.update(attempts=1, wait=0.05)",
    )
    assert (document["ok"], document["left"]) == (False, [])
    assert [ping["ms"] for ping in document["pings"]] == [None] * 4
    assert errors.count("cannot reach") == 4


@pytest.mark.parametrize("colour", [True, False])
def test_on_a_terminal_the_demo_draws(scratch, colour):
    pytest.importorskip("rich")
    more = {} if colour else {"NO_COLOR": "1"}
    far, near = pty.openpty()
    process = subprocess.Popen(
        [*PODNET, "demo"],
        stdout=near,
        stderr=near,
        stdin=subprocess.DEVNULL,
        env=environment(scratch, TERM="xterm-256color", COLUMNS="110", **more),
    )
    os.close(near)
    seen = b""
    while select.select([far], [], [], 60)[0]:
        try:
            part = os.read(far, 65536)
        except OSError:
            break
        seen += part
    os.close(far)
    assert process.wait() == 0, seen
    text = seen.decode()
    assert ("\x1b[1;36m" in text) is colour
    for words in ("192.168.60.20/24", "macvlan", "→", "nothing is left"):
        assert words in text
    assert not text.lstrip().startswith("{")


def started(scratch):
    """Start a demo of its own process group and return it and its child once it plays."""
    process = subprocess.Popen(
        [*PODNET, "demo", "--output", "table"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(scratch),
        start_new_session=True,
    )
    assert "uplink" in process.stdout.readline()
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
        children = file.read().split()
    return process, children


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_an_interrupted_demo_leaves_nothing(scratch, number, status):
    process, _ = started(scratch)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    # The demo may be done before the signal arrives.
    assert process.returncode in (status, 0)
    assert "Traceback" not in errors
    assert os.listdir(scratch) == []


def test_a_killed_demo_takes_its_namespaces_along(scratch):
    process, children = started(scratch)
    process.kill()
    process.communicate(timeout=30)
    deadline = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{pid}/ns/net") for pid in children):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    # The state was in the child's memory; what is left is the empty folder it was mounted on.
    assert [os.listdir(os.path.join(scratch, name)) for name in os.listdir(scratch)] in ([], [[]])


STAGE = """
import json, os, subprocess, sys, tempfile
from podnet.cli.inventory import Lab
from podnet.cli.sandbox import in_child, isolate
from podnet.kernel.sandbox import Kernel

def play(root):
    machine = isolate(root)
    with Kernel() as kernel:
        lab = Lab(machine, kernel)
        lab.build_uplink()
        paths = {name: lab.add(name) for name in ("a", "b")}
        before = lab.snapshot()
        told = []
        for line in json.load(sys.stdin):
            words = [word.format(root=root, **paths) for word in line]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            grown = sorted(lab.snapshot() - before)
            told.append([done.returncode, done.stdout, done.stderr, grown])
        json.dump(told, sys.stdout)
    return 0

with tempfile.TemporaryDirectory() as root:
    sys.exit(in_child(lambda: play(root)))
"""


def on_stage(scratch, *commands):
    """Run commands on a node with an uplink and two namespaces, {a} and {b}."""
    done = subprocess.run(
        [sys.executable, "-c", STAGE],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=environment(scratch, PODNET_STATE_DIR=os.path.join(scratch, "state")),
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


NAD, POD = (os.path.join(SCENARIO, name) for name in ("nad.yaml", "pod.yaml"))
ATTACH = (*PODNET, "attach", "-f", NAD, POD, "--netns", "{a}")


def test_attach_check_status_detach(scratch):
    attach, check, status, detach, again, after = on_stage(
        scratch,
        (*ATTACH, "--container-id", "c1"),
        (*PODNET, "check", "--pod", "default/test-webhook"),
        (
            *PODNET,
            "status",
        ),
        (*PODNET, "detach", "--container-id", "c1"),
        (*PODNET, "detach", "--netns", "{a}"),
        (
            *PODNET,
            "status",
        ),
    )
    assert attach[0] == 0, attach
    (network,) = json.loads(attach[1])["networks"]
    assert (network["interface"], network["ips"]) == ("eth1", ["192.168.60.20/24"])
    assert "link eth1 in a" in attach[3]
    assert "address 192.168.60.20/24 on eth1 in a" in attach[3]
    assert check[0] == 0, check
    assert json.loads(check[1])["checked"][0]["containerId"] == "c1"
    (listed,) = json.loads(status[1])["attachments"]
    assert (listed["pod"], listed["stage"]) == ("default/test-webhook", "done")
    assert detach[0] == 0, detach
    assert detach[3] == []
    assert (again[0], json.loads(again[1])) == (0, {"detached": []})
    assert json.loads(after[1]) == {"attachments": []}


def test_check_tells_what_changed(scratch):
    enter = "nsenter --net={a} ip link set eth1 down"
    if not (shutil.which("nsenter") and shutil.which("ip")):
        pytest.skip("needs nsenter and ip to change something behind podnet's back")
    check = (*PODNET, "check", "--netns", "{a}")
    attach, change, check = on_stage(scratch, ATTACH, enter.split(), check)
    assert (attach[0], change[0]) == (0, 0), (attach, change)
    assert check[0] == 1
    assert json.loads(check[1])["code"] == 105
    assert "eth1" in check[2]


def test_the_default_network_comes_first(scratch):
    conflist = os.path.join(SCENARIO, "default.conflist")
    attach, table = on_stage(
        scratch,
        (*ATTACH, "--default-network", conflist),
        (*PODNET, "status", "--output", "table"),
    )
    assert attach[0] == 0, attach
    interfaces = [n["interface"] for n in json.loads(attach[1])["networks"]]
    assert interfaces == ["eth0", "eth1"]
    assert table[1].count("192.168.60.20/24") == 1


def test_a_failed_attach_leaves_nothing_and_one_error(scratch):
    first, second = on_stage(scratch, ATTACH, (*ATTACH[:-1], "{a}", "--container-id", "other"))
    assert first[0] == 0, first
    assert second[0] == 1
    assert second[2].count("\n") == 1
    assert second[3] == first[3]
