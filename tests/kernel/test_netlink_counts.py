"""Deterministic costs: netlink sends per verb. The peers need 11 for ADD and 2 for DEL."""

from __future__ import annotations

import pytest

from podnet.model.result import IP, Result, Route
from podnet.testing.plugin_room import Room

pytestmark = pytest.mark.kernel


ANSWER = Result(
    ips=(IP("10.1.0.5/24", "10.1.0.1"), IP("fd00::5/64", "fd00::1")),
    routes=(Route("0.0.0.0/0"), Route("::/0"), Route("192.168.0.0/16", "10.1.0.9")),
)
MACVLAN = {"type": "macvlan", "master": "up0"}
STATIC = {"ipam": {"type": "static"}}


def sends(room, call):
    before = room.house.kernel.sends
    room.run(call)
    return room.house.kernel.sends - before


@pytest.mark.parametrize(
    ("config", "add", "delete"),
    [
        # Look at the master, create the link up.
        ({**MACVLAN}, 2, 2),
        # Look at the master, create, then everything else at once.
        ({**MACVLAN, **STATIC}, 3, 2),
        # Two dumps find the default route and one look its link.
        ({"type": "macvlan", **STATIC}, 5, 2),
        # Create, one batch on each side; DEL looks at and deletes both ends.
        ({"type": "ptp", **STATIC}, 3, 4),
    ],
    ids=["macvlan-l2", "macvlan", "macvlan-default-master", "ptp"],
)
def test_sends(tmp_path, kernel, pod, config, add, delete):
    room = Room(tmp_path, kernel, ANSWER)
    call = room.call("ADD", pod.path, config)
    assert sends(room, call) == add
    assert sends(room, room.call("DEL", pod.path, config)) == delete
    assert pod.links() == ["lo"]


def test_sends_of_del_once_the_sandbox_is_gone(tmp_path, kernel, pod):
    room = Room(tmp_path, kernel, ANSWER)
    call = room.call("ADD", pod.path, {**MACVLAN, **STATIC})
    room.run(call)
    pod.end()
    assert sends(room, room.call("DEL", call.netns, call.config)) == 0
