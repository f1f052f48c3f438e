"""A store in a Kubernetes cluster: an ``IPBlock`` object for each block.

This module imports nothing heavy: it says what is missing where ``podnet[kubernetes]`` is not
installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podnet.cluster.extra import needed_by
from podnet.model.urls import kubeconfig_url, seconds

if TYPE_CHECKING:
    from podnet.stores.crd_store import CrdStore


def open(url: str) -> CrdStore:  # noqa: A001 - what a store module offers is called open
    """Open ``kubernetes:``, or ``kubernetes:/path/to/kubeconfig``, with a query of options.

    Without a path the pod's service account is used, else the file that ``KUBECONFIG`` names, else
    ``~/.kube/config``. Options: ``context``, a context of the file; ``timeout``, seconds that one
    call may take (10). An example: ``kubernetes:/etc/podnet/kubeconfig?context=prod&timeout=5``.

    Raises:
        InvalidConfigError: it is no such URL, the credentials cannot be used, or
            ``podnet[kubernetes]`` is not installed.
    """
    path, options = kubeconfig_url(url, "kubernetes", context="", timeout="10")
    timeout = seconds(url, options["timeout"])
    with needed_by(url):
        from podnet.cluster.door import Cluster
        from podnet.stores.crd_store import CrdStore

        return CrdStore(Cluster(path, options["context"], timeout=timeout), timeout=timeout)
