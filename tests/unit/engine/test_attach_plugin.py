"""The delegating plugin as a runtime sees it, with Multus' configuration keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_parts import Lab, macvlan, nad

from podnet.engine.house import House
from podnet.engine.verbs import perform
from podnet.errors import (
    InvalidConfigError,
    NotAvailableError,
    PluginNotFoundError,
    PodnetError,
    RecordError,
    TryAgainLaterError,
    UnknownContainerError,
    UnsupportedFieldError,
)
from podnet.model.attachment import Call
from podnet.model.result import Result

PTP = {
    "cniVersion": "1.0.0",
    "name": "cluster",
    "type": "ptp",
    "ipam": {"type": "whereabouts", "range": "10.9.0.0/24", "gateway": "10.9.0.1"},
}
POD_ARGS = "IgnoreUnknown=1;K8S_POD_NAMESPACE=team;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=c1"


class Plugin:
    """Calls the plugin ``multus`` of a lab's house."""

    def __init__(self, lab: Lab, house: House) -> None:
        self.lab = lab
        self.house = house

    def __call__(
        self, verb: str, cid: str = "c1", netns: str = "/ns/a", args: str = "", **keys: Any
    ) -> Result | None:
        config = {"cniVersion": "1.1.0", "name": "multus-cni-network", "type": "multus", **keys}
        whole = verb in ("GC", "STATUS")
        return perform(
            self.house,
            Call(
                plugin="multus",
                verb=verb,
                container_id="" if whole else cid,
                netns="" if whole else netns,
                ifname="" if whole else "eth0",
                args=args,
                config=config,
            ),
        )


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Plugin]:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "web",
            "namespace": "team",
            "annotations": {"k8s.v1.cni.cncf.io/networks": "storage, default/other@o1"},
        },
    }
    lab = Lab(
        tmp_path,
        pod,
        nad("storage", macvlan(), "team"),
        nad("other", macvlan()),
        nad("everyone", macvlan(), "kube-system"),
    )
    with lab.node:
        yield Plugin(lab, lab.node._house)


def names(result: Result | None) -> list[str]:
    assert result is not None
    return [each.name for each in result.interfaces if each.sandbox]


def test_pod_annotation_and_delegates(plugin: Plugin) -> None:
    result = plugin("ADD", args=POD_ARGS, delegates=[PTP])
    assert names(result) == ["eth0"]
    assert plugin.lab.links("/ns/a") == {"eth0", "net1", "o1"}
    plugin("CHECK", args=POD_ARGS, delegates=[PTP])
    plugin("DEL")
    plugin("DEL")
    plugin.lab.assert_nothing_is_left()


def test_default_networks_take_the_first_numbers(plugin: Plugin) -> None:
    plugin("ADD", args=POD_ARGS, delegates=[PTP], defaultNetworks=["everyone"])
    assert plugin.lab.links("/ns/a") == {"eth0", "net1", "net2", "o1"}


def test_system_namespaces_get_no_default_networks(plugin: Plugin) -> None:
    plugin(
        "ADD",
        args=POD_ARGS,
        delegates=[PTP],
        defaultNetworks=["everyone"],
        systemNamespaces=["team"],
    )
    assert plugin.lab.links("/ns/a") == {"eth0", "net1", "o1"}


def test_cluster_network_by_path(plugin: Plugin, tmp_path: Path) -> None:
    import json

    path = tmp_path / "10-cluster.conflist"
    path.write_text(json.dumps({"cniVersion": "1.0.0", "name": "fromfile", "plugins": [PTP]}))
    plugin("ADD", clusterNetwork=str(path), networks="")
    assert plugin.lab.links("/ns/a") == {"eth0"}


def test_selection_in_the_configuration_needs_no_pod(plugin: Plugin) -> None:
    result = plugin("ADD", networks="default/other@eth1")
    assert names(result) == ["eth1"]


def test_namespace_isolation(plugin: Plugin) -> None:
    keys: dict[str, Any] = {"args": POD_ARGS, "namespaceIsolation": True}
    plugin("ADD", **keys)
    plugin("DEL")
    with pytest.raises(InvalidConfigError, match="namespace isolation") as caught:
        plugin("ADD", globalNamespaces="shared", **keys)
    assert [path for path, _ in caught.value.mistakes] == ["[1].namespace"]
    plugin.lab.assert_nothing_is_left()


def test_all_mistakes_at_once(plugin: Plugin) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        plugin(
            "ADD",
            delegates=[{"name": "x"}],
            clusterNetwork="c",
            namespaceIsolation="yes",
            defaultNetworks=[1],
        )
    paths = [path for path, _ in caught.value.mistakes]
    assert sorted(paths) == [
        "clusterNetwork",
        "defaultNetworks[0]",
        "delegates[0].type",
        "namespaceIsolation",
    ]


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"auxiliaryCNIChainName": "chain"}, "auxiliaryCNIChainName: 'chain'"),
        ({"kubeconfig": "/k"}, "kubeconfig: '/k'"),
    ],
)
def test_what_is_not_supported_is_refused(plugin: Plugin, keys: dict[str, Any], text: str) -> None:
    with pytest.raises(UnsupportedFieldError, match=text):
        plugin("ADD", **keys)


def test_readiness_file(plugin: Plugin, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    keys = {"networks": "default/other", "readinessindicatorfile": str(ready)}
    with pytest.raises(TryAgainLaterError, match="readiness"):
        plugin("ADD", **keys)
    with pytest.raises(NotAvailableError, match="readiness"):
        plugin("STATUS", **keys)
    ready.touch()
    plugin("STATUS", **keys)
    plugin("ADD", **keys)


def test_status_asks_every_network(plugin: Plugin) -> None:
    plugin("STATUS", networks="default/other", delegates=[PTP])
    # A version that knows STATUS: the network of 0.3.1 above cannot be asked.
    broken = {**macvlan(master="gone"), "cniVersion": "1.1.0", "name": "broken"}
    with pytest.raises(PodnetError, match="gone"):
        plugin("STATUS", networks="default/other", delegates=[PTP, broken])


def test_check_without_attachment(plugin: Plugin) -> None:
    with pytest.raises(UnknownContainerError, match="c1"):
        plugin("CHECK", networks="")


def test_gc_goes_by_the_runtimes_list(plugin: Plugin) -> None:
    plugin("ADD", cid="c1", netns="/ns/a", networks="default/other@e1")
    plugin("ADD", cid="c2", netns="/ns/b", networks="default/other@e1")
    plugin("GC")  # without a list nothing can be judged
    assert plugin.lab.links("/ns/b") == {"e1"}
    valid = [{"containerID": "c1", "ifname": "eth0"}]
    plugin("GC", **{"cni.dev/valid-attachments": valid})
    assert plugin.lab.links("/ns/a") == {"e1"}
    assert plugin.lab.links("/ns/b") == set()
    plugin("GC", **{"cni.dev/valid-attachments": []})
    plugin.lab.assert_nothing_is_left()


def test_another_networks_gc_takes_nothing(plugin: Plugin) -> None:
    plugin("ADD", networks="default/other@e1")
    plugin("GC", name="another", **{"cni.dev/valid-attachments": []})
    assert plugin.lab.links("/ns/a") == {"e1"}


def test_an_unreadable_record_is_recovered_from_and_told(plugin: Plugin) -> None:
    plugin("ADD", networks="default/other@e1")
    (record,) = plugin.lab.state.glob("journal/sandbox/*")
    record.write_bytes(b"\0")
    with pytest.raises(RecordError, match="unreadable"):
        plugin("DEL")
    assert plugin.lab.links("/ns/a") == set()
    assert plugin.lab.leases() == []
    assert [path.suffix for path in plugin.lab.records()] == [".unreadable"]
    plugin("DEL")


def test_runtime_config_is_for_the_default_network_alone(plugin: Plugin) -> None:
    """NPWG 1.3, 7.5."""
    mac = "02:00:00:00:00:07"
    declares = {"capabilities": {"mac": True}}
    default = {**macvlan(), **declares, "name": "first"}
    second = {**macvlan(), **declares, "name": "second"}
    plugin("ADD", networks="", delegates=[default, second], runtimeConfig={"mac": mac})
    space = plugin.lab.kernel.sandboxes["/ns/a"]
    assert space.links["eth0"].mac == mac
    assert space.links["net1"].mac != mac


def test_a_plugin_cannot_be_its_own_ipam(plugin: Plugin) -> None:
    circle = {**macvlan(), "ipam": {"type": "macvlan"}, "name": "circle"}
    with pytest.raises(PodnetError, match="cannot be delegated to") as caught:
        plugin("ADD", networks="", delegates=[circle])
    assert caught.value.code == PluginNotFoundError.code
    plugin.lab.assert_nothing_is_left()


def default_network(text: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "own",
            "namespace": "team",
            "annotations": {"v1.multus-cni.io/default-network": text},
        },
    }


OWN = "K8S_POD_NAMESPACE=team;K8S_POD_NAME=own"


def test_a_pod_may_name_its_default_network(plugin: Plugin) -> None:
    import json

    (plugin.lab.documents / "own.json").write_text(json.dumps(default_network("everyone")))
    plugin("ADD", args=OWN, delegates=[PTP])
    space = plugin.lab.kernel.sandboxes["/ns/a"]
    assert (set(space.links) - {"lo"}, space.links["eth0"].kind) == ({"eth0"}, "macvlan")
    status = plugin.lab.node.status()[0]
    assert [(each.name, each.default) for each in status.networks] == [
        ("kube-system/everyone", True)
    ]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("everyone, everyone", "has to name one network, not 2"),
        ("everyone@eth7", "cannot choose the interface"),
        ("default/other", "may not use networks of default"),
    ],
)
def test_a_default_network_is_held_to_the_rules(plugin: Plugin, text: str, what: str) -> None:
    import json

    (plugin.lab.documents / "own.json").write_text(json.dumps(default_network(text)))
    with pytest.raises(InvalidConfigError, match=what):
        plugin("ADD", args=OWN, namespaceIsolation=True, globalNamespaces="shared")
    plugin.lab.assert_nothing_is_left()


def test_a_pod_that_no_manifest_knows_has_its_default_network(plugin: Plugin) -> None:
    stranger = "K8S_POD_NAMESPACE=team;K8S_POD_NAME=stranger"
    plugin("ADD", args=stranger, delegates=[PTP])
    assert plugin.lab.links("/ns/a") == {"eth0"}
    plugin("DEL")
    with pytest.raises(UnknownContainerError, match="team/stranger is not in the manifests"):
        plugin("ADD", args=stranger)


def test_status_shows_what_a_runtime_made_with_a_single_plugin(plugin: Plugin) -> None:
    config = {**macvlan(), "name": "direct", "cniVersion": "1.0.0"}
    call = Call(
        plugin="macvlan", verb="ADD", container_id="c9", netns="/ns/b", ifname="eth0",
        args=POD_ARGS, config=config,
    )  # fmt: skip
    perform(plugin.house, call)
    (shown,) = plugin.lab.node.status()
    assert (shown.container_id, str(shown.pod)) == ("c9", "team/web")
    assert (shown.networks[0].name, shown.networks[0].ips) == ("direct", ("192.168.60.20/24",))


def test_what_a_runtime_made_can_be_checked_and_detached(plugin: Plugin) -> None:
    config = {**macvlan(), "name": "direct"}
    call = Call(
        plugin="macvlan", verb="ADD", container_id="c9", netns="/ns/b", ifname="eth0", config=config
    )
    perform(plugin.house, call)
    (shown,) = plugin.lab.node.check("/ns/b")
    assert shown.container_id == "c9"
    plugin.lab.kernel.sandboxes["/ns/b"].addresses["eth0"].clear()
    with pytest.raises(PodnetError, match=r"192\.168\.60\.20/24"):
        plugin.lab.node.check(container_id="c9")
    assert plugin.lab.node.detach(container_id="c9")[0].networks == shown.networks
    plugin.lab.assert_nothing_is_left()


def test_gc_spares_what_the_runtime_made_on_the_same_network(plugin: Plugin) -> None:
    direct = Call(
        plugin="macvlan", verb="ADD", container_id="c9", netns="/ns/b", ifname="eth5",
        config={**macvlan(), "name": "other"},
    )  # fmt: skip
    perform(plugin.house, direct)
    plugin("ADD", networks="default/other@e1")
    plugin("GC", **{"cni.dev/valid-attachments": []})
    assert plugin.lab.links("/ns/a") == set()
    assert plugin.lab.links("/ns/b") == {"eth5"}
    assert plugin.lab.leases() == ["192.168.60.20"]


def test_gc_reaches_every_definition_of_one_name(plugin: Plugin) -> None:
    import json

    for name, mtu in (("x1", 1400), ("x2", 1300)):
        document = nad(name, macvlan(name="lan", mtu=mtu))
        (plugin.lab.documents / f"{name}.json").write_text(json.dumps(document))
    plugin("ADD", networks="default/x1@e1, default/x2@e2")
    collected: list[Any] = []
    run = plugin.house.executor.run

    def listen(call: Call) -> Any:
        if call.verb == "GC" and call.plugin == "macvlan":
            collected.append(call.config["mtu"])
        return run(call)

    plugin.house.executor.run = listen  # type: ignore[method-assign]
    plugin("GC", **{"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]})
    assert sorted(collected) == [1300, 1400]
    assert plugin.lab.links("/ns/a") == {"e1", "e2"}


def test_a_late_undo_still_waits_for_a_lock(plugin: Plugin) -> None:
    house = plugin.house
    call = Call(plugin="multus", verb="ADD", container_id="c1", timeout=0.01)
    with house.exclusive("sandbox", call):
        while house.time_left():
            pass
        waits: list[float] = []
        from podnet import disk

        lock = disk.Lock

        class Watching(lock):  # type: ignore[misc, valid-type]
            def __init__(self, path: str, *, shared: bool = False, timeout: float = 0.0) -> None:
                waits.append(timeout)
                super().__init__(path, shared=shared, timeout=timeout)

        disk.Lock = Watching  # type: ignore[misc]
        try:
            nested = Call(plugin="macvlan", verb="DEL", container_id="c1", timeout=5.0)
            with house.exclusive("interface", nested):
                pass
        finally:
            disk.Lock = lock  # type: ignore[misc]
    assert waits == [5.0, 5.0]


def test_a_record_of_the_right_form_and_wrong_content_is_recovered_from(plugin: Plugin) -> None:
    import json

    def damage() -> None:
        (record,) = plugin.lab.state.glob("journal/sandbox/c1*.json")
        document = json.loads(record.read_text())
        document["body"]["attachments"] = [{"network": 1}]
        record.write_text(json.dumps(document))

    plugin("ADD", networks="default/other@e1")
    plugin("ADD", cid="c2", netns="/ns/b", networks="default/other@e1")
    damage()
    with pytest.raises(RecordError, match="its interfaces were undone"):
        plugin("DEL")
    plugin("DEL")
    assert plugin.lab.links("/ns/a") == set()
    plugin("ADD", networks="default/other@e1")
    damage()
    assert "unreadable" in [each.stage for each in plugin.lab.node.status()]
    with pytest.raises(RecordError, match="its interfaces were undone"):
        plugin("GC", **{"cni.dev/valid-attachments": [{"containerID": "c2", "ifname": "eth0"}]})
    assert plugin.lab.links("/ns/a") == set()
    assert plugin.lab.links("/ns/b") == {"e1"}
    plugin("ADD", networks="default/other@e1")
    damage()
    with pytest.raises(RecordError, match="its interfaces were undone"):
        plugin.lab.node.detach(container_id="c1")
    assert plugin.lab.node.detach(container_id="c1") == ()
