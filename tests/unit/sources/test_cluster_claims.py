"""What a claim of a cluster is told, while others write to it."""

from __future__ import annotations

import pytest

from podnet.cluster.answers import ConflictError
from podnet.errors import StoreError, TryAgainLaterError
from podnet.sources.cluster_claims import ClusterClaims


class Cluster:
    """Has one claim, which others change a number of times before it can be written."""

    def __init__(self, changes=0, status=None):
        self.changes, self.patches = changes, []
        self.status = status or {}
        self.version = 1

    def get(self, *_):
        return {
            "metadata": {"name": "db", "resourceVersion": str(self.version)},
            "spec": {"network": "storage", "interface": "eth1"},
            "status": dict(self.status),
        }

    def patch(self, kind, name, change, namespace, *, sub):
        if self.changes:
            self.changes -= 1
            self.version += 1
            raise ConflictError("the object is at another version")
        assert change["metadata"]["resourceVersion"] == str(self.version)
        assert sub == "status"
        self.patches.append(change["status"])


def tell(cluster):
    ClusterClaims(cluster).tell("default", "db", ["10.0.0.1/24"], "db-0")


@pytest.mark.parametrize("changes", [0, 1, 3])
def test_a_claim_that_others_changed_is_read_again(changes):
    cluster = Cluster(changes)
    tell(cluster)
    assert cluster.patches == [{"ips": ["10.0.0.1/24"], "ownerPod": {"name": "db-0"}}]


def test_one_that_changes_all_the_time_may_be_told_later():
    with pytest.raises(TryAgainLaterError, match="default/db changes faster") as caught:
        tell(Cluster(changes=1000))
    assert caught.value.code == 11


def test_addresses_that_others_wrote_meanwhile_stay():
    class Theirs(Cluster):
        def patch(self, *args, **rest):
            self.status = {"ips": ["10.0.0.9/24"]}
            super().patch(*args, **rest)

    with pytest.raises(StoreError, match=r"has 10\.0\.0\.9/24, not overwritten"):
        tell(Theirs(changes=1))
