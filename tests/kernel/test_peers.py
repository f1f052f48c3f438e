"""The same configurations through Debian's plugins and through podnet: what differs, and why."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time

import pytest

from podnet.model.attachment import Done
from podnet.model.printing import print_result
from podnet.testing.namespaces import inside, ip
from podnet.testing.plugin_room import Room

PEERS = "/usr/lib/cni"

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.peers,
    pytest.mark.skipif(
        not os.path.exists(f"{PEERS}/macvlan"), reason="needs Debian's containernetworking-plugins"
    ),
]

# Each difference that is allowed, by a pattern of its lines, with its reason. Everything else is
# equal: links with their flags and options, addresses, routes of all tables, every sysctl of the
# interfaces involved.
DIFFERENCES = {
    r"sysctl (pod ipv6 LINK|host ipv6 OUTER) accept_dad [01]": (
        "podnet turns duplicate address detection off where it gives IPv6 addresses: the peer's "
        "are unusable for 1 to 2 s (plugins #680, #695); `enabledad` turns it on"
    ),
    r"address (pod fd09::5/64 LINK|host fd09::1/128 OUTER) global None (nodad)? \.": (
        "ptp only: podnet's addresses are never tentative, as its routes name them as their source"
    ),
    r"sysctl pod ipv6 LINK keep_addr_on_down [01]": (
        "the peers do it since 1.7 (facts 2.0); the release of Debian is 1.1.1"
    ),
    r"sysctl pod ipv6 LINK ndisc_notify [01]": (
        "the peers do it since 1.2 (facts 2.1); the release of Debian is 1.1.1"
    ),
}

STATIC_V4 = {
    "type": "static",
    "addresses": [{"address": "10.9.0.5/24", "gateway": "10.9.0.1"}],
    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "192.168.0.0/16", "gw": "10.9.0.9"}],
}
STATIC_BOTH = {
    "type": "static",
    "addresses": [
        {"address": "10.9.0.5/24", "gateway": "10.9.0.1"},
        {"address": "fd09::5/64", "gateway": "fd09::1"},
    ],
    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    "dns": {"nameservers": ["10.9.0.53"], "search": ["example.com"]},
}
HOST_LOCAL = {"type": "host-local", "ranges": [[{"subnet": "10.9.0.0/24"}]], "dataDir": "DATA"}
MACVLAN = {"type": "macvlan", "master": "up0"}

CONFIGS = {
    "macvlan-l2": MACVLAN,
    "macvlan-private": {**MACVLAN, "mode": "private", "mtu": 1400, "ipam": STATIC_V4},
    "macvlan-vepa-dual": {**MACVLAN, "mode": "vepa", "ipam": STATIC_BOTH},
    "macvlan-passthru": {**MACVLAN, "mode": "passthru", "ipam": HOST_LOCAL},
    "macvlan-default-master": {"type": "macvlan", "ipam": HOST_LOCAL},
    "macvlan-mac": {**MACVLAN, "mac": "0a:00:00:00:00:77", "ipam": STATIC_V4},
    "macvlan-dns": {**MACVLAN, "ipam": STATIC_BOTH, "dns": {"nameservers": ["10.9.0.54"]}},
    "ptp": {"type": "ptp", "ipam": STATIC_V4},
    "ptp-dual": {"type": "ptp", "mtu": 1400, "ipam": STATIC_BOTH},
    "ptp-host-local": {"type": "ptp", "ipam": HOST_LOCAL},
    "ptp-dns": {"type": "ptp", "ipam": STATIC_BOTH, "dns": {"search": []}},
}


class Peer:
    """Runs a peer's executable; also serves podnet as the executor of its IPAM plugin."""

    def has(self, plugin):
        return os.path.exists(f"{PEERS}/{plugin}")

    def run(self, call):
        environ = {**call.environment(), "CNI_PATH": PEERS, "PATH": os.environ["PATH"]}
        done = subprocess.run(
            [f"{PEERS}/{call.plugin}"],
            input=json.dumps(dict(call.config)).encode(),
            env=environ,
            capture_output=True,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)


def state(pod, result):
    """Return everything the kernel tells of an attachment, a line each, names made alike."""
    outer = [each["name"] for each in result.get("interfaces", []) if "sandbox" not in each]
    lines = set()
    with inside(pod.fd):
        settle()
    settle()
    with inside(pod.fd):
        lines |= namespace("pod", ["eth1", "lo"])
    lines |= namespace("host", ["up0", *outer])
    # Longest first: a pair's random name may have eth1 in it.
    text = "\n".join(sorted(lines))
    for name in outer:
        text = text.replace(name, "OUTER")
    text = text.replace("eth1", "LINK")
    for each in result.get("interfaces", []):
        text = text.replace(each["mac"], "MAC")
    # Link-local addresses follow from MAC addresses, and come when detection ends.
    return {line for line in text.splitlines() if "fe80::" not in line}


def settle():
    """Let duplicate address detection end: what it holds back is not what the test is about."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        shown = [each for link in ip("-6", "address", "show") for each in link["addr_info"]]
        if not any("tentative" in each and each["scope"] != "link" for each in shown):
            return
        time.sleep(0.05)


def namespace(where, names):
    lines = set()
    for link in ip("address", "show"):
        if link["ifname"] not in names:
            continue
        info = link.get("linkinfo", {})
        lines.add(
            f"link {where} {link['ifname']} {link['mtu']} {sorted(link['flags'])} "
            f"{link.get('address')} {info.get('info_kind')} {info.get('info_data')}"
        )
        for each in link["addr_info"]:
            flags = sorted(k for k, v in each.items() if v is True and k != "tentative")
            lines.add(
                f"address {where} {each['local']}/{each['prefixlen']} {link['ifname']} "
                f"{each['scope']} {each.get('broadcast')} {' '.join(flags)} ."
            )
    for family in ("-4", "-6"):
        for route in ip(family, "route", "show", "table", "all"):
            told = sorted((k, str(v)) for k, v in route.items() if k not in ("dst", "flags"))
            dst = {"default": "0.0.0.0/0" if family == "-4" else "::/0"}.get(route["dst"])
            if "dev" in route and route["dev"] in names:
                lines.add(f"route {where} {dst or route['dst']} {told}")
    for family in ("ipv4", "ipv6"):
        for name in [*names, "all"]:
            folder = f"/proc/sys/net/{family}/conf/{name}"
            for key in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
                lines.add(sysctl(where, family, name, key, f"{folder}/{key}"))
    with open("/proc/sys/net/ipv4/ip_forward") as file:
        lines.add(f"sysctl {where} ip_forward {file.read().strip()}")
    return lines - {None}


def sysctl(where, family, name, key, path):
    try:
        with open(path) as file:
            return f"sysctl {where} {family} {name} {key} {file.read().strip()}"
    except OSError:  # stable_secret cannot be read before it is set; some are write only
        return None


def alike(result):
    """Return a result without what differs by design: MAC addresses, the pair's name, the path."""
    # Debian's release prints an empty dns in 1.0.0, current ones and podnet print none (facts 1.8).
    if not result.get("dns"):
        result.pop("dns", None)
    for each in result.get("interfaces", []):
        each["mac"] = "MAC"
        if "sandbox" in each:
            each["sandbox"] = "SANDBOX"
        else:
            each["name"] = "OUTER"
    return result


@pytest.mark.parametrize("name", CONFIGS)
def test_same_result_and_same_kernel_state(tmp_path, kernel, pods, name):
    config = {"cniVersion": "1.0.0", **CONFIGS[name]}
    text = json.dumps(config).replace("DATA", str(tmp_path / "leases"))
    config = json.loads(text)
    room = Room(tmp_path, kernel)
    room.house.executor = Peer()

    theirs = pods()
    call = room.call("ADD", theirs.path, config)
    done = Peer().run(call)
    assert done.exit_code == 0, done.stdout
    their_result = json.loads(done.stdout)
    their_state = state(theirs, their_result)
    assert Peer().run(room.call("DEL", theirs.path, config)).exit_code == 0
    theirs.end()

    # host-local gives out the next address, not the lowest: make it forget.
    subprocess.run(["rm", "-rf", str(tmp_path / "leases")], check=True)
    ours = pods()
    call = room.call("ADD", ours.path, config)
    our_result = json.loads(print_result(room.run(call), "1.0.0"))
    our_state = state(ours, our_result)
    room.run(room.call("DEL", ours.path, config))
    assert ours.links() == ["lo"]

    assert alike(our_result) == alike(their_result)
    differing = our_state ^ their_state
    unexplained = [
        f"{'ours' if line in our_state else 'theirs'}: {line}"
        for line in sorted(differing)
        if not any(re.fullmatch(pattern, line) for pattern in DIFFERENCES)
    ]
    assert not unexplained, "\n".join(unexplained)
