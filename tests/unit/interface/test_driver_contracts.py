from __future__ import annotations

from hypothesis import strategies as st

from podnet.interface import macvlan, ptp
from podnet.model.attachment import Call
from podnet.testing.driver_contract import MASTER, SANDBOX, DriverContract

MACS = st.sampled_from(["0a:00:00:00:00:01", "02-AB-CD-EF-00-11", "0a00.0000.0002"])
IPAM = st.sampled_from([None, {"type": "static"}, {"type": "dhcp"}])


def optional(**keys):
    return st.fixed_dictionaries({}, optional=keys)


@st.composite
def calls(draw, kind, keys, ipam):
    config = {"cniVersion": "1.1.0", "name": "net", "type": kind, **draw(keys)}
    if chosen := draw(ipam):
        config["ipam"] = chosen
    return Call(
        plugin=kind,
        verb="ADD",
        container_id=draw(st.sampled_from(["c1", "web-0"])),
        netns=SANDBOX,
        ifname=draw(st.sampled_from(["eth1", "net1.100", "ü"])),
        args=draw(st.sampled_from(["", "MAC=0a:00:00:00:00:09", "X=1;IgnoreUnknown=1"])),
        config=config,
    )


class TestMacvlan(DriverContract):
    driver = macvlan

    def calls(self):
        keys = optional(
            master=st.just(MASTER),
            mode=st.sampled_from(["", "bridge", "private", "vepa"]),
            mtu=st.sampled_from([0, 1400, 1500]),
            mac=MACS,
            linkInContainer=st.booleans(),
            bcqueuelen=st.sampled_from([0, 5]),
            enabledad=st.booleans(),
            runtimeConfig=optional(mac=MACS),
            args=st.fixed_dictionaries({"cni": optional(mac=MACS)}),
        )
        return calls("macvlan", keys, IPAM)


class TestMacvlanPassthru(DriverContract):
    """The kernel gives a passthru link the master's MAC address."""

    driver = macvlan

    def calls(self):
        keys = st.fixed_dictionaries(
            {"mode": st.just("passthru")}, optional={"master": st.just(MASTER)}
        )
        no_args = calls("macvlan", keys, IPAM)
        return no_args.filter(lambda call: "MAC=" not in call.args)


class TestPtp(DriverContract):
    driver = ptp

    def calls(self):
        keys = optional(
            mtu=st.sampled_from([0, 1400, 9000]),
            ipMasq=st.just(False),
            enabledad=st.booleans(),
            dns=optional(nameservers=st.just(["10.0.0.53"])),
        )
        return calls("ptp", keys, st.just({"type": "static"}))
