"""The pools that network definitions and on-disk configurations tell of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen

from podnet.delegation.network import conflist, resolve
from podnet.engine import registry
from podnet.errors import PodnetError
from podnet.ipam import space
from podnet.ipam.conf import STATIC, read_want
from podnet.ipam.host_local import HOST_LOCAL, data_dir
from podnet.ipam.reserve import with_reserved
from podnet.ipam.want import IpamWant
from podnet.ipam.whereabouts import as_objects
from podnet.model.addresses import parse_span
from podnet.model.conf import inject, salvage_config
from podnet.model.reader import Reader
from podnet.model.wire import load_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from podnet.engine.house import House
    from podnet.model.addresses import Prefix
    from podnet.model.conf import NetworkConfig
    from podnet.model.conflist import NetworkConfigList
    from podnet.model.pool import Pool

_WHEREABOUTS = "whereabouts"


@frozen(kw_only=True)
class Defined:
    """The pools of one store that configurations tell of.

    Attributes:
        pools: each pool once, with the names of the networks that tell of it.
        faults: what could not be read, with where.
    """

    pools: tuple[tuple[Pool, tuple[str, ...]], ...] = ()
    faults: tuple[tuple[str, PodnetError], ...] = field(default=())


def defined(house: House) -> Defined:
    """Return the pools that the settings' manifests and the folder of configurations tell of.

    What the settings reserve is taken out of them.

    A broken file or definition hides no other. Pools that are kept in another store than the one
    in use, as host-local's are, are left out.
    """
    found: dict[Pool, dict[str, None]] = {}
    faults: list[tuple[str, PodnetError]] = []
    spans = [parse_span(text) for text in house.settings.reserved]
    for name, network in _networks(house):
        try:
            if isinstance(network, PodnetError):
                raise network
            for each in _pools(house, network):
                pool = with_reserved(each, spans)
                space.intervals(pool)
                found.setdefault(pool, {})[name] = None
        except PodnetError as error:
            faults.append((name, error))
    return Defined(
        pools=tuple((pool, tuple(names)) for pool, names in found.items()), faults=tuple(faults)
    )


def _networks(house: House) -> Iterator[tuple[str, NetworkConfigList | PodnetError]]:
    """Yield all networks, definitions first, with their names."""
    try:
        on_disk = house.configurations(house.settings.conf_dir)
    except PodnetError as error:
        on_disk = ()
        yield house.settings.conf_dir, error
    try:
        places: tuple[tuple[str, str], ...] = house.source.definitions()  # type: ignore[attr-defined]  # the directory source's own
        yield from house.source.faults()  # type: ignore[attr-defined]  # the same
    except PodnetError as error:
        places = ()
        yield ", ".join(house.settings.networks), error
    for namespace, name in places:
        try:
            text = house.source.definition(namespace, name) or b""
            yield f"{namespace}/{name}", resolve(text, namespace, name, lambda: on_disk)
        except PodnetError as error:
            yield f"{namespace}/{name}", error
    for filename, content in on_disk:
        try:
            if isinstance(content, PodnetError):
                raise content
            network = conflist(load_json(content, filename), "", filename)
            yield network.name, network
        except PodnetError as error:
            yield filename, error


def _pools(house: House, network: NetworkConfigList) -> Iterator[Pool]:
    for plugin in network.plugins:
        kind = Reader(plugin).section("ipam").string("type")
        if registry.role_of(kind) != "ipam" or kind == STATIC:
            continue
        document = inject(plugin, network.name, network.cni_version)
        yield from _want(house, kind, salvage_config(document)).pools


def _want(house: House, kind: str, config: NetworkConfig) -> IpamWant:
    """Return what is wanted of the store in use."""
    scheme, _, place = house.store_url.partition(":")
    args: Mapping[str, str] = {}
    if (kind == HOST_LOCAL) != (scheme == HOST_LOCAL):
        return IpamWant()
    want = read_want(kind, config, args)
    if kind == HOST_LOCAL and data_dir(config) != place.partition("?")[0]:
        return IpamWant()
    if kind == _WHEREABOUTS == scheme:
        node, slice_of = house.settings.node, getattr(house.store(), "slice_of", _no_slice)
        return as_objects(want, config, node, lambda name: slice_of(name, node))
    return want


def _no_slice(_name: str, _node: str) -> Prefix | None:
    return None
