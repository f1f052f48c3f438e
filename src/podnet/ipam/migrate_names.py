"""What a domain is called in another kind of store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podnet.errors import InvalidConfigError
from podnet.ipam.conf import WHEREABOUTS, domain_of
from podnet.ipam.whereabouts import PoolRef, pool_of_domain
from podnet.model.addresses import parse_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


def target_name(
    domain: str, source: str, target: str, networks: Callable[[], Collection[str]]
) -> str:
    """Return what a domain is to be called where it is moved to.

    Plugins of type whereabouts look for it there: whereabouts' own objects are a domain for each
    range, and in any other store the ranges of one network name are one domain.

    Args:
        domain: its name now.
        source: scheme of the store where it is.
        target: scheme of the store where it goes.
        networks: returns the networks that its leases are of, as text.

    Raises:
        InvalidConfigError: whereabouts' objects have no room for it as a whole.
    """
    if (source == WHEREABOUTS) == (target == WHEREABOUTS):
        return domain
    if source == WHEREABOUTS:
        ref = pool_of_domain(domain)
        if ref is None:
            return domain
        return domain_of(ref.network_name, None if ref.unique else str(ref.network))
    first, _, rest = domain.partition(":")
    if first != WHEREABOUTS:
        return domain
    return _ref(domain, rest, networks()).domain


def _ref(domain: str, rest: str, networks: Collection[str]) -> PoolRef:
    """Return the IPPool of a domain of type whereabouts whose leases are of one range."""
    if len(networks) != 1:
        ranges = ", ".join(sorted(networks)) or "none"
        raise InvalidConfigError(
            f"domain {domain!r} cannot be moved to whereabouts' objects as one: they are of one "
            f"range each, and its leases are of {ranges}"
        )
    (network,) = networks
    apart = rest == network or rest.endswith(f":{network}")
    name = rest.removesuffix(network).removesuffix(":") if apart else rest
    return PoolRef(network=parse_prefix(network), network_name=name, unique=not apart)
