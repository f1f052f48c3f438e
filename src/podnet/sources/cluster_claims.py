"""IPAMClaims in a Kubernetes cluster: read before an ADD, told what they hold after it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from podnet.cluster.answers import ConflictError
from podnet.cluster.door import Cluster
from podnet.cluster.resource import custom
from podnet.errors import StoreError, TryAgainLaterError
from podnet.ipam.claims import GROUP, PLURAL, VERSION, parse_claim
from podnet.model.urls import kubeconfig_url
from podnet.model.wire import print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

_ATTEMPTS = 5
_CLAIMS = custom(GROUP, VERSION, PLURAL, "IPAMClaim", namespaced=True)


class ClusterClaims:
    """A ``ClaimSource`` of the objects ``ipamclaims.k8s.cni.cncf.io`` of one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        """Use a connection; closing this closes it."""
        self._cluster = cluster

    def claim(self, namespace: str, name: str) -> bytes | None:
        """Return the IPAMClaim as a JSON object's bytes, or None if there is none.

        Raises:
            StoreError: the API server cannot be asked, or refuses.
        """
        document = self._cluster.get(_CLAIMS, name, namespace)
        return None if document is None else print_json(document)

    def tell(self, namespace: str, name: str, ips: Sequence[str], pod: str) -> None:
        """Write ``status.ips`` if it is empty, and ``status.ownerPod`` if it is another pod.

        Two nodes may do so at once, in a live migration: the addresses are the same.

        Raises:
            StoreError: the status cannot be written, or it has other addresses.
            TryAgainLaterError: the claim is gone, and a pod that refers to it waits for another;
                or others change it faster than it can be written.
        """
        where = f"IPAMClaim {namespace}/{name}"
        for _ in range(_ATTEMPTS):
            with suppress(ConflictError):
                self._tell(where, namespace, name, ips, pod)
                return
        raise TryAgainLaterError(f"{where} changes faster than its status can be written")

    def _tell(self, where: str, namespace: str, name: str, ips: Sequence[str], pod: str) -> None:
        """Tell as ``tell`` does, once.

        Raises:
            ConflictError: others changed the claim meanwhile.
        """
        document = self._cluster.get(_CLAIMS, name, namespace)
        if document is None:
            raise TryAgainLaterError(f"{where} was deleted meanwhile")
        there = {str(ip) for ip in parse_claim(print_json(document), where).ips}
        if there and there != set(ips):
            # OVN-Kubernetes refuses the same: addresses of a claim do not change.
            raise StoreError(
                f"{where} has {', '.join(sorted(there))}, not overwritten with {', '.join(ips)}"
            )
        owner = (document.get("status") or {}).get("ownerPod") or {}
        if there and owner.get("name") == pod:
            return
        change = {
            "metadata": {"resourceVersion": document["metadata"]["resourceVersion"]},
            "status": {"ips": list(ips), "ownerPod": {"name": pod}},
        }
        self._cluster.patch(_CLAIMS, name, change, namespace, sub="status")

    def close(self) -> None:
        """Close the connection."""
        self._cluster.close()


def open(url: str) -> ClusterClaims:  # noqa: A001 - what such a module offers is called open
    """Open ``kubernetes:`` or ``kubernetes:/path/to/kubeconfig``, with ``?context=`` if needed.

    Raises:
        InvalidConfigError: it is no such URL, or the credentials cannot be used.
    """
    path, options = kubeconfig_url(url, "kubernetes", context="")
    return ClusterClaims(Cluster(path, options["context"]))
