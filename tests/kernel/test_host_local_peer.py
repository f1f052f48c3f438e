"""podnet and Debian's host-local executable hand out of one folder, in turn and at once."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections import Counter
from contextlib import contextmanager

import pytest

from podnet.engine.house import House
from podnet.engine.leases import Ipam
from podnet.engine.settings import Settings
from podnet.engine.verbs import perform
from podnet.errors import PodnetError, PoolExhaustedError
from podnet.model.attachment import Call
from podnet.stores.host_local import HostLocalStore
from podnet.testing.together import in_processes

PEER = "/usr/lib/cni/host-local"
LONG = bool(os.environ.get("PODNET_TEST_LONG"))

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(
        not os.path.exists(PEER), reason="needs Debian's containernetworking-plugins"
    ),
    pytest.mark.timeout(1200 if LONG else 300),
]

# Few addresses, so that every one of them changes hands all the time, and two ranges in a set.
SMALL = [
    [
        {"subnet": "10.1.2.0/24", "rangeStart": "10.1.2.10", "rangeEnd": "10.1.2.17"},
        {"subnet": "10.1.4.0/24", "rangeStart": "10.1.4.250"},
        {"subnet": "10.1.2.0/24", "rangeStart": "10.1.2.1", "rangeEnd": "10.1.2.8"},
    ],
    [
        {
            "subnet": "2001:db8:0:1::/64",
            "rangeStart": "2001:db8:0:1::f8",
            "rangeEnd": "2001:db8:0:1::10f",
        }
    ],
]
FULL = "no IP addresses available in range set"


class Site:
    """One network's folder, and the two who use it."""

    def __init__(self, folder, ranges=SMALL, name="mynet"):
        self.folder = str(folder / "networks")
        self.state = str(folder / "state")
        self.name = name
        self.ipam = {"type": "host-local", "dataDir": self.folder, "ranges": ranges}

    def call(self, verb, container, ifname="eth0", **config):
        document = {"cniVersion": "1.0.0", "name": self.name, "type": "bridge", "ipam": self.ipam}
        return Call(
            plugin="bridge",
            verb=verb,
            container_id=container,
            ifname=ifname,
            netns="/proc/self/ns/net",
            path=("/usr/lib/cni",),
            config={**document, **config},
        )

    def theirs(self, verb, container, ifname="eth0", **config):
        """Run the executable; return the addresses that it tells, or raise what it says."""
        call = self.call(verb, container, ifname, **config)
        done = subprocess.run(
            [PEER],
            input=json.dumps(call.config).encode(),
            env=call.environment(),
            capture_output=True,
            check=False,
        )
        if done.returncode:
            error = json.loads(done.stdout)
            kind = PoolExhaustedError if FULL in error["msg"] else PodnetError
            raise kind(error["msg"])
        told = json.loads(done.stdout) if done.stdout else {}
        return [each["address"] for each in told.get("ips", ())]

    @contextmanager
    def ours(self):
        """Return what the built-in plugin does for a verb."""
        settings = Settings(state_dir=self.state, node="node-1", store=f"file:{self.state}/leases")
        with House(settings) as house:

            def do(verb, container, ifname="eth0", **config):
                call = self.call(verb, container, ifname, **config)
                result = perform(house, call, name="host-local")
                return [] if result is None else [ip.address for ip in result.ips]

            yield do

    def held(self):
        """Return whose each address is as podnet sees it."""
        leases = Ipam(HostLocalStore(self.folder)).leases(self.name)
        return {str(lease.ip): lease.owner.key for lease in leases}

    def files(self):
        """Return what the files say, without podnet's help."""
        found = {}
        folder = os.path.join(self.folder, self.name)
        for name in os.listdir(folder):
            if name != "lock" and not name.startswith("last_reserved_ip."):
                with open(os.path.join(folder, name), newline="") as file:
                    found[name] = tuple(file.read().split("\r\n"))
        return found


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@pytest.fixture
def both(site):
    with site.ours() as ours:
        yield {"ours": ours, "theirs": site.theirs}


WIDE = [[{"subnet": "10.1.2.0/24"}, {"subnet": "10.2.2.0/29"}], [{"subnet": "2001:db8:1::/64"}]]


def cursor(site, number):
    with open(os.path.join(site.folder, site.name, f"last_reserved_ip.{number}")) as file:
        return file.read()


def test_round_robin_goes_on_whoever_was_last(tmp_path):
    site = Site(tmp_path, WIDE)
    with site.ours() as ours:
        told = [
            each("ADD", f"c{n}")
            for n, each in enumerate([ours, site.theirs, site.theirs, ours, ours, site.theirs])
        ]
    assert told == [[f"10.1.2.{n}/24", f"2001:db8:1::{n}/64"] for n in range(2, 8)]
    assert cursor(site, 0) == "10.1.2.7"
    assert cursor(site, 1) == "2001:db8:1::7"
    assert site.held() == site.files()


@pytest.mark.parametrize("seed", range(4))
def test_one_after_the_other_they_do_the_same(tmp_path, seed):
    """Whatever is asked of podnet is answered as host-local answers it, on a folder of its own."""
    chance = random.Random(seed)
    mixed, alone = Site(tmp_path / "mixed"), Site(tmp_path / "alone")
    live = []
    with mixed.ours() as ours:
        for n in range(1000 if LONG else 100):
            each = ours if chance.random() < 0.6 else mixed.theirs
            if live and chance.random() < 0.4 + 0.02 * (len(live) - 12):
                container = live.pop(chance.randrange(len(live)))
                each("DEL", container)
                alone.theirs("DEL", container)
                continue
            expected = answer(alone.theirs, f"c{n}")
            assert answer(each, f"c{n}") == expected
            live += [f"c{n}"] if isinstance(expected, list) else []
            assert [cursor(mixed, s) for s in (0, 1)] == [cursor(alone, s) for s in (0, 1)]
            assert mixed.files() == alone.files() == mixed.held()


def answer(do, container):
    """Return the addresses of an ADD, or why there are none."""
    try:
        return do("ADD", container)
    except PoolExhaustedError as error:
        return error.msg


def test_each_sees_and_frees_what_the_other_gave(site, both):
    mine, other = both["ours"]("ADD", "mine"), both["theirs"]("ADD", "other")
    assert set(mine).isdisjoint(other)
    assert sorted(site.held().values()) == [("mine", "eth0")] * 2 + [("other", "eth0")] * 2
    # Their CHECK finds any file of the container; ours compares with what ADD told.
    both["theirs"]("CHECK", "mine", prevResult=previous(mine))
    both["ours"]("CHECK", "other", prevResult=previous(other))
    with pytest.raises(PodnetError, match="duplicate allocation is not allowed"):
        both["theirs"]("ADD", "mine")
    assert both["ours"]("ADD", "other") == other
    assert both["ours"]("ADD", "mine") == mine
    both["theirs"]("DEL", "mine")
    assert set(site.held().values()) == {("other", "eth0")}
    both["ours"]("DEL", "other")
    assert site.held() == site.files() == {}


def previous(addresses):
    return {"cniVersion": "1.0.0", "ips": [{"address": each} for each in addresses]}


def test_gc_frees_what_both_gave_to_the_dead(site, both):
    for n in range(4):
        both["ours"]("ADD", f"ours-{n}")
        both["theirs"]("ADD", f"theirs-{n}")
    alive = [{"containerID": f"{who}-1", "ifname": "eth0"} for who in ("ours", "theirs")]
    both["ours"]("GC", "", cniVersion="1.1.0", **{"cni.dev/valid-attachments": alive})
    assert {key[0] for key in site.files().values()} == {"ours-1", "theirs-1"}


def test_requested_addresses_are_refused_by_either_when_held(site, both):
    wanted = {"args": {"cni": {"ips": ["10.1.4.251", "2001:db8:0:1::100"]}}}
    for first, second in (("ours", "theirs"), ("theirs", "ours")):
        told = both[first]("ADD", "a", **wanted)
        assert told == ["10.1.4.251/24", "2001:db8:0:1::100/64"]
        with pytest.raises(PodnetError):
            both[second]("ADD", "b", **wanted)
        assert len(site.files()) == 2
        both[second]("DEL", "a")


OPERATIONS = 10_000 if LONG else 1_000
WORKERS = 8


def test_at_once_no_address_is_given_twice(site):
    """Half of the workers are podnet, half the executable; each frees what the other gave, too.

    Between the answer of ADD and the call of DEL a worker marks its addresses as in use, in a way
    that has nothing to do with either.
    """
    marks = os.path.join(site.state, "marks")
    shelf = os.path.join(site.state, "shelf")
    for folder in (marks, shelf):
        os.makedirs(folder)
    started = time.monotonic()

    def child(number):
        chance = random.Random(number)
        counts = Counter()
        with site.ours() as ours:
            do = ours if number % 2 else site.theirs
            live = []
            while counts.total() < OPERATIONS // WORKERS:
                if chance.random() < 0.5 and (taken := take(chance, shelf, live)) is not None:
                    end(do, marks, *taken)
                    counts["DEL"] += 1
                    continue
                container = f"c{number}-{counts.total()}"
                try:
                    addresses = do("ADD", container)
                except PoolExhaustedError:
                    counts["full"] += 1
                    continue
                counts["ADD"] += 1
                for address in addresses:
                    mark = os.path.join(marks, address.partition("/")[0])
                    os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
                if chance.random() < 0.5:
                    live.append((container, addresses))
                else:
                    put(shelf, container, addresses)
            for each in live:
                end(do, marks, *each)
        with open(os.path.join(site.state, f"counts-{number}"), "w") as file:
            json.dump(counts, file)

    in_processes(WORKERS, child)
    seconds = time.monotonic() - started
    with site.ours() as ours:
        while (taken := take(random.Random(0), shelf, [], shelved=1.0)) is not None:
            end(ours, marks, *taken)
    total = Counter()
    for number in range(WORKERS):
        with open(os.path.join(site.state, f"counts-{number}")) as file:
            total += json.load(file)
    print(f"{total.total()} operations in {seconds:.1f} s: {dict(total)}")
    assert total.total() >= OPERATIONS // WORKERS * WORKERS
    assert total["ADD"] > OPERATIONS // 4
    assert total["full"] > 0
    assert site.held() == site.files() == {}
    assert os.listdir(marks) == []
    sidecars = os.listdir(os.path.join(site.folder, ".podnet", site.name))
    assert all(name.endswith(".json") for name in sidecars), sidecars


def put(shelf, container, addresses):
    """Leave a container for whoever comes by."""
    with open(os.path.join(shelf, f".{container}"), "w") as file:
        json.dump([container, addresses], file)
    os.rename(os.path.join(shelf, f".{container}"), os.path.join(shelf, container))


def take(chance, shelf, live, shelved=0.7):
    """Return a container to end, one's own or one from the shelf; None if there is none."""
    names = [name for name in os.listdir(shelf) if not name.startswith(".")]
    if names and chance.random() < shelved:
        name = chance.choice(names)
        mine = os.path.join(shelf, f".{name}-{os.getpid()}")
        try:
            os.rename(os.path.join(shelf, name), mine)
        except FileNotFoundError:
            return None
        with open(mine) as file:
            found = json.load(file)
        os.unlink(mine)
        return found
    return live.pop(chance.randrange(len(live))) if live else None


def end(do, marks, container, addresses):
    for address in addresses:
        os.unlink(os.path.join(marks, address.partition("/")[0]))
    do("DEL", container)
