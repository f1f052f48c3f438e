"""The rows of the table of bad input; what has to come of each is in ``bad_input.toml``."""

from __future__ import annotations

from .bad_input import (
    L2,
    POOL,
    PTP,
    RANGE,
    Row,
    attached,
    both,
    defined,
    file,
    gone,
    held,
    linked,
    macvlan,
    made,
    manifest,
    network,
    pods,
    ranged,
    script,
    spoilt,
)
from .rig import DELEGATING, MACVLAN

GARBAGE = script("odd", '#!/bin/sh\n[ "$CNI_COMMAND" = ADD ] && echo nonsense\nexit 0\n')
HANGS = script("odd", '#!/bin/sh\n[ "$CNI_COMMAND" = ADD ] && sleep 60\nexit 0\n')
DIES = script("odd", '#!/bin/sh\n[ "$CNI_COMMAND" = ADD ] && kill -9 $$\nexit 0\n')
FAILS = script(
    "odd",
    '#!/bin/sh\n[ "$CNI_COMMAND" = ADD ] || exit 0\n'
    'echo \'{"code": 77, "msg": "no luck", "details": "today"}\'\nexit 1\n',
)
MUTE = script("odd", '#!/bin/sh\n[ "$CNI_COMMAND" = ADD ] || exit 0\nexit 3\n')
FLOODS = script("odd", '#!/bin/sh\n[ "$CNI_COMMAND" = ADD ] && head -c 3000000 /dev/zero\nexit 0\n')
EMPTY = script("odd", '#!/bin/sh\necho \'{"cniVersion": "1.1.0"}\'\n')
PLAIN = script("odd", "#!/bin/sh\nexit 0\n", mode=0o644)
ODD_IPAM = {**L2, "ipam": {"type": "odd"}}
ODD = {"cniVersion": "1.0.0", "name": "lab", "type": "odd"}

NETNS = [
    Row(name="netns missing", env={"CNI_NETNS": "{folder}/none"}),
    Row(name="netns a plain file", given=file("plain"), env={"CNI_NETNS": "{folder}/plain"}),
    Row(name="netns a folder", env={"CNI_NETNS": "{folder}"}),
    Row(name="netns a FIFO", given=made("fifo", "fifo"), env={"CNI_NETNS": "{folder}/fifo"}),
    Row(name="netns a device", env={"CNI_NETNS": "/dev/null"}),
    Row(name="netns another kind of namespace", env={"CNI_NETNS": "/proc/self/ns/uts"}),
    Row(name="netns the host's own", env={"CNI_NETNS": "/proc/self/ns/net"}),
    Row(
        name="netns a link to the host's own",
        given=made("/proc/self/ns/net", "own"),
        env={"CNI_NETNS": "{folder}/own"},
    ),
    Row(
        name="netns a loop of links",
        given=made("loop", "loop"),
        env={"CNI_NETNS": "{folder}/loop"},
    ),
    Row(name="netns below a file", given=file("plain"), env={"CNI_NETNS": "{folder}/plain/x"}),
    Row(name="netns with a NUL", env={"CNI_NETNS": "/run\0"}),
    Row(name="netns too long", env={"CNI_NETNS": "/" + "x" * 300}),
    Row(name="podnet: netns missing", config=pods(), env={"CNI_NETNS": "{folder}/none"}),
    Row(name="podnet: netns the host's own", config=pods(), env={"CNI_NETNS": "/proc/self/ns/net"}),
    Row(name="podnet: netns a folder", config=pods(), env={"CNI_NETNS": "{folder}"}),
    Row(name="ptp: netns a folder", config={**PTP, "ipam": RANGE}, env={"CNI_NETNS": "{folder}"}),
    Row(name="DEL: netns the host's own", verb="DEL", env={"CNI_NETNS": "/proc/self/ns/net"}),
    Row(name="DEL: netns a folder", verb="DEL", env={"CNI_NETNS": "{folder}"}),
    Row(name="DEL: netns missing", verb="DEL", env={"CNI_NETNS": "{folder}/none"}),
    Row(name="DEL: nothing known", verb="DEL"),
    Row(name="DEL: netns none", verb="DEL", env={"CNI_NETNS": ""}),
    Row(name="podnet: DEL: nothing known", verb="DEL", config=pods()),
    Row(
        name="CHECK: netns missing",
        verb="CHECK",
        env={"CNI_NETNS": "{folder}/none"},
        config=macvlan(
            prevResult={
                "interfaces": [{"name": "eth1", "sandbox": "x"}],
                "ips": [{"address": "192.168.60.20/24", "interface": 0}],
            }
        ),
    ),
    Row(
        name="CHECK: nothing attached",
        verb="CHECK",
        config=macvlan(
            prevResult={
                "interfaces": [{"name": "eth1", "sandbox": "x"}],
                "ips": [{"address": "192.168.60.20/24", "interface": 0}],
            }
        ),
    ),
    Row(name="podnet: CHECK: nothing attached", verb="CHECK", config=pods(prevResult={})),
]

LINKS = [
    Row(name="master does not exist", config=macvlan(master="eth9")),
    Row(name="master is a path", config=macvlan(master="../eth1")),
    Row(name="master too long", config=macvlan(master="x" * 40)),
    Row(name="master not text", config=macvlan(master=["eth1"])),
    Row(name="no master and no default route", config=macvlan(master="")),
    Row(name="master is lo", config=macvlan(master="lo")),
    Row(
        name="master is a bridge port",
        given=linked("link add br0 type bridge", "link set eth1 master br0"),
    ),
    Row(
        name="master has a passthru macvlan",
        given=linked("link add link eth1 name pass0 type macvlan mode passthru"),
    ),
    Row(
        name="master only in the sandbox",
        config=macvlan(master="eth7"),
        given=linked("link add eth7 type veth peer name eth8", sandbox=True),
    ),
    Row(name="linkInContainer without such a link", config=macvlan(linkInContainer=True)),
    Row(name="mtu above the master's", config=macvlan(mtu=9000)),
    Row(name="mtu negative", config=macvlan(mtu=-1)),
    Row(name="mtu a text", config=macvlan(mtu="1500")),
    Row(name="mtu below what IPv4 needs", config=macvlan(mtu=20)),
    Row(name="mode unknown", config=macvlan(mode="source")),
    Row(name="mac no address", config=macvlan(mac="02:00")),
    Row(name="mac multicast", config=macvlan(mac="01:00:5e:00:00:01")),
    Row(name="mac of CNI_ARGS wrong", env={"CNI_ARGS": "MAC=x"}),
    Row(name="CNI_ARGS unknown", env={"CNI_ARGS": "COLOUR=red"}),
    Row(name="mac the master's", config=lambda scene: macvlan(mac=scene.mac("eth1"))),
    Row(name="bcqueuelen too big", config=macvlan(bcqueuelen=1 << 32)),
    Row(
        name="interface is there",
        given=linked("link add eth1 type veth peer name other", sandbox=True),
    ),
    Row(name="interface is lo", env={"CNI_IFNAME": "lo"}),
    Row(name="interface is all", env={"CNI_IFNAME": "all"}),
    Row(name="attached already", given=attached),
    Row(
        name="ptp: interface is there",
        config={**PTP, "ipam": RANGE},
        given=linked("link add eth1 type veth peer name other", sandbox=True),
    ),
    Row(name="ptp: without ipam", config=PTP),
    Row(name="ptp: address without gateway", config={**PTP, "ipam": POOL}),
    Row(name="ptp: ipMasq", config={**PTP, "ipMasq": True, "ipam": RANGE}),
    Row(name="ptp: mtu too small", config={**PTP, "mtu": 20, "ipam": RANGE}),
    Row(name="several mistakes", config=macvlan(mode="x", mtu=-1, mac="y", master="a b")),
    Row(name="type unknown", config=macvlan(type="magic")),
    Row(name="ipam type unknown", config=ranged(type="magic")),
    Row(name="STATUS: master does not exist", verb="STATUS", config=macvlan(master="eth9")),
    Row(
        name="gateway of a route unreachable",
        config=ranged(routes=[{"dst": "10.0.0.0/8", "gw": "172.31.0.1"}]),
    ),
    Row(name="route of the other family", config=ranged(routes=[{"dst": "::/0", "gw": "fd00::1"}])),
]

PREVIOUS = {"interfaces": [{"name": "eth1", "sandbox": "x"}]}

IPAM = [
    Row(name="range missing", config=macvlan(ipam={"type": "whereabouts"})),
    Row(name="range no prefix", config=ranged(range="192.168.60.0")),
    Row(name="range_start outside", config=ranged(range_start="10.0.0.1")),
    Row(name="range_end below start", config=ranged(range_end="192.168.60.10")),
    Row(name="exclude leaves nothing", config=ranged(exclude=["192.168.60.0/24"])),
    Row(
        name="range of one address",
        config=ranged(range="192.168.60.7/32", range_start="", range_end=""),
    ),
    Row(name="gateway no address", config=ranged(gateway="x")),
    Row(name="pool exhausted", config={**L2, "ipam": POOL}, given=held("10.7.0.10", "10.7.0.11")),
    Row(
        name="STATUS: pool exhausted",
        verb="STATUS",
        config={**L2, "ipam": POOL},
        given=held("10.7.0.10", "10.7.0.11"),
    ),
    Row(
        name="second range exhausted",
        given=held("10.7.0.10", "10.7.0.11"),
        config={
            **L2,
            "ipam": {**POOL, "pools": [{"name": "wide", "network": "10.8.0.0/24"}, *POOL["pools"]]},
        },
    ),
    Row(
        name="address outside the network",
        config={**L2, "ipam": POOL, "args": {"cni": {"ips": ["10.9.0.1"]}}},
    ),
    Row(
        name="address outside the range",
        config={**L2, "ipam": POOL, "args": {"cni": {"ips": ["10.7.0.99"]}}},
    ),
    Row(
        name="address held",
        config={**L2, "ipam": POOL, "args": {"cni": {"ips": ["10.7.0.10"]}}},
        given=held("10.7.0.10"),
    ),
    Row(
        name="address of CNI_ARGS held",
        config={**L2, "ipam": POOL},
        env={"CNI_ARGS": "IgnoreUnknown=1;IP=10.7.0.10"},
        given=held("10.7.0.10"),
    ),
    Row(
        name="address no address",
        config={**L2, "ipam": POOL, "args": {"cni": {"ips": ["10.7.0.300"]}}},
    ),
    Row(
        name="static: no prefix length",
        config={**L2, "ipam": {"type": "static", "addresses": [{"address": "10.0.0.1"}]}},
    ),
    Row(name="static: no address at all", config={**L2, "ipam": {"type": "static"}}),
    Row(
        name="static: same address twice",
        config={**L2, "ipam": {"type": "static", "addresses": [{"address": "10.0.0.1/24"}] * 2}},
    ),
    Row(name="routes wrong", config=ranged(routes=[{"dst": "10.0.0.0/33"}])),
    Row(name="ipam missing from its own plugin", config={**L2, "type": "whereabouts"}),
    Row(name="ipam plugin for another type", config={**MACVLAN, "type": "static"}),
    Row(name="ipam prints garbage", config=ODD_IPAM, given=GARBAGE),
    Row(name="ipam hangs", config=ODD_IPAM, given=HANGS, timeout=0.5),
    Row(name="ipam killed by a signal", config=ODD_IPAM, given=DIES),
    Row(name="ipam fails", config=ODD_IPAM, given=FAILS),
    Row(name="ipam fails without a word", config=ODD_IPAM, given=MUTE),
    Row(name="ipam prints without end", config=ODD_IPAM, given=FLOODS),
    Row(name="ipam gives no address", config=ODD_IPAM, given=EMPTY),
    Row(name="ipam not executable", config=ODD_IPAM, given=PLAIN),
    Row(name="ipam missing", config=ODD_IPAM),
    Row(
        name="ipam outside CNI_PATH",
        config=macvlan(ipam={"type": "../odd"}),
        given=script("../odd", "#!/bin/sh\ntouch $0.ran\n"),
    ),
    Row(
        name="DEL: ipam outside CNI_PATH",
        verb="DEL",
        config=macvlan(ipam={"type": "../odd"}),
        given=script("../odd", "#!/bin/sh\ntouch $0.ran\n"),
    ),
    Row(
        name="CHECK: ipam outside CNI_PATH",
        verb="CHECK",
        config=macvlan(ipam={"type": "../odd"}, prevResult=PREVIOUS),
        given=script("../odd", "#!/bin/sh\ntouch $0.ran\n"),
    ),
    Row(
        name="GC: ipam outside CNI_PATH",
        verb="GC",
        config=macvlan(ipam={"type": "../odd"}),
        given=script("../odd", "#!/bin/sh\ntouch $0.ran\n"),
    ),
    Row(
        name="STATUS: ipam outside CNI_PATH",
        verb="STATUS",
        config=macvlan(ipam={"type": "../odd"}),
        given=script("../odd", "#!/bin/sh\ntouch $0.ran\n"),
    ),
]

ANNOTATIONS = [
    Row(name="network without definition", config=pods("nothing")),
    Row(name="network of another namespace", config=pods("kube-system/macvlan-conf-1")),
    Row(name="network name a path", config=pods("../macvlan-conf-1")),
    Row(name="namespace dots", config=pods("../../x")),
    Row(
        name="namespace dots, in JSON",
        config=pods('[{"name": "macvlan-conf-1", "namespace": ".."}]'),
    ),
    Row(name="interface a path", config=pods("macvlan-conf-1@../x")),
    Row(name="interface a template", config=pods("macvlan-conf-1@eth%d")),
    Row(name="interface lo", config=pods("macvlan-conf-1@lo")),
    Row(name="interface too long", config=pods("macvlan-conf-1@interfacetoolong")),
    Row(name="two at signs", config=pods("macvlan-conf-1@a@b")),
    Row(name="empty element", config=pods("macvlan-conf-1,,macvlan-conf-1")),
    Row(name="JSON cut off", config=pods('[{"name": "macvlan-conf-1"')),
    Row(name="JSON object instead of list", config=pods('{"name": "macvlan-conf-1"}')),
    Row(name="JSON list of text", config=pods('["macvlan-conf-1"]')),
    Row(name="name missing", config=pods('[{"namespace": "default"}]')),
    Row(name="one interface twice", config=pods("macvlan-conf-1@eth1,macvlan-conf-1@eth1")),
    Row(
        name="the default network's interface",
        env={"CNI_IFNAME": "eth0"},
        config=lambda scene: pods("macvlan-conf-1@eth0", clusterNetwork=str(scene.rig.default)),
    ),
    Row(
        name="two default routes",
        config=pods(
            '[{"name": "macvlan-conf-1", "interface": "a", "default-route": ["192.168.60.1"]}, '
            '{"name": "macvlan-conf-1", "interface": "b", "default-route": []}]'
        ),
    ),
    Row(
        name="default route off the link",
        config=pods(
            '[{"name": "macvlan-conf-1", "interface": "eth1", "default-route": ["172.31.0.1"]}]'
        ),
    ),
    Row(
        name="ips and claim",
        config=pods(
            '[{"name": "macvlan-conf-1", "ips": ["192.168.60.20"], "ipam-claim-reference": "c"}]'
        ),
    ),
    Row(name="ips wrong", config=pods('[{"name": "macvlan-conf-1", "ips": ["192.168.60.300"]}]')),
    Row(name="mac wrong", config=pods('[{"name": "macvlan-conf-1", "mac": "02:00"}]')),
    Row(
        name="mac multicast, in JSON",
        config=pods(
            '[{"name": "macvlan-conf-1", "interface": "eth1", "mac": "01:00:5e:00:00:01"}]'
        ),
    ),
    Row(
        name="capability not declared",
        config=pods(
            '[{"name": "macvlan-conf-1", "portMappings": [{"hostPort": 80, "containerPort": 80}]}]'
        ),
    ),
    Row(
        name="bandwidth not declared",
        config=pods('[{"name": "macvlan-conf-1", "bandwidth": {"ingressRate": 5}}]'),
    ),
    Row(
        name="port outside",
        config=pods(
            '[{"name": "macvlan-conf-1", '
            '"portMappings": [{"hostPort": 0, "containerPort": 70000}]}]'
        ),
    ),
    Row(
        name="device a path",
        config=pods('[{"name": "macvlan-conf-1", "deviceID": "../../0000:00:00.0"}]'),
    ),
    Row(name="cni-args a list", config=pods('[{"name": "macvlan-conf-1", "cni-args": []}]')),
    Row(name="annotation not text", config=pods(["macvlan-conf-1"])),
    Row(name="default network missing", config=pods("", clusterNetwork="nothing")),
    Row(
        name="default network's file missing",
        config=pods("", clusterNetwork="{folder}/none.conflist"),
    ),
    Row(
        name="default network's file not JSON",
        config=pods("", clusterNetwork="{folder}/x.conflist"),
        given=file("x.conflist", "{"),
    ),
    Row(name="default network's folder empty", config=pods("", clusterNetwork="{folder}")),
    Row(name="default network a device", config=pods("", clusterNetwork="/dev/zero")),
    Row(name="default network given twice", config=pods("", clusterNetwork="a", delegates=[PTP])),
    Row(name="delegates not a list", config=pods("", delegates="x")),
    Row(name="delegate without type", config=pods("", delegates=[{"name": "x"}])),
    Row(name="kubeconfig", config={**DELEGATING, "networks": None, "kubeconfig": "/x"}),
    Row(name="auxiliary chain", config=pods("", auxiliaryCNIChainName="x")),
    Row(name="readiness file missing", config=pods(readinessindicatorfile="{folder}/none")),
    Row(
        name="STATUS: readiness file missing",
        verb="STATUS",
        config=pods(readinessindicatorfile="{folder}/none"),
    ),
    Row(name="isolation", config=pods("other/macvlan-conf-1", namespaceIsolation=True)),
    Row(
        name="pod unknown",
        config={**DELEGATING, "networks": None},
        env={"CNI_ARGS": "K8S_POD_NAMESPACE=a;K8S_POD_NAME=b"},
    ),
    Row(
        name="pod name a path",
        config={**DELEGATING, "networks": None},
        env={"CNI_ARGS": "K8S_POD_NAMESPACE=..;K8S_POD_NAME=../../x"},
    ),
    Row(name="definition not JSON", config=network(), given=defined("{")),
    Row(name="definition a list", config=network(), given=defined("[]")),
    Row(name="definition empty, nothing on disk", config=network(), given=defined("")),
    Row(name="definition without config", config=network(), given=defined(None)),
    Row(
        name="definition of an unknown version",
        config=network(),
        given=defined({**L2, "cniVersion": "9.0.0"}),
    ),
    Row(
        name="definition's name a path", config=network(), given=defined({**L2, "name": "../../x"})
    ),
    Row(
        name="definition's type a path",
        config=network(),
        given=defined({**L2, "type": "../macvlan"}),
    ),
    Row(
        name="definition's ipam type a path",
        config=network(),
        given=defined({**L2, "ipam": {"type": "../x"}}),
    ),
    Row(name="definition without type", config=network(), given=defined({"cniVersion": "1.0.0"})),
    Row(name="definition delegates again", config=network(), given=defined(pods("lab"))),
    Row(
        name="definition with no plugins",
        config=network(),
        given=defined({"cniVersion": "1.0.0", "name": "lab", "plugins": []}),
    ),
    Row(name="definition's plugin unknown", config=network(), given=defined({**L2, "type": "odd"})),
    Row(
        name="definition twice",
        config=pods("macvlan-conf-1"),
        given=manifest(
            {
                "apiVersion": "k8s.cni.cncf.io/v1",
                "kind": "NetworkAttachmentDefinition",
                "metadata": {"name": "macvlan-conf-1"},
                "spec": {},
            }
        ),
    ),
    Row(name="definition in a broken file", config=network(), given=manifest("{")),
    Row(
        name="manifest's name a path",
        config=network(),
        given=manifest(
            {
                "apiVersion": "k8s.cni.cncf.io/v1",
                "kind": "NetworkAttachmentDefinition",
                "metadata": {"name": "../lab"},
                "spec": {},
            }
        ),
    ),
    Row(
        name="second network fails",
        config=pods("macvlan-conf-1@eth1,lab@eth2"),
        given=defined({**L2, "master": "eth9"}),
    ),
    Row(
        name="second network wants the first's mac",
        config=pods(
            '[{"name": "macvlan-conf-1", "interface": "a", "mac": "02:00:00:00:00:07"}, '
            '{"name": "macvlan-conf-1", "interface": "b", "mac": "02:00:00:00:00:07"}]'
        ),
    ),
    Row(name="delegate missing", config=network(), given=defined(ODD)),
    Row(name="delegate prints garbage", config=network(), given=both(defined(ODD), GARBAGE)),
    Row(name="delegate hangs", config=network(), given=both(defined(ODD), HANGS), timeout=0.5),
    Row(name="delegate killed by a signal", config=network(), given=both(defined(ODD), DIES)),
    Row(name="delegate fails", config=network(), given=both(defined(ODD), FAILS)),
    Row(name="delegate prints without end", config=network(), given=both(defined(ODD), FLOODS)),
    Row(name="delegate not executable", config=network(), given=both(defined(ODD), PLAIN)),
    Row(
        name="delegate fails after a network that stands",
        config=pods("macvlan-conf-1@eth1,lab@eth2"),
        given=both(defined(ODD), FAILS),
    ),
    Row(
        name="interface of the second network is there",
        config=pods("macvlan-conf-1@eth1,macvlan-conf-1@eth2"),
        given=linked("link add eth2 type veth peer name other", sandbox=True),
    ),
    Row(name="attached already, by podnet", config=pods(), given=attached),
]

STATE = [
    Row(
        name="ADD: record cut off",
        given=both(attached, spoilt("journal/interface/*.json", b'{"format": 1')),
    ),
    Row(name="ADD: record a link", given=both(attached, spoilt("journal/interface/*.json", None))),
    Row(
        name="CHECK: record empty",
        verb="CHECK",
        config=macvlan(prevResult=PREVIOUS),
        given=both(attached, spoilt("journal/interface/*.json", b"")),
    ),
    Row(
        name="podnet: ADD: record cut off",
        config=pods(),
        given=both(attached, spoilt("journal/sandbox/*.json", b'{"format": 1')),
    ),
    Row(
        name="podnet: CHECK: record of another format",
        verb="CHECK",
        config=pods(prevResult={}),
        given=both(attached, spoilt("journal/sandbox/*.json", b'{"format": 2}')),
    ),
    Row(
        name="GC: record cut off",
        verb="GC",
        config=macvlan(**{"cni.dev/valid-attachments": [{"containerID": "c", "ifname": "eth1"}]}),
        given=both(attached, spoilt("journal/interface/*.json", b"{")),
    ),
    Row(
        name="block cut off",
        keeps=True,
        given=both(held("x", config=MACVLAN), spoilt("leases/*/*.block", b'{"podnet"')),
    ),
    Row(
        name="block empty",
        keeps=True,
        given=both(held("x", config=MACVLAN), spoilt("leases/*/*.block", b"")),
    ),
    Row(
        name="block a link",
        keeps=True,
        given=both(held("x", config=MACVLAN), spoilt("leases/*/*.block", None)),
    ),
    Row(
        name="block zeros",
        keeps=True,
        given=both(held("x", config=MACVLAN), spoilt("leases/*/*.block", b"\0" * 900)),
    ),
    Row(
        name="STATUS: block empty",
        verb="STATUS",
        given=both(held("x", config=MACVLAN), spoilt("leases/*/*.block", b"")),
    ),
    Row(
        name="block's lock a link",
        given=both(held("x", config=MACVLAN), spoilt("leases/*/.lock", None)),
    ),
    Row(name="lock a link", given=both(held("x", config=MACVLAN), spoilt("locks/interface", None))),
    Row(name="state is a file", env={"STATE": "{folder}/state"}, given=file("state")),
    Row(name="state below a file", env={"STATE": "{folder}/x/state"}, given=file("x")),
    Row(name="state in /proc", env={"STATE": "/proc/podnet"}),
    Row(
        name="state a link to nothing",
        env={"STATE": "{folder}/state"},
        given=made("nothing", "state"),
    ),
    Row(name="store unknown", env={"STORE": "etcd://x"}),
    Row(name="store of another host", env={"STORE": "file://elsewhere/x"}),
    Row(
        name="store is a file",
        env={"STORE": "file:{folder}/leases"},
        given=file("leases"),
    ),
    Row(
        name="GC: attachment's id a path",
        verb="GC",
        config=macvlan(
            **{"cni.dev/valid-attachments": [{"containerID": "../c", "ifname": "eth1"}]}
        ),
        given=attached,
    ),
    Row(
        name="podnet: GC: attachments no list",
        verb="GC",
        config=pods(**{"cni.dev/valid-attachments": {}}),
        given=attached,
    ),
    Row(name="CHECK: no previous result", verb="CHECK", given=attached),
    Row(
        name="CHECK: previous result of another interface",
        verb="CHECK",
        config=macvlan(prevResult={"interfaces": [{"name": "eth5", "sandbox": "x"}]}),
        given=attached,
    ),
    Row(
        name="CHECK: previous result of another address",
        verb="CHECK",
        config=macvlan(
            prevResult={
                "interfaces": [{"name": "eth1", "sandbox": "x"}],
                "ips": [{"address": "192.168.60.99/24", "interface": 0}],
            }
        ),
        given=attached,
    ),
    Row(
        name="CHECK: namespace gone",
        verb="CHECK",
        config=macvlan(
            prevResult={
                "interfaces": [{"name": "eth1", "sandbox": "x"}],
                "ips": [{"address": "192.168.60.20/24", "interface": 0}],
            }
        ),
        given=both(attached, gone),
    ),
]

ROWS = [*NETNS, *LINKS, *IPAM, *ANNOTATIONS, *STATE]
