"""Hypothesis strategies for annotations, and for delegates that fail at any step."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from podnet.delegation.plan import Attachment
from podnet.errors import DeadlineError, PluginNotFoundError
from podnet.model.attachment import Done
from podnet.model.conflist import parse_conflist
from podnet.model.printing import result_document
from podnet.model.wire import print_json
from podnet.testing.strategies_wire import documents, ip_addresses, prefixes, results, tricks

if TYPE_CHECKING:
    from podnet.errors import PodnetError
    from podnet.model.attachment import Call
    from podnet.model.result import Result

labels = st.from_regex(r"[a-z0-9](?:[-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)
"""Valid namespaces, and names of network definitions."""

object_names = st.lists(labels, min_size=1, max_size=3).map(".".join)
"""Valid names of Kubernetes objects, dotted ones too."""

interface_names = st.from_regex(r"[a-z][a-z0-9]{0,8}x[a-z0-9._-]{0,4}", fullmatch=True)
"""Valid interface names that no automatic or reserved name is equal to."""

macs = st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":"))
guids = st.binary(min_size=8, max_size=8).map(lambda raw: raw.hex(":"))
ports = st.integers(1, 65535)
rates = st.integers(1, 2**63 - 1)

port_mappings = st.fixed_dictionaries(
    {"hostPort": ports, "containerPort": ports},
    optional={"protocol": st.sampled_from(["TCP", "udp", "SCTP"]), "hostIP": ip_addresses()},
)

bandwidths = st.fixed_dictionaries(
    {"ingressRate": rates, "egressRate": rates},
    optional={"ingressBurst": rates, "egressBurst": rates},
)


@st.composite
def elements(draw: st.DrawFn) -> dict[str, object]:
    """Valid elements of a networks annotation, without ``default-route``."""
    holds_ips = draw(st.booleans())
    optional: dict[str, st.SearchStrategy[object]] = {
        "namespace": labels,
        "interface": interface_names,
        "mac": macs,
        "infiniband-guid": guids,
        "portMappings": st.lists(port_mappings, min_size=1, max_size=2),
        "bandwidth": bandwidths,
        "deviceID": st.sampled_from(["0000:03:02.1", "mlx5_core.sf.4"]),
        "cni-args": st.dictionaries(labels, documents, max_size=2),
        "com.example/other": documents,
    }
    if holds_ips:
        ips = st.one_of(ip_addresses(), prefixes())
        optional["ips"] = st.lists(ips, min_size=1, max_size=2)
    else:
        optional["ipam-claim-reference"] = object_names
    return draw(st.fixed_dictionaries({"name": object_names}, optional=optional))


@st.composite
def element_lists(draw: st.DrawFn) -> list[dict[str, object]]:
    """Valid lists of elements: no interface name twice, at most one default route."""
    unique = st.lists(elements(), max_size=4, unique_by=lambda e: e.get("interface", id(e)))
    found = draw(unique)
    has_carrier: bool = draw(st.booleans())
    if found and has_carrier:
        carrier = draw(st.sampled_from(found))
        carrier["default-route"] = draw(st.lists(ip_addresses(), max_size=2))
    return found


short_forms = st.lists(
    st.builds(
        lambda namespace, name, interface: f"{namespace}{name}{interface}",
        st.one_of(st.just(""), labels.map("{}/".format)),
        object_names,
        st.one_of(st.just(""), interface_names.map("@{}".format)),
    ),
    max_size=4,
).map(", ".join)
"""Annotations of the short form, valid but that an interface may be asked for twice."""


@st.composite
def annotation_texts(draw: st.DrawFn) -> str:
    """Texts of the networks annotation: valid, damaged and noise."""
    noise = st.text(st.characters(codec=None), max_size=30)
    grammar = st.text('ab/@,.[]{}":0 \n\t-_%', max_size=30)
    element = elements().flatmap(
        lambda whole: st.fixed_dictionaries(
            {key: st.one_of(st.just(value), documents, tricks) for key, value in whole.items()}
        )
    )
    bad_json = st.lists(st.one_of(element, documents), max_size=3).map(json.dumps)
    whole = element_lists().map(json.dumps)
    any_json = documents.map(json.dumps)
    text: str = draw(st.one_of(noise, grammar, short_forms, whole, bad_json, any_json))
    return text


@st.composite
def attachment_lists(
    draw: st.DrawFn, *, min_size: int = 0, max_size: int = 4
) -> tuple[Attachment, ...]:
    """Attachments of a pod, of several versions, with one to three plugins each."""
    found = []
    for number in range(draw(st.integers(min_size, max_size))):
        plugins = [
            {
                "type": f"p{index}",
                "capabilities": {"mac": draw(st.booleans())},
                "note": number,
            }
            for index in range(draw(st.integers(1, 3)))
        ]
        config = parse_conflist(
            {
                "cniVersion": draw(st.sampled_from(["0.2.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])),
                "name": f"network-{number}",
                "disableCheck": draw(st.booleans()),
                "disableGC": draw(st.booleans()),
                "plugins": plugins,
            }
        )
        found.append(
            Attachment(
                network=f"default/network-{number}",
                config=config,
                ifname=f"net{number}",
                runtime_config={"mac": "02:00:00:00:00:01"},
                args=f"IgnoreUnknown=true;N={number}",
                default=number == 0,
            )
        )
    return tuple(found)


def successes(call: Call) -> st.SearchStrategy[Done]:
    """What a plugin that succeeds says to a call."""
    if call.verb != "ADD":
        return st.just(Done(0))
    version = str(call.config["cniVersion"])

    def said(result: Result) -> Done:
        return Done(0, print_json(result_document(result, version)))

    return results(least_ips=1).map(said)


def failures(call: Call) -> st.SearchStrategy[Done | PodnetError]:
    """All the ways a call can fail."""
    error = print_json({"code": 123, "msg": "no", "details": "because"})
    ways: list[Done | PodnetError] = [
        Done(1, error),
        Done(1, b'{"code": 0}'),
        Done(1, b"[1]", b"logs"),
        Done(2, b"", b"panic: no"),
        Done(-9),
        DeadlineError("late"),
        PluginNotFoundError("none"),
    ]
    if call.verb == "ADD":
        ways += [Done(0), Done(0, b"not JSON"), Done(0, b"[]"), Done(0, b'{"cniVersion": "9.9"}')]
    return st.sampled_from(ways)
