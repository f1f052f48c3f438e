"""A store in whereabouts' own objects: podnet and whereabouts hand out of them at the same time.

This module imports nothing heavy: it says what is missing where ``podnet[kubernetes]`` is not
installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podnet.errors import InvalidConfigError

if TYPE_CHECKING:
    from podnet.stores.whereabouts_store import WhereaboutsStore

_GUESTS = ("lightkube", "httpx2", "msgspec", "yaml")


def open(url: str) -> WhereaboutsStore:  # noqa: A001 - what a store module offers is called open
    """Open ``whereabouts:/path/to/kubeconfig``, or ``whereabouts:``, with a query of options.

    Without a path the pod's service account is used, else the file that ``KUBECONFIG`` names, else
    ``~/.kube/config``. The objects are in the namespace that the context names, ``kube-system`` if
    it names none, as whereabouts has it. Options: ``context``, a context of the file; ``namespace``
    instead of the context's; ``timeout``, seconds that the attempts of one call may take (10),
    each of them 7 at most, since whereabouts' Lease lasts for 15. An example:
    ``whereabouts:/etc/cni/net.d/whereabouts.d/whereabouts.kubeconfig``.

    Raises:
        InvalidConfigError: it is no such URL, the credentials cannot be used, or
            ``podnet[kubernetes]`` is not installed.
    """
    path, options = parse(url)
    try:
        from podnet.cluster.door import Cluster
        from podnet.stores.whereabouts_lease import REQUEST_MOST
        from podnet.stores.whereabouts_store import WhereaboutsStore
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in _GUESTS:
            raise
        raise InvalidConfigError(
            f"store {url!r} needs {error.name}, which is not installed: "
            "install podnet with its extra 'kubernetes'"
        ) from error
    timeout = float(options["timeout"])
    cluster = Cluster(path, options["context"], timeout=min(timeout, REQUEST_MOST))
    return WhereaboutsStore(cluster, options["namespace"], timeout=timeout)


def parse(url: str) -> tuple[str, dict[str, str]]:
    """Return kubeconfig and options of a URL.

    Raises:
        InvalidConfigError: it is not one of this store.
    """
    scheme, colon, rest = url.partition(":")
    path, _, query = rest.partition("?")
    if scheme != "whereabouts" or not colon:
        raise InvalidConfigError(f"store {url!r} is not whereabouts:KUBECONFIG")
    if path.startswith("//"):
        host, slash, rest = path[2:].partition("/")
        path = slash + rest
        if host:
            raise InvalidConfigError(f"store {url!r} names the host {host!r}: its file is local")
    options = {"context": "", "namespace": "", "timeout": "10"}
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        if name not in options:
            known = ", ".join(options)
            raise InvalidConfigError(
                f"store {url!r} has the option {name!r}, which is none of {known}"
            )
        options[name] = value
    try:
        timeout = float(options["timeout"])
    except ValueError:
        timeout = 0.0
    if not 0 < timeout < float("inf"):
        raise InvalidConfigError(f"store {url!r}: timeout is no number of seconds above 0")
    return path, options
