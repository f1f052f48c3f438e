"""The door to the API: what it gives, and what it makes of everything that goes wrong."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import contextmanager

import pytest

from podnet.cluster.answers import (
    ConflictError,
    DeniedError,
    ExistsError,
    ExpiredError,
    InvalidObjectError,
    MissingError,
    RefusedError,
    TooLargeError,
    UnknownOutcomeError,
    UnreachableError,
)
from podnet.cluster.door import APPLY_PATCH, JSON_PATCH, Cluster
from podnet.cluster.resource import LEASES, Resource, custom
from podnet.errors import InvalidConfigError, StoreError, TryAgainLaterError
from podnet.testing import in_processes
from podnet.testing.kube.emulator import Drop, Emulator, Refuse, Slow, Throttle

CONFIGS = Resource("", "v1", "configmaps", "ConfigMap", namespaced=True)
WRITES = ["create", "replace", "patch", "delete"]


def config(name="a", **data):
    return {"metadata": {"name": name}, "data": data}


def made(cluster, name="a", **data):
    return cluster.create(CONFIGS, config(name, **data), "default")


def write(cluster, verb, old):
    meta = old["metadata"]
    if verb == "create":
        return made(cluster, "b")
    if verb == "replace":
        return cluster.replace(CONFIGS, {**old, "data": {"x": "2"}})
    if verb == "patch":
        return cluster.patch(CONFIGS, "a", {"data": {"x": "2"}}, "default")
    return cluster.delete(CONFIGS, "a", "default", uid=meta["uid"])


@contextmanager
def served_by(answer, tmp_path, timeout):
    """A door to a server that answers each request by ``answer(connection)``, and its requests."""
    asked = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            asked.append(connection)
            connection.recv(65536)
            answer(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    path = tmp_path / "server"
    path.write_text(
        json.dumps(
            {
                "current-context": "c",
                "clusters": [
                    {
                        "name": "c",
                        "cluster": {"server": f"http://127.0.0.1:{listener.getsockname()[1]}"},
                    }
                ],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "users": [{"name": "u", "user": {"token": "x"}}],
            }
        )
    )
    door = Cluster(str(path), timeout=timeout)
    try:
        yield door, asked
    finally:
        door.close()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for connection in asked:
            connection.close()


class TestVerbs:
    def test_create_get_and_delete(self, cluster):
        found = made(cluster, x="1")
        assert cluster.get(CONFIGS, "a", "default") == found
        cluster.delete(CONFIGS, "a", "default")
        assert cluster.get(CONFIGS, "a", "default") is None

    def test_metadata_only(self, cluster):
        made(cluster, x="1")
        found = cluster.get(CONFIGS, "a", "default", meta_only=True)
        assert found["metadata"]["name"] == "a"
        assert "data" not in found
        assert "data" not in cluster.list_all(CONFIGS, meta_only=True).items[0]
        assert "data" not in cluster.patch(
            CONFIGS, "a", {"data": {"y": "2"}}, "default", meta_only=True
        )

    def test_lists_have_all_pages(self, cluster, kube):
        for n in range(25):
            made(cluster, f"c{n:02}")
        kube.forget()
        found = cluster.list_all(CONFIGS, "default", page=10)
        assert [one["metadata"]["name"] for one in found.items] == [f"c{n:02}" for n in range(25)]
        assert found.version
        assert kube.count("list") == 3

    def test_a_list_that_expires_is_begun_anew(self, cluster, kube):
        for n in range(25):
            made(cluster, f"c{n:02}")
        kube.fail(Refuse(410, "Expired"), verb="list", skip=1)
        assert len(cluster.list_all(CONFIGS, "default", page=10).items) == 25
        kube.fail(Refuse(410, "Expired"), verb="list")
        assert len(cluster.table(CONFIGS)) == 25

    def test_selectors(self, cluster):
        for n in range(3):
            labels = {"n": str(n)}
            cluster.create(CONFIGS, {"metadata": {"name": f"c{n}", "labels": labels}}, "default")
        names = [one["metadata"]["name"] for one in cluster.list_all(CONFIGS, labels="n=1").items]
        assert names == ["c1"]
        found = cluster.list_all(CONFIGS, fields="metadata.name=c2").items
        assert [one["metadata"]["name"] for one in found] == ["c2"]
        assert [row["Name"] for row in cluster.table(CONFIGS, labels="n=0")] == ["c0"]

    def test_creating_twice(self, cluster):
        made(cluster)
        with pytest.raises(ExistsError, match="already exists"):
            made(cluster)

    def test_replacing(self, cluster):
        old = made(cluster)
        new = cluster.replace(CONFIGS, {**old, "data": {"x": "2"}})
        assert new["data"] == {"x": "2"}
        with pytest.raises(ConflictError):
            cluster.replace(CONFIGS, {**old, "data": {"x": "3"}})
        del old["metadata"]["resourceVersion"]
        with pytest.raises(ValueError, match="resourceVersion"):
            cluster.replace(CONFIGS, old)

    def test_patching(self, cluster):
        old = made(cluster, x="1")
        version = old["metadata"]["resourceVersion"]
        test = {"op": "test", "path": "/metadata/resourceVersion", "value": version}
        add = {"op": "add", "path": "/data/y", "value": "2"}
        found = cluster.patch(CONFIGS, "a", [test, add], "default", kind=JSON_PATCH)
        assert found["data"] == {"x": "1", "y": "2"}
        with pytest.raises(InvalidObjectError):
            cluster.patch(CONFIGS, "a", [test, add], "default", kind=JSON_PATCH)
        with pytest.raises(ConflictError):
            cluster.patch(CONFIGS, "a", {"metadata": {"resourceVersion": version}}, "default")
        with pytest.raises(MissingError):
            cluster.patch(CONFIGS, "b", {}, "default")

    def test_applying(self, cluster):
        def apply(manager, force=False, **data):
            document = {"apiVersion": "v1", "kind": "ConfigMap", **config(**data)}
            return cluster.patch(
                CONFIGS, "a", document, "default", kind=APPLY_PATCH, manager=manager, force=force
            )

        assert apply("one", x="1")["data"] == {"x": "1"}
        with pytest.raises(ConflictError, match="conflict"):
            apply("two", x="2")
        assert apply("two", force=True, x="2")["data"] == {"x": "2"}

    def test_deleting_what_is_another(self, cluster):
        meta = made(cluster)["metadata"]
        with pytest.raises(ConflictError):
            cluster.delete(CONFIGS, "a", "default", uid="other")
        with pytest.raises(ConflictError):
            cluster.delete(CONFIGS, "a", "default", version="1")
        version = meta["resourceVersion"]
        cluster.delete(CONFIGS, "a", "default", uid=meta["uid"], version=version)
        with pytest.raises(MissingError):
            cluster.delete(CONFIGS, "a", "default")

    def test_odd_names_are_quoted(self, cluster):
        assert cluster.get(CONFIGS, "a?c=d#e%2f", "default") is None

    def test_where_it_is(self, cluster, kube):
        assert (cluster.server, cluster.namespace) == (kube.url, "default")


class TestRefusals:
    def test_a_resource_that_is_not_installed(self, cluster):
        other = custom("nobody.dev", "v1", "things", "Thing", namespaced=False)
        with pytest.raises(InvalidConfigError, match="podnet ipam crds"):
            cluster.list_all(other)
        with pytest.raises(InvalidConfigError, match="podnet ipam crds"):
            cluster.get(other, "a")

    def test_what_breaks_the_schema(self, cluster):
        document = {"metadata": {"name": "a"}, "spec": {"renewTime": "now"}}
        with pytest.raises(InvalidObjectError, match="renewTime") as caught:
            cluster.create(LEASES, document, "default")
        assert caught.value.causes == ("spec.renewTime",)

    def test_unknown_fields_when_asked_for(self, cluster):
        document = {"metadata": {"name": "a"}, "spec": {"other": 1}}
        cluster.create(LEASES, document, "default")
        with pytest.raises(RefusedError, match="unknown field"):
            cluster.patch(LEASES, "a", {"spec": {"other": 1}}, "default", strict=True)

    @pytest.mark.parametrize("size", [1_600_000, 3_200_000])
    def test_what_is_too_large(self, cluster, size):
        with pytest.raises(TooLargeError, match="too large"):
            made(cluster, x="y" * size)

    def test_what_roles_do_not_allow(self, cluster, kube, tmp_path):
        kube.allow("secret", [])
        kube.kubeconfig(str(tmp_path), token="secret")
        with pytest.raises(DeniedError, match="forbidden"):
            made(cluster)


class TestThrottling:
    @pytest.mark.parametrize("verb", WRITES)
    def test_it_is_waited_for(self, cluster, kube, verb):
        old = made(cluster)
        rule = kube.fail(Throttle(1))
        start = time.monotonic()
        write(cluster, verb, old)
        assert time.monotonic() - start >= 1
        assert rule.struck == 1

    def test_starting_servers_are_waited_for(self, cluster, kube):
        kube.fail(Throttle(0, code=503), times=3)
        made(cluster)

    def test_not_beyond_the_time_limit(self, cluster, kube):
        kube.fail(Throttle(60), times=None)
        start = time.monotonic()
        with pytest.raises(UnreachableError, match="429") as caught:
            made(cluster)
        assert time.monotonic() - start < 1, "there is no use in waiting"
        assert caught.value.code == 11

    def test_many_retries_end(self, cluster, kube):
        rule = kube.fail(Throttle(0), times=None)
        with pytest.raises(TryAgainLaterError):
            cluster.get(CONFIGS, "a", "default")
        assert rule.struck < 20, "pauses grow"


class TestLostConnections:
    @pytest.mark.parametrize("fault", [Drop(False), Drop(True), Drop(True, partial=True)])
    def test_reads_are_repeated(self, cluster, kube, fault):
        made(cluster)
        rule = kube.fail(fault, times=2)
        assert cluster.get(CONFIGS, "a", "default") is not None
        assert rule.struck == 2

    def test_reads_are_repeated_after_faults_of_the_server(self, cluster, kube):
        made(cluster)
        kube.fail(Refuse(500, "InternalError", "etcdserver: leader changed"), times=2)
        assert cluster.get(CONFIGS, "a", "default") is not None

    @pytest.mark.parametrize("verb", WRITES)
    @pytest.mark.parametrize(
        "fault",
        [
            Drop(False),
            Drop(True),
            Drop(True, partial=True),
            Refuse(500, "InternalError", "etcdserver: request timed out"),
            Refuse(504, "Timeout", "may still be processing the request"),
        ],
    )
    def test_writes_are_not(self, cluster, kube, verb, fault):
        old = made(cluster)
        rule = kube.fail(fault, times=None)
        with pytest.raises(UnknownOutcomeError, match="no reply") as caught:
            write(cluster, verb, old)
        assert rule.struck == 1
        assert isinstance(caught.value, StoreError)
        assert caught.value.code == 11

    def test_when_to_repeat_a_write_is_told(self, tmp_path):
        """A proxy's 503: another may have sent the request on before it gave up."""

        def answer(connection):
            connection.sendall(
                b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n"
                b"Connection: close\r\n\r\n"
            )

        with served_by(answer, tmp_path, timeout=3) as (door, asked):
            with pytest.raises(UnknownOutcomeError) as caught:
                made(door)
            assert caught.value.again_after == 7
            with pytest.raises(UnreachableError, match="503"):
                door.get(CONFIGS, "a", "default")
            assert len(asked) == 2

    def test_no_server(self, kubeconfig, kube):
        kube.stop()
        door = Cluster(kubeconfig, timeout=0.5)
        start = time.monotonic()
        with pytest.raises(UnreachableError, match=r"within 0\.5 s"):
            door.create(CONFIGS, config(), "default")
        assert time.monotonic() - start < 1.5
        door.close()

    def test_a_server_that_comes_back(self, tmp_path):
        with Emulator() as first:
            path = first.kubeconfig(str(tmp_path))
            port = int(first.url.rpartition(":")[2])
            door = Cluster(path, timeout=5)
            made(door)
        later = []

        def restart():
            time.sleep(0.3)
            later.append(Emulator(port=port).start())

        thread = threading.Thread(target=restart)
        thread.start()
        assert door.get(CONFIGS, "a", "default") is None
        thread.join()
        later[0].stop()
        door.close()


class TestSlowness:
    def test_a_read_has_a_limit(self, kubeconfig, kube):
        door = Cluster(kubeconfig, timeout=0.3)
        kube.fail(Slow(2), times=None)
        start = time.monotonic()
        with pytest.raises(UnreachableError):
            door.get(CONFIGS, "a", "default")
        assert time.monotonic() - start < 1
        door.close()

    def test_so_have_all_pages_of_a_list_together(self, kubeconfig, kube):
        door = Cluster(kubeconfig, timeout=0.5)
        for n in range(8):
            made(door, f"c{n}")
        kube.fail(Slow(0.2), verb="list", times=None)
        start = time.monotonic()
        with pytest.raises(UnreachableError):
            door.list_all(CONFIGS, "default", page=1)
        assert time.monotonic() - start < 0.8
        door.close()

    def test_so_has_a_body_that_begins_late_and_does_not_end(self, tmp_path):
        def answer(connection):
            time.sleep(0.4)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")

        with served_by(answer, tmp_path, timeout=0.5) as (door, _):
            start = time.monotonic()
            with pytest.raises(UnreachableError):
                door.get(CONFIGS, "a", "default")
            assert time.monotonic() - start < 0.7

    def test_a_write_has_a_limit_and_is_unknown_then(self, kubeconfig, kube):
        door = Cluster(kubeconfig, timeout=0.3)
        kube.fail(Slow(1, applied=False))
        with pytest.raises(UnknownOutcomeError):
            made(door)
        door.close()


class TestCredentials:
    def test_an_expired_token_is_read_anew(self, cluster, kube, tmp_path):
        kube.allow("old-secret")
        kube.kubeconfig(str(tmp_path), token="old-secret")
        made(cluster)
        kube.allow("new-secret")
        kube.expire("old-secret")
        kube.kubeconfig(str(tmp_path), token="new-secret")
        assert cluster.get(CONFIGS, "a", "default") is not None

    def test_a_token_file_is_read_anew(self, kube, tmp_path):
        token = tmp_path / "token"
        token.write_text("old-secret\n")
        kube.allow("old-secret")
        door = Cluster(kube.kubeconfig(str(tmp_path), token_file=str(token)))
        made(door)
        kube.allow("new-secret")
        kube.expire("old-secret")
        token.write_text("new-secret\n")
        assert door.get(CONFIGS, "a", "default") is not None
        token.unlink()
        kube.expire("new-secret")
        with pytest.raises(InvalidConfigError, match="token"):
            door.get(CONFIGS, "a", "default")
        door.close()

    def test_a_token_that_stays_bad_is_told_without_it(self, cluster, kube, tmp_path):
        kube.allow("good")
        kube.kubeconfig(str(tmp_path), token="bad-secret")
        with pytest.raises(DeniedError, match="Unauthorized") as caught:
            made(cluster)
        assert "secret" not in str(caught.value)
        assert kube.count("discover") == 2, "401 comes before the path is looked at"

    def test_many_threads_read_them_once(self, cluster, kube, tmp_path):
        kube.allow("secret")
        kube.kubeconfig(str(tmp_path), token="secret")
        sessions = set()

        def ask():
            cluster.get(CONFIGS, "a", "default")
            sessions.add(id(cluster._line._own.session))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(sessions) == 1

    def test_old_connections_are_closed_with_their_last_use(self, cluster, kube, tmp_path):
        kube.allow("secret-0")
        kube.kubeconfig(str(tmp_path), token="secret-0")
        version = made(cluster)["metadata"]["resourceVersion"]
        changes = cluster.watch(CONFIGS, version)
        sessions = []
        for n in range(1, 5):
            sessions.append(cluster._line._own.session)
            kube.allow(f"secret-{n}")
            kube.expire(f"secret-{n - 1}")
            kube.kubeconfig(str(tmp_path), token=f"secret-{n}")
            made(cluster, f"b{n}")
        assert [one.is_closed for one in sessions] == [False, True, True, True]
        assert next(changes).object["metadata"]["name"] == "b1"
        kube.end_watches()
        list(changes)
        assert sessions[0].is_closed
        assert not cluster._line._own.session.is_closed

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("", "no kubeconfig"),
            ("[]", "no kubeconfig"),
            ("users: [{user: {token: tell-nobody}", "line 1 is no YAML"),
            ("{clusters: [], contexts: []}", "No current context"),
            ("{clusters: [], contexts: [], current-context: a}", "Context 'a' not found"),
            (
                "{clusters: [], contexts: [{name: a, context: {cluster: c}}], current-context: a}",
                "c is missing",
            ),
            (
                "{clusters: [{name: c, cluster: {server: 5}}], contexts: [], users: "
                "[{name: u, user: {token: tell-nobody}}]}",
                r"\$\.server",
            ),
            (
                "{clusters: [], contexts: [], users: [{name: u, user: {token: [tell-nobody]}}]}",
                r"\$\.token",
            ),
        ],
    )
    def test_kubeconfigs_that_are_none(self, tmp_path, text, why):
        path = tmp_path / "kubeconfig"
        path.write_text(text)
        with pytest.raises(InvalidConfigError, match=why) as caught:
            Cluster(str(path))
        assert "tell-nobody" not in str(caught.value)
        assert str(path) in str(caught.value)

    def test_a_kubeconfig_that_is_missing(self, tmp_path):
        with pytest.raises(InvalidConfigError, match="not found"):
            Cluster(str(tmp_path / "nothing"))

    def test_another_context(self, kubeconfig):
        with pytest.raises(InvalidConfigError, match="Context 'other' not found"):
            Cluster(kubeconfig, "other")
        Cluster(kubeconfig, "emulator").close()

    def test_the_default_is_the_one_of_the_environment(self, kube, kubeconfig, monkeypatch):
        monkeypatch.setenv("KUBECONFIG", kubeconfig)
        door = Cluster()
        assert door.server == kube.url
        door.close()

    @pytest.mark.parametrize("version", ["v1", "v1beta1"])
    def test_credential_plugins(self, kube, tmp_path, version):
        kube.allow("from-plugin")
        plugin = tmp_path / "plugin"
        plugin.write_text('#!/bin/sh\necho \'{"status": {"token": "\'$WORD\'-plugin"}}\'\n')
        plugin.chmod(0o755)
        path = kube.kubeconfig(str(tmp_path))
        with open(path) as file:
            document = json.load(file)
        document["users"][0]["user"] = {
            "exec": {
                "apiVersion": f"client.authentication.k8s.io/{version}",
                "command": str(plugin),
                "env": [{"name": "WORD", "value": "from"}],
                "interactiveMode": "Never",
            }
        }
        with open(path, "w") as file:
            json.dump(document, file)
        door = Cluster(path)
        made(door)
        door.close()
        plugin.write_text("#!/bin/sh\necho a-secret >&2\nexit 1\n")
        door = Cluster(path)
        with pytest.raises(InvalidConfigError, match="credentials") as caught:
            made(door, "b")
        assert "secret" not in str(caught.value)
        door.close()


class TestWatch:
    def test_changes_and_bookmarks(self, cluster, kube):
        version = cluster.list_all(CONFIGS).version
        changes = cluster.watch(CONFIGS, version, lasting=1)
        made(cluster)
        cluster.patch(CONFIGS, "a", {"data": {"x": "1"}}, "default")
        cluster.delete(CONFIGS, "a", "default")
        found = list(changes)
        assert [one.type for one in found] == ["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
        assert found[-1].object["metadata"]["resourceVersion"]

    def test_metadata_only(self, cluster):
        version = cluster.list_all(CONFIGS).version
        made(cluster, x="1")
        change = next(cluster.watch(CONFIGS, version, "default", meta_only=True))
        assert "data" not in change.object

    @pytest.mark.parametrize("how", ["at once", "later"])
    def test_versions_that_are_gone(self, cluster, kube, how):
        version = made(cluster)["metadata"]["resourceVersion"]
        made(cluster, "b")
        if how == "at once":
            kube.compact()
        if how == "later":
            changes = cluster.watch(CONFIGS, version)
            next(changes)
            kube.end_watches(gone=True)
        else:
            changes = None
        with pytest.raises(ExpiredError, match="too old"):
            list(changes or cluster.watch(CONFIGS, version))

    def test_an_end_is_an_end(self, cluster, kube):
        version = cluster.list_all(CONFIGS).version
        made(cluster)
        changes = cluster.watch(CONFIGS, version)
        next(changes)
        kube.end_watches()
        assert [change.type for change in changes] == ["BOOKMARK"]

    def test_a_cut_is_told(self, cluster, kube):
        version = cluster.list_all(CONFIGS).version
        made(cluster)
        changes = cluster.watch(CONFIGS, version)
        next(changes)
        kube.end_watches(cut=True)
        with pytest.raises(UnreachableError):
            next(changes)

    def test_silence_is_told(self, cluster, kube):
        version = cluster.list_all(CONFIGS).version
        kube.stall_watches()
        start = time.monotonic()
        with pytest.raises(UnreachableError):
            next(cluster.watch(CONFIGS, version, silence=0.3))
        assert time.monotonic() - start < 2

    def test_expired_tokens(self, cluster, kube, tmp_path):
        version = cluster.list_all(CONFIGS).version
        kube.allow("secret")
        kube.kubeconfig(str(tmp_path), token="secret")
        with pytest.raises(DeniedError):
            next(cluster.watch(CONFIGS, version))
        made(cluster)
        assert next(cluster.watch(CONFIGS, version)).type == "ADDED"

    def test_throttled(self, cluster, kube):
        kube.fail(Throttle(1), verb="watch")
        with pytest.raises(StoreError):
            next(cluster.watch(CONFIGS, "1"))

    def test_closing_wakes_the_reader(self, kubeconfig, kube):
        door = Cluster(kubeconfig)
        version = door.list_all(CONFIGS).version
        ended = []

        def read():
            try:
                ended.extend(door.watch(CONFIGS, version))
            except StoreError as error:
                ended.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        while not kube.count("watch"):
            time.sleep(0.01)
        time.sleep(0.1)
        door.close()
        thread.join(5)
        assert not thread.is_alive()


class TestLife:
    def test_closed_is_closed(self, kubeconfig):
        door = Cluster(kubeconfig)
        door.close()
        door.close()
        with pytest.raises(StoreError, match="closed"):
            door.get(CONFIGS, "a", "default")

    def test_forked_processes_have_connections_of_their_own(self, cluster):
        made(cluster)
        inherited = cluster._line._own.session

        def child(number):
            name = f"child-{number}"
            made(cluster, name)
            assert cluster._line._own.session is not inherited
            for _ in range(20):
                assert cluster.get(CONFIGS, name, "default")["metadata"]["name"] == name
            cluster.close()

        in_processes(3, child)
        assert len(cluster.list_all(CONFIGS, "default").items) == 4

    def test_connections_are_kept(self, cluster, kube):
        sockets = []
        for _ in range(5):
            cluster.get(CONFIGS, "a", "default")
            sockets.append(frozenset(kube._server.connections))
        assert len(set(sockets)) == 1
