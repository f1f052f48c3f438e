from __future__ import annotations

import builtins
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from podnet.delegation.network import resolve
from podnet.delegation.selection import parse_networks
from podnet.errors import DecodingError, IOFailureError
from podnet.model.attachment import Pod
from podnet.sources.directory import DirectorySource
from podnet.sources.manifests import parse_manifests
from podnet.sources.yaml_loader import safe_loader
from podnet.testing import FakeSource, NetworkSourceContract
from podnet.testing.source_contract import network_object, pod_object

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from podnet.ports import NetworkSource

    Definitions = Mapping[tuple[str, str], Mapping[str, Any]]

NAD = """\
apiVersion: "k8s.cni.cncf.io/v1"
kind: NetworkAttachmentDefinition
metadata:
  name: macvlan-conf-1
spec:
  config: '{
      "cniVersion": "0.3.1",
      "type": "macvlan",
      "master": "eth1"
    }'
"""
POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: "test-webhook"
  annotations:
    k8s.v1.cni.cncf.io/networks: macvlan-conf-1@eth1
  namespace: default
"""


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def objects(pods: Mapping[Pod, str], definitions: Definitions) -> list[object]:
    return [*(pod_object(pod, text) for pod, text in pods.items()), *definitions.values()]


class TestFakeSource(NetworkSourceContract):
    def open(self, pods: Mapping[Pod, str], definitions: Definitions) -> NetworkSource:
        return FakeSource(pods, definitions)


class TestOneYamlFile(NetworkSourceContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def open(self, pods: Mapping[Pod, str], definitions: Definitions) -> NetworkSource:
        import yaml

        text = yaml.safe_dump_all(objects(pods, definitions), allow_unicode=True)
        return DirectorySource(write(self.folder, "all.yaml", text))


class TestFolderOfJson(TestOneYamlFile):
    def open(self, pods: Mapping[Pod, str], definitions: Definitions) -> NetworkSource:
        for number, each in enumerate(objects(pods, definitions)):
            write(self.folder, f"{number}.json", json.dumps(each))
        return DirectorySource(self.folder)


class TestOneList(TestOneYamlFile):
    def open(self, pods: Mapping[Pod, str], definitions: Definitions) -> NetworkSource:
        found = {"apiVersion": "v1", "kind": "List", "items": objects(pods, definitions)}
        return DirectorySource(write(self.folder, "list.json", json.dumps(found)))


def test_the_scenario(tmp_path: Path) -> None:
    source = DirectorySource(write(tmp_path, "n.yaml", NAD), write(tmp_path, "p.yml", POD))
    (pod,) = source.pods()
    assert pod == Pod("default", "test-webhook")
    text = source.selection(pod)
    assert text is not None
    (selection,) = parse_networks(text, pod.namespace)
    found = source.definition(selection.namespace, selection.name)
    assert found is not None
    assert resolve(found, "default", selection.name).name == "macvlan-conf-1"


def test_several_documents_other_kinds_and_typed_lists(tmp_path: Path) -> None:
    items = [pod_object(Pod("default", "b"), "x"), pod_object(Pod("default", "c"), "")]
    for item in items:
        del item["kind"], item["apiVersion"]
    pod_list = {"apiVersion": "v1", "kind": "PodList", "items": items}
    other = "apiVersion: apps/v1\nkind: Pod\nmetadata: {name: ../no}\n"
    service = "apiVersion: v1\nkind: Service\nmetadata: []\n"
    text = f"---\n{POD}---\n---\n{service}---\n{other}---\n{json.dumps(pod_list)}\n"
    source = DirectorySource(write(tmp_path, "all.yaml", text))
    assert [each.name for each in source.pods()] == ["test-webhook", "b", "c"]
    assert source.selection(Pod("default", "b")) == "x"


def test_uid_is_told(tmp_path: Path) -> None:
    text = POD.replace("metadata:\n", "metadata:\n  uid: a-b-c\n", 1)
    assert DirectorySource(write(tmp_path, "p.yaml", text)).pods()[0].uid == "a-b-c"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\n", r"p\.yaml: line \d+ column \d+ "),
        ("a: b: c\n", r"p\.yaml: line 1 column 5 "),
        ("\tx: 1\n", r"p\.yaml: line 1"),
        ("a: \x00\n", "not YAML"),
        ("a: !!bool maybe\n", "not YAML"),
        ("a: 2024-13-45\n", "not YAML"),
        ("a: !!python/object/apply:os.system ['true']\n", "constructor"),
        ("[" * 5000, "not YAML"),
        # libyaml's own composer has no bound, and ends the process.
        ("[" * 200_000, "not YAML"),
        ("- 1\n", "document 1 must be an object"),
        ("word\n", "document 1 must be an object"),
        (POD + "---\n- 1\n", "document 2 must be an object"),
        (POD.replace('"test-webhook"', "7"), r"metadata\.name: must be a string"),
        (POD.replace('"test-webhook"', "../x"), r"metadata\.name"),
        (POD.replace("name:", "nome:", 1), r"metadata\.name: is required"),
        (POD.replace("namespace: default", "namespace: a/b"), r"metadata\.namespace"),
        (POD.replace("macvlan-conf-1@eth1", "[{}]"), "networks: must be a string"),
        (NAD.replace("config: '{", "config: {").replace("}'", "}"), r"spec\.config: must be"),
        (NAD + "---\n" + NAD, "is there twice"),
        (POD + "---\n" + POD + "  uid: x\n", "is there twice"),
    ],
)
def test_broken_files_name_themselves(tmp_path: Path, text: str, message: str) -> None:
    source = DirectorySource(write(tmp_path, "p.yaml", text))
    with pytest.raises(DecodingError, match=message) as caught:
        source.pods()
    assert "p.yaml" in caught.value.msg
    with pytest.raises(DecodingError):
        source.selection(Pod("default", "missing"))


def test_a_broken_json_file(tmp_path: Path) -> None:
    with pytest.raises(DecodingError, match=r"x\.json"):
        DirectorySource(write(tmp_path, "x.json", "{")).definition("default", "a")


def test_a_broken_file_does_not_hide_the_others(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "{half")
    write(tmp_path, "b.yaml", POD + "---\n" + NAD)
    source = DirectorySource(tmp_path)
    assert source.selection(Pod("default", "test-webhook")) == "macvlan-conf-1@eth1"
    assert source.definition("default", "macvlan-conf-1") is not None
    with pytest.raises(DecodingError, match=r"a\.yaml"):
        source.definition("default", "other")
    with pytest.raises(DecodingError, match=r"a\.yaml"):
        source.pods()


def test_the_same_object_in_two_files_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", NAD + "---\n" + POD)
    write(tmp_path, "b.yaml", NAD + "---\n" + POD)
    source = DirectorySource(tmp_path)
    with pytest.raises(DecodingError, match=r"a\.yaml and .*b\.yaml"):
        source.definition("default", "macvlan-conf-1")
    with pytest.raises(DecodingError, match=r"a\.yaml and .*b\.yaml"):
        source.selection(Pod("default", "test-webhook"))
    with pytest.raises(DecodingError, match=r"pod default/test-webhook is in .*a\.yaml and .*b\."):
        source.pods()


def test_one_file_given_twice_is_one_file(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", NAD + "---\n" + POD)
    os.symlink(path, tmp_path / "b.yaml")
    assert len(DirectorySource(tmp_path, path).pods()) == 1


def test_files_are_read_again_when_they_change(tmp_path: Path) -> None:
    source = DirectorySource(tmp_path)
    assert source.pods() == ()
    path = write(tmp_path, "a.yaml", POD)
    assert len(source.pods()) == 1
    # Same length, maybe the same clock tick.
    write(tmp_path, "a.yaml", POD.replace("conf-1@", "conf-2@"))
    assert source.selection(Pod("default", "test-webhook")) == "macvlan-conf-2@eth1"
    os.unlink(path)
    assert source.pods() == ()


def test_unchanged_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = DirectorySource(write(tmp_path, "a.yaml", POD))
    source.pods()

    def refuse(*_args: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr("podnet.sources.directory.parse_manifests", refuse)
    assert len(source.pods()) == 1


def test_other_files_of_a_folder_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "README.md", "{")
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    assert DirectorySource(tmp_path).pods() == ()


@pytest.mark.parametrize("name", ["missing.yaml", "missing", "pipe.yaml"])
def test_a_path_that_cannot_be_read_is_an_error(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(IOFailureError, match=name):
        DirectorySource(str(tmp_path / name)).pods()


def test_yaml_without_pyyaml_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without_yaml(name: str, *args: Any) -> Any:
        if name == "yaml":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without_yaml)
    with pytest.raises(DecodingError, match="extra 'cli'"):
        DirectorySource(write(tmp_path, "a.yaml", POD)).pods()
    found = json.dumps(pod_object(Pod("default", "a"), ""))
    assert len(DirectorySource(write(tmp_path, "a.json", found)).pods()) == 1


texts = st.text(st.sampled_from("ab:-[]{}\"'&*!|>%@# \n\t0"), max_size=60)
pieces = st.lists(st.one_of(st.sampled_from([NAD, POD, "---\n"]), texts), max_size=4)


@given(pieces.map("".join), st.sampled_from(["a.yaml", "a.json"]))
def test_fuzz_yields_manifests_or_the_one_error(text: str, path: str) -> None:
    try:
        found = parse_manifests(text.encode(), path)
    except DecodingError:
        return
    for place in (*found.pods, *found.definitions):
        assert all(part and "/" not in part for part in place)


@given(pieces.map("".join))
def test_libyaml_reads_what_pyyaml_reads(text: str) -> None:
    """It takes a little more: tabs, and comments without a space; a lone ``!`` is a tag to it."""
    told = []
    for loader in (yaml.SafeLoader, safe_loader()):
        try:
            told.append(repr(list(yaml.load_all(text, Loader=loader))))
        except (yaml.YAMLError, ValueError, KeyError, RecursionError):
            told.append("an error")
    assert told[0] in (told[1], "an error") or "!" in text


def test_pyyaml_without_libyaml(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("yaml._yaml")
    assert safe_loader() is not yaml.SafeLoader
    monkeypatch.setitem(sys.modules, "yaml._yaml", None)
    assert safe_loader() is yaml.SafeLoader


def test_an_endless_alias_costs_nothing(tmp_path: Path) -> None:
    levels = "\n".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]" for n in range(1, 30))
    text = NAD + f"x0: &x0 [a]\n{levels}\n"
    source = DirectorySource(write(tmp_path, "bomb.yaml", text))
    found = source.definition("default", "macvlan-conf-1")
    assert found is not None
    assert len(found) < 1000


def test_definitions_keep_annotations(tmp_path: Path) -> None:
    each = network_object("shop", "a", None)
    each["metadata"]["annotations"] = {"k": "v"}  # type: ignore[index]
    source = DirectorySource(write(tmp_path, "a.json", json.dumps(each)))
    found = source.definition("shop", "a")
    assert found is not None
    assert json.loads(found)["metadata"]["annotations"] == {"k": "v"}
    assert json.loads(found)["spec"] == {}
