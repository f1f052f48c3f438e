"""podnet: several network interfaces for Kubernetes pods.

The front door holds a table of names and imports nothing: each name is loaded
from its module on first use, so that a short-lived CNI process pays only for
what it touches.
"""

TYPE_CHECKING = False  # the name type checkers know; `typing` itself costs 8 ms of import
if TYPE_CHECKING:
    from podnet import errors as errors
    from podnet import testing as testing
    from podnet.delegation.selection import parse_networks as parse_networks
    from podnet.delegation.status import NetworkStatus as NetworkStatus
    from podnet.delegation.status import render_network_status as render_network_status
    from podnet.engine.attached import Attached as Attached
    from podnet.engine.attached import AttachedNetwork as AttachedNetwork
    from podnet.engine.leases import Ipam as Ipam
    from podnet.engine.leases import open_ipam as open_ipam
    from podnet.engine.migration import migrate as migrate
    from podnet.engine.node import Node as Node
    from podnet.engine.usage import usage as usage
    from podnet.errors import PodnetError as PodnetError
    from podnet.model.attachment import Pod as Pod
    from podnet.model.lease import Lease as Lease
    from podnet.model.lease import Owner as Owner
    from podnet.model.pool import Pool as Pool

    __version__: str

_DOORS = {
    "Attached": "podnet.engine.attached",
    "AttachedNetwork": "podnet.engine.attached",
    "Ipam": "podnet.engine.leases",
    "Lease": "podnet.model.lease",
    "NetworkStatus": "podnet.delegation.status",
    "Node": "podnet.engine.node",
    "Owner": "podnet.model.lease",
    "Pod": "podnet.model.attachment",
    "PodnetError": "podnet.errors",
    "Pool": "podnet.model.pool",
    "migrate": "podnet.engine.migration",
    "open_ipam": "podnet.engine.leases",
    "parse_networks": "podnet.delegation.selection",
    "render_network_status": "podnet.delegation.status",
    "usage": "podnet.engine.usage",
}
_ROOMS = ("errors", "testing")

__all__ = [*_DOORS, "__version__"]  # noqa: PLE0604 - the table's keys are the names


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in _DOORS:
        return getattr(import_module(_DOORS[name]), name)
    if name in _ROOMS:
        return import_module(f"podnet.{name}")
    if name == "__version__":
        from importlib.metadata import version

        return version("podnet")
    raise AttributeError(f"module 'podnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
