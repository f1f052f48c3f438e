from __future__ import annotations

from podnet.stores.memory import MemoryStore
from podnet.testing import IpamMachine, run_machine


def test_address_management_agrees_with_a_set():
    run_machine(lambda: IpamMachine(MemoryStore), examples=100, steps=40)
