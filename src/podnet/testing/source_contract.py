"""The contract of the NetworkSource seam, for any source, and a fake of one.

A source of your own is held to it with a subclass::

    class TestMySource(podnet.testing.NetworkSourceContract):
        def open(self, pods, definitions):
            return MySource(...)  # holding exactly these
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from podnet.delegation.network import resolve
from podnet.delegation.selection import NETWORKS_ANNOTATION
from podnet.model.attachment import Pod

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from podnet.ports import NetworkSource

    Definitions = Mapping[tuple[str, str], Mapping[str, Any]]

CONFIG = (
    '{\n  "cniVersion": "0.3.1", "type": "macvlan",\n  "master": "eth1", "note": "é \\u2028"\n}'
)

PODS = {
    Pod("default", "web-0"): "storage@eth1, backup",
    Pod("default", "plain"): "",
    Pod("shop", "web-0"): '[{"name": "storage", "cni-args": {"k": "é"}}]',
    Pod("default", "dotted.name-0"): "a\n, b",
}


def pod_object(pod: Pod, networks: str) -> dict[str, object]:
    """Return a pod as its manifest has it; without text, without the annotation."""
    annotations = {NETWORKS_ANNOTATION: networks} if networks else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod.name, "namespace": pod.namespace, "annotations": annotations},
        "spec": {"containers": [{"name": "main", "image": "busybox"}]},
    }


def network_object(
    namespace: str, name: str, config: str | None, **annotations: str
) -> dict[str, object]:
    """Return a NetworkAttachmentDefinition; None leaves ``spec.config`` out."""
    return {
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
        "spec": {} if config is None else {"config": config},
    }


DEFINITIONS = {
    ("default", "storage"): network_object("default", "storage", CONFIG),
    ("shop", "storage"): network_object("shop", "storage", '{"type": "ptp", "name": "own"}'),
    ("default", "on-disk"): network_object("default", "on-disk", None),
    ("default", "dotted.net"): {
        **network_object("default", "dotted.net", CONFIG),
        "metadata": {
            "name": "dotted.net",
            "namespace": "default",
            "annotations": {"k8s.v1.cni.cncf.io/resourceName": "intel.com/sriov"},
        },
    },
}


class FakeSource:
    """Holds what it is given."""

    def __init__(
        self,
        pods: Mapping[Pod, str | Mapping[str, str]] | None = None,
        definitions: Mapping[tuple[str, str], Mapping[str, Any] | str] | None = None,
    ) -> None:
        """Take what pods select, and definitions, or just their ``spec.config``, by name.

        A text is the networks annotation; otherwise annotations by key.
        """
        self._pods = {
            (pod.namespace, pod.name): (
                {NETWORKS_ANNOTATION: told} if isinstance(told, str) else dict(told)
            )
            for pod, told in (pods or {}).items()
        }
        self._known = tuple(pods or ())
        self._definitions = {
            place: network_object(*place, each) if isinstance(each, str) else dict(each)
            for place, each in (definitions or {}).items()
        }

    def selection(self, pod: Pod, annotation: str = NETWORKS_ANNOTATION) -> str | None:
        """Return the text of an annotation of the pod; None if there is no such pod."""
        known = self._pods.get((pod.namespace, pod.name))
        return None if known is None else known.get(annotation, "")

    def definition(self, namespace: str, name: str) -> bytes | None:
        """Return the network definition as JSON, or None if there is none."""
        found = self._definitions.get((namespace, name))
        return None if found is None else json.dumps(found).encode()

    def pods(self) -> tuple[Pod, ...]:
        """Return all pods."""
        return self._known


class NetworkSourceContract:
    """What every source of pods and network definitions keeps."""

    def open(self, pods: Mapping[Pod, str], definitions: Definitions) -> NetworkSource:
        """Return a source that holds these pods, with their annotation, and definitions."""
        raise TypeError(
            "open(pods, definitions) has to be overridden: it returns a source that holds these"
        )

    @pytest.mark.parametrize("pod", PODS, ids=str)
    def test_selection_is_the_annotation_as_it_is(self, pod: Pod) -> None:
        """Not a character of it is touched."""
        assert self.open(PODS, DEFINITIONS).selection(pod) == PODS[pod]

    def test_another_annotation_is_another_text(self) -> None:
        """Keys are told apart, and a missing one is the empty text."""
        source = self.open(PODS, DEFINITIONS)
        assert source.selection(Pod("default", "web-0"), "v1.multus-cni.io/default-network") == ""
        assert source.selection(Pod("default", "gone"), "v1.multus-cni.io/default-network") is None

    def test_a_pod_is_known_by_namespace_and_name(self) -> None:
        """Runtimes do not always tell the uid."""
        source = self.open(PODS, DEFINITIONS)
        assert source.selection(Pod("default", "web-0", "another-uid-than-known")) is not None
        assert source.selection(Pod("shop", "plain")) is None

    @pytest.mark.parametrize("place", DEFINITIONS, ids="/".join)
    def test_definition_is_the_object(self, place: tuple[str, str]) -> None:
        """With its name and its ``spec``."""
        found = self.open(PODS, DEFINITIONS).definition(*place)
        assert found is not None
        document, given = json.loads(found), DEFINITIONS[place]
        assert document["spec"] == given["spec"]
        for key in ("name", "namespace"):
            assert document["metadata"][key] == given["metadata"][key]  # type: ignore[index]

    def test_a_definition_can_be_resolved(self) -> None:
        """What comes out is what goes into ``delegation.network``."""
        source = self.open(PODS, DEFINITIONS)
        found = source.definition("default", "storage")
        assert found is not None
        assert resolve(found, "default", "storage").plugins[0]["note"] == "é \u2028"
        dotted = source.definition("default", "dotted.net")
        assert dotted is not None
        annotations = json.loads(dotted)["metadata"]["annotations"]
        assert annotations == {"k8s.v1.cni.cncf.io/resourceName": "intel.com/sriov"}

    @pytest.mark.parametrize(
        ("namespace", "name"),
        [
            ("default", "missing"),
            ("missing", "storage"),
            ("", ""),
            ("", "storage"),
            ("default", "../default/storage"),
            ("default/storage", ""),
            ("..", "storage"),
            ("default", "storage\0"),
            ("default", "STORAGE"),
        ],
    )
    def test_what_is_not_there_is_none(self, namespace: str, name: str) -> None:
        """Absent is a value, and no name leads elsewhere."""
        source = self.open(PODS, DEFINITIONS)
        assert source.definition(namespace, name) is None
        assert source.selection(Pod(namespace, name)) is None

    def test_an_empty_source_has_nothing(self) -> None:
        """And does not fail for it."""
        source = self.open({}, {})
        assert source.selection(Pod("default", "web-0")) is None
        assert source.definition("default", "storage") is None

    def test_asking_again_gives_the_same(self) -> None:
        """Nothing is used up."""
        source = self.open(PODS, DEFINITIONS)
        for _ in range(2):
            assert source.selection(Pod("default", "web-0")) == "storage@eth1, backup"
            assert source.definition("default", "storage") == source.definition(
                "default", "storage"
            )
