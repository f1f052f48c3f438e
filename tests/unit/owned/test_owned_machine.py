from __future__ import annotations

import pytest
from owned_machine import FollowingMachine, MixedMachine, OwnedMachine

from podnet.testing import run_machine


@pytest.mark.parametrize("machine", [OwnedMachine, MixedMachine, FollowingMachine])
def test_several_nodes_that_hold_blocks(machine):
    run_machine(machine, examples=60, steps=50)
