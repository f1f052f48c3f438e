"""Names to code: the only place that knows which module serves which name, as text.

Built-in names are tried first; entry points of other packages only on a miss, because reading
their metadata costs more than a whole ADD.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from podnet.errors import InvalidConfigError
from podnet.model.urls import masked

if TYPE_CHECKING:
    from podnet.ports import ClaimSource, Picker, Store

PLUGINS = {
    "podnet": "podnet.engine.attach_verbs:AttachPlugin",
    "multus": "podnet.engine.attach_verbs:AttachPlugin",
    "macvlan": "podnet.engine.interface_verbs:InterfacePlugin",
    "ptp": "podnet.engine.interface_verbs:InterfacePlugin",
    "loopback": "podnet.engine.loopback_verbs:LoopbackPlugin",
    "whereabouts": "podnet.engine.whereabouts_verbs:WhereaboutsPlugin",
    "podnet-ipam": "podnet.engine.ipam_verbs:IpamPlugin",
    "static": "podnet.engine.ipam_verbs:IpamPlugin",
    "host-local": "podnet.engine.host_local_verbs:HostLocalPlugin",
}
"""CNI plugin types served in this process; ``podnet plugin install`` offers the same names."""

KEEPING = frozenset({"podnet-ipam", "whereabouts"})
"""Of them, the IPAM plugins that keep addresses for a claim."""

ROLES = {
    "podnet.engine.attach_verbs:AttachPlugin": "sandbox",
    "podnet.engine.interface_verbs:InterfacePlugin": "interface",
    "podnet.engine.loopback_verbs:LoopbackPlugin": "interface",
    "podnet.engine.ipam_verbs:IpamPlugin": "ipam",
    "podnet.engine.host_local_verbs:HostLocalPlugin": "ipam",
    "podnet.engine.whereabouts_verbs:WhereaboutsPlugin": "ipam",
}
"""Which lock a plugin's verbs take."""

ORDER = ("sandbox", "interface", "ipam")
"""A plugin delegates only to plugins of a role further right; locks are taken in this order."""

STORES = {
    "memory": "podnet.stores.memory:open",
    "file": "podnet.stores.file:open",
    "sqlite": "podnet.stores.sql:open",
    "postgresql": "podnet.stores.sql:open",
    "postgres": "podnet.stores.sql:open",
    "kubernetes": "podnet.stores.crd:open",
    "host-local": "podnet.stores.host_local:open",
    "whereabouts": "podnet.stores.whereabouts:open",
}
"""Schemes of store URLs; others are entry points of the group ``podnet.stores``."""

SHARED_FORMATS = ("host-local", "whereabouts")
"""Schemes of stores that other programs use as well; they know nothing of who holds a block."""

PICKERS = {
    "lowest": "podnet.ipam.pick:Lowest",
    "round-robin": "podnet.ipam.pick:RoundRobin",
    "longest-free": "podnet.ipam.pick:LongestFree",
    "spread": "podnet.ipam.pick:Spread",
    "sticky": "podnet.ipam.pick:Sticky",
}
"""Names of pickers; others are entry points of the group ``podnet.pickers``."""

CLAIMS = {"kubernetes": "podnet.sources.cluster_claims:open"}
"""Schemes of the setting ``claims``; without one, IPAMClaims are among the manifests."""

KERNEL = "podnet.kernel.sandbox:Kernel"
DIRECTORY_SOURCE = "podnet.sources.directory:DirectorySource"
READ_CONFIGS = "podnet.sources.confdir:read_configs"
READ_CONFIG = "podnet.sources.confdir:read_config"
BUILTIN_EXECUTOR = "podnet.execs.builtin:BuiltinExecutor"
PROCESS_EXECUTOR = "podnet.execs.process:ProcessExecutor"


def role_of(plugin: str) -> str:
    """Return the role of a built-in plugin; empty for a name that is none's."""
    return ROLES.get(PLUGINS.get(plugin, ""), "")


def resolve(target: str) -> Any:
    """Return what ``module:attribute`` names."""
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


def open_store(url: str) -> Store:
    """Open the store that a URL names: its scheme is looked up among podnet's, then entry points.

    Raises:
        InvalidConfigError: no store has that scheme, or the URL is not one of it.
        StoreError: the store cannot be opened.
    """
    scheme, colon, _ = url.partition(":")
    if colon and scheme in STORES:
        store: Store = resolve(STORES[scheme])(url)
        return store
    # Reading the metadata of all installed packages costs more than an allocation.
    from importlib.metadata import entry_points

    for entry in entry_points(group="podnet.stores", name=scheme):
        found: Store = entry.load()(url)
        return found
    raise InvalidConfigError(
        f"store {masked(url)!r} cannot be opened: its scheme is none of {', '.join(STORES)} and of "
        "no installed package"
    )


def open_claims(url: str) -> ClaimSource:
    """Open the source of IPAMClaims that a URL names.

    Raises:
        InvalidConfigError: no source has that scheme, or its credentials cannot be used.
    """
    scheme = url.partition(":")[0]
    if scheme not in CLAIMS:
        raise InvalidConfigError(f"claims {url!r} are of none of {', '.join(CLAIMS)}")
    source: ClaimSource = resolve(CLAIMS[scheme])(url)
    return source


def open_picker(name: str) -> Picker:
    """Return a new picker of that name: one of podnet's, or an entry point that makes one.

    Raises:
        InvalidConfigError: no picker has that name.
    """
    if name in PICKERS:
        picker: Picker = resolve(PICKERS[name])()
        return picker
    from importlib.metadata import entry_points

    for entry in entry_points(group="podnet.pickers", name=name):
        found: Picker = entry.load()()
        return found
    raise InvalidConfigError(
        f"picker {name!r} is unknown: it is none of {', '.join(PICKERS)} and of no installed "
        "package"
    )
