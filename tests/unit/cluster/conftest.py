"""An emulator, and the door to it."""

from __future__ import annotations

import pytest

from podnet.cluster.door import Cluster
from podnet.testing.kube.emulator import Emulator


@pytest.fixture
def kube():
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def kubeconfig(kube, tmp_path):
    return kube.kubeconfig(str(tmp_path))


@pytest.fixture
def cluster(kubeconfig):
    door = Cluster(kubeconfig, timeout=3)
    yield door
    door.close()
