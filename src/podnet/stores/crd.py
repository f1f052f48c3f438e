"""A store in a Kubernetes cluster: an ``IPBlock`` object for each block.

This module imports nothing heavy: it says what is missing where ``podnet[kubernetes]`` is not
installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podnet.errors import InvalidConfigError

if TYPE_CHECKING:
    from podnet.stores.crd_store import CrdStore

_GUESTS = ("lightkube", "httpx2", "msgspec", "yaml")


def open(url: str) -> CrdStore:  # noqa: A001 - what a store module offers is called open
    """Open ``kubernetes:``, or ``kubernetes:/path/to/kubeconfig``, with a query of options.

    Without a path the pod's service account is used, else the file that ``KUBECONFIG`` names, else
    ``~/.kube/config``. Options: ``context``, a context of the file; ``timeout``, seconds that one
    call may take (10). An example: ``kubernetes:/etc/podnet/kubeconfig?context=prod&timeout=5``.

    Raises:
        InvalidConfigError: it is no such URL, the credentials cannot be used, or
            ``podnet[kubernetes]`` is not installed.
    """
    kubeconfig, context, timeout = parse(url)
    try:
        from podnet.cluster.door import Cluster
        from podnet.stores.crd_store import CrdStore
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in _GUESTS:
            raise
        raise InvalidConfigError(
            f"store {url!r} needs {error.name}, which is not installed: "
            "install podnet with its extra 'kubernetes'"
        ) from error
    return CrdStore(Cluster(kubeconfig, context, timeout=timeout), timeout=timeout)


def parse(url: str) -> tuple[str, str, float]:
    """Return kubeconfig, context and timeout of a URL.

    Raises:
        InvalidConfigError: it is not one of this store.
    """
    scheme, colon, rest = url.partition(":")
    path, _, query = rest.partition("?")
    if scheme != "kubernetes" or not colon:
        raise InvalidConfigError(f"store {url!r} is not kubernetes:KUBECONFIG")
    if path.startswith("//"):
        host, slash, rest = path[2:].partition("/")
        path = slash + rest
        if host:
            raise InvalidConfigError(f"store {url!r} names the host {host!r}: its file is local")
    options = {"context": "", "timeout": "10"}
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        if name not in options:
            raise InvalidConfigError(
                f"store {url!r} has the option {name!r}, which is neither context nor timeout"
            )
        options[name] = value
    try:
        timeout = float(options["timeout"])
    except ValueError:
        timeout = 0.0
    if not 0 < timeout < float("inf"):
        raise InvalidConfigError(f"store {url!r}: timeout is no number of seconds above 0")
    return path, options["context"], timeout
