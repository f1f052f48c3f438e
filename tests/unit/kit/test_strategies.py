"""The strategies draw what they say."""

from __future__ import annotations

import json

import pytest
from hypothesis import find, given
from hypothesis import strategies as st

from podnet.ipam.conf import read_want
from podnet.model.addresses import Address
from podnet.model.block import BLOCK_SIZE
from podnet.model.conf import network_config
from podnet.testing import blocks, ipam_configs, leases, owners


@pytest.mark.parametrize("kind", ["podnet-ipam", "whereabouts", "host-local"])
def test_configurations_mean_what_is_told(kind):
    @given(ipam_configs(types=[kind]))
    def means(drawn):
        document, meant = drawn
        assert json.loads(json.dumps(document)) == document
        assert read_want(kind, network_config(document), {}).pools == meant

    means()


@given(ipam_configs(network_name="storage"))
def test_configurations_have_the_name_that_is_wanted(drawn):
    assert drawn[0]["name"] == "storage"


@given(blocks())
def test_blocks_are_sound(block):
    assert not block.freed.keys() & block.leases.keys()
    assert block.holder or not block.recalled
    for offset, lease in block.leases.items():
        assert lease.ip.value == block.first + offset
        assert lease.domain == block.domain
        assert lease.sequence <= block.sequence


@given(blocks(domain="d", version=6, index=7))
def test_blocks_may_be_of_one_place(block):
    assert block.key == "d/6/" + "7".rjust(30, "0")


@pytest.mark.parametrize(
    "wanted",
    [
        lambda block: len(block.leases) > 3,
        lambda block: not block.leases,
        lambda block: block.sequence > 1 << 64,
        lambda block: len(block.freed) > 1,
        lambda block: block.recalled,
        lambda block: BLOCK_SIZE - 1 in block.leases,
        lambda block: any(lease.claim for lease in block.leases.values()),
        lambda block: any(not lease.pool for lease in block.leases.values()),
        lambda block: any(lease.owner.pod_uid for lease in block.leases.values()),
    ],
)
def test_blocks_of_every_kind_are_drawn(wanted):
    assert wanted(find(blocks(), wanted))


@pytest.mark.parametrize(
    "wanted",
    [
        lambda owner: owner.container_id.startswith("claim:"),
        lambda owner: owner.container_id.startswith("reserved:") and owner.ifname == "-",
        lambda owner: owner.pod_name and not owner.pod_uid,
        lambda owner: not owner.container_id.isascii(),
        lambda owner: "%" in owner.container_id or "_" in owner.container_id,
    ],
)
def test_owners_of_every_kind_are_drawn(wanted):
    assert wanted(find(owners(), wanted))


@given(leases("d", Address(4, 9), 5), st.data())
def test_leases_are_of_the_address(lease, data):
    assert (lease.domain, lease.ip) == ("d", Address(4, 9))
    assert lease.sequence <= 5
