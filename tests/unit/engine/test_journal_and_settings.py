"""The journal's promises to DEL and GC, and where settings come from."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podnet.engine.journal import Journal, Record
from podnet.engine.settings import Settings, load
from podnet.errors import DecodingError, InvalidConfigError, IOFailureError, RecordError

IDS = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]{0,120}", fullmatch=True)
IFNAMES = st.text(
    st.characters(exclude_characters="/:\0%", exclude_categories=["Cs", "Zs", "Cc", "Zl", "Zp"]),
    min_size=1,
    max_size=3,
)
RECORDS = st.builds(
    Record,
    role=st.sampled_from(["interface", "sandbox"]),
    network=IDS,
    container_id=IDS,
    ifname=IFNAMES,
    netns=st.text(max_size=20),
    stage=st.sampled_from(["intent", "done"]),
    path=st.lists(st.text(max_size=5), max_size=3).map(tuple),
    parent=st.lists(st.text(max_size=5), max_size=3).map(tuple),
    body=st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3).map(
        lambda body: {**body, "attachments": [], "links": []}
    ),
)


def place(record: Record) -> tuple[str, str, str, str]:
    return record.role, record.network, record.container_id, record.ifname


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=st.lists(RECORDS, max_size=6, unique_by=place))
def test_a_journal_is_a_map(
    tmp_path_factory: pytest.TempPathFactory, records: list[Record]
) -> None:
    journal = Journal(str(tmp_path_factory.mktemp("journal")))
    for record in records:
        journal.intend(record)
    for record in records:
        assert journal.find(*place(record)) == record
        same = list(journal.all(record.role, record.container_id))
        assert record in same
        assert all(isinstance(r, Record) and r.container_id == record.container_id for r in same)
    found = [*journal.all("interface"), *journal.all("sandbox")]
    assert sorted(map(repr, found)) == sorted(map(repr, records))
    for record in records:
        journal.forget(*place(record))
        assert journal.find(*place(record)) is None
    assert not [*journal.all("interface"), *journal.all("sandbox")]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(str(tmp_path / "journal"))


RECORD = Record(role="interface", network="n", container_id="c", ifname="eth0", body={"links": []})


def test_files_are_private(journal: Journal, tmp_path: Path) -> None:
    journal.intend(RECORD)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "journal").rglob("*")}
    assert modes == {0o700, 0o600}
    assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o700


GOOD = (
    '{"format":1,"role":"interface","network":"n","container_id":"c","ifname":"eth0","netns":"",'
    '"netns_id":"","stage":"intent","config":{},"args":"","path":[],"parent":[],"store":"",'
    '"timeout":1,"body":{"links":[]}}'
)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b'{"format": 2}', b'{"format": 1}', b"\xff"),
        *(
            GOOD.replace(old, new).encode()
            for old, new in (
                ('"timeout":1', '"timeout":"x"'),
                ('"netns":""', '"netns":null'),
                ('"path":[]', '"path":[1]'),
                ('"config":{}', '"config":[]'),
                ('{"links":[]}', "{}"),
                ('"links":[]', '"links":3'),
            )
        ),
    ],
)
def test_an_unreadable_record_is_an_error_and_listed(
    journal: Journal, tmp_path: Path, content: bytes
) -> None:
    journal.intend(RECORD)
    (path,) = (tmp_path / "journal/interface").iterdir()
    path.write_bytes(content)
    with pytest.raises(RecordError, match=path.name):
        journal.find(*place(RECORD))
    (listed,) = journal.all("interface")
    assert isinstance(listed, RecordError)
    aside = journal.quarantine(*place(RECORD))
    assert Path(aside).read_bytes() == content
    assert journal.find(*place(RECORD)) is None
    assert list(journal.all("interface")) == []


def test_a_record_in_anothers_place_is_not_believed(journal: Journal, tmp_path: Path) -> None:
    journal.intend(RECORD)
    (path,) = (tmp_path / "journal/interface").iterdir()
    os.rename(path, path.with_name(path.name.replace("c%2B", "d%2B")))
    with pytest.raises(RecordError, match="another attachment"):
        journal.find("interface", "n", "d", "eth0")


def test_a_link_in_place_of_a_record_is_not_followed(journal: Journal, tmp_path: Path) -> None:
    journal.intend(RECORD)
    (path,) = (tmp_path / "journal/interface").iterdir()
    target = tmp_path / "elsewhere"
    os.rename(path, target)
    path.symlink_to(target)
    with pytest.raises(RecordError, match="cannot read"):
        journal.find(*place(RECORD))


def test_settings_order(tmp_path: Path) -> None:
    file = tmp_path / "podnet.conf"
    file.write_text(json.dumps({"stateDir": "/file", "node": "n1", "networks": "/m", "timeout": 5}))
    environ = {"PODNET_CONFIG": str(file)}
    loaded = load(environ)
    assert (loaded.state_dir, loaded.store) == ("/file", "file:/file/leases")
    assert (loaded.node, loaded.networks, loaded.timeout) == ("n1", ("/m",), 5.0)
    environ |= {"PODNET_STATE_DIR": "/env", "PODNET_STORE": "memory:"}
    loaded = load(environ)
    assert (loaded.state_dir, loaded.store) == ("/env", "memory:")
    assert load(environ, state_dir="/given").state_dir == "/given"


def test_settings_without_anything(tmp_path: Path) -> None:
    loaded = load({"PODNET_CONFIG": ""}, node="x")
    assert loaded.state_dir == Settings().state_dir
    assert loaded.store == "file:/var/lib/podnet/leases"


@pytest.mark.parametrize(
    ("text", "error", "what"),
    [
        ("{", DecodingError, "is not JSON"),
        ("[]", DecodingError, "is not a JSON object"),
        ('{"stateDri": "/x"}', InvalidConfigError, "stateDri: is not a setting"),
        ('{"timeout": 0, "node": 3}', InvalidConfigError, "timeout: has.*; node: has"),
        ('{"networks": [1]}', InvalidConfigError, "networks"),
        ('{"timeout": true}', InvalidConfigError, "timeout"),
        ('{"networks": ["/a", "b"]}', InvalidConfigError, "networks: must be an absolute path"),
        ('{"store": "file:b", "stateDir": "c"}', InvalidConfigError, "stateDir: must.*store: must"),
    ],
)
def test_mistakes_in_the_file(tmp_path: Path, text: str, error: type[Exception], what: str) -> None:
    file = tmp_path / "podnet.conf"
    file.write_text(text)
    with pytest.raises(error, match=what):
        load({"PODNET_CONFIG": str(file)})


def test_a_named_file_has_to_exist(tmp_path: Path) -> None:
    with pytest.raises(IOFailureError, match="no such file"):
        load({"PODNET_CONFIG": str(tmp_path / "absent")})


def test_tidying_takes_what_killed_writers_left_and_no_write_in_progress(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path))
    journal.tidy()
    record = Record(
        role="interface", network="n", container_id="c", ifname="eth1", body={"links": []}
    )
    journal.intend(record)
    for role, name in (("interface", ".tmp-1-old"), ("interface", ".tmp-2-new")):
        (tmp_path / role / name).touch()
    os.utime(tmp_path / "interface" / ".tmp-1-old", (0, 0))
    journal.tidy()
    left = sorted(os.listdir(tmp_path / "interface"))
    assert left == [".tmp-2-new", "c%2Beth1%2Bn.json"]
    assert journal.find("interface", "n", "c", "eth1") == record


def test_the_good_one_is_good(journal: Journal, tmp_path: Path) -> None:
    journal.intend(RECORD)
    (path,) = (tmp_path / "journal/interface").iterdir()
    path.write_text(GOOD)
    assert journal.find(*place(RECORD)) is not None


def test_a_passing_fault_of_the_disk_is_no_unreadable_record(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    from podnet import disk

    journal.intend(RECORD)

    def refuse(path: str) -> bytes:
        raise IOFailureError(f"cannot read {path}: Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(disk, "read_file", refuse)
        with pytest.raises(IOFailureError, match="Too many"):
            journal.find(*place(RECORD))
    assert journal.find(*place(RECORD)) == RECORD
