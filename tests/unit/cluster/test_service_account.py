"""The door from inside a pod: service account, HTTPS, rotated tokens."""

from __future__ import annotations

import shutil
import ssl
import subprocess

import pytest

from podnet.cluster import access
from podnet.cluster.answers import DeniedError, UnreachableError
from podnet.cluster.door import Cluster
from podnet.cluster.resource import LEASES
from podnet.errors import InvalidConfigError
from podnet.testing.kube.emulator import Emulator

openssl = shutil.which("openssl")
pytestmark = pytest.mark.skipif(openssl is None, reason="openssl is not installed")


def certificate(folder):
    folder.mkdir()
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=emulator", "-addext",
         "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key", "-out", folder / "cert"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder


@pytest.fixture
def kube(tmp_path):
    mine = certificate(tmp_path / "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(mine / "cert", mine / "key")
    with Emulator(tls=context) as emulator:
        yield emulator


@pytest.fixture
def account(kube, tmp_path, monkeypatch):
    folder = tmp_path / "account"
    folder.mkdir()
    (folder / "token").write_text("first-secret\n")
    (folder / "namespace").write_text("kube-system")
    shutil.copy(tmp_path / "server" / "cert", folder / "ca.crt")
    monkeypatch.setattr(access, "SERVICE_ACCOUNT", str(folder))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", kube.url.rpartition(":")[2])
    kube.allow("first-secret")
    return folder


def test_the_service_account_is_used(kube, account):
    door = Cluster()
    assert (door.server, door.namespace) == (kube.url, "kube-system")
    door.create(LEASES, {"metadata": {"name": "a"}, "spec": {}}, "kube-system")
    assert door.get(LEASES, "a", "kube-system") is not None
    door.close()


def test_its_token_is_read_anew(kube, account):
    door = Cluster()
    assert door.get(LEASES, "a", "default") is None
    kube.allow("second-secret")
    kube.expire("first-secret")
    with pytest.raises(DeniedError) as caught:
        door.get(LEASES, "a", "default")
    assert "secret" not in str(caught.value)
    (account / "token").write_text("second-secret")
    assert door.get(LEASES, "a", "default") is None
    door.close()


def test_another_authority_is_not_trusted(kube, account, tmp_path):
    shutil.copy(certificate(tmp_path / "other") / "cert", account / "ca.crt")
    door = Cluster(timeout=0.5)
    with pytest.raises(UnreachableError, match=r"(?i)certificate"):
        door.get(LEASES, "a", "default")
    assert kube.count() == 0
    door.close()


def test_a_damaged_authority_is_told(kube, account):
    (account / "ca.crt").write_text("nothing")
    with pytest.raises(InvalidConfigError, match="credentials"):
        Cluster()


def test_an_account_outside_a_pod_is_told(kube, account, monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    with pytest.raises(InvalidConfigError, match="KUBERNETES_SERVICE_HOST is missing"):
        Cluster()


def test_a_kubeconfig_that_is_named_wins(account, tmp_path):
    with Emulator() as other:
        door = Cluster(other.kubeconfig(str(tmp_path)))
        assert door.server == other.url
        door.close()
