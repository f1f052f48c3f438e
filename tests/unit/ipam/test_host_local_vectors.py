"""What host-local does, as facts collected from its source (data/ipam_vectors.json).

Every vector is run; what podnet does otherwise on purpose is in DIFFERENT with its reason, and
must differ.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from podnet.engine import registry
from podnet.engine.leases import Ipam
from podnet.errors import InvalidConfigError, PodnetError
from podnet.ipam.conf import read_want
from podnet.ipam.host_local import parse_resolv_conf, read_range, set_fault
from podnet.model.addresses import parse_address
from podnet.model.attachment import Call
from podnet.model.cniargs import parse_cni_args
from podnet.model.conf import network_config
from podnet.model.reader import Reader

FILE = Path(__file__).parent.parent / "data" / "ipam_vectors.json"
VECTORS = [v for v in json.loads(FILE.read_text())["vectors"] if v["peer"] == "host-local"]

AGAIN = "ADD repeated gives the same address: a runtime that lost the answer can ask again"
DIFFERENT = {
    "hl-seq-008": AGAIN,
    "hl-disk-003": AGAIN,
    "hl-disk-105": "CHECK compares the addresses: a container whose address is another's is broken",
}


def of_kind(kind):
    found = [v for v in VECTORS if v["kind"] == kind]
    assert found
    return pytest.mark.parametrize("vector", found, ids=lambda vector: vector["id"])


def agrees(vector, outcome):
    if vector["id"] in DIFFERENT:
        assert outcome != vector["expect"], f"{vector['id']} is no difference any more"
    else:
        assert outcome == vector["expect"]


def found_range(given):
    """Return the range of an object, and what is wrong with it."""
    reader = Reader(given)
    found = read_range(reader)
    return found, [what for _, what in reader.mistakes]


def range_of(given):
    found, mistakes = found_range(given)
    assert mistakes == []
    return found


def shown(found):
    return {
        "rangeStart": str(found.first),
        "rangeEnd": str(found.last),
        "gateway": str(found.gateway),
    }


@of_kind("range_canonicalize")
def test_range(vector):
    found, mistakes = found_range(vector["input"])
    agrees(vector, {"error": mistakes[0]} if mistakes else shown(found))


@of_kind("range_contains")
def test_membership(vector):
    given = range_of(vector["input"]["range"])
    agrees(vector, {"result": parse_address(vector["input"]["ip"]) in given})


@of_kind("range_overlaps")
def test_overlap(vector):
    one, other = (range_of(vector["input"][key]) for key in "ab")
    assert one.overlaps(other) == other.overlaps(one)
    agrees(vector, {"result": one.overlaps(other)})


@of_kind("range_set")
def test_set(vector):
    ranges = [range_of({"subnet": each}) for each in vector["input"]["range_set"]]
    agrees(vector, {"error": set_fault(ranges)})


@of_kind("resolv_conf")
def test_resolver(vector):
    found = parse_resolv_conf(vector["input"]["resolvConf"])
    assert found.search == found.options == ()
    agrees(vector, {"nameservers": list(found.nameservers)})


@of_kind("config")
def test_configuration(vector):
    given, expected = vector["input"], vector["expect"]
    config = network_config(given["conf"])
    try:
        want = read_want("host-local", config, dict(parse_cni_args(given["cni_args"])))
    except InvalidConfigError as error:
        said = [error.msg, *(what for _, what in error.mistakes)]
        agrees(vector, {"error": expected["error"] if expected.get("error") in said else said})
        return
    told = {
        "ranges": [
            [
                {
                    "subnet": str(pool.network),
                    "rangeStart": str(pool.first),
                    "rangeEnd": str(pool.last),
                    "gateway": str(pool.gateway),
                }
                for pool in pools
            ]
            for pools in want.sets
        ],
        "requested": [str(address) for address in want.requested],
    }
    names = {pool.domain for pool in want.pools}
    assert names == {config.name}
    agrees(vector, {key: told.get(key, config.name) for key in expected})


class Folder:
    """A dataDir, and the plugin on it."""

    def __init__(self, path):
        self.path = path
        stores = {}
        house = SimpleNamespace(
            store=lambda url: stores.setdefault(url, registry.open_store(url)),
            clock=lambda: 5.0,
            step=lambda name: None,
            settings=SimpleNamespace(node="node-1"),
            ipam=lambda store: Ipam(store, clock=lambda: 5.0, node="node-1"),
            served_by_sandbox=False,
        )
        self.plugin = registry.resolve(registry.PLUGINS["host-local"])(house, "host-local")

    def put(self, files):
        for name, content in files.items():
            path = self.path / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content.encode())

    def do(self, step, ipam, name="net", args=None, prev=None):
        """Do a step such as ``ADD c/eth0 ip=10.0.0.1``; return what it ends in."""
        verb, who, *rest = step.split()
        container, _, ifname = who.partition("/")
        asked = [each.removeprefix("ip=") for each in rest]
        config = {
            "cniVersion": "1.0.0",
            "name": name,
            "type": "macvlan",
            "ipam": {"type": "host-local", "dataDir": str(self.path), **ipam},
            "args": args or {"cni": {"ips": asked}},
        }
        if prev:
            config["prevResult"] = {"cniVersion": "1.0.0", "ips": [{"address": prev}]}
        call = Call(
            plugin="macvlan",
            verb=verb,
            container_id=container,
            ifname=ifname or "eth0",
            config=config,
        )
        method = {"ADD": "add", "DEL": "delete", "CHECK": "check"}[verb]
        result = getattr(self.plugin, method)(call)
        return "ok" if result is None else list(result.ips)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def reserved(folder, given):
    """Put what a vector says is there; return the configuration."""
    folder.put({f"net/{ip}": "other\r\neth0" for ip in given.get("reserved", ())})
    if given.get("last_reserved_ip"):
        folder.put({"net/last_reserved_ip.0": given["last_reserved_ip"]})
    return {"ranges": [given["range_set"]]}


@of_kind("next_ip_round_robin")
def test_next_address(vector, folder):
    ipam = reserved(folder, vector["input"])
    try:
        (ip,) = folder.do("ADD new", ipam)
    except PodnetError as error:
        prefix = vector["expect"].get("error_prefix", "?")
        in_order = error.msg.removeprefix("failed to allocate for range 0: ").startswith(prefix)
        agrees(vector, {"error_prefix": prefix if in_order else error.msg})
    else:
        agrees(vector, {"ip": ip.address.partition("/")[0]})


@of_kind("iteration_order")
def test_order(vector, folder):
    ipam = reserved(folder, vector["input"])
    found = [
        folder.do(f"ADD c{n}", ipam)[0].address.partition("/")[0]
        for n in range(len(vector["expect"]["sequence"]))
    ]
    with pytest.raises(PodnetError, match="no IP addresses available"):
        folder.do("ADD late", ipam)
    agrees(vector, {"sequence": found})


@of_kind("alloc_sequence")
def test_sequence(vector, folder):
    ipam = reserved(folder, vector["input"])
    results = []
    for step in vector["input"]["steps"]:
        try:
            result = folder.do(step, ipam)
        except PodnetError:
            results.append("error")
        else:
            results += [result] if result == "ok" else [ip.address for ip in result]
    agrees(vector, {"results": results})


@of_kind("on_disk")
def test_on_disk(vector, folder):
    given, expected = vector["input"], vector["expect"]
    networks = given.get("networks") or {
        given.get("name", "mynet"): given.get("ipam", {"subnet": "10.1.2.0/24"})
    }
    folder.put(given.get("before", {}))
    results, outcome = [], {}
    for step in given["steps"]:
        words = step.split()
        name = words.pop(1) if words[1] in networks else next(iter(networks))
        try:
            result = folder.do(
                " ".join(words),
                networks[name],
                name,
                args=given.get("args"),
                prev=given.get("prevResult_ip"),
            )
        except PodnetError as error:
            results.append("error")
            outcome["error"] = error.msg
            outcome["error_prefix"] = error.msg[: len(expected.get("error_prefix", ""))]
            continue
        results.append(result if result == "ok" else in_form(result, expected.get("results", ())))
    names = {str(each.relative_to(folder.path)) for each in folder.path.glob("*/*")}
    outcome["results"] = results
    outcome["files"] = {
        name: (folder.path / name).read_bytes().decode() if name in names else None
        for name in expected.get("files", ())
    }
    outcome["absent"] = [name for name in expected.get("absent", ()) if name not in names]
    agrees(vector, {key: outcome.get(key) for key in expected})


def in_form(ips, forms):
    """Return addresses in the form that a vector tells its results in."""
    form = next((each for each in forms if isinstance(each, list)), None)
    if form is None:
        return ips[0].address
    if isinstance(form[0], str):
        return [ip.address for ip in ips]
    return [{"address": ip.address, "gateway": ip.gateway} for ip in ips]


def test_differences_are_vectors():
    assert DIFFERENT.keys() <= {v["id"] for v in VECTORS}


def test_every_kind_is_run():
    run = {
        mark.args[1][0]["kind"]
        for each in globals().values()
        for mark in getattr(each, "pytestmark", ())
    }
    assert run == {v["kind"] for v in VECTORS}
