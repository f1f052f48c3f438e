"""Whole runs of the simulator: the same every time, nothing given twice, and as the engine does."""

from __future__ import annotations

import json
import sys
from collections import Counter

import pytest
from attrs import evolve
from simulation.engine import run_engine
from simulation.medium import KUBERNETES, POSTGRESQL
from simulation.owned import OwnedNode
from simulation.pods import Workload
from simulation.runs import MODES, ONE_OBJECT, OWNED, PER_ADDRESS, SHARED, Case, Run, run
from simulation.shared import Manner

SMALL = Workload(nodes=6, held=600, churn=0.5, deaths=0.2, deployment=40, dead_after=30.0)
STILL = evolve(SMALL, deaths=0.0)


def case(mode, **more):
    return Case(mode=mode, **{"pool": 4096, "block": 128, "workload": SMALL, **more})


@pytest.mark.parametrize("mode", MODES)
def test_the_same_seed_gives_the_same_run(mode):
    assert run(case(mode)) == run(case(mode))
    assert run(case(mode)) != run(case(mode, seed=2))


class TestNothingIsLostOrGivenTwice:
    @pytest.mark.parametrize("mode", [SHARED, OWNED])
    @pytest.mark.parametrize("block", [16, 512])
    @pytest.mark.parametrize("pool", [1024, 4096])
    def test_addresses(self, mode, block, pool):
        medium = evolve(KUBERNETES, lost=0.02)
        play = Run(case(mode, block=block, pool=pool, medium=medium))
        outcome = play.play()
        living = [pod for node in play.nodes for pod in node.pods]
        held = Counter((pod.block.index, pod.offset) for pod in living)
        assert max(held.values()) == 1
        used = sum(block.used for block in play.world.ground.blocks)
        assert used == len(living)
        assert outcome.leases > 600
        assert len(living) > 400

    @pytest.mark.parametrize("mode", [ONE_OBJECT, PER_ADDRESS])
    def test_peers(self, mode):
        play = Run(case(mode, workload=evolve(SMALL, held=100)))
        outcome = play.play()
        living = sum(len(node.pods) for node in play.nodes)
        assert outcome.objects - (mode == ONE_OBJECT) == living

    def test_blocks_of_a_node_are_its_own(self):
        play = Run(case(OWNED, pool=1024, block=64))
        play.play()
        for node in play.nodes:
            assert isinstance(node, OwnedNode)
            assert all(block.holder is node for block in node.held)
            assert all(not block.users.keys() - {node} for block in node.held)
        held = [block for block in play.world.ground.blocks if block.holder is not None]
        assert sum(len(node.held) for node in play.nodes) == len(held)
        assert play.world.tally._stranded == sum(block.free for block in held)


class TestNothingIsRefusedWhileAnAddressIsFree:
    @pytest.mark.parametrize("mode", [SHARED, OWNED])
    def test_a_pool_that_gets_full(self, mode):
        workload = evolve(STILL, held=1000, churn=0.02, rate=20.0)
        outcome = run(case(mode, pool=1024, block=64, workload=workload))
        assert outcome.more["full"] == 0
        assert outcome.leases >= 1000

    def test_blocks_come_back_from_nodes_that_hold_them(self):
        workload = evolve(STILL, nodes=12, held=400, churn=0.1, rate=20.0)
        outcome = run(case(OWNED, pool=512, block=64, workload=workload))
        assert outcome.more["recalls"] > 0
        assert outcome.more["full"] == 0


class TestWhatModesAreFor:
    def test_owned_mode_hardly_asks_the_store(self):
        shared, owned = run(case(SHARED)), run(case(OWNED))
        assert owned.writes < shared.writes / 4
        assert owned.p50 < shared.p50
        assert owned.stranded > shared.stranded == 0

    def test_owned_mode_goes_on_while_the_store_is_away(self):
        medium = evolve(KUBERNETES, outage=(40.0, 60.0))
        shared, owned = (
            run(case(mode, medium=medium, workload=evolve(STILL, churn=2.0)))
            for mode in (SHARED, OWNED)
        )
        assert shared.p99 > 20_000
        assert owned.p50 < 10

    def test_requests_of_a_node_ride_in_one_write(self):
        workload = Workload(nodes=1, held=320, churn=0.0, deployment=32, burst=0.001, rate=32.0)
        together = run(case(SHARED, workload=workload, block=512))
        apart = run(case(SHARED, workload=workload, block=512, manner=Manner(together=False)))
        assert together.writes < 0.2
        assert apart.writes > 0.99

    def test_one_object_makes_everybody_wait(self):
        workload = evolve(STILL, held=100, rate=5.0)
        one, many = (run(case(mode, workload=workload)) for mode in (ONE_OBJECT, PER_ADDRESS))
        assert one.p99 > 100 * many.p99
        assert many.objects == 100


class TestTheModelIsWhatTheEngineDoes:
    """The same pods come and go, on the same store; one of them is podnet itself."""

    @staticmethod
    def both(mode, pool, seed=1, medium=KUBERNETES, **workload):
        chosen = Workload(**{"deaths": 0.0, "rate": 20.0, "ends": 2000.0, **workload})
        each = Case(mode=mode, block=512, pool=pool, workload=chosen, seed=seed, medium=medium)
        return run(each), run_engine(each)

    def test_one_node(self):
        model, engine = self.both(SHARED, 512, nodes=1, held=200)
        assert model.writes == pytest.approx(engine.writes, rel=0.03)
        assert model.p50 == pytest.approx(engine.p50, rel=0.05)

    def test_several_nodes_on_one_block(self):
        model, engine = self.both(SHARED, 512, nodes=5, held=200)
        assert model.writes == pytest.approx(engine.writes, rel=0.03)
        assert model.conflicts == pytest.approx(engine.conflicts, rel=0.05)
        assert model.reads == pytest.approx(engine.reads, rel=0.05)
        assert model.kilobytes == pytest.approx(engine.kilobytes, rel=0.05)

    def test_several_nodes_on_several_blocks(self):
        pairs = [self.both(SHARED, 16 * 512, seed=seed, nodes=6, held=500) for seed in (1, 2, 3)]
        for name in ("writes", "reads", "kilobytes"):
            model, engine = (
                sum(getattr(each, name) for each in side) for side in zip(*pairs, strict=True)
            )
            assert model == pytest.approx(engine, rel=0.1)

    def test_a_store_that_has_a_queue(self):
        model, engine = self.both(SHARED, 512, medium=POSTGRESQL, nodes=5, held=200, burst=0.1)
        assert model.writes == pytest.approx(engine.writes, rel=0.1)
        assert engine.conflicts < 0.5

    def test_owned_blocks(self):
        model, engine = self.both(OWNED, 16 * 512, nodes=4, held=600)
        assert model.writes == pytest.approx(engine.writes, rel=0.15, abs=0.005)
        assert model.conflicts == engine.conflicts == 0
        assert engine.p50 < 5

    def test_too_few_blocks_to_own(self):
        model, engine = self.both(OWNED, 2 * 512, nodes=5, held=500)
        assert model.writes == pytest.approx(engine.writes, rel=0.25)
        assert model.more["recalls"] > 0


class TestCommand:
    def test_tiny_profile_as_json(self, capsys):
        import simulate

        assert simulate.main(["--profile", "tiny", "--output", "json", "--jobs", "1"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert {each["mode"] for each in told["designs"]} == set(MODES)
        assert all(each["leases"] > 0 for each in told["sizes"])

    def test_a_run_of_ones_own_as_a_table(self, capsys):
        import simulate

        arguments = "--nodes 3 --leases 200 --mode owned --block 64 --output table --jobs 1"
        assert simulate.main(arguments.split()) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[1].split()[:4] == ["MODE", "BLOCK", "NODES", "LEASES"]
        assert lines[2].startswith("owned  64")

    def test_unknown_experiment_runs_nothing(self, capsys):
        import simulate

        with pytest.raises(SystemExit):
            simulate.main(["--only", "nonsense"])
        assert "nonsense" in capsys.readouterr().err

    def test_it_is_started_as_a_script(self):
        import simulate

        assert simulate.__file__ in {f"{path}/simulate.py" for path in sys.path}
