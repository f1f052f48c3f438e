"""Hypothesis strategies for what arrives at podnet's edge: JSON documents, whole and damaged."""

from __future__ import annotations

import ipaddress
import json
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from podnet.model.result import DNS, IP, Interface, Result, Route
from podnet.model.versions import SUPPORTED

if TYPE_CHECKING:
    from collections.abc import Mapping

# Lone surrogates too: JSON can spell them, and os.environ has them for bytes that are not UTF-8.
texts = st.text(st.characters(codec=None), max_size=12)

names = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]{0,20}", fullmatch=True)
"""Valid network names and container ids."""

ifnames = st.from_regex(r"[a-z][a-z0-9.\-]{0,14}", fullmatch=True)
"""Valid interface names."""

tricks = st.sampled_from(
    (
        *("", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", "a\0b", "a b", "a\n", "-a", "é"),
        *("a:b", "%d", "x" * 16, "x" * 300, "\ud800", "${HOME}", "$(id)", "null", "0"),
    )
)
"""Texts that are wrong, or dangerous, as some kind of name."""

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**40), 10**40),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
    tricks,
)

documents = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)
"""Arbitrary JSON values."""

versions = st.sampled_from(SUPPORTED)


@st.composite
def ip_addresses(draw: st.DrawFn, version: int | None = None) -> str:
    """Texts of IP addresses, of both families unless ``version`` says which."""
    number = draw(st.sampled_from((4, 6))) if version is None else version
    return str(draw(st.ip_addresses(v=4 if number == 4 else 6)))


@st.composite
def prefixes(draw: st.DrawFn, version: int | None = None) -> str:
    """Texts ``address/length``, host bits kept."""
    address = draw(ip_addresses(version))
    return f"{address}/{draw(st.integers(0, ipaddress.ip_address(address).max_prefixlen))}"


interfaces = st.builds(
    Interface,
    ifnames,
    st.sampled_from(["", "02:00:00:00:00:01"]),
    st.sampled_from(["", "/run/netns/web-0"]),
    mtu=st.sampled_from([0, 1500, 9000]),
    socket_path=st.sampled_from(["", "/run/vhost.sock"]),
    pci_id=st.sampled_from(["", "0000:03:00.1"]),
)

dns = st.builds(
    DNS,
    nameservers=st.lists(ip_addresses(), max_size=2),
    domain=texts.map(lambda text: text.encode(errors="ignore").decode()),
    search=st.lists(names, max_size=2),
    options=st.lists(names, max_size=2),
)


@st.composite
def results(draw: st.DrawFn, *, least_ips: int = 0) -> Result:
    """Results with everything that version 1.1.0 can tell."""
    ips = st.builds(
        IP,
        prefixes(),
        st.one_of(st.just(""), ip_addresses()),
        st.one_of(st.none(), st.integers(0, 3)),
    )
    small = st.sampled_from([0, 1, 1400])
    routes = st.builds(
        Route,
        prefixes(),
        st.one_of(st.just(""), ip_addresses()),
        mtu=small,
        advmss=small,
        priority=small,
        table=st.one_of(st.none(), st.integers(0, 2**32 - 1)),
        scope=st.one_of(st.none(), st.integers(0, 255)),
    )
    return Result(
        interfaces=tuple(draw(st.lists(interfaces, max_size=3))),
        ips=tuple(draw(st.lists(ips, min_size=least_ips, max_size=4))),
        routes=tuple(draw(st.lists(routes, max_size=3))),
        dns=draw(dns),
    )


@st.composite
def network_configs(draw: st.DrawFn) -> dict[str, object]:
    """Valid configurations of a plugin, with keys nobody knows among those that are known."""
    known = st.fixed_dictionaries(
        {"name": names, "type": names, "cniVersion": versions},
        optional={
            "ipam": st.fixed_dictionaries({"type": names}),
            "args": st.dictionaries(names, documents, max_size=2),
            "capabilities": st.dictionaries(names, st.booleans(), max_size=3),
            "runtimeConfig": st.dictionaries(names, documents, max_size=3),
            "dns": st.fixed_dictionaries({}, optional={"nameservers": st.lists(ip_addresses())}),
        },
    )
    unknown = st.dictionaries(names.map(lambda name: f"x-{name}"), documents, max_size=3)
    return {**draw(unknown), **draw(known)}


@st.composite
def damaged(draw: st.DrawFn, document: Mapping[str, object]) -> dict[str, object]:
    """``document`` with one to three values, at any depth, replaced, dropped or re-cased."""
    copy: dict[str, object] = json.loads(json.dumps(document))
    for _ in range(draw(st.integers(1, 3))):
        where = copy
        while where:
            key = draw(st.sampled_from(sorted(where)))
            value = where[key]
            if isinstance(value, dict) and value and draw(st.booleans()):
                where = value
                continue
            del where[key]
            match draw(st.sampled_from(("replace", "trick", "recase", "drop"))):
                case "replace":
                    where[key] = draw(documents)
                case "trick":
                    where[key] = draw(tricks)
                case "recase":
                    where[key.swapcase()] = value
            break
    return copy


@st.composite
def stdin_bytes(draw: st.DrawFn) -> bytes:
    """What may arrive on standard input: noise, other JSON, configurations whole and damaged."""
    noise = st.one_of(st.binary(max_size=40), documents.map(_dump))
    config = draw(network_configs())
    whole = st.just(_dump(config))
    cut = st.integers(0, 60).map(lambda length: _dump(config)[:length])
    return draw(st.one_of(noise, whole, cut, damaged(config).map(_dump)))


@st.composite
def environments(draw: st.DrawFn) -> dict[str, str]:
    """``CNI_*`` environments of any verb, whole and damaged."""
    verb = draw(st.sampled_from(["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION", "add", "X", ""]))
    whole = {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": draw(names),
        "CNI_NETNS": "/run/netns/web-0",
        "CNI_IFNAME": draw(ifnames),
        "CNI_ARGS": draw(st.sampled_from(["", "IgnoreUnknown=1;IP=10.0.0.2", "IP", "a=b=c", ";"])),
        "CNI_PATH": "/opt/cni/bin",
    }
    for key in draw(st.sets(st.sampled_from(sorted(whole)), max_size=2)):
        whole[key] = draw(st.one_of(texts, tricks))
    for key in draw(st.sets(st.sampled_from(sorted(whole)), max_size=1)):
        del whole[key]
    return whole


def _dump(value: object) -> bytes:
    return json.dumps(value).encode()
