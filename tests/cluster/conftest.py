"""A cluster that ``PODNET_TEST_KUBECONFIG`` names; what is there already is left alone.

Blocks are kept in a resource of the tests' own, with the schema of IPBlock in another API group,
which is deleted in the end; the rights of an administrator are needed.
"""

from __future__ import annotations

import os
import secrets
import time

import pytest

from podnet.cluster import resource
from podnet.cluster.door import Cluster
from podnet.errors import InvalidConfigError
from podnet.manifests import resources
from podnet.stores.crd_store import CrdStore


@pytest.fixture(scope="session")
def kubeconfig():
    path = os.environ.get("PODNET_TEST_KUBECONFIG", "")
    if not path:
        pytest.skip("PODNET_TEST_KUBECONFIG names no kubeconfig: nothing is tested on a cluster")
    return path


@pytest.fixture(scope="session")
def admin(kubeconfig):
    door = Cluster(kubeconfig, timeout=30)
    yield door
    door.close()


@pytest.fixture(scope="session")
def blocks(admin):
    """A resource like IPBlock, of which there is no object yet."""
    group = f"t{secrets.token_hex(4)}.test.podnet.dev"
    manifest = resources.definition()
    manifest["metadata"]["name"] = f"{resources.PLURAL}.{group}"
    manifest["spec"]["group"] = group
    manifest["spec"]["names"].pop("shortNames")
    manifest["spec"]["names"].pop("categories")
    admin.create(resource.DEFINITIONS, manifest)
    found = resource.custom(
        group, resources.VERSION, resources.PLURAL, resources.KIND, namespaced=False
    )
    try:
        _until_served(admin, found)
        yield found
    finally:
        admin.delete(resource.DEFINITIONS, manifest["metadata"]["name"])


def _until_served(admin, found):
    ends = time.monotonic() + 60
    while True:
        try:
            admin.list_all(found)
        except InvalidConfigError:
            # A definition takes the API server a moment.
            if time.monotonic() > ends:
                raise
            time.sleep(0.2)
        else:
            return


@pytest.fixture(scope="session")
def until_served():
    """Waits for a resource whose definition was created just now."""
    return _until_served


@pytest.fixture(scope="session")
def open_store(kubeconfig, blocks):
    """Opens another handle on the blocks."""
    return lambda: CrdStore(Cluster(kubeconfig, timeout=30), timeout=30, blocks=blocks)


@pytest.fixture(scope="session")
def empty(admin, blocks):
    """Deletes all blocks."""

    def delete_all():
        for found in admin.list_all(blocks, meta_only=True).items:
            admin.delete(blocks, found["metadata"]["name"])

    return delete_all
