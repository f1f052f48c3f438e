"""Debian's ``static`` plugin needs no kernel: its output is the layout podnet's has to equal."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from podnet.model.printing import print_result, print_versions
from podnet.model.result import parse_result

STATIC = "/usr/lib/cni/static"
CONFIG = {
    "name": "storage",
    "type": "macvlan",
    "ipam": {
        "type": "static",
        "addresses": [
            {"address": "10.0.0.2/24", "gateway": "10.0.0.1"},
            {"address": "FD00:0::2/64"},
        ],
        "routes": [{"dst": "10.0.0.7/8"}, {"dst": "::/0", "gw": "fd00::1"}],
        "dns": {"nameservers": ["10.0.0.53"], "domain": "<a>&é\u2028", "search": ["s"]},
    },
}

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(not os.access(STATIC, os.X_OK), reason=f"{STATIC} is not installed"),
]


def run(verb: str, config: object) -> bytes:
    environ = {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": "web-0",
        "CNI_NETNS": "/run/netns/none",
        "CNI_IFNAME": "eth1",
        "CNI_PATH": "/usr/lib/cni",
    }
    data = json.dumps(config).encode()
    return subprocess.run(
        [STATIC], input=data, env=environ, capture_output=True, check=True, timeout=20
    ).stdout


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0"])
@pytest.mark.parametrize("dns", [True, False])
def test_result_is_parsed_and_printed_to_the_same_bytes(version, dns):
    ipam = {key: value for key, value in CONFIG["ipam"].items() if dns or key != "dns"}
    printed = run("ADD", {**CONFIG, "cniVersion": version, "ipam": ipam})
    assert print_result(parse_result(json.loads(printed), version), version) == printed


def test_result_of_1_0_0_says_the_same():
    # Debian's 1.1.1 vendors a cni that still prints struct order; v1.3.0 sorts the keys.
    printed = run("ADD", {**CONFIG, "cniVersion": "1.0.0"})
    ours = print_result(parse_result(json.loads(printed), "1.0.0"), "1.0.0")
    assert json.loads(ours) == json.loads(printed)


def test_versions_have_the_same_layout():
    theirs = run("VERSION", {})
    ours = print_versions()
    assert theirs.replace(b"1.0.0", b"1.1.0", 1) == ours.replace(b',"1.1.0"]', b"]")
