from __future__ import annotations

import itertools

import pytest

import podnet.testing
from podnet.stores.file import FileStore


class TestFileStore(podnet.testing.StoreContract):
    durable = multi_process = True

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.folders = (str(tmp_path / str(n)) for n in itertools.count())

    def open(self):
        return FileStore(next(self.folders))

    def reopen(self, store):
        return FileStore(store._folder)
