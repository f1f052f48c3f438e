"""Noise, damaged configurations and annotations through the whole of podnet.

The kernel is one of dictionaries and the store is memory; everything between standard input and
standard output is the real thing. Whatever comes in, the answer is JSON with a code that says
whose mistake it is, and a failed ADD leaves nothing.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from attrs import evolve
from hypothesis import event, example, given
from hypothesis import strategies as st

from podnet.cni.skel import handle
from podnet.engine.house import House
from podnet.engine.settings import Settings
from podnet.engine.verbs import perform
from podnet.model.attachment import VERBS
from podnet.model.versions import SUPPORTED, allows
from podnet.stores.memory import MemoryStore
from podnet.testing.fake_kernel import FakeKernel
from podnet.testing.strategies_delegation import annotation_texts, elements
from podnet.testing.strategies_wire import (
    damaged,
    documents,
    environments,
    ifnames,
    ip_addresses,
    names,
    prefixes,
    scalars,
    stdin_bytes,
    texts,
    tricks,
    versions,
)

NETNS = "/run/netns/web-0"
WHEREABOUTS = {
    "type": "whereabouts",
    "range": "192.168.60.0/24",
    "range_start": "192.168.60.20",
    "gateway": "192.168.60.1",
    "routes": [{"dst": "10.0.0.0/8"}],
}
POOLS = {
    "type": "podnet-ipam",
    "pools": [
        {"name": "lan", "network": "10.7.0.0/24", "gateway": "10.7.0.1"},
        {"network": "fd00:7::/64", "domain": "six"},
    ],
}
STATIC = {"type": "static", "addresses": [{"address": "10.0.0.9/24", "gateway": "10.0.0.1"}]}
MACVLAN = {"name": "net", "type": "macvlan", "master": "eth1", "ipam": WHEREABOUTS}
PTP = {"name": "routed", "type": "ptp", "ipam": WHEREABOUTS}
# The names are those that ``short_forms`` and ``elements`` can hit: annotations find something.
# Results of "old" have no word for interfaces.
DEFINED = {
    "a": {**MACVLAN, "name": "a"},
    "b": {**PTP, "name": "b"},
    "old": {**MACVLAN, "name": "old", "cniVersion": "0.2.0"},
}
CONFIGS = (
    MACVLAN,
    {**MACVLAN, "ipam": POOLS, "args": {"cni": {"ips": ["10.7.0.9"]}}},
    {**MACVLAN, "ipam": STATIC, "dns": {"nameservers": ["10.0.0.53"]}},
    {key: value for key, value in MACVLAN.items() if key != "ipam"},
    {**PTP, "mtu": 1400},
    {**PTP, "ipam": STATIC},
    {**MACVLAN, "type": "whereabouts"},
    {"name": "net", "type": "podnet-ipam", "ipam": POOLS},
    {"name": "net", "type": "static", "ipam": STATIC},
    {"name": "lo", "type": "loopback"},
    {"name": "pods", "type": "podnet", "networks": "a@eth1, b"},
    {"name": "pods", "type": "multus", "networks": "a", "delegates": [PTP]},
    {"name": "pods", "type": "podnet", "networks": "b", "clusterNetwork": "a"},
)


@st.composite
def annotations(draw):
    """Annotations: any text, or elements that find a network, one key of one of them damaged."""
    if draw(st.integers(0, 2)) == 0:
        return draw(annotation_texts())
    found = draw(st.lists(elements(), min_size=1, max_size=3))
    for each in found:
        each["name"] = draw(st.sampled_from(["a", "b", "aa"]))
        each.pop("namespace", None)
        # What the definitions do not declare is refused: without it the rest is reached.
        for key in ("portMappings", "bandwidth", "infiniband-guid"):
            if draw(st.booleans()):
                each.pop(key, None)
    if draw(st.booleans()):
        chosen = draw(st.sampled_from(found))
        chosen[draw(st.sampled_from(sorted(chosen)))] = draw(st.one_of(documents, tricks))
    return json.dumps(found)


TEXT = st.one_of(texts, tricks, documents)
ADDRESS = st.one_of(ip_addresses(), prefixes(), TEXT)
LINK = {
    "mtu": st.one_of(st.integers(-1, 70000), scalars),
    "dns": documents,
    "enabledad": scalars,
    "prevResult": documents,
    "ipam": documents,
}
POOL_KEYS = ("network", "first", "last", "gateway", "exclude", "reserved", "domain", "edges")
# Keys that decide, by the type that reads them, and what may be there.
KEYS = {
    "macvlan": {
        **LINK,
        "bcqueuelen": st.one_of(st.integers(-1, 70000), scalars),
        "master": st.one_of(ifnames, TEXT),
        "mode": TEXT,
        "mac": TEXT,
        "linkInContainer": st.one_of(st.booleans(), documents),
        "runtimeConfig": st.dictionaries(st.sampled_from(["ips", "mac"]), ADDRESS),
        "args": st.one_of(st.fixed_dictionaries({"cni": documents}), documents),
    },
    "ptp": {**LINK, "ipMasq": st.one_of(st.booleans(), documents), "ipMasqBackend": TEXT},
    "podnet": {
        "networks": st.one_of(annotations(), documents),
        "delegates": st.one_of(st.lists(st.sampled_from([MACVLAN, PTP, {}])), documents),
        "clusterNetwork": st.one_of(st.sampled_from(["a", "b", "/", "../a"]), TEXT),
        "defaultNetworks": st.lists(st.one_of(st.sampled_from(["a", "b"]), TEXT), max_size=2),
        "multusNamespace": st.one_of(st.just("default"), TEXT),
        "namespaceIsolation": st.one_of(st.booleans(), scalars),
        "confDir": TEXT,
        "runtimeConfig": documents,
        "cni.dev/valid-attachments": documents,
    },
    "loopback": {"prevResult": documents},
}
IPAM_KEYS = {
    "whereabouts": {
        **dict.fromkeys(("range", "range_start", "range_end", "gateway"), ADDRESS),
        "exclude": st.one_of(st.lists(ADDRESS, max_size=2), documents),
        "network_name": TEXT,
        "enable_overlapping_ranges": st.one_of(st.booleans(), scalars),
        "ipRanges": st.lists(st.fixed_dictionaries({"range": ADDRESS}), max_size=3),
    },
    "podnet-ipam": {
        "pools": st.one_of(
            st.lists(st.dictionaries(st.sampled_from(POOL_KEYS), ADDRESS), max_size=2), documents
        ),
    },
    "static": {},
}
EVERY_IPAM = {
    "routes": st.lists(st.fixed_dictionaries({"dst": ADDRESS}, optional={"gw": ADDRESS})),
    "addresses": st.lists(st.fixed_dictionaries({"address": ADDRESS}), max_size=3),
    "dns": documents,
    "type": st.one_of(st.sampled_from(["static", "whereabouts", "podnet", "macvlan"]), TEXT),
}


@st.composite
def configurations(draw):
    """Configurations that podnet knows, with keys set to anything, or damaged anywhere."""
    document = json.loads(json.dumps(draw(st.sampled_from(CONFIGS))))
    document["cniVersion"] = draw(st.one_of(st.just("1.1.0"), versions))
    kind = "podnet" if document["type"] == "multus" else document["type"]
    ipam = document.get("ipam")
    keys = [(document, key, values) for key, values in KEYS.get(kind, {}).items()]
    if ipam:
        more = {**IPAM_KEYS[ipam["type"]], **EVERY_IPAM}
        keys += [(ipam, key, values) for key, values in more.items()]
    for index in draw(st.lists(st.integers(0, len(keys) - 1), max_size=3, unique=True)):
        where, key, values = keys[index]
        where[key] = draw(values)
    return draw(damaged(document)) if draw(st.integers(0, 3)) == 3 else document


def definition(name, config):
    return {
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": name},
        "spec": {"config": json.dumps({"cniVersion": "1.0.0", **config})},
    }


class Whole:
    """A node of dictionaries, with state and manifests in a folder."""

    def __init__(self, folder):
        self.folder = Path(folder)
        manifests = self.folder / "manifests"
        manifests.mkdir()
        for name, config in DEFINED.items():
            for text in (name, f"{name}{name}"):
                (manifests / f"{text}.json").write_text(json.dumps(definition(text, config)))
        self.kernel = FakeKernel()
        for name in ("eth0", "eth1"):
            self.kernel.add_link(self.kernel.node, name, up=True)
        self.kernel.add_sandbox(NETNS)
        self.store = MemoryStore()
        self.settings = Settings(
            state_dir=str(self.folder / "state"),
            store="memory:",
            networks=(str(manifests),),
            conf_dir=str(self.folder / "net.d"),
            node="node-1",
            timeout=5,
        )
        self.bare = self.left()

    def call(self, environ, stdin):
        """Make one call; return the exit code and what was printed, as JSON."""

        def plugin(asked):
            with House(self.settings, store=self.store, kernel=self.kernel) as house:
                return perform(house, evolve(asked, timeout=self.settings.timeout))

        response = handle(
            {**environ, "CNI_PATH": environ.get("CNI_PATH") and str(self.folder / "bin")},
            lambda: stdin,
            plugin,
            same_netns=lambda _path: False,
            about="podnet",
        )
        assert b"Traceback" not in response.stderr
        verb = environ.get("CNI_COMMAND")
        verb = verb if verb in VERBS else "another verb"
        answer = json.loads(response.stdout) if response.stdout else None
        if response.exit_code:
            assert response.exit_code == 1
            assert answer["code"] != 999, answer
            assert type(answer["code"]) is int
            assert answer["code"] > 0
            assert answer["msg"].strip()
            event(f"{verb}: code {answer['code']}")
        else:
            assert answer is None or isinstance(answer, dict)
            event(f"{verb}: success")
        return response.exit_code, answer

    def left(self):
        """What podnet may leave: links, leases, records."""
        held = [
            str(lease.ip)
            for key in self.store.keys("")
            for lease in self.store.load(key)[0].leases.values()
        ]
        records = [each.name for each in (self.folder / "state").glob("journal/*/*")]
        return sorted(self.kernel.every_link()), held, records


@st.composite
def mostly_usual(draw):
    """Environments that reach the plugin, but for one variable at most."""
    environ = usual(draw(st.sampled_from(["ADD", "ADD", "DEL", "CHECK", "GC", "STATUS"])))
    keys = st.sampled_from(["IP", "MAC", "K8S_POD_NAME", "K8S_POD_NAMESPACE", "GATEWAY", "X"])
    values = st.one_of(texts, tricks, ip_addresses(), prefixes(), names)
    pairs = draw(st.lists(st.tuples(keys, values).map("=".join), max_size=3))
    environ["CNI_ARGS"] = ";".join(["IgnoreUnknown=1", *pairs])
    if draw(st.booleans()):
        environ[draw(st.sampled_from(sorted(environ)))] = draw(st.one_of(texts, tricks))
    return environ


def usual(verb):
    return {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": "web-0",
        "CNI_NETNS": NETNS,
        "CNI_IFNAME": "net7",
        "CNI_PATH": "/",
    }


WHOLE = configurations().map(json.dumps).map(str.encode)


@given(
    st.one_of(mostly_usual(), mostly_usual(), environments()),
    st.one_of(WHOLE, WHOLE, stdin_bytes()),
)
def test_anything_is_answered_and_a_failure_leaves_nothing(environ, stdin):
    with tempfile.TemporaryDirectory() as folder:
        whole = Whole(folder)
        exit_code, _ = whole.call(environ, stdin)
        if exit_code or environ.get("CNI_COMMAND") != "ADD":
            assert whole.left() == whole.bare


@given(configurations())
@example({"cniVersion": "1.1.0", "name": "pods", "type": "podnet", "networks": "old"})
def test_what_was_added_is_checked_and_ends_with_del(document):
    stdin = json.dumps(document).encode()
    with tempfile.TemporaryDirectory() as folder:
        whole = Whole(folder)
        exit_code, result = whole.call(usual("ADD"), stdin)
        if exit_code:
            assert whole.left() == whole.bare
            return
        version = result["cniVersion"]
        assert version in SUPPORTED
        if allows(version, "CHECK"):
            with_result = json.dumps({**without(document, "prevResult"), "prevResult": result})
            assert whole.call(usual("CHECK"), with_result.encode()) == (0, None)
        code, answer = whole.call(usual("ADD"), stdin)
        if code:
            assert answer["code"] == 102
        assert whole.call(usual("DEL"), stdin) == (0, None)
        assert whole.left() == whole.bare
        assert whole.call(usual("DEL"), stdin) == (0, None)


@given(annotations(), st.booleans())
def test_any_annotation(text, with_default):
    config = {"cniVersion": "1.1.0", "name": "pods", "type": "podnet", "networks": text}
    if with_default:
        config["clusterNetwork"] = "a"
    stdin = json.dumps(config).encode()
    with tempfile.TemporaryDirectory() as folder:
        whole = Whole(folder)
        exit_code, _ = whole.call(usual("ADD"), stdin)
        if exit_code:
            assert whole.left() == whole.bare
        assert whole.call(usual("DEL"), stdin) == (0, None)
        assert whole.left() == whole.bare


def without(document, key):
    return {name: value for name, value in document.items() if name.lower() != key.lower()}
