"""The part of the store contract about address management over the store, by many at once."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from podnet.engine.leases import Ipam
from podnet.model.pool import Pool
from podnet.testing.ground_contract import StoreGround
from podnet.testing.ipam_history import check_ipam, work
from podnet.testing.together import in_processes, in_threads

if TYPE_CHECKING:
    from podnet.testing.linearizability import Operation

# Few addresses, on both sides of the border of two blocks; the pools have one in common.
POOLS = (
    Pool("border", "10.0.0.0/16", first="10.0.1.254", last="10.0.2.1", domain="contract"),
    Pool("beyond", "10.0.2.0/30", domain="contract"),
)
_ADDRESSES = {
    "border": ["10.0.1.254", "10.0.1.255", "10.0.2.0", "10.0.2.1"],
    "beyond": ["10.0.2.1", "10.0.2.2"],
}


class AllocatingContract(StoreGround):
    """Part of ``StoreContract``."""

    def test_threads_allocate_as_if_one_after_the_other(self) -> None:
        """No address is held twice, none refused while one is free, none lost."""
        with self.opened() as store:
            # Threads of one ride together, and the two compete.
            ipams = [Ipam(store, node=f"node-{n}", attempts=5000) for n in range(2)]
            histories = in_threads(
                self.threads,
                lambda n: work(ipams[n % 2], f"thread-{n}", pools=POOLS, steps=15),
                shaking="podnet",
            )
            check_ipam(itertools.chain(*histories), _ADDRESSES)

    def test_processes_allocate_as_if_one_after_the_other(self) -> None:
        """The same holds for processes, as on several nodes."""
        self.needs("multi_process")
        with self.opened() as store:

            def child(number: int) -> list[Operation]:
                ipam = Ipam(self.reopen(store), node=f"node-{number}", attempts=5000)
                return work(ipam, f"process-{number}", pools=POOLS, steps=20)

            histories = in_processes(4, child)
            check_ipam(itertools.chain(*(each or () for each in histories)), _ADDRESSES)
