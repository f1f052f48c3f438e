"""What must not keep a sandbox, or its neighbours, from being attached and detached again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_parts import Lab, macvlan, nad

from podnet.errors import PodnetError, RecordError


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(
        tmp_path,
        nad("storage", macvlan()),
        nad("misspelt", macvlan(ipam={"type": "wherabouts"})),
        nad("absent", {"cniVersion": "1.0.0", "type": "no-such-plugin"}),
    )
    with made.node:
        yield made


@pytest.mark.parametrize("networks", ["storage, misspelt", "storage, absent"])
def test_a_plugin_that_does_not_exist(lab: Lab, networks: str) -> None:
    with pytest.raises(PodnetError, match="failed to find plugin") as caught:
        lab.node.attach("/ns/a", networks)
    assert caught.value.code == 108
    assert "undoing" not in str(caught.value)
    lab.assert_nothing_is_left()
    lab.node.attach("/ns/a", "storage")
    lab.node.detach("/ns/a")
    lab.assert_nothing_is_left()


def test_a_neighbours_record_that_cannot_be_read(lab: Lab) -> None:
    lab.node.attach("/ns/a", "storage")
    for record in lab.records():
        if "sandbox" in str(record):
            record.write_bytes(b"{")
    lab.node.attach("/ns/b", "storage")
    assert [each.netns for each in lab.node.check("/ns/b")] == ["/ns/b"]
    assert [each.netns for each in lab.node.detach("/ns/b")] == ["/ns/b"]
    assert lab.links("/ns/b") == set()
    for call in (lab.node.check, lab.node.detach):
        with pytest.raises(RecordError, match="unreadable"):
            call("/ns/a")
