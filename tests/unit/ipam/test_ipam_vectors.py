"""What the peers do, as facts collected from their sources (data/ipam_vectors.json).

Every vector is run, or its kind is listed in LATER, or it is listed in DIFFERENT with the reason
why podnet does something else on purpose; what is listed there is run too and must differ.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from attrs import evolve

from podnet.engine.ipam_verbs import IpamPlugin
from podnet.engine.leases import Ipam
from podnet.errors import InvalidConfigError, PodnetError, PoolExhaustedError
from podnet.ipam import space
from podnet.ipam.conf import read_want
from podnet.model.addresses import Address, Span, parse_address, parse_prefix
from podnet.model.attachment import Call
from podnet.model.block import BLOCK_BITS, BLOCK_SIZE, Block
from podnet.model.cniargs import parse_cni_args
from podnet.model.conf import network_config
from podnet.model.lease import Lease, Owner
from podnet.model.pool import INNER
from podnet.stores.memory import MemoryStore

FILE = Path(__file__).parent.parent / "data" / "ipam_vectors.json"
VECTORS = {vector["id"]: vector for vector in json.loads(FILE.read_text())["vectors"]}

SLICES = "a node's share of a large pool is a block it claims, not a slice of the configuration"
CONTROLLER = "podnet reads the slices that whereabouts' controller makes, and makes none"
SURVIVED = (
    "run against the model of whereabouts in kube/test_whereabouts_model.py: podnet lives with it"
)
OBJECTS = {
    "allocation_key",
    "allocation_key_bad",
    "ip_add_offset",
    "ip_offset",
    "ippool_name",
    "overlapping_reservation_name",
    "reconciler_denormalise",
}
"""Kinds about whereabouts' own objects, run in test_whereabouts_vectors.py."""
LATER = {
    ("dhcp", "dhcp_option"): "podnet speaks no DHCP: the executable and its daemon do",
    ("whereabouts", "reconcile"): SURVIVED,
    ("whereabouts", "divide_range"): CONTROLLER,
    ("whereabouts", "node_slice_controller"): CONTROLLER,
}

DROPPED = "whereabouts drops the bad end and hands out addresses outside the range that was meant"
NO_FLAT_FILE = "podnet has a store of its own and needs neither flat file nor kubeconfig"
BY_UID = (
    "podnet knows a pod by its UID: another pod of the same name is another owner, because the "
    "first may still run on a node that is cut off"
)
WRAPS = "intervals end with the address space; nothing wraps around"
ONE_RECORD = "a lease is one record in one block: there is no reservation object to disagree with"
DIFFERENT = {
    "wb-next-019": DROPPED,
    "wb-next-115": DROPPED,
    "wb-next-116": DROPPED,
    "wb-range-008": DROPPED,
    "wb-range-017": DROPPED,
    "wb-step-008": WRAPS,
    "wb-step-009": WRAPS,
    "wb-step-018": WRAPS,
    "wb-conf-002": NO_FLAT_FILE,
    "wb-conf-016": NO_FLAT_FILE,
    "wb-conf-018": "a bad exclude is reported with all other mistakes, before anything is done",
    "wb-seq-001": BY_UID,
    "wb-seq-020": BY_UID,
    "wb-seq-009": "DEL releases every range; there a miss on the first leaks the second",
    "wb-seq-010": ONE_RECORD,
    "wb-seq-011": ONE_RECORD,
    "wb-seq-015": ONE_RECORD,
    "wb-seq-013": SLICES,
    "wb-seq-014": "exclude and range ends count, whatever node_slice_size says",
    "wb-seq-018": "two entries of one network give two addresses, not the same one twice",
}


ELSEWHERE = {"host-local": "test_host_local_vectors.py"}


def of_kind(*kinds, peer="whereabouts"):
    return [v for v in VECTORS.values() if v["peer"] == peer and v["kind"] in kinds]


def by_id(vectors):
    return pytest.mark.parametrize("vector", vectors, ids=lambda vector: vector["id"])


def agrees(vector, outcome):
    """Compare with the vector, or make sure that a listed difference is still one."""
    if vector["id"] in DIFFERENT:
        assert outcome != vector["expect"], f"{vector['id']} is no difference any more"
    else:
        assert outcome == vector["expect"]


def config_of(ipam, cni_version="1.0.0", **rest):
    return {"cniVersion": cni_version, "name": "net", "type": "macvlan", "ipam": ipam, **rest}


def want_of(ipam, args="", **rest):
    config = network_config(config_of(ipam, **rest))
    return read_want("whereabouts", config, dict(parse_cni_args(args)))


def whereabouts_pool(given):
    keys = ("range", "range_start", "range_end", "exclude")
    ipam = {"type": "whereabouts", **{k: given[k] for k in keys if given.get(k) is not None}}
    return want_of(ipam).pools[0]


def hold(store, pool, texts):
    """Put leases of others on addresses, wherever they are."""
    blocks = {}
    for n, text in enumerate(texts):
        ip = parse_address(text)
        block = blocks.setdefault(
            (ip.version, ip.value >> BLOCK_BITS),
            Block(
                domain=pool.domain, version=ip.version, index=ip.value >> BLOCK_BITS, sequence=999
            ),
        )
        lease = Lease(
            domain=pool.domain, pool="other", ip=ip, length=8, owner=Owner(f"c{n}", "eth1")
        )
        key = (ip.version, ip.value >> BLOCK_BITS)
        blocks[key] = evolve(block, leases={**block.leases, ip.value % BLOCK_SIZE: lease})
    for block in blocks.values():
        assert store.swap(block.key, block, None)


PREFIXES = ("could not parse exclude range", "net mask is too short")


def refusal(error):
    if isinstance(error, PoolExhaustedError):
        return {"error_prefix": "Could not allocate IP in range"}
    said = [what for _, what in error.mistakes]
    return {"error_prefix": next((p for p in PREFIXES if said[0].startswith(p)), said[0])}


@by_id(of_kind("next_ip"))
def test_next_address(vector):
    store = MemoryStore()
    try:
        pool = whereabouts_pool(vector["input"])
        hold(store, pool, vector["input"]["reserved"])
        lease = Ipam(store).allocate(pool, Owner("new", "eth1"))
    except (InvalidConfigError, PoolExhaustedError) as error:
        agrees(vector, refusal(error))
    else:
        agrees(vector, {"ip": str(lease.ip)})


@by_id(of_kind("usable_range"))
def test_usable_range(vector):
    try:
        pool = whereabouts_pool(vector["input"])
    except InvalidConfigError as error:
        agrees(vector, refusal(error))
        return
    first, last = (str(Address(pool.network.version, value)) for value in space.bounds(pool))
    agrees(vector, {"first": first, "last": last})


@by_id(of_kind("subnet_edges"))
def test_subnet_edges(vector):
    network = parse_prefix(vector["input"]["cidr"])
    found = {
        "network": str(Address(network.version, network.first)),
        "broadcast": str(Address(network.version, network.last)),
    }
    try:
        first, last = (str(Address(network.version, v)) for v in space.usable(network, INNER))
    except InvalidConfigError:
        found |= {"first_usable": None, "last_usable": None, "has_usable": False}
    else:
        found |= {"first_usable": first, "last_usable": last, "has_usable": True}
    agrees(vector, found)


@by_id(of_kind("ip_step"))
def test_steps(vector):
    """The next address up or down is the near end of what is left beyond an address."""
    ip = parse_address(vector["input"]["ip"])
    top = (1 << (32 if ip.version == 4 else 128)) - 1
    left = list(space.subtract([(0, top)], [(ip.value, ip.value)]))
    up = vector["input"]["op"] == "inc"
    found = (
        [low for low, _ in left if low > ip.value] if up else [b for _, b in left if b < ip.value]
    )
    agrees(vector, {"ip": str(Address(ip.version, found[0])) if found else None})


@by_id(of_kind("ip_compare"))
def test_order_of_addresses(vector):
    x, y = (parse_address(vector["input"][key]) for key in "xy")
    agrees(vector, {"result": (x > y) - (x < y)})


@by_id(of_kind("ip_in_range"))
def test_membership(vector):
    given = {key: parse_address(text) for key, text in vector["input"].items()}
    span = Span(given["start"].version, given["start"].value, given["end"].value)
    agrees(vector, {"result": given["ip"] in span})


# What steers whereabouts' executables is not podnet's to keep.
STEERING = {
    "leader_lease_duration",
    "leader_renew_deadline",
    "leader_retry_period",
    "log_level",
    "reconciler_cron_expression",
}


@by_id(of_kind("config"))
def test_configuration(vector):
    given = vector["input"]
    ipam = dict(given["ipam"])
    ipam.setdefault("range", "10.0.0.0/24")
    if vector["id"] == "wb-conf-002":
        ipam = {"type": "whereabouts", "range": "10.0.0.0/24"}
    old = "0.2.0" if "0.2.0" in vector["title"] else "1.0.0"
    try:
        want = want_of(ipam, given["cni_args"], cni_version=old)
    except InvalidConfigError as error:
        expected = vector["expect"].get("error", "")
        said = [error.msg, *(what for _, what in error.mistakes)]
        agrees(vector, {"error": expected if expected in said else said})
        return
    expected = {k: v for k, v in vector["expect"].items() if k not in STEERING}
    agrees({**vector, "expect": expected}, {key: told(key, want) for key in expected})


def told(key, want):
    first, *_ = want.pools
    if key == "ipRanges":
        return [
            {
                name: str(value) if value else None
                for name, value in (
                    ("range", pool.network),
                    ("range_start", pool.first),
                    ("range_end", pool.last),
                )
            }
            for pool in want.pools
        ]
    if key == "order":
        return [str(pool.network) for pool in want.pools]
    if key == "result_ips":
        ipam = Ipam(MemoryStore())
        return [str(lease.cidr) for lease in ipam.acquire(want, Owner("c", "eth1"))]
    if key == "addresses":
        return [{"address": ip.address, "gateway": ip.gateway} for ip in want.addresses]
    if key == "enable_overlapping_ranges":
        return str(first.network) not in first.domain
    if key == "gateway":
        # The vectors' gateways lie outside the range; they are told all the same.
        return str(first.gateway)
    return None


@pytest.fixture
def house():
    store = MemoryStore()
    return SimpleNamespace(
        store=lambda: store,
        clock=lambda: 0.0,
        step=lambda name: None,
        settings=SimpleNamespace(node="node-1"),
        ipam=lambda store: Ipam(store, clock=lambda: 0.0, node="node-1"),
    )


def perform(house, verb, ipam, pod, *, container=None, ifname="net1", uid=None, plugin=None):
    namespace, _, name = pod.rpartition("/")
    args = f"K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_UID={uid or ''}"
    call = Call(
        plugin="macvlan",
        verb=verb,
        container_id=container or name,
        ifname=ifname,
        args=args,
        config=config_of({"type": "whereabouts", **ipam}),
    )
    served = IpamPlugin(house, plugin or "whereabouts")
    if verb == "DEL":
        return served.delete(call) or "ok"
    return [ip.address for ip in served.add(call).ips]


def leases(house):
    return {str(x.cidr): x.owner.container_id for x in Ipam(house.store()).leases()}


V4 = {"range": "192.168.1.0/24"}


def same_pod(house):
    """With the UID that runtimes pass, the outcome is theirs."""
    first = perform(house, "ADD", V4, "ns/p", container="c1", uid="u")
    second = perform(house, "ADD", V4, "ns/p", container="c2", uid="u")
    assert first == second == ["192.168.1.1/24"]
    perform(house, "DEL", V4, "ns/p", container="c1", uid="u")
    assert leases(house) == {"192.168.1.1/24": "c2"}
    return [perform(house, "ADD", V4, "ns/p", container="c3")]


def lowest_again(house):
    return [
        perform(house, "ADD", V4, "pod0")[0],
        perform(house, "DEL", V4, "pod0"),
        perform(house, "ADD", V4, "pod0")[0],
    ]


def dual_stack(house):
    ranges = [{"range": "192.168.10.1/24"}, {"range": "abcd::1/64"}]
    return [perform(house, "ADD", {"ipRanges": ranges}, "pod0")]


def overlapping(*ranges):
    def run(house):
        return [
            perform(house, "ADD", {"range": each}, f"pod{each}")[0].replace(" ", "")
            for each in ranges
        ]

    return run


def named_networks(house):
    ips = [
        perform(house, "ADD", {"range": each, "network_name": name}, f"pod{n}")[0].partition("/")[0]
        for n, (each, name) in enumerate(
            [("10.0.0.0/24", ""), ("10.0.0.0/24", "named-range"), ("10.0.0.0/28", "named-range")]
        )
    ]
    return (
        "ip(pod1)==ip(pod2); ip(pod3)!=ip(pod2)"
        if ips[0] == ips[1] != ips[2]
        else f"unexpected {ips}"
    )


def second_range_released(house):
    second = {"range": "fd00::/64"}
    perform(house, "ADD", second, "pod0")
    both = {"ipRanges": [{"range": "10.0.0.0/24"}, second]}
    result = perform(house, "DEL", both, "pod0")
    assert leases(house) == {}
    return result


def second_range_is_unique(house):
    perform(house, "ADD", {"range": "10.0.0.0/24"}, "pod0")
    both = {"ipRanges": [{"range": "10.0.0.0/24"}, {"range": "fd00::/64"}]}
    told = perform(house, "ADD", both, "pod0")
    other = perform(house, "ADD", {"range": "fd00::/60"}, "pod1")
    assert told == ["10.0.0.1/24", "fd00::1/64"]
    assert other == ["fd00::2/60"]
    return told


def failed_write_is_no_success(house):
    from podnet.testing.faults import FINE, REFUSED, FaultyStore

    store = FaultyStore(house.store())
    store.plan([FINE, REFUSED])
    house.store = lambda: store
    try:
        return perform(house, "ADD", V4, "pod0")
    except PodnetError as error:
        assert leases(house) == {}
        return type(error).__name__


def no_wedge(house):
    perform(house, "ADD", {"range": "10.0.0.0/24"}, "ns/p")
    return [perform(house, "ADD", {"range": "10.0.0.0/24"}, "ns/p")]


def slices_do_not_matter(house):
    ipam = {"range": "10.0.0.0/24", "exclude": ["10.0.0.0/28"], "node_slice_size": "/26"}
    (ip,) = perform(house, "ADD", ipam, "ns/p")
    assert ip == "10.0.0.16/24"
    return ip


def range_twice(house):
    ranges = [{"range": "10.0.0.0/24"}, {"range": "10.0.0.0/24"}]
    told = perform(house, "ADD", {"ipRanges": ranges}, "ns/p")
    assert told == ["10.0.0.1/24", "10.0.0.2/24"]
    assert perform(house, "ADD", {"ipRanges": ranges}, "ns/p") == told
    return [told]


SEQUENCES = {
    "wb-seq-001": same_pod,
    "wb-seq-002": lowest_again,
    "wb-seq-003": dual_stack,
    "wb-seq-005": overlapping("192.168.22.0/24", "192.168.22.0/28"),
    "wb-seq-006": overlapping("2001::2:3:0/124", "2001::2:3:0/126"),
    "wb-seq-008": named_networks,
    "wb-seq-009": second_range_released,
    "wb-seq-010": second_range_is_unique,
    "wb-seq-011": failed_write_is_no_success,
    "wb-seq-013": slices_do_not_matter,
    "wb-seq-014": slices_do_not_matter,
    "wb-seq-015": no_wedge,
    "wb-seq-018": range_twice,
    "wb-seq-020": same_pod,
}


@by_id(of_kind("cni_sequence"))
def test_sequence_of_calls(vector, house):
    agrees(vector, {"results": SEQUENCES[vector["id"]](house)})


@by_id(of_kind("config_to_result", peer="static"))
def test_static(vector, house):
    given = dict(vector["input"])
    args = given.pop("cni_args", "")
    ipam = {"type": "static", "addresses": given.pop("addresses", [])}
    rest = {k: given[k] for k in ("args", "runtimeConfig") if k in given}
    config = config_of(ipam, **rest)
    config.pop(given.get("conf_without", ""), None)
    call = Call(
        plugin="macvlan", verb="ADD", container_id="c", ifname="eth1", args=args, config=config
    )
    expected = vector["expect"]
    try:
        ips = IpamPlugin(house, "static").add(call).ips
    except InvalidConfigError as error:
        said = [error.msg, *(what for _, what in error.mistakes)]
        agrees(vector, {"error": expected["error"] if expected["error"] in said else said})
        return
    if expected["ips"] and isinstance(expected["ips"][0], str):
        agrees(vector, {"ips": [ip.address for ip in ips]})
    else:
        agrees(
            vector,
            {
                "ips": [
                    {"address": ip.address, **({"gateway": ip.gateway} if ip.gateway else {})}
                    for ip in ips
                ]
            },
        )


RUN = {
    ("whereabouts", "next_ip"),
    ("whereabouts", "usable_range"),
    ("whereabouts", "subnet_edges"),
    ("whereabouts", "ip_step"),
    ("whereabouts", "ip_compare"),
    ("whereabouts", "ip_in_range"),
    ("whereabouts", "config"),
    ("whereabouts", "cni_sequence"),
    ("static", "config_to_result"),
}


def test_every_vector_is_run_or_listed():
    kinds = {(v["peer"], v["kind"]) for v in VECTORS.values() if v["peer"] not in ELSEWHERE}
    kinds -= {("whereabouts", kind) for kind in OBJECTS}
    assert all((Path(__file__).parent / name).exists() for name in ELSEWHERE.values())
    assert kinds == RUN | LATER.keys()
    assert not RUN & LATER.keys()
    run = {name for name, v in VECTORS.items() if (v["peer"], v["kind"]) in RUN}
    assert DIFFERENT.keys() <= run
    assert set(SEQUENCES) == {v["id"] for v in of_kind("cni_sequence")}
