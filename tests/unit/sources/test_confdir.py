from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from podnet.delegation.network import find_on_disk
from podnet.errors import DecodingError, IOFailureError, NetworkNotFoundError
from podnet.sources.confdir import read_config, read_configs

if TYPE_CHECKING:
    from pathlib import Path


def write(folder: Path, name: str, document: object) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))


def types(content: bytes) -> list[str]:
    return [plugin["type"] for plugin in json.loads(content)["plugins"]]


NET = {"name": "net", "cniVersion": "1.0.0", "plugins": [{"type": "ptp"}]}


def test_files_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.conf", "a.conflist", "c.json", "d.yaml", "e.conf.bak", ".f.conf"):
        write(tmp_path, name, "{}")
    (tmp_path / "g.conf").mkdir()
    os.mkfifo(tmp_path / "h.conf")
    found = read_configs(str(tmp_path))
    assert [name for name, _ in found] == [".f.conf", "a.conflist", "b.conf", "c.json"]


def test_a_missing_folder_has_no_files(tmp_path: Path) -> None:
    assert read_configs(str(tmp_path / "missing")) == ()


def test_plugins_of_the_networks_folder_come_last(tmp_path: Path) -> None:
    write(tmp_path, "10-net.conflist", NET)
    write(tmp_path, "net/20-b.conf", {"type": "tuning"})
    write(tmp_path, "net/10-a.conf", {"type": "sbr"})
    write(tmp_path, "net/c.json", {"type": "no"})
    ((_, content),) = read_configs(str(tmp_path))
    assert types(content) == ["ptp", "sbr", "tuning"]
    assert len(find_on_disk("net", read_configs(str(tmp_path))).plugins) == 3


def test_all_plugins_may_come_from_the_folder(tmp_path: Path) -> None:
    write(tmp_path, "net.conflist", {"name": "net", "cniVersion": "1.0.0"})
    write(tmp_path, "net/a.conf", {"type": "sbr"})
    assert types(read_config(str(tmp_path / "net.conflist"))) == ["sbr"]


@pytest.mark.parametrize("value", [True, "TRUE"])
def test_only_inlined_plugins(tmp_path: Path, value: object) -> None:
    write(tmp_path, "net.conflist", {**NET, "LoadOnlyInlinedPlugins": value})
    write(tmp_path, "net/a.conf", {"type": "sbr"})
    assert types(read_config(str(tmp_path / "net.conflist"))) == ["ptp"]


@pytest.mark.parametrize("name", ["../net", "", "..", "a/b", 7])
def test_no_path_is_built_of_a_name_that_is_none(tmp_path: Path, name: object) -> None:
    write(tmp_path, "net/a.conf", {"type": "sbr"})
    folder = tmp_path / "conf"
    write(folder, "net.conflist", {**NET, "name": name})
    assert types(read_config(str(folder / "net.conflist"))) == ["ptp"]


def test_single_plugins_have_no_folder(tmp_path: Path) -> None:
    write(tmp_path, "net.conf", {"name": "net", "type": "ptp"})
    write(tmp_path, "net/a.conf", {"type": "sbr"})
    assert "plugins" not in json.loads(read_config(str(tmp_path / "net.conf")))


def test_a_broken_list_is_left_to_its_parser(tmp_path: Path) -> None:
    write(tmp_path, "net.conflist", "{half")
    assert read_config(str(tmp_path / "net.conflist")) == b"{half"


def test_a_broken_file_of_the_folder_is_told(tmp_path: Path) -> None:
    write(tmp_path, "net.conflist", NET)
    write(tmp_path, "net/a.conf", "{half")
    with pytest.raises(DecodingError, match=r"net/a\.conf"):
        read_config(str(tmp_path / "net.conflist"))


def test_a_broken_file_is_its_own_networks_loss(tmp_path: Path) -> None:
    write(tmp_path, "net.conflist", NET)
    write(tmp_path, "net/a.conf", "{half")
    write(tmp_path, "other.conflist", {**NET, "name": "other"})
    found = read_configs(str(tmp_path))
    assert [name for name, _ in found] == ["net.conflist", "other.conflist"]
    assert find_on_disk("other", found).name == "other"
    with pytest.raises(NetworkNotFoundError, match=r"net/a\.conf"):
        find_on_disk("net", found)


def test_what_is_no_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IOFailureError, match="missing"):
        read_config(str(tmp_path / "missing"))
    with pytest.raises(IOFailureError):
        read_config(str(tmp_path))
    write(tmp_path, "big.conf", " " * (5 << 20))
    with pytest.raises(IOFailureError, match="bigger"):
        read_config(str(tmp_path / "big.conf"))
