"""The store in a Kubernetes cluster, on the emulator."""

from __future__ import annotations

import contextlib

import pytest

from podnet.manifests.resources import definition
from podnet.stores.crd import open as open_store
from podnet.testing import StoreContract
from podnet.testing.kube.emulator import Emulator


@pytest.fixture(scope="class")
def emulators(request, tmp_path_factory):
    """Emulators of a test class; each store that it opens gets one of its own."""
    with contextlib.ExitStack() as stack:
        request.cls.stack = stack
        request.cls.folder = tmp_path_factory.mktemp("kube")
        request.cls.urls = {}
        yield


@pytest.mark.usefixtures("emulators")
class TestContract(StoreContract):
    durable = True
    multi_process = True
    seeks = True

    def open(self):
        kube = self.stack.enter_context(Emulator([definition()]))
        path = kube.kubeconfig(str(self.folder / f"config-{len(self.urls)}"))
        store = open_store(f"kubernetes:{path}")
        self.urls[id(store)] = f"kubernetes:{path}"
        return store

    def reopen(self, store):
        return open_store(self.urls[id(store)])
