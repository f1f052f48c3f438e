"""URLs of the SQL store, what is missing for it, and passwords that nobody sees."""

from __future__ import annotations

import builtins
import socket
import subprocess
import sys

import pytest

import podnet
from podnet.engine import registry, settings
from podnet.errors import InvalidConfigError, PodnetError, StoreError
from podnet.model.urls import masked
from podnet.stores import sql


@pytest.fixture
def _extras():
    pytest.importorskip("sqlalchemy")
    pytest.importorskip("psycopg")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:{}/a.db", "{}/a.db"),
        ("sqlite:///{}/a.db", "{}/a.db"),  # four slashes: SQLAlchemy's own form
        ("sqlite://localhost/{}/a.db", "{}/a.db"),
        ("sqlite:///a.db", "{}/a.db"),
        ("sqlite:a.db", "{}/a.db"),
        ("sqlite:b/c/a.db", "{}/b/c/a.db"),
    ],
)
@pytest.mark.usefixtures("_extras")
def test_files(tmp_path, monkeypatch, url, path):
    monkeypatch.chdir(tmp_path)
    store = registry.open_store(url.format(tmp_path))
    assert store._database._path == path.format(tmp_path)
    store.close()


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite::memory:",
        "sqlite://host/a.db",
        "sqlite:///a.db?mode=ro",
        "sqlite:a/",
        "postgresql:leases",
        "postgres:",
        "mysql://u:geheim@h/d",
        "memory:x",
    ],
)
@pytest.mark.usefixtures("_extras")
def test_other_urls_are_refused(url):
    with pytest.raises(InvalidConfigError, match="store") as raised:
        sql.open(url)
    assert "geheim" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "absolute"),
    [
        ("sqlite:////var/lib/x.db", True),
        ("sqlite:/var/lib/x.db", True),
        ("sqlite:///var/lib/x.db", False),
        ("sqlite:x.db", False),
    ],
)
def test_a_plugins_setting_has_to_be_absolute(url, absolute):
    """A runtime starts plugins in a folder of its own choice."""
    if absolute:
        assert settings.load({"PODNET_STORE": url}).store == url
    else:
        with pytest.raises(InvalidConfigError, match="must be an absolute path"):
            settings.load({"PODNET_STORE": url})


def test_a_commands_path_is_that_of_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for url in ("sqlite:///x.db", "sqlite:x.db"):
        assert settings.absolute_store(url) == f"sqlite:{tmp_path}/x.db"
    assert settings.absolute_store("postgresql://h/d") == "postgresql://h/d"


@pytest.mark.parametrize(
    ("url", "missing"),
    [
        ("sqlite:///x.db", "sqlalchemy"),
        ("postgresql://u:geheim@h/d", "sqlalchemy"),
        ("postgresql://u:geheim@h/d", "psycopg"),
    ],
)
def test_what_is_not_installed_is_named(monkeypatch, url, missing):
    real = builtins.__import__

    def without(name, *args, **rest):
        if name.partition(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **rest)

    for name in [name for name in sys.modules if name.startswith("podnet.stores.sql_")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InvalidConfigError, match="extra 'sql'") as raised:
        sql.open(url)
    assert missing in raised.value.msg
    assert "geheim" not in str(raised.value)


def test_naming_the_store_loads_nothing_heavy():
    code = (
        "import sys; import podnet.stores.sql; "
        "print([m for m in sys.modules if m.partition('.')[0] in ('sqlalchemy', 'psycopg')])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert output.stdout == "[]\n"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://h/d", "postgresql://h/d"),
        ("postgresql://user:geheim@h/d", "postgresql://***@h/d"),
        ("postgresql://user:ge/he@im@h:1/d?a=b", "postgresql://***@h:1/d?a=b"),
        ("postgresql://h/d?user=u&password=geheim&a=b", "postgresql://h/d?user=u&password=***&a=b"),
        ("postgresql://h/d?sslpassword=geheim", "postgresql://h/d?sslpassword=***"),
        ("sqlite:/a@b/c.db", "sqlite:/a@b/c.db"),
    ],
)
def test_what_is_shown_of_a_url(url, shown):
    assert masked(url) == shown


UNREACHABLE = "127.0.0.1:{port}/leases"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:geheim@" + UNREACHABLE,
        "postgres://user:geheim@" + UNREACHABLE + "?connect_timeout=2",
        "postgresql://user@" + UNREACHABLE + "?password=geheim",
        "postgresql://user:geheim/@" + UNREACHABLE,
        "postgresql://user:geheim%zz@" + UNREACHABLE,
        "postgresql://user:geheim@" + UNREACHABLE + "?sslmod=require",
        "postgresql://user:geheim@127.0.0.1:port/leases",
        "postgresql://user:ge@geheim@" + UNREACHABLE,
        "postgresql://user:geheim@nowhere.invalid/leases",
    ],
)
@pytest.mark.usefixtures("_extras")
def test_no_error_has_the_password_in_it(url):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        url = url.format(port=taken.getsockname()[1])
        with pytest.raises(PodnetError) as raised:
            podnet.open_ipam(url)
    texts = [str(raised.value)]
    cause: BaseException | None = raised.value
    while cause is not None:
        texts.append(f"{cause} {cause!r}")
        cause = cause.__cause__ or cause.__context__
    assert [text for text in texts if "geheim" in text] == []


@pytest.mark.usefixtures("_extras")
def test_a_server_that_is_not_there_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StoreError, match=f"postgresql://user@{place}/leases: cannot open it"):
            sql.open(f"postgresql://user:geheim@{place}/leases")


@pytest.mark.usefixtures("_extras")
def test_what_is_wrong_with_a_url_is_told():
    with pytest.raises(InvalidConfigError, match="sslmod"):
        sql.open("postgresql://user:geheim@host/leases?sslmod=require")
    with pytest.raises(InvalidConfigError, match="percent-encoded"):
        sql.open("postgresql://user:ge%zzheim@host/leases")
