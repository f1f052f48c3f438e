"""Bad input: every row is refused with exactly this code and text, and never reaches the plugin."""

from __future__ import annotations

import json

import pytest

from podnet.cni.skel import handle
from podnet.errors import InvalidNetnsError

USUAL = {
    "CNI_CONTAINERID": "web-0",
    "CNI_NETNS": "/run/netns/web-0",
    "CNI_IFNAME": "eth1",
    "CNI_PATH": "/opt/cni/bin",
}
CONFIG = {"cniVersion": "1.1.0", "name": "storage", "type": "macvlan"}
INVALID = "invalid network configuration"
VERSIONS = '["0.1.0" "0.2.0" "0.3.0" "0.3.1" "0.4.0" "1.0.0" "1.1.0"]'
LEAD = "error unmarshall network config: "
NAME_CHARACTERS = "invalid characters found in network name"
IFNAME_CHARACTERS = "interface name contains / or : or whitespace characters"
PLUGIN_PATH = "plugin type must be a file name, without path separators"
WITH_RESULT = {"prevResult": {"ips": [{"address": "10.0.0.2/24"}]}}
KNOWN = "0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"


def config(**changes) -> bytes:
    """The usual configuration with keys changed, or left out where the change is None."""
    whole = {**CONFIG, **changes}
    return json.dumps({key: value for key, value in whole.items() if value is not ...}).encode()


def refuse(verb, stdin=None, *, same_netns=lambda _: False, **env):
    calls = []
    environ = {**USUAL, "CNI_COMMAND": verb, **env}
    data = config(**WITH_RESULT) if stdin is None else stdin
    response = handle(environ, lambda: data, calls.append, same_netns=same_netns, about="podnet")
    assert calls == []
    assert response.exit_code == 1
    assert response.stderr == b""
    return response.stdout


def printed(code: int, msg: str, details: str = "") -> bytes:
    document = {"code": code, "msg": msg, **({"details": details} if details else {})}
    text = json.dumps(document, indent=4, ensure_ascii=False)
    for each in "<>&":
        text = text.replace(each, f"\\u{ord(each):04x}")
    return text.encode()


ENVIRONMENT = [
    ("ADD", {"CNI_CONTAINERID": ""}, 4, "required env variables [CNI_CONTAINERID] missing", ""),
    ("ADD", {"CNI_NETNS": ""}, 4, "required env variables [CNI_NETNS] missing", ""),
    ("ADD", {"CNI_IFNAME": ""}, 4, "required env variables [CNI_IFNAME] missing", ""),
    ("ADD", {"CNI_PATH": ""}, 4, "required env variables [CNI_PATH] missing", ""),
    (
        "ADD",
        dict.fromkeys(USUAL, ""),
        4,
        "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH] missing",
        "",
    ),
    (
        "CHECK",
        {"CNI_NETNS": "", "CNI_IFNAME": ""},
        4,
        "required env variables [CNI_NETNS,CNI_IFNAME] missing",
        "",
    ),
    (
        "DEL",
        dict.fromkeys(USUAL, ""),
        4,
        "required env variables [CNI_CONTAINERID,CNI_IFNAME,CNI_PATH] missing",
        "",
    ),
    ("GC", dict.fromkeys(USUAL, ""), 4, "required env variables [CNI_PATH] missing", ""),
    ("STATUS", {"CNI_PATH": ""}, 4, "required env variables [CNI_PATH] missing", ""),
    ("add", {}, 4, "unknown CNI_COMMAND: add", ""),
    ("UPDATE", {}, 4, "unknown CNI_COMMAND: UPDATE", ""),
    ("\udcff", {}, 4, "unknown CNI_COMMAND: \ufffd", ""),
    ("ADD", {"CNI_NETNS": "/a\0b"}, 4, "CNI_NETNS contains a NUL character", ""),
    ("ADD", {"CNI_ARGS": "IP"}, 4, "ARGS: invalid pair 'IP'", "CNI_ARGS must be K=V;K2=V2"),
    ("ADD", {"CNI_ARGS": "A=1;"}, 4, "ARGS: invalid pair ''", "CNI_ARGS must be K=V;K2=V2"),
    (
        "CHECK",
        {"CNI_ARGS": "A=1=2;B=1;;C"},
        4,
        "ARGS: invalid pair 'A=1=2', '', 'C'",
        "CNI_ARGS must be K=V;K2=V2",
    ),
]


@pytest.mark.parametrize(("verb", "env", "code", "msg", "details"), ENVIRONMENT)
def test_environment_is_refused(verb, env, code, msg, details):
    assert refuse(verb, **env) == printed(code, msg, details)


CONTAINER_IDS = ["../../etc/passwd", "a/b", "..", ".", "-a", "_a", "a b", "a\n", "é", "a;b", "a\\b"]
IFNAMES = {
    "..": "interface name is . or ..",
    ".": "interface name is . or ..",
    "../x": IFNAME_CHARACTERS,
    "a/b": IFNAME_CHARACTERS,
    "a:b": IFNAME_CHARACTERS,
    "a b": IFNAME_CHARACTERS,
    "a\u2003b": IFNAME_CHARACTERS,
    "eth1\n": IFNAME_CHARACTERS,
    "abcdefghijklmnop": "interface name is too long",
    "ééééÿÿÿÿ": "interface name is too long",
    "eth%d": "interface name contains %",
    "eth\udcff": "interface name is not UTF-8",
}
NETWORKS = ["../etc", "a/b", "..", ".hidden", "a\0b", "a\n", "é", "a b", "-x"]


@pytest.mark.parametrize("verb", ["ADD", "DEL", "CHECK"])
@pytest.mark.parametrize("container_id", CONTAINER_IDS)
def test_container_id_is_refused(verb, container_id):
    assert refuse(verb, CNI_CONTAINERID=container_id) == printed(
        4, "invalid characters in containerID", f"CNI_CONTAINERID is {container_id!a}"
    )


@pytest.mark.parametrize("verb", ["ADD", "DEL", "CHECK"])
@pytest.mark.parametrize("ifname", IFNAMES)
def test_interface_name_is_refused(verb, ifname):
    assert refuse(verb, CNI_IFNAME=ifname) == printed(
        4, IFNAMES[ifname], f"CNI_IFNAME is {ifname!a}"
    )


@pytest.mark.parametrize("verb", ["ADD", "DEL", "CHECK", "GC", "STATUS"])
@pytest.mark.parametrize("name", NETWORKS)
def test_network_name_is_refused(verb, name):
    shown = json.dumps(name, ensure_ascii=False)
    assert refuse(verb, config(name=name)) == printed(
        7, NAME_CHARACTERS, f"name: {NAME_CHARACTERS}, is {shown}"
    )


@pytest.mark.parametrize("verb", ["ADD", "DEL", "CHECK", "GC", "STATUS"])
@pytest.mark.parametrize("plugin", ["../../bin/sh", "/bin/sh", "a/b", "..", ".", "a\\b", "a\0"])
def test_plugin_type_is_refused(verb, plugin):
    shown = json.dumps(plugin)
    assert refuse(verb, config(type=plugin)) == printed(
        7, INVALID, f"type: {PLUGIN_PATH}, is {shown}"
    )


DOCUMENTS = [
    (b"", 6, LEAD + "Expecting value at line 1 column 1", ""),
    (b"{", 6, LEAD + "Expecting property name enclosed in double quotes at line 1 column 2", ""),
    (b"nonsense", 6, LEAD + "Expecting value at line 1 column 1", ""),
    (b'{"name":"storage"}{}', 6, LEAD + "Extra data at line 1 column 19", ""),
    (b"null", 6, LEAD + "must be an object, not null", ""),
    (b"[]", 6, LEAD + "must be an object, not a list", ""),
    (b'"storage"', 6, LEAD + 'must be an object, not the string "storage"', ""),
    (b"7", 6, LEAD + "must be an object, not the number 7", ""),
    (b"true", 6, LEAD + "must be an object, not the boolean true", ""),
    (b'{"a":NaN}', 6, LEAD + "NaN is not JSON", ""),
    (b'{"a":-Infinity}', 6, LEAD + "-Infinity is not JSON", ""),
    (b'{"a":1e999}', 6, LEAD + "the number 1e999 does not fit a float", ""),
    (b'{"name":"\xff"}', 6, LEAD + "not UTF-8 at byte 9", ""),
    (b'{"name":"a\nb"}', 6, LEAD + "Invalid control character at at line 1 column 11", ""),
    (b'{"a":' + b"[" * 100 + b"]" * 100 + b"}", 6, LEAD + "nested deeper than 100", ""),
    (b'{"a":' * 100_000, 6, LEAD + "nested deeper than 100", ""),
    (b"{}", 7, "missing network name", "name: missing network name; type: missing 'type'"),
    (config(name=...), 7, "missing network name", "name: missing network name"),
    (config(name=""), 7, "missing network name", "name: missing network name"),
    (config(name=None), 7, "missing network name", "name: missing network name"),
    (config(name=5), 7, "missing network name", "name: must be a string, not the number 5"),
    (config(type=...), 7, INVALID, "type: missing 'type'"),
    (config(type=["macvlan"]), 7, INVALID, "type: must be a string, not a list"),
    (config(cniVersion=1), 7, INVALID, "cniVersion: must be a string, not the number 1"),
    (
        config(cniVersion="2.0.0"),
        1,
        "incompatible CNI versions",
        f'config is "2.0.0", plugin supports {VERSIONS}',
    ),
    (
        config(cniVersion="1.1"),
        1,
        "incompatible CNI versions",
        f'config is "1.1", plugin supports {VERSIONS}',
    ),
    (
        config(cniVersion="../../x", dns=4),
        1,
        "incompatible CNI versions",
        f'config is "../../x", plugin supports {VERSIONS}',
    ),
    (
        config(cniVersion="2.0.0", name="a/b"),
        7,
        NAME_CHARACTERS,
        f'name: {NAME_CHARACTERS}, is "a/b"; cniVersion: "2.0.0" is not one of {KNOWN}',
    ),
    (config(ipam=[]), 7, INVALID, "ipam: must be an object, not a list"),
    (config(ipam={"type": 5}), 7, INVALID, "ipam.type: must be a string, not the number 5"),
    (
        config(ipam={"type": "../../bin/sh"}),
        7,
        INVALID,
        f'ipam.type: {PLUGIN_PATH}, is "../../bin/sh"',
    ),
    (config(dns={"search": "a"}), 7, INVALID, 'dns.search: must be a list, not the string "a"'),
    (
        config(dns={"nameservers": ["a", 1]}, args=[], runtimeConfig="x", capabilities={"mac": 1}),
        7,
        INVALID,
        "args: must be an object, not a list; "
        "capabilities.mac: must be true or false, not the number 1; "
        'runtimeConfig: must be an object, not the string "x"; '
        "dns.nameservers[1]: must be a string, not the number 1",
    ),
    (
        config(prevResult=[]),
        7,
        "could not parse prevResult",
        "prevResult: must be an object, not a list",
    ),
    (
        config(prevResult={"cniVersion": "0.4.0"}),
        7,
        "could not parse prevResult",
        "prevResult.cniVersion: result type supports [1.0.0 1.1.0] "
        'but unmarshalled CNIVersion is "0.4.0"',
    ),
    (
        config(
            prevResult={
                "interfaces": [{"mtu": -1}, "eth1"],
                "ips": [{"address": "10.0.0.2", "interface": -2}, None, {"gateway": "x"}],
                "routes": [{"dst": "10.0.0.0/33", "table": 1.5}, {"gw": ""}],
                "dns": {"domain": True},
            }
        ),
        7,
        "could not parse prevResult",
        'prevResult.interfaces[1]: must be an object, not the string "eth1"; '
        "prevResult.interfaces[0].name: is required; "
        "prevResult.interfaces[0].mtu: must be at least 0, not -1; "
        "prevResult.ips[1]: must be an object, not null; "
        "prevResult.ips[0].address: '10.0.0.2' is not in CIDR notation (address/prefix length); "
        "prevResult.ips[0].interface: must be at least -1, not -2; "
        "prevResult.ips[2].address: is required; "
        "prevResult.ips[2].gateway: 'x' is not an IP address; "
        "prevResult.routes[0].dst: '10.0.0.0/33' has a prefix length above 32; "
        "prevResult.routes[0].table: must be a whole number, not the number 1.5; "
        "prevResult.routes[1].dst: is required; "
        "prevResult.dns.domain: must be a string, not the boolean true",
    ),
]


@pytest.mark.parametrize(("stdin", "code", "msg", "details"), DOCUMENTS)
def test_configuration_is_refused(stdin, code, msg, details):
    assert refuse("ADD", stdin) == printed(code, msg, details)


ATTACHMENTS = [
    ("x", 'cni.dev/valid-attachments: must be a list, not the string "x"'),
    (["x"], 'cni.dev/valid-attachments[0]: must be an object, not the string "x"'),
    (
        [{"containerID": "../x", "ifname": "a/b"}, {"containerID": 5}],
        "cni.dev/valid-attachments[0].containerID: invalid characters in containerID, "
        'is "../x"; '
        f'cni.dev/valid-attachments[0].ifname: {IFNAME_CHARACTERS}, is "a/b"; '
        "cni.dev/valid-attachments[1].containerID: must be a string, not the number 5; "
        "cni.dev/valid-attachments[1].ifname: interface name is empty",
    ),
]


@pytest.mark.parametrize(("value", "details"), ATTACHMENTS)
def test_gc_with_a_wrong_attachment_is_refused_whole(value, details):
    stdin = config(**{"cni.dev/valid-attachments": value})
    assert refuse("GC", stdin) == printed(7, INVALID, details)


@pytest.mark.parametrize("verb", ["ADD", "DEL", "CHECK"])
def test_netns_of_the_plugin_itself_is_refused_before_anything_is_done(verb):
    asked = []
    out = refuse(verb, same_netns=lambda path: not asked.append(path))
    assert asked == ["/run/netns/web-0"]
    assert out == printed(
        8,
        "plugin's netns and netns from CNI_NETNS should not be the same",
        "CNI_NETNS is /run/netns/web-0",
    )


@pytest.mark.parametrize("verb", ["ADD", "CHECK"])
def test_netns_that_is_none_is_refused(verb):
    def same_netns(path):
        raise InvalidNetnsError(f"{path} is no network namespace")

    out = refuse(verb, same_netns=same_netns)
    assert out == printed(8, "/run/netns/web-0 is no network namespace")


def test_stdin_that_cannot_be_read_is_refused():
    def stdin():
        raise OSError(5, "Input/output error")

    environ = {**USUAL, "CNI_COMMAND": "ADD"}
    response = handle(environ, stdin, lambda _: None, same_netns=lambda _: False, about="podnet")
    msg = "error reading from stdin: [Errno 5] Input/output error"
    assert response.stdout == printed(5, msg)


def test_no_command_and_nothing_to_tell_about_is_refused():
    response = handle({}, bytes, lambda _: None, same_netns=lambda _: False, about="")
    assert response.stdout == printed(4, "required env variables [CNI_COMMAND] missing")
    assert response.exit_code == 1
