"""What each CNI verb does for whereabouts: in podnet's store, or in whereabouts' own objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from podnet.engine.ipam_verbs import HouseParts, IpamPlugin
from podnet.ipam.whereabouts import as_objects

if TYPE_CHECKING:
    from collections.abc import Iterable

    from podnet.engine.leases import Ipam
    from podnet.ipam.want import IpamWant
    from podnet.model.addresses import Address, Prefix
    from podnet.model.attachment import Call
    from podnet.model.conf import NetworkConfig
    from podnet.model.lease import Owner
    from podnet.model.pool import Pool

SCHEME = "whereabouts"
"""Of the URL of the store in whereabouts' own objects."""


class StoreParts(HouseParts, Protocol):
    """What this plugin needs of the house besides."""

    @property
    def store_url(self) -> str:
        """URL of the store in use."""


class SliceStore(Protocol):
    """A store that knows the slices of nodes."""

    def slice_of(self, name: str, node: str) -> Prefix | None:
        """Return a node's slice of a NodeSlicePool; None if it has none."""


class WhereaboutsPlugin(IpamPlugin):
    """The IPAM plugin type whereabouts.

    Where the house's store is one of ``whereabouts:``, each range is the IPPool that whereabouts
    itself would hand out of; in any other store, all ranges of a network name are one domain.
    """

    _house: StoreParts

    def _want(self, config: NetworkConfig, call: Call) -> IpamWant:
        want = super()._want(config, call)
        if not self._shares:
            return want
        node = self._house.settings.node

        def slice_of(name: str) -> Prefix | None:
            return cast("SliceStore", self._store(config)).slice_of(name, node)

        return as_objects(want, config, node, slice_of)

    def _release_anywhere(self, ipam: Ipam, owner: Owner, network: str) -> None:
        super()._release_anywhere(ipam, owner, network)
        if self._shares:
            ipam.release(owner, network="")  # as below

    def _release(
        self, ipam: Ipam, owner: Owner, pools: list[Pool], network: str, hints: Iterable[Address]
    ) -> None:
        domain = pools[0].domain
        gone = ipam.release(owner, pool=domain, network=network, hints=hints)
        if self._shares and len(gone) < len(pools):
            # What whereabouts itself handed out is for no network that is known.
            ipam.release(owner, pool=domain, network="")

    @property
    def _shares(self) -> bool:
        return self._house.store_url.partition(":")[0] == SCHEME
