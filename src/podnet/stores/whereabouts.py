"""A store in whereabouts' own objects: podnet and whereabouts hand out of them at the same time.

This module imports nothing heavy: it says what is missing where ``podnet[kubernetes]`` is not
installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podnet.cluster.extra import needed_by
from podnet.model.urls import kubeconfig_url, seconds

if TYPE_CHECKING:
    from podnet.stores.whereabouts_store import WhereaboutsStore


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
    path, options = kubeconfig_url(url, "whereabouts", context="", namespace="", timeout="10")
    timeout = seconds(url, options["timeout"])
    with needed_by(url):
        from podnet.cluster.door import Cluster
        from podnet.stores.whereabouts_lease import REQUEST_MOST
        from podnet.stores.whereabouts_store import WhereaboutsStore

        cluster = Cluster(path, options["context"], timeout=min(timeout, REQUEST_MOST))
        return WhereaboutsStore(cluster, options["namespace"], timeout=timeout)
