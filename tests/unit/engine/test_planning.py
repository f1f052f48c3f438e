"""Where a selected network's configuration comes from, and what must not stand in its way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from engine_parts import Lab, macvlan, nad

import podnet
from podnet.errors import DecodingError, IOFailureError, NetworkNotFoundError, PodnetError


def without_config(name: str) -> dict[str, Any]:
    return {**nad(name, {}), "spec": {}}


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    folder = tmp_path / "conf"
    folder.mkdir()
    return folder


@pytest.fixture
def lab(tmp_path: Path, conf: Path) -> Iterator[Lab]:
    documents = (nad("inline", macvlan()), without_config("ondisk"), without_config("broken"))
    made = Lab(tmp_path, *documents)
    settings = evolve(made.node._house.settings, conf_dir=str(conf))
    made.node = podnet.Node(settings=settings, networks=made.documents, kernel=made.kernel)
    with made.node:
        yield made


def conflist(name: str) -> str:
    return json.dumps({"cniVersion": "1.0.0", "name": name, "plugins": [macvlan()]})


def break_one(conf: Path) -> None:
    """Make a list whose network's folder has a file that is not JSON."""
    (conf / "broken.conflist").write_text(conflist("broken"))
    (conf / "broken").mkdir()
    (conf / "broken" / "x.conf").write_text("{half")


def test_a_broken_file_is_its_own_networks_failure(lab: Lab, conf: Path) -> None:
    break_one(conf)
    (conf / "dangling.conf").symlink_to("/nonexistent")
    (conf / "ondisk.conflist").write_text(conflist("ondisk"))
    lab.node.attach("/ns/a", "inline, ondisk")
    assert lab.links("/ns/a") == {"net1", "net2"}
    with pytest.raises(NetworkNotFoundError, match=r"broken/x\.conf"):
        lab.node.attach("/ns/b", "broken")


def test_files_are_read_only_where_a_definition_has_none_of_its_own(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_folder: str) -> None:
        raise IOFailureError("the folder is read")

    monkeypatch.setattr(lab.node._house, "configurations", refuse)
    lab.node.attach("/ns/a", "inline", default_network="inline")
    with pytest.raises(IOFailureError, match="is read"):
        lab.node.attach("/ns/b", "ondisk")


def test_a_folder_as_the_default_network_is_its_first_file(lab: Lab, conf: Path) -> None:
    (conf / "zz.conflist").write_text(conflist("zz"))
    attached = lab.node.attach("/ns/a", "inline", default_network=f"{conf}/")
    assert [each.name for each in attached.networks] == ["zz", "default/inline"]
    break_one(conf)
    with pytest.raises(DecodingError, match=r"broken/x\.conf"):
        lab.node.attach("/ns/b", "inline", default_network=f"{conf}/")


def test_the_default_network_may_be_a_file_of_the_folder(lab: Lab, conf: Path) -> None:
    break_one(conf)
    (conf / "other.conflist").write_text(conflist("other"))
    lab.node.attach("/ns/a", "inline", default_network="other")
    with pytest.raises(PodnetError, match="no network is named nowhere"):
        lab.node.attach("/ns/b", "inline", default_network="nowhere")
