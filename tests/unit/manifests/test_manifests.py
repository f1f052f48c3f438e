"""The shipped manifests are what their generator makes, and what an API server takes."""

from __future__ import annotations

import pytest
import yaml

from podnet import manifests
from podnet.manifests import generate, resources, roles
from podnet.testing.kube.emulator import Emulator

RESERVATIONS = "overlappingrangeipreservations"
ALL = manifests.FILES + manifests.WHEREABOUTS


def test_the_files_are_generated():
    """If this fails, run ``python -m podnet.manifests.generate``."""
    from importlib.resources import files

    found = {name: files(manifests).joinpath(name).read_text() for name in ALL}
    assert found == generate.generated()


def test_render_has_all_of_them():
    kinds = [document["kind"] for document in yaml.safe_load_all(manifests.render()) if document]
    assert kinds[0] == "CustomResourceDefinition", "what is used comes first"
    assert sorted(kinds[1:]) == [
        "ClusterRole",
        "ClusterRole",
        "ClusterRoleBinding",
        "ServiceAccount",
    ]
    assert manifests.render(("roles.yaml",)).count("---") == 4


def test_an_api_server_takes_them():
    with Emulator() as kube:
        for document in yaml.safe_load_all(manifests.render(ALL)):
            kube.create(document)
        kube.define(resources.definition())
        assert kube.objects("ipblocks.ipam.podnet.dev") == []


def test_the_binding_names_role_and_account():
    by_kind = {document["kind"]: document for document in roles.roles()}
    binding, account = by_kind["ClusterRoleBinding"], by_kind["ServiceAccount"]
    assert binding["roleRef"]["name"] == "podnet-node"
    (subject,) = binding["subjects"]
    assert (subject["name"], subject["namespace"]) == (
        account["metadata"]["name"],
        account["metadata"]["namespace"],
    )


def test_rules_name_no_wildcard():
    rules = (roles.node_rules, roles.viewer_rules, roles.claim_rules, roles.whereabouts_rules)
    for rule in [rule for each in rules for rule in each()]:
        assert "*" not in {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}


@pytest.mark.parametrize("name", ["domain", "family", "holder"])
def test_labels_are_of_the_group(name):
    label = getattr(resources, f"LABEL_{name.upper()}")
    assert label == f"{resources.GROUP}/{name}"


def test_importing_them_costs_nothing():
    import subprocess
    import sys

    code = "import sys; import podnet.manifests; print('yaml' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


def test_whereabouts_store_needs_no_more_than_its_role(tmp_path):
    """Pools, reservations and whereabouts' lease are used, and nothing is forbidden."""
    from podnet.engine.leases import Ipam
    from podnet.ipam.whereabouts import PoolRef
    from podnet.model.addresses import parse_prefix
    from podnet.model.lease import Owner
    from podnet.model.pool import INNER, Pool
    from podnet.stores.whereabouts import open as open_store

    with Emulator() as kube:
        kube.allow("one", roles.whereabouts_rules())
        path = kube.kubeconfig(str(tmp_path), token="one", namespace="kube-system")
        store = open_store(f"whereabouts:{path}")
        ipam = Ipam(store, node="node-1")
        domain = PoolRef(network=parse_prefix("10.0.0.0/24")).domain
        pool = Pool("storage", "10.0.0.0/24", domain=domain, edges=INNER)
        owner = Owner("c", "net1", "default", "web-0")
        lease = ipam.allocate(pool, owner)
        assert ipam.release(owner) == (lease,)
        store.close()
        assert [one for one in kube.log() if one.code in (401, 403)] == []
        assert all(kube.count("create", name) for name in ("ippools", "leases", RESERVATIONS))


def test_users_get_nothing_that_is_for_developers():
    assert "#" not in manifests.render(ALL)
