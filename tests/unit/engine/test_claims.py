"""Addresses that outlive their pods: IPAMClaims of manifests and of a cluster, and pods' names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from engine_parts import Lab, macvlan, nad

import podnet
from podnet.errors import (
    DelegateError,
    InvalidConfigError,
    StoreError,
    TryAgainLaterError,
)
from podnet.ipam.claims import holder, keeping, parse_claim
from podnet.model.lease import Owner

ASKED = json.dumps([{"name": "storage", "interface": "eth1", "ipam-claim-reference": "db"}])


def claim(
    name: str = "db",
    network: str = "storage",
    interface: str = "eth1",
    namespace: str = "default",
    ips: tuple[str, ...] = (),
) -> dict[str, Any]:
    status = {"status": {"ips": list(ips)}} if ips else {}
    return {
        "apiVersion": "k8s.cni.cncf.io/v1alpha1",
        "kind": "IPAMClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"network": network, "interface": interface},
        **status,
    }


NATIVE = macvlan(
    name="storage", ipam={"type": "podnet-ipam", "pools": [{"network": "10.1.0.0/24"}]}
)


def ips(attached: Any) -> list[str]:
    return [ip.partition("/")[0] for each in attached.networks for ip in each.ips]


def test_an_address_comes_back_to_the_successor(tmp_path: Path) -> None:
    lab = Lab(tmp_path, nad("storage", macvlan(name="storage")), claim())
    with lab.node as node:
        first = ips(node.attach("/ns/a", ASKED, pod="default/db-0"))
        node.detach("/ns/a")
        assert lab.leases() == first
        node.attach("/ns/b", "storage@eth1", pod="default/web")
        assert ips(node.attach("/ns/c", ASKED, pod="default/db-1")) == first
        node.check("/ns/c")
        node.detach("/ns/b")
        node.detach("/ns/c")
        assert lab.leases() == first


def test_two_pods_share_a_claim_while_one_moves(tmp_path: Path) -> None:
    lab = Lab(tmp_path, nad("storage", NATIVE), claim())
    with lab.node as node:
        first = ips(node.attach("/ns/a", ASKED))
        assert ips(node.attach("/ns/b", ASKED)) == first
        node.detach("/ns/a")
        node.check("/ns/b")
        assert lab.leases() == first


def test_addresses_of_the_status_are_taken(tmp_path: Path) -> None:
    lab = Lab(tmp_path, nad("storage", NATIVE), claim(ips=("10.1.0.77/24",)))
    with lab.node as node:
        assert ips(node.attach("/ns/a", ASKED)) == ["10.1.0.77"]


def test_an_address_of_the_status_that_another_holds_is_refused(tmp_path: Path) -> None:
    lab = Lab(tmp_path, nad("storage", NATIVE), claim(ips=("10.1.0.1/24",)))
    with lab.node as node:
        node.attach("/ns/a", "storage@eth1")
        with pytest.raises(DelegateError, match=r"10\.1\.0\.1 of pool .* is held"):
            node.attach("/ns/b", ASKED)


@pytest.mark.parametrize(
    ("documents", "error", "text"),
    [
        ([], TryAgainLaterError, "IPAMClaim default/db does not exist, yet"),
        ([claim(namespace="shop")], TryAgainLaterError, "does not exist, yet"),
        ([claim(network="other")], InvalidConfigError, "db is for another interface"),
        ([claim(interface="eth2")], InvalidConfigError, "db is for another interface"),
        ([claim(ips=("10.1.0.300/24",))], InvalidConfigError, "IPAMClaim default/db has mistakes"),
        ([claim(network="")], InvalidConfigError, "IPAMClaim default/db has mistakes"),
    ],
)
def test_what_is_wrong_with_a_claim_is_told(
    tmp_path: Path, documents: list[Any], error: type[Exception], text: str
) -> None:
    lab = Lab(tmp_path, nad("storage", NATIVE), *documents)
    with lab.node as node:
        with pytest.raises(error, match=text):
            node.attach("/ns/a", ASKED)
        lab.assert_nothing_is_left()


def test_networks_that_keep_no_addresses_refuse_claims(tmp_path: Path) -> None:
    static = macvlan(
        name="storage", ipam={"type": "static", "addresses": [{"address": "10.0.0.1/24"}]}
    )
    lab = Lab(tmp_path, nad("storage", static), claim())
    with lab.node as node, pytest.raises(InvalidConfigError, match="ipam claims not supported"):
        node.attach("/ns/a", ASKED)


def test_gc_leaves_what_a_claim_keeps(tmp_path: Path) -> None:
    lab = Lab(tmp_path, nad("storage", NATIVE), claim())
    with lab.node as node:
        first = ips(node.attach("/ns/a", ASKED))
        node.detach("/ns/a")
        with podnet.open_ipam(f"file:{lab.state}/leases", node=node._house.settings.node) as ipam:
            assert ipam.sweep("storage", ()) == ()
            (lease,) = ipam.leases()
            assert (lease.claim, lease.owner) == ("default/db", holder("default/db", "eth1"))
            assert ipam.release(lease) == (lease,)
        assert first != []


def test_pods_keep_their_addresses_by_name(tmp_path: Path) -> None:
    kept = macvlan(
        name="storage",
        ipam={"type": "podnet-ipam", "keepFor": "pod", "pools": [{"network": "10.1.0.0/24"}]},
    )
    lab = Lab(tmp_path, nad("storage", kept))
    with lab.node as node:
        first = ips(node.attach("/ns/a", "storage@eth1", pod="default/db-0"))
        other = ips(node.attach("/ns/b", "storage@eth1", pod="default/db-1"))
        node.detach("/ns/a")
        again = ips(node.attach("/ns/c", "storage@eth1", pod="default/db-0"))
        assert again == first != other
        with pytest.raises(InvalidConfigError, match="invalid network configuration"):
            node.attach("/ns/a", "storage@eth1")


class Recorder:
    """A claim source that may fail to be told."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.failures = 0
        self.heard: list[Any] = []

    def claim(self, namespace: str, name: str) -> bytes:
        return json.dumps(self.document).encode()

    def tell(self, *what: Any) -> None:
        if self.failures:
            self.failures -= 1
            raise StoreError("the API server is away")
        self.heard.append(what)


def test_a_status_that_cannot_be_written_fails_the_add_and_keeps_the_address(
    tmp_path: Path,
) -> None:
    lab = Lab(tmp_path, nad("storage", NATIVE))
    with lab.node as node:
        source = lab.node._house.__dict__["claims"] = Recorder(claim())
        source.failures = 1
        with pytest.raises(StoreError, match="the API server is away"):
            node.attach("/ns/a", ASKED, pod="default/db-0")
        assert lab.links("/ns/a") == set()
        kept = lab.leases()
        assert len(kept) == 1
        assert ips(node.attach("/ns/a", ASKED, pod="default/db-0")) == kept
        assert source.heard == [("default", "db", [f"{kept[0]}/24"], "db-0")]


def test_args_of_a_configuration_are_checked() -> None:
    owner = Owner("c", "eth1")
    with pytest.raises(InvalidConfigError) as raised:
        keeping(owner, {"keepFor": "ever"}, {"podnet": {"claim": "a/b", "ips": ["x"]}})
    assert [path for path, _ in raised.value.mistakes] == [
        "ipam.keepFor",
        "args.podnet.ips[0]",
    ] or [path for path, _ in raised.value.mistakes] == ["args.podnet.ips[0]", "ipam.keepFor"]
    assert keeping(owner, {}, {}).owner == owner
    assert parse_claim(json.dumps(claim()).encode(), "x").interface == "eth1"


class TestClusterClaims:
    """The same objects in a cluster."""

    @pytest.fixture
    def cluster(self, tmp_path: Path) -> Any:
        from podnet.testing.kube.emulator import Emulator

        with Emulator() as emulator:
            yield emulator

    def source(self, cluster: Any, tmp_path: Path) -> Any:
        from podnet.sources.cluster_claims import open as open_claims

        path = tmp_path / "kubeconfig"
        cluster.kubeconfig(str(path))
        return open_claims(f"kubernetes:{path}")

    def test_reads_and_tells(self, cluster: Any, tmp_path: Path) -> None:
        source = self.source(cluster, tmp_path)
        assert source.claim("default", "db") is None
        cluster.create(claim())
        assert parse_claim(source.claim("default", "db"), "x").ips == ()
        source.tell("default", "db", ["10.1.0.7/24"], "db-0")
        read = parse_claim(source.claim("default", "db"), "x")
        assert [str(ip) for ip in read.ips] == ["10.1.0.7/24"]
        source.tell("default", "db", ["10.1.0.7/24"], "db-1")
        assert json.loads(source.claim("default", "db"))["status"]["ownerPod"] == {"name": "db-1"}
        with pytest.raises(StoreError, match=r"has 10\.1\.0\.7/24, not overwritten"):
            source.tell("default", "db", ["10.1.0.8/24"], "db-1")
        with pytest.raises(TryAgainLaterError, match="was deleted meanwhile"):
            source.tell("default", "other", ["10.1.0.8/24"], "db-1")
        source.close()

    def test_a_node_uses_them(self, cluster: Any, tmp_path: Path) -> None:
        source = self.source(cluster, tmp_path)
        cluster.create(claim())
        lab = Lab(tmp_path, nad("storage", NATIVE))
        settings = evolve(lab.node._house.settings, claims=f"kubernetes:{tmp_path / 'kubeconfig'}")
        lab.node.close()
        with podnet.Node(settings=settings, kernel=lab.kernel) as node:
            first = ips(node.attach("/ns/a", ASKED, pod="default/db-0"))
            node.detach("/ns/a")
            assert ips(node.attach("/ns/b", ASKED, pod="default/db-1")) == first
        status = json.loads(source.claim("default", "db"))["status"]
        assert status == {"ips": [f"{first[0]}/24"], "ownerPod": {"name": "db-1"}}
        source.close()
