"""Addresses that outlive their pods: IPAMClaims, and pods that come back under their name.

A claim is the owner of its leases itself: no DEL, no GC and no reconciliation releases them, any
pod that refers to the claim is given them, and two pods may at once, as in a live migration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from podnet.errors import InvalidConfigError
from podnet.model.addresses import Prefix, parse_prefix
from podnet.model.lease import Owner
from podnet.model.reader import Reader
from podnet.model.wire import load_json

if TYPE_CHECKING:
    from collections.abc import Mapping

GROUP = "k8s.cni.cncf.io"
VERSION = "v1alpha1"
PLURAL = "ipamclaims"

ARGS = "podnet"
"""Key of ``args`` under which delegation tells an IPAM plugin of a claim (CNI CONVENTIONS.md)."""

POD = "pod"
"""Value of the key ``keepFor``: an address belongs to the name of a pod."""
_KINDS = ("", POD)


@frozen(kw_only=True)
class Claim:
    """An IPAMClaim (``k8s.cni.cncf.io/v1alpha1``).

    Attributes:
        namespace: of the object.
        name: of the object.
        network: CNI name of the network it is for.
        interface: name of the interface in the pod.
        ips: addresses it holds already.
    """

    namespace: str
    name: str
    network: str
    interface: str
    ips: tuple[Prefix, ...] = ()

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@frozen
class Keeping:
    """Who is to hold an attachment's leases.

    Attributes:
        owner: the pod's interface, or the claim's.
        claim: what keeps the leases beyond the container; empty if nothing does.
        ips: addresses that the claim holds already.
    """

    owner: Owner
    claim: str = ""
    ips: tuple[Prefix, ...] = ()


def parse_claim(content: bytes, where: str) -> Claim:
    """Return the IPAMClaim that a JSON object is.

    Args:
        content: the object.
        where: it is from, for messages.

    Raises:
        DecodingError: it is no JSON object.
        InvalidConfigError: with every mistake.
    """
    reader = Reader(load_json(content, where))
    metadata, spec = reader.section("metadata"), reader.section("spec")
    ips = []
    status = reader.section("status")
    for n, text in enumerate(status.strings("ips")):
        try:
            ips.append(parse_prefix(text))
        except ValueError as error:
            status.mistake(f"ips[{n}]", str(error))
    claim = Claim(
        namespace=metadata.string("namespace", "default"),
        name=metadata.string("name", required=True),
        network=spec.string("network", required=True),
        interface=spec.string("interface", required=True),
        ips=tuple(ips),
    )
    reader.finish(f"IPAMClaim {where} has mistakes")
    return claim


def check_use(claim: Claim, network: str, ifname: str) -> None:
    """Let pass a claim that is for this interface of this network.

    Raises:
        InvalidConfigError: it is for another one.
    """
    wrong = []
    if claim.network != network:
        wrong.append(("spec.network", f"is {claim.network!r}, and the network is {network!r}"))
    if claim.interface != ifname:
        wrong.append(("spec.interface", f"is {claim.interface!r}, the interface {ifname!r}"))
    if wrong:
        raise InvalidConfigError(f"IPAMClaim {claim} is for another interface", tuple(wrong))


def told(claim: Claim) -> dict[str, object]:
    """Return what an IPAM plugin is told of a claim, under ``args`` and ``ARGS``."""
    ips = [str(ip) for ip in claim.ips]
    return {"claim": str(claim), **({"ips": ips} if ips else {})}


def keeping(owner: Owner, ipam: Mapping[str, object], args: Mapping[str, object]) -> Keeping:
    """Return who is to hold an attachment's leases.

    Args:
        owner: the pod's interface.
        ipam: the ``ipam`` object; its key ``keepFor`` may be ``pod``.
        args: the configuration's ``args``, which may tell of a claim.

    Raises:
        InvalidConfigError: an address is to be kept for a pod, and the runtime named none; or
            what is told of a claim is wrong.
    """
    reader = Reader(args, "args").section(ARGS)
    claim, texts = reader.string("claim"), reader.strings("ips")
    conf = Reader(ipam, "ipam", reader.mistakes)
    kept_for = conf.choice("keepFor", _KINDS)
    ips = []
    for n, text in enumerate(texts):
        try:
            ips.append(parse_prefix(text))
        except ValueError as error:
            reader.mistake(f"ips[{n}]", str(error))
    if kept_for == POD and not claim:
        if owner.pod_name:
            claim = f"{POD}:{owner.pod_namespace}/{owner.pod_name}"
        else:
            conf.mistake("keepFor", "needs K8S_POD_NAMESPACE and K8S_POD_NAME in CNI_ARGS")
    conf.finish("invalid IPAM configuration")
    if not claim:
        return Keeping(owner)
    return Keeping(holder(claim, owner.ifname), claim, tuple(ips))


def holder(claim: str, ifname: str) -> Owner:
    """Return the owner of a claim's leases.

    Args:
        claim: ``namespace/name`` of an IPAMClaim, or any name of an owner that is no container.
        ifname: the interface it is for.
    """
    namespace, slash, name = claim.rpartition(":")[2].partition("/")
    return Owner(f"claim:{claim}", ifname, namespace if slash else "", name if slash else namespace)
