"""podnet: several network interfaces for Kubernetes pods.

The front door holds a table of names and imports nothing: each name is loaded
from its module on first use, so that a short-lived CNI process pays only for
what it touches.
"""

_DOORS = {
    "Pool": "podnet.model.lease",
    "Owner": "podnet.model.lease",
    "Lease": "podnet.model.lease",
    "Pod": "podnet.model.attachment",
    "PodnetError": "podnet.errors",
    "open_ipam": "podnet.engine.leases",
    "Ipam": "podnet.engine.leases",
    "Node": "podnet.engine.node",
    "Attached": "podnet.engine.node",
    "parse_networks": "podnet.delegation.selection",
    "render_network_status": "podnet.delegation.status",
}

__all__ = [*sorted(_DOORS), "__version__"]  # noqa: PLE0604 - names resolved by __getattr__


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("podnet")
    if name in ("errors", "testing"):
        from importlib import import_module

        return import_module(f"podnet.{name}")
    try:
        module = _DOORS[name]
    except KeyError:
        raise AttributeError(f"module 'podnet' has no attribute {name!r}") from None
    from importlib import import_module

    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return __all__
