"""What benchmarks count is right on any machine; what they time is not looked at here."""

from __future__ import annotations

import pytest

pytest.importorskip("lightkube")

from measures import kubernetes, sizes
from measures.blocks import fill, full_blocks
from measures.callers import allocate, clients, owner, pool
from measures.figures import Figure

from podnet.engine.leases import Ipam, open_ipam
from podnet.model.block import BLOCK_SIZE
from podnet.stores.memory import MemoryStore


def test_one_node_shared_writes_one_in_ten_leases_at_most():
    (figure,) = kubernetes.shared(640)
    assert figure.reached, figure


def test_owned_mode_writes_once_in_two_hundred_leases_at_most(tmp_path):
    (figure,) = kubernetes.owned(2 * BLOCK_SIZE, str(tmp_path))
    assert figure.reached, figure


def test_a_made_pool_is_one_that_was_allocated():
    store = MemoryStore()
    fill(store, 600)
    made = Ipam(store)
    lease = next(each for each in made.leases(pool()) if each.ip.value % BLOCK_SIZE == 7)
    assert made.holds(lease.owner, pool()) == lease
    assert len(list(made.leases(pool()))) == 2 * BLOCK_SIZE
    assert sum(1 for _ in full_blocks(600)) == 2


def test_clients_of_several_processes_are_all_served(tmp_path):
    rate, waits = clients(f"file:{tmp_path}", pool(), 12, 2, 2)
    assert len(waits) == 12
    assert rate > 0
    with open_ipam(f"file:{tmp_path}") as ipam:
        assert len({lease.ip for lease in ipam.leases(pool())}) == 12 + 2 * 16


def test_what_a_caller_is_refused_with_is_raised():
    ipam = Ipam(MemoryStore())
    with pytest.raises(Exception, match="no free address"):
        allocate(ipam, pool(network="10.0.0.0/30"), range(10), 2)
    assert ipam.holds(owner(0), pool(network="10.0.0.0/30")) is not None


def test_memory_is_measured_in_a_process_of_its_own():
    (figure,) = sizes.memory(600)
    assert figure.value is not None


class TestFigure:
    @pytest.mark.parametrize(
        ("value", "at_most", "reached"),
        [(1.0, False, False), (2.0, False, True), (2.0, True, True), (2.1, True, False)],
    )
    def test_reached(self, value, at_most, reached):
        figure = Figure(name="n", value=value, unit="/s", target=2.0, at_most=at_most)
        assert figure.reached is reached
        assert figure.document()["reached"] is reached
        assert figure.cells()[3] == ("yes" if reached else "NO")

    def test_without_target_or_value(self):
        assert Figure(name="n", value=1.0, unit="/s").reached is None
        assert Figure(name="n", value=None, unit="/s", target=1.0).reached is None
        assert Figure(name="n", value=12345.6, unit="/s").cells()[1] == "12 346 /s"
