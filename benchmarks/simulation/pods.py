"""What happens in the cluster: pods come, in bursts, go, are rolled out anew, and nodes die."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from .blocks import Block
    from .clock import Clock
    from .tally import Tally


@frozen(kw_only=True)
class Workload:
    """What the cluster has to bear.

    Attributes:
        nodes: how many.
        held: leases at the end of the first phase, in which the cluster fills.
        churn: leases granted in the second phase, as a part of ``held``.
        rate: pods that start in a second, on average, in all of the cluster.
        deployment: pods of one deployment, on average; they come within ``burst`` seconds.
        burst: see above.
        jobs: part of the churn that is short-lived pods; of what remains, ``deaths`` is pods of
            dead nodes and the rest is roll-outs.
        life: seconds that a short-lived pod lives, on average.
        deaths: part of the churn that is pods of dead nodes, which start anew on other nodes.
        dead_after: seconds until the leases of a dead node are taken back.
        ends: seconds after which it is over, whatever is left.
    """

    nodes: int
    held: int
    churn: float = 0.25
    rate: float = 0.0
    deployment: int = 100
    burst: float = 5.0
    jobs: float = 0.4
    life: float = 120.0
    deaths: float = 0.1
    dead_after: float = 300.0
    ends: float = 86400.0

    @property
    def pods_per_second(self) -> float:
        """``rate``, or what a cluster of that size may well see."""
        return self.rate or min(500.0, max(2.0, self.nodes / 2))


class Node(Protocol):
    """What serves the pods of one node.

    Attributes:
        pods: those that have a lease, as the store knows.
        dead: it answers no more.
    """

    pods: dict[Pod, None]
    dead: bool

    def ask(self, pod: Pod) -> None:
        """Get it a lease, and call ``pod.started``."""
        ...

    def give(self, pod: Pod) -> None:
        """Take its lease back."""
        ...


class Pod:
    """One attachment of one pod.

    Attributes:
        node: where it runs.
        asked: when it asked for its lease.
        block: where its lease is; None before it has one.
        offset: which address there.
        life: seconds until it ends by itself; 0 if it does not.
        successor_of: pod that ends when this one has started.
    """

    __slots__ = ("asked", "block", "life", "node", "offset", "successor_of")

    def __init__(self, node: Node, asked: float, life: float, successor_of: Pod | None) -> None:
        self.node = node
        self.asked = asked
        self.block: Block | None = None
        self.offset = 0
        self.life = life
        self.successor_of = successor_of


class Cluster:
    """Plays a workload on nodes."""

    def __init__(
        self,
        clock: Clock,
        workload: Workload,
        chance: Random,
        tally: Tally,
        nodes: list[Node],
        bury: Callable[[Node, int], Node],
    ) -> None:
        """Prepare; ``begin`` has it happen.

        Args:
            clock: the time.
            workload: what happens.
            chance: decides all the rest.
            tally: takes note of how long leases took.
            nodes: who serves.
            bury: takes back what a dead node had, now that it is known to be dead, and returns
                the node that takes its place.
        """
        self._clock = clock
        self._workload = workload
        self._chance = chance
        self._tally = tally
        self._nodes = nodes
        self._bury = bury
        self._standing: list[Pod] = []
        self._churn = round(workload.held * workload.churn)
        self.total = workload.held + self._churn
        self._pending = 0
        self._spent = False

    @property
    def is_over(self) -> bool:
        """Nothing more will happen by itself."""
        return self._spent and not self._pending

    def begin(self) -> None:
        """Let the first deployment come."""
        self._clock.after(0.0, self._fill, self._workload.held)

    def started(self, pod: Pod) -> None:
        """Take note that a pod has its lease."""
        now = self._clock.now
        self._tally.waits.append(now - pod.asked)
        if pod.node.dead:
            self._pending -= 1
            return  # it died with the answer
        if pod.life:
            self._clock.after(pod.life, self._run_out, pod)
        else:
            self._pending -= 1
            self._standing.append(pod)
        if pod.successor_of is not None:
            self._end(pod.successor_of)
            pod.successor_of = None

    def refused(self, pod: Pod) -> None:
        """Take note that a pod got none: its runtime tries again."""
        self._tally.refused += 1
        self._clock.after(1.0 + 4.0 * self._chance.random(), self._retry, pod)

    def _retry(self, pod: Pod) -> None:
        if pod.node.dead:
            self._pending -= 1
        else:
            pod.node.ask(pod)

    def _run_out(self, pod: Pod) -> None:
        self._pending -= 1
        self._end(pod)

    def _end(self, pod: Pod) -> None:
        if not pod.node.dead:
            pod.node.give(pod)

    def _expect(self, seconds: float, life: float = 0.0, successor_of: Pod | None = None) -> None:
        """Have a pod come in so many seconds."""
        self._pending += 1
        self._clock.after(seconds, self._come, life, successor_of)

    def _come(self, life: float, successor_of: Pod | None) -> None:
        node = self._any_node()
        while node.dead and not all(each.dead for each in self._nodes):
            node = self._any_node()
        node.ask(Pod(node, self._clock.now, life, successor_of))

    def _any_node(self) -> Node:
        return self._nodes[int(self._chance.random() * len(self._nodes))]

    def _deploy(self, pods: int, seconds: float) -> None:
        for _ in range(pods):
            self._expect(seconds * self._chance.random())

    def _size(self, most: int) -> int:
        mean = self._workload.deployment
        return max(1, min(most, round(self._chance.expovariate(1 / mean))))

    def _fill(self, left: int) -> None:
        if not left:
            self._clock.after(self._workload.burst, self._go_on, self._churn)
            return
        pods = self._size(left)
        self._deploy(pods, self._workload.burst)
        self._clock.after(pods / self._workload.pods_per_second, self._fill, left - pods)

    def _go_on(self, left: int) -> None:
        """Have the next thing happen, until the churn is spent."""
        if left <= 0:
            self._spent = True
            return
        workload, chance = self._workload, self._chance
        kind = chance.random()
        # What dies takes a whole node's pods at a time, and is chosen that much less often.
        pods = self._size(left)
        if kind < workload.jobs:
            for _ in range(pods):
                life = max(1.0, chance.expovariate(1 / workload.life))
                self._expect(workload.burst * chance.random(), life)
        elif kind < workload.jobs + workload.deaths and workload.nodes > 1:
            pods = self._die(left) or pods
        else:
            self._roll_out(pods)
        self._clock.after(pods / workload.pods_per_second, self._go_on, left - pods)

    def _roll_out(self, pods: int) -> None:
        """Replace standing pods by new ones, which start before the old ones end."""
        chance, standing = self._chance, self._standing
        for _ in range(pods):
            if not standing:
                return
            at = int(chance.random() * len(standing))
            old = standing[at]
            standing[at] = standing[-1]
            standing.pop()
            self._expect(self._workload.burst * chance.random(), 0.0, old)

    def _die(self, left: int) -> int:
        """Have a node die, if its pods are no more than what is left of the churn."""
        at = int(self._chance.random() * len(self._nodes))
        node = self._nodes[at]
        pods = len(node.pods)
        if not pods or pods > left:
            return 0
        node.dead = True
        self._clock.after(self._workload.dead_after, self._replace, at)
        for _ in range(pods):
            # They come to life elsewhere when the node is given up.
            wait = self._workload.dead_after + self._workload.burst * self._chance.random()
            self._expect(wait)
        return pods

    def _replace(self, at: int) -> None:
        self._nodes[at] = self._bury(self._nodes[at], at)
