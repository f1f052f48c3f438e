"""The emulator is as strict as an API server: these are the tests' own foundations."""

from __future__ import annotations

import http.client
import json
import time

import pytest

from podnet.testing.kube.emulator import Drop, Emulator, Refuse, Slow, Throttle

PATH = "/apis/test.podnet.dev/v1/namespaces/default/widgets"
CORE = "/api/v1/namespaces/default/configmaps"


def widget(name="a", **spec):
    return {
        "apiVersion": "test.podnet.dev/v1",
        "kind": "Widget",
        "metadata": {"name": name},
        "spec": {"size": 3, **spec},
    }


def config(name="a", **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def made(ask, document=None):
    code, found = ask("POST", PATH, document or widget())
    assert code == 201, found
    return found


class TestObjects:
    def test_create_fills_in_metadata(self, ask):
        meta = made(ask)["metadata"]
        assert meta["namespace"] == "default"
        assert meta["generation"] == 1
        assert {"uid", "creationTimestamp", "resourceVersion"} <= meta.keys()

    def test_create_twice_is_refused(self, ask):
        made(ask)
        code, status = ask("POST", PATH, widget())
        assert (code, status["reason"]) == (409, "AlreadyExists")
        assert status["kind"] == "Status"
        assert status["details"]["name"] == "a"

    def test_create_with_a_resource_version_is_refused(self, ask):
        document = widget()
        document["metadata"]["resourceVersion"] = "1"
        code, status = ask("POST", PATH, document)
        assert code == 500
        assert "resourceVersion should not be set" in status["message"]

    def test_what_the_server_sets_is_not_taken_from_the_client(self, ask):
        document = widget()
        document["metadata"] |= {"uid": "mine", "generation": 9, "creationTimestamp": "x"}
        meta = made(ask, document)["metadata"]
        assert meta["uid"] != "mine"
        assert meta["generation"] == 1

    def test_versions_are_of_one_counter(self, ask):
        one = int(made(ask, widget("a"))["metadata"]["resourceVersion"])
        code, other = ask("POST", CORE, config())
        assert code == 201
        assert int(other["metadata"]["resourceVersion"]) > one

    def test_generate_name(self, ask):
        document = widget()
        document["metadata"] = {"generateName": "w-"}
        one, two = made(ask, document), made(ask, document)
        assert one["metadata"]["name"].startswith("w-")
        assert one["metadata"]["name"] != two["metadata"]["name"]

    @pytest.mark.parametrize(
        "name", ["", "A", "a_b", "-a", "a-", "a..b", "a/b", "a:b", "x" * 254, ".a", "ä"]
    )
    def test_names_are_dns_subdomains(self, ask, name):
        code, status = ask("POST", PATH, widget(name))
        assert (code, status["reason"]) == (422, "Invalid")
        assert status["details"]["causes"][0]["field"] == "metadata.name"

    @pytest.mark.parametrize("name", ["a", "0", "a.b-c", "x" * 253, "10.0.0.0-8"])
    def test_names_that_are_dns_subdomains(self, ask, name):
        made(ask, widget(name))

    def test_namespaces_have_to_exist(self, ask):
        code, status = ask("POST", PATH.replace("default", "nowhere"), widget())
        assert (code, status["details"]["name"]) == (404, "nowhere")

    @pytest.mark.parametrize("labels", [{"a b": "c"}, {"a": "-"}, {"a": "x" * 64}, {"a/b/c": "d"}])
    def test_labels_are_checked(self, ask, labels):
        document = widget()
        document["metadata"]["labels"] = labels
        assert ask("POST", PATH, document)[0] == 422

    def test_annotations_have_a_limit(self, ask):
        document = widget()
        document["metadata"]["annotations"] = {"a": "x" * (256 * 1024)}
        assert ask("POST", PATH, document)[0] == 422

    @pytest.mark.parametrize("field", ["apiVersion", "kind"])
    def test_another_type_than_the_path_says_is_refused(self, ask, field):
        assert ask("POST", PATH, {**widget(), field: "Other"})[0] == 400

    def test_unknown_resources_are_not_found(self, ask):
        code, status = ask("GET", "/apis/test.podnet.dev/v1/namespaces/default/gadgets")
        assert code == 404
        assert "details" not in status

    def test_an_object_has_a_limit_of_size(self, ask):
        code, status = ask("POST", CORE, config(x="y" * 1_573_000))
        assert code == 500
        assert status["message"] == "etcdserver: request is too large"
        code, status = ask("POST", CORE, config(x="y" * (3 << 20)))
        assert (code, status["reason"]) == (413, "RequestEntityTooLarge")

    def test_what_is_no_json_is_refused(self, ask):
        assert ask("POST", PATH, b"{")[0] == 400
        assert ask("POST", PATH, b"[]")[0] == 400
        assert ask("POST", PATH, b'{"a": NaN}')[0] == 400


class TestSchemas:
    def test_unknown_fields_are_pruned(self, ask):
        found = made(ask, {**widget(other=1, tags={"x": "y"}), "more": 2})
        assert found["spec"] == {"size": 3, "mode": "plain", "tags": {"x": "y"}}
        assert "more" not in found

    def test_unknown_fields_are_kept_where_the_schema_says_so(self, ask):
        assert made(ask, widget(free={"x": {"y": 1}}))["spec"]["free"] == {"x": {"y": 1}}

    def test_strict_validation_refuses_unknown_fields(self, ask):
        code, status = ask("POST", PATH, widget(other=1), {"fieldValidation": "Strict"})
        assert code == 400
        assert 'unknown field "spec.other"' in status["message"]

    @pytest.mark.parametrize(
        ("spec", "field"),
        [
            ({"size": "3"}, "spec.size"),
            ({"size": True}, "spec.size"),
            ({"size": 0}, "spec.size"),
            ({"size": 10}, "spec.size"),
            ({"size": 1.5}, "spec.size"),
            ({"size": None}, "spec.size"),
            ({"color": "green"}, "spec.color"),
            ({"code": "A"}, "spec.code"),
            ({"code": "abcdef"}, "spec.code"),
            ({"tags": {"a": 1}}, "spec.tags[a]"),
            ({"tags": []}, "spec.tags"),
            ({"port": True}, "spec.port"),
            ({"parts": [{"name": "a"}, {"name": "a"}]}, "spec.parts[1]"),
            ({"parts": [{"count": "x"}]}, "spec.parts[0].count"),
        ],
    )
    def test_values_are_checked(self, ask, spec, field):
        code, status = ask("POST", PATH, widget(**spec))
        assert (code, status["reason"]) == (422, "Invalid")
        assert [cause["field"] for cause in status["details"]["causes"]] == [field]

    def test_all_mistakes_are_told(self, ask):
        status = ask("POST", PATH, widget(size=0, color="green"))[1]
        assert len(status["details"]["causes"]) == 2

    def test_required_fields_are_required(self, ask):
        document = widget()
        del document["spec"]["size"]
        assert ask("POST", PATH, document)[1]["details"]["causes"][0]["field"] == "spec.size"
        del document["spec"]
        assert ask("POST", PATH, document)[0] == 422

    def test_null_is_a_value_where_it_may_be_and_a_default_otherwise(self, ask):
        found = made(ask, widget(note=None, mode=None))
        assert found["spec"] == {"size": 3, "note": None, "mode": "plain"}

    def test_numbers_beyond_64_bits_lose_digits(self, ask):
        found = made(ask, widget(free={"n": (1 << 70) + 1}))
        assert found["spec"]["free"]["n"] == float(1 << 70)

    @pytest.mark.parametrize(
        "schema",
        [
            {"properties": {"a": {"properties": {}}}},
            {"properties": {"a": {"type": "array"}}},
            {"properties": {"a": {"type": "object", "x-kubernetes-validations": []}}},
            {"properties": {"a": {"type": "text"}}},
        ],
    )
    def test_schemas_that_are_not_structural_are_refused(self, kube, schema):
        from copy import deepcopy

        from podnet.testing.kube import foreign

        manifest = deepcopy(foreign.IP_POOL)
        root = {"type": "object", **schema}
        manifest["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = root
        with pytest.raises(ValueError, match=r"schema of \.a"):
            kube.define(manifest)


class TestUpdates:
    def test_put_at_the_current_version(self, ask):
        old = made(ask)
        old["spec"]["size"] = 4
        code, new = ask("PUT", f"{PATH}/a", old)
        assert code == 200
        assert new["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"]
        assert new["metadata"]["generation"] == 2
        assert new["metadata"]["uid"] == old["metadata"]["uid"]

    def test_put_at_an_older_version_is_a_conflict(self, ask):
        old = made(ask)
        ask("PUT", f"{PATH}/a", {**old, "spec": {"size": 4}})
        code, status = ask("PUT", f"{PATH}/a", {**old, "spec": {"size": 5}})
        assert (code, status["reason"]) == (409, "Conflict")
        assert "the object has been modified" in status["message"]
        assert ask("GET", f"{PATH}/a")[1]["spec"]["size"] == 4

    def test_put_without_a_version_overwrites_a_built_in_object(self, ask):
        ask("POST", CORE, config(a="1"))
        ask("PUT", f"{CORE}/a", config(a="2"))
        code, found = ask("PUT", f"{CORE}/a", config(a="3"))
        assert (code, found["data"]) == (200, {"a": "3"})

    def test_put_without_a_version_is_refused_for_a_custom_object(self, ask):
        made(ask)
        code, status = ask("PUT", f"{PATH}/a", widget(size=4))
        assert code == 422
        assert status["details"]["causes"][0]["field"] == "metadata.resourceVersion"

    def test_put_creates_nothing(self, ask):
        assert ask("PUT", f"{PATH}/a", widget())[0] == 404

    def test_put_of_another_name_or_uid_is_refused(self, ask):
        old = made(ask)
        assert ask("PUT", f"{PATH}/b", old)[0] == 400
        old["metadata"]["uid"] = "other"
        code, status = ask("PUT", f"{PATH}/a", old)
        assert (code, status["reason"]) == (409, "Conflict")
        assert "UID in precondition" in status["message"]

    def test_an_update_that_changes_nothing_writes_nothing(self, ask):
        old = made(ask)
        assert ask("PUT", f"{PATH}/a", old)[1] == old
        assert ask.merge(f"{PATH}/a", {"spec": {"size": 3}})[1] == old

    def test_metadata_alone_does_not_move_the_generation(self, ask):
        made(ask)
        found = ask.merge(f"{PATH}/a", {"metadata": {"labels": {"x": "y"}}})[1]
        assert found["metadata"]["generation"] == 1

    def test_status_is_written_by_its_own_resource_only(self, ask):
        old = made(ask, {**widget(), "status": {"done": True}})
        assert "status" not in old
        found = ask("PUT", f"{PATH}/a", {**old, "status": {"done": True}})[1]
        assert "status" not in found
        path = f"{PATH}/a/status"
        code, found = ask.merge(path, {"status": {"done": True}, "spec": {"size": 9}})
        assert (code, found["status"], found["spec"]["size"]) == (200, {"done": True}, 3)
        assert found["metadata"]["generation"] == 1


class TestPatches:
    def test_merge_patch(self, ask):
        made(ask, widget(tags={"a": "1", "b": "2"}))
        found = ask.merge(f"{PATH}/a", {"spec": {"tags": {"a": None, "c": "3"}}})[1]
        assert found["spec"]["tags"] == {"b": "2", "c": "3"}

    def test_merge_patch_with_a_version_is_conditional(self, ask):
        old = made(ask)
        change = {"metadata": {"resourceVersion": old["metadata"]["resourceVersion"]}}
        assert ask.merge(f"{PATH}/a", {**change, "spec": {"size": 4}})[0] == 200
        code, status = ask.merge(f"{PATH}/a", {**change, "spec": {"size": 5}})
        assert (code, status["reason"]) == (409, "Conflict")

    def test_a_patch_cannot_change_the_uid(self, ask):
        made(ask)
        code, status = ask.merge(f"{PATH}/a", {"metadata": {"uid": "other"}})
        assert code == 422
        assert [cause["field"] for cause in status["details"]["causes"]] == ["metadata.uid"]

    def test_what_a_patch_makes_is_checked_and_pruned(self, ask):
        made(ask)
        assert ask.merge(f"{PATH}/a", {"spec": {"size": 99}})[0] == 422
        assert "x" not in ask.merge(f"{PATH}/a", {"spec": {"x": 1, "size": 5}})[1]["spec"]
        assert ask("GET", f"{PATH}/a")[1]["spec"]["size"] == 5

    def test_a_missing_object_cannot_be_patched(self, ask):
        assert ask.merge(f"{PATH}/a", {})[0] == 404
        assert ask.jsonpatch(f"{PATH}/a", [])[0] == 404

    def test_json_patch(self, ask):
        made(ask, widget(tags={"a/b": "1", "c~d": "2"}))
        operations = [
            {"op": "test", "path": "/spec/tags/a~1b", "value": "1"},
            {"op": "remove", "path": "/spec/tags/a~1b"},
            {"op": "replace", "path": "/spec/tags/c~0d", "value": "3"},
            {"op": "add", "path": "/spec/parts", "value": [{"name": "x"}]},
            {"op": "add", "path": "/spec/parts/-", "value": {"name": "y"}},
            {"op": "copy", "from": "/spec/parts/1/name", "path": "/spec/note"},
            {"op": "move", "from": "/spec/parts/0", "path": "/spec/parts/1"},
        ]
        code, found = ask.jsonpatch(f"{PATH}/a", operations)
        assert code == 200, found
        assert found["spec"]["tags"] == {"c~d": "3"}
        assert found["spec"]["parts"] == [{"name": "y"}, {"name": "x"}]
        assert found["spec"]["note"] == "y"

    @pytest.mark.parametrize(
        "operation",
        [
            {"op": "test", "path": "/spec/size", "value": 4},
            {"op": "test", "path": "/metadata/resourceVersion", "value": "0"},
            {"op": "remove", "path": "/spec/nothing"},
            {"op": "replace", "path": "/spec/nothing", "value": 1},
            {"op": "add", "path": "/nothing/x", "value": 1},
            {"op": "add", "path": "/spec/size"},
            {"op": "other", "path": "/spec/size"},
            {"op": "add", "path": "spec", "value": 1},
        ],
    )
    def test_json_patch_that_fails_changes_nothing(self, ask, operation):
        old = made(ask)
        change = {"op": "replace", "path": "/spec/size", "value": 9}
        code, status = ask.jsonpatch(f"{PATH}/a", [change, operation])
        assert (code, status["reason"]) == (422, "Invalid")
        assert ask("GET", f"{PATH}/a")[1] == old

    def test_json_patch_tests_null_where_nothing_is(self, ask):
        made(ask)
        test = {"op": "test", "path": "/spec/tags", "value": None}
        assert ask.jsonpatch(f"{PATH}/a", [test])[0] == 200

    def test_json_patch_has_a_limit_of_operations(self, ask):
        made(ask)
        test = {"op": "test", "path": "/spec/size", "value": 3}
        assert ask.jsonpatch(f"{PATH}/a", [test] * 10_001)[0] == 413

    def test_strategic_merge_is_refused(self, ask):
        made(ask)
        media = "application/strategic-merge-patch+json"
        assert ask("PATCH", f"{PATH}/a", {}, content_type=media)[0] == 415


class TestApply:
    def test_it_creates_and_owns(self, ask):
        code, found = ask.apply(f"{PATH}/a", widget(), "one")
        assert code == 201
        entry = found["metadata"]["managedFields"][0]
        assert (entry["manager"], entry["operation"]) == ("one", "Apply")
        assert entry["fieldsV1"] == {"f:spec": {"f:size": {}}}

    def test_another_managers_value_is_a_conflict_unless_forced(self, ask):
        ask.apply(f"{PATH}/a", widget(), "one")
        code, status = ask.apply(f"{PATH}/a", widget(size=4), "two")
        assert (code, status["reason"]) == (409, "Conflict")
        assert status["details"]["causes"][0]["reason"] == "FieldManagerConflict"
        assert ask.apply(f"{PATH}/a", widget(), "two")[0] == 200, "the same value is shared"
        code, found = ask.apply(f"{PATH}/a", widget(size=4), "two", {"force": "true"})
        assert (code, found["spec"]["size"]) == (200, 4)

    def test_what_is_no_longer_applied_goes(self, ask):
        ask.apply(f"{PATH}/a", widget(color="red", parts=[{"name": "x"}]), "one")
        ask.apply(f"{PATH}/a", widget(parts=[{"name": "y"}]), "two")
        found = ask.apply(f"{PATH}/a", widget(), "one")[1]
        assert "color" not in found["spec"]
        assert found["spec"]["parts"] == [{"name": "y"}]

    def test_lists_with_keys_are_merged_and_atomic_maps_are_not(self, ask):
        one = widget(parts=[{"name": "x", "count": 1}], fixed={"a": "1"})
        ask.apply(f"{PATH}/a", one, "one")
        found = ask.apply(f"{PATH}/a", widget(parts=[{"name": "y"}]), "two")[1]
        assert [part["name"] for part in found["spec"]["parts"]] == ["x", "y"]
        assert ask.apply(f"{PATH}/a", widget(fixed={"b": "2"}), "two")[0] == 409

    def test_an_update_takes_fields_over(self, ask):
        old = ask.apply(f"{PATH}/a", widget(), "one")[1]
        ask("PUT", f"{PATH}/a", {**old, "spec": {"size": 5}}, {"fieldManager": "hand"})
        assert ask.apply(f"{PATH}/a", widget(), "one")[0] == 409

    def test_a_manager_is_needed(self, ask):
        media = "application/apply-patch+yaml"
        assert ask("PATCH", f"{PATH}/a", widget(), content_type=media)[0] == 400

    def test_yaml_is_understood(self, ask):
        text = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {x: y}\n"
        assert ask.apply(f"{CORE}/a", text, "one")[1]["data"] == {"x": "y"}


class TestDeletion:
    def test_it_is_gone(self, ask):
        made(ask)
        code, status = ask("DELETE", f"{PATH}/a")
        assert (code, status["status"]) == (200, "Success")
        assert ask("GET", f"{PATH}/a")[0] == 404
        assert ask("DELETE", f"{PATH}/a")[0] == 404

    @pytest.mark.parametrize("field", ["uid", "resourceVersion"])
    def test_preconditions(self, ask, field):
        meta = made(ask)["metadata"]
        body = {"preconditions": {field: "other"}}
        code, status = ask("DELETE", f"{PATH}/a", body)
        assert (code, status["reason"]) == (409, "Conflict")
        assert ask("DELETE", f"{PATH}/a", {"preconditions": {field: meta[field]}})[0] == 200

    def test_an_object_created_anew_is_another(self, ask):
        one = made(ask)["metadata"]
        ask("DELETE", f"{PATH}/a")
        two = made(ask)["metadata"]
        assert one["uid"] != two["uid"]
        assert int(two["resourceVersion"]) > int(one["resourceVersion"])

    def test_finalizers_are_waited_for(self, ask):
        document = widget()
        document["metadata"]["finalizers"] = ["test.podnet.dev/x"]
        made(ask, document)
        code, found = ask("DELETE", f"{PATH}/a")
        assert code == 200
        assert "deletionTimestamp" in found["metadata"]
        assert ask("GET", f"{PATH}/a")[0] == 200
        assert ask.merge(f"{PATH}/a", {"metadata": {"finalizers": None}})[0] == 200
        assert ask("GET", f"{PATH}/a")[0] == 404

    def test_objects_go_with_their_namespace(self, ask, kube):
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "red"}}
        kube.create(namespace)
        path = PATH.replace("default", "red")
        made(ask)
        assert ask("POST", path, widget())[0] == 201
        assert ask("DELETE", "/api/v1/namespaces/red")[0] == 200
        assert ask("POST", path, widget())[0] == 404
        kube.create(namespace)
        assert ask("GET", path)[1]["items"] == []
        assert ask("GET", f"{PATH}/a")[0] == 200

    def test_collections_are_deleted_by_selector(self, ask):
        for name in ("a", "b"):
            document = widget(name)
            document["metadata"]["labels"] = {"x": name}
            made(ask, document)
        assert ask("DELETE", PATH, query={"labelSelector": "x=a"})[0] == 200
        assert [one["metadata"]["name"] for one in ask("GET", PATH)[1]["items"]] == ["b"]


class TestLists:
    @pytest.fixture(autouse=True)
    def objects(self, kube):
        for n in range(10):
            document = widget(f"w{n}", size=n % 9 + 1)
            document["metadata"]["labels"] = {"n": str(n), "odd": "yes"} if n % 2 else {"n": str(n)}
            kube.create(document)

    def names(self, answer):
        return [one["metadata"]["name"] for one in answer[1]["items"]]

    @pytest.mark.parametrize(
        ("selector", "found"),
        [
            ("n=3", "3"),
            ("n==3", "3"),
            ("n in (1, 2)", "12"),
            ("n notin (0,1,2,3,4,5,6),odd", "79"),
            ("!odd,n!=0", "2468"),
            ("odd=yes,n=2", ""),
        ],
    )
    def test_label_selectors(self, ask, selector, found):
        answer = ask("GET", PATH, query={"labelSelector": selector})
        assert self.names(answer) == [f"w{n}" for n in found]

    def test_field_selectors(self, ask, kube):
        query = {"fieldSelector": "metadata.name=w3"}
        assert self.names(ask("GET", PATH, query=query)) == ["w3"]
        assert ask("GET", PATH, query={"fieldSelector": "spec.size=3"})[0] == 400
        for node in ("one", "two"):
            meta = {"name": f"pod-{node}", "namespace": "default"}
            spec = {"nodeName": node}
            kube.create({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
        query = {"fieldSelector": "spec.nodeName=two"}
        assert self.names(ask("GET", "/api/v1/pods", query=query)) == ["pod-two"]

    def test_selectors_that_are_none_are_refused(self, ask):
        for text in ("a b", "=x", "n in 1"):
            assert ask("GET", PATH, query={"labelSelector": text})[0] == 400

    def test_pages_show_one_moment(self, ask, kube):
        first = ask("GET", PATH, query={"limit": 4})[1]
        assert first["metadata"]["remainingItemCount"] == 6
        kube.delete("widgets.test.podnet.dev", "w9")
        kube.create(widget("w5a"))
        names, more = [], first["metadata"]["continue"]
        while more:
            page = ask("GET", PATH, query={"limit": 4, "continue": more})[1]
            assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
            names += [one["metadata"]["name"] for one in page["items"]]
            more = page["metadata"].get("continue")
        assert names == [f"w{n}" for n in range(4, 10)]

    def test_continue_tokens_expire(self, ask, kube):
        more = ask("GET", PATH, query={"limit": 4})[1]["metadata"]["continue"]
        kube.compact()
        code, status = ask("GET", PATH, query={"limit": 4, "continue": more})
        assert (code, status["reason"]) == (410, "Expired")
        assert ask("GET", PATH, query={"continue": "junk"})[0] == 400

    def test_reads_at_version_0_may_be_stale(self, ask, kube):
        kube.freeze_cache()
        kube.create(widget("new"))
        assert "new" not in self.names(ask("GET", PATH, query={"resourceVersion": "0"}))
        assert ask("GET", f"{PATH}/new", query={"resourceVersion": "0"})[0] == 404
        assert "new" in self.names(ask("GET", PATH))
        assert ask("GET", f"{PATH}/new")[0] == 200
        kube.freeze_cache(frozen=False)
        assert "new" in self.names(ask("GET", PATH, query={"resourceVersion": "0"}))

    def test_versions_of_the_future_are_refused(self, ask):
        assert ask("GET", PATH, query={"resourceVersion": "999999"})[0] == 504

    def test_metadata_only(self, ask):
        accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
        found = ask("GET", PATH, accept=accept)[1]
        assert found["kind"] == "PartialObjectMetadataList"
        assert all(one.keys() == {"kind", "apiVersion", "metadata"} for one in found["items"])
        accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
        assert "spec" not in ask("GET", f"{PATH}/w1", accept=accept)[1]

    def test_tables(self, ask):
        accept = "application/json;as=Table;g=meta.k8s.io;v=v1,application/json"
        found = ask("GET", PATH, query={"includeObject": "None"}, accept=accept)[1]
        assert [column["name"] for column in found["columnDefinitions"]] == ["Name", "Size"]
        assert found["rows"][3] == {"cells": ["w3", 4], "object": None}

    def test_what_cannot_be_shown_is_refused(self, ask):
        assert ask("GET", PATH, accept="application/vnd.kubernetes.protobuf")[0] == 406


class TestWatches:
    def test_changes_since_a_version(self, ask, kube):
        version = ask("GET", PATH)[1]["metadata"]["resourceVersion"]
        kube.create(widget("a"))
        query = {"resourceVersion": version, "timeoutSeconds": 1}
        code, events = ask.watch(PATH, query)
        assert code == 200
        first = next(events)
        assert (first["type"], first["object"]["metadata"]["name"]) == ("ADDED", "a")
        kube.replace({**kube.get("widgets.test.podnet.dev", "a"), "spec": {"size": 5}})
        kube.delete("widgets.test.podnet.dev", "a")
        changed, deleted = next(events), next(events)
        assert (changed["type"], changed["object"]["spec"]["size"]) == ("MODIFIED", 5)
        assert deleted["type"] == "DELETED"
        versions = [
            int(one["object"]["metadata"]["resourceVersion"]) for one in (first, changed, deleted)
        ]
        assert versions == sorted(versions)
        assert next(events, None) is None, "it ends after timeoutSeconds"

    def test_without_a_version_everything_is_told_first(self, ask, kube):
        kube.create(widget("a"))
        events = ask.watch(PATH, {"timeoutSeconds": 1})[1]
        assert next(events)["object"]["metadata"]["name"] == "a"
        events.close()

    def test_selectors_see_objects_come_and_go(self, ask, kube):
        version = ask("GET", PATH)[1]["metadata"]["resourceVersion"]
        query = {"resourceVersion": version, "labelSelector": "on=yes", "timeoutSeconds": 2}
        events = ask.watch(PATH, query)[1]
        document = kube.create(widget("a"))
        for value in ("yes", "no"):
            document["metadata"]["labels"] = {"on": value}
            document = kube.replace(document)
        assert [next(events)["type"] for _ in range(2)] == ["ADDED", "DELETED"]
        events.close()

    def test_a_bookmark_comes_before_the_end(self, ask, kube):
        kube.create(config("a"))
        version = ask("GET", PATH)[1]["metadata"]["resourceVersion"]
        query = {"resourceVersion": version, "allowWatchBookmarks": "true", "timeoutSeconds": 1}
        events = list(ask.watch(PATH, query)[1])
        assert [event["type"] for event in events] == ["BOOKMARK"]
        assert events[0]["object"]["metadata"]["resourceVersion"] == version

    def test_versions_that_are_too_old_are_gone(self, ask, kube):
        kube.create(widget("a"))
        kube.compact()
        code, status = ask.watch(PATH, {"resourceVersion": "1"})
        assert (code, status["reason"]) == (410, "Expired")

    def test_history_is_bounded(self):
        with Emulator(history=20) as emulator:
            for n in range(30):
                emulator.create(config(f"c{n}"))
            connection = http.client.HTTPConnection(emulator.url.removeprefix("http://"), timeout=5)
            connection.request("GET", "/api/v1/configmaps?watch=1&resourceVersion=5")
            assert connection.getresponse().status == 410
            connection.close()

    @pytest.mark.parametrize("how", ["ended", "gone", "cut"])
    def test_it_ends_at_any_time(self, ask, kube, how):
        version = ask("GET", PATH)[1]["metadata"]["resourceVersion"]
        events = ask.watch(PATH, {"resourceVersion": version})[1]
        kube.create(widget("a"))
        assert next(events)["type"] == "ADDED"
        kube.end_watches(gone=how == "gone", cut=how == "cut")
        if how == "cut":
            with pytest.raises((OSError, http.client.HTTPException)):
                next(events)
        else:
            last = next(events, None)
            assert (last and last["object"]["code"]) == (410 if how == "gone" else None)

    def test_it_can_fall_silent(self, ask, kube):
        version = ask("GET", PATH)[1]["metadata"]["resourceVersion"]
        events = ask.watch(PATH, {"resourceVersion": version, "timeoutSeconds": 1})[1]
        kube.stall_watches()
        kube.create(widget("a"))
        assert list(events) == []

    def test_one_object_can_be_watched(self, ask, kube):
        version = ask("GET", PATH)[1]["metadata"]["resourceVersion"]
        query = {"resourceVersion": version, "fieldSelector": "metadata.name=b"}
        events = ask.watch(PATH, query)[1]
        for name in "ab":
            kube.create(widget(name))
        assert next(events)["object"]["metadata"]["name"] == "b"
        events.close()


class TestFaults:
    def test_throttling(self, ask, kube):
        rule = kube.fail(Throttle(7), verb="create")
        code, status = ask("POST", PATH, widget())
        assert (code, status["reason"]) == (429, "TooManyRequests")
        assert ask.headers["Retry-After"] == "7"
        assert rule.struck == 1
        made(ask)

    def test_refusals(self, ask, kube):
        kube.fail(Refuse(500, "InternalError", "etcdserver: leader changed"), skip=1, times=None)
        made(ask)
        assert ask("GET", f"{PATH}/a")[0] == 500
        kube.heal()
        assert ask("GET", f"{PATH}/a")[0] == 200

    @pytest.mark.parametrize("applied", [False, True])
    def test_lost_replies(self, ask, kube, applied):
        kube.fail(Drop(applied=applied), verb="create", resource="widgets")
        with pytest.raises(OSError):  # noqa: PT011 - reset or closed, as the kernel has it
            ask("POST", PATH, widget())
        ask.connection.close()
        assert ask("GET", f"{PATH}/a")[0] == (200 if applied else 404)

    def test_replies_cut_short(self, ask, kube):
        made(ask)
        kube.fail(Drop(applied=True, partial=True), verb="get")
        with pytest.raises((http.client.IncompleteRead, OSError)):
            ask("GET", f"{PATH}/a")

    @pytest.mark.parametrize("applied", [False, True])
    def test_slow_replies(self, ask, kube, applied):
        kube.fail(Slow(0.2, applied=applied))
        start = time.monotonic()
        made(ask)
        assert time.monotonic() - start >= 0.2

    def test_latency(self, ask, kube):
        kube.write_latency = 0.1
        start = time.monotonic()
        made(ask)
        assert time.monotonic() - start >= 0.1
        start = time.monotonic()
        ask("GET", f"{PATH}/a")
        assert time.monotonic() - start < 0.1

    def test_tokens_expire(self, ask, kube):
        kube.allow("one")
        assert ask("GET", PATH)[0] == 401
        assert ask("GET", PATH, authorization="Bearer one")[0] == 200
        kube.allow("two")
        kube.expire("one")
        assert ask("GET", PATH, authorization="Bearer one")[0] == 401
        assert ask("GET", PATH, authorization="Bearer two")[0] == 200
        kube.expire("two")
        assert ask("GET", PATH)[0] == 401, "the last token's end lets nobody in"

    def test_roles(self, ask, kube):
        rule = {"apiGroups": ["test.podnet.dev"], "resources": ["widgets"], "verbs": ["create"]}
        kube.allow("one", [rule])
        assert ask("POST", PATH, widget(), authorization="Bearer one")[0] == 201
        code, status = ask("GET", PATH, authorization="Bearer one")
        assert (code, status["reason"]) == (403, "Forbidden")
        assert ask("POST", CORE, config(), authorization="Bearer one")[0] == 403

    def test_requests_are_counted(self, ask, kube):
        kube.forget()
        made(ask)
        ask("POST", PATH, widget())
        ask("GET", PATH)
        assert (kube.writes, kube.count("create"), kube.count("list", "widgets")) == (2, 2, 1)
        assert [(one.verb, one.code) for one in kube.log()] == [
            ("create", 201),
            ("create", 409),
            ("list", 200),
        ]


class TestKinds:
    def test_leases_have_a_schema(self, ask):
        path = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
        document = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": "whereabouts"},
            "spec": {"holderIdentity": "a", "renewTime": "2026-01-01T00:00:00.123456Z", "x": 1},
        }
        code, found = ask("POST", path, document)
        assert (code, found["spec"].get("x")) == (201, None)
        document["metadata"]["name"] = "other"
        document["spec"]["renewTime"] = "yesterday"
        assert ask("POST", path, document)[0] == 422

    def test_whereabouts_pools_have_a_schema(self, ask):
        path = "/apis/whereabouts.cni.cncf.io/v1alpha1/namespaces/kube-system/ippools"
        document = {
            "apiVersion": "whereabouts.cni.cncf.io/v1alpha1",
            "kind": "IPPool",
            "metadata": {"name": "10.0.0.0-8"},
            "spec": {"range": "10.0.0.0/8", "allocations": {"1": {"id": "a", "podref": "b/c"}}},
        }
        assert ask("POST", path, document)[0] == 201
        del document["spec"]["allocations"]["1"]["podref"]
        document["metadata"]["name"] = "other"
        assert ask("POST", path, document)[0] == 422

    def test_definitions_posted_are_served(self, ask):
        from copy import deepcopy

        from podnet.testing.kube import foreign

        manifest = deepcopy(foreign.NODE_SLICE_POOL)
        manifest["metadata"]["name"] = "things.example.com"
        manifest["spec"]["group"] = "example.com"
        manifest["spec"]["names"] |= {"plural": "things", "kind": "Thing"}
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        assert ask("GET", "/apis/example.com/v1alpha1/things")[0] == 404
        assert ask("POST", path, manifest)[0] == 201
        assert ask("GET", "/apis/example.com/v1alpha1/things")[0] == 200
        things = "/apis/example.com/v1alpha1/namespaces/default/things"
        spec = {"range": "10.0.0.0/8", "sliceSize": "/24"}
        thing = {"apiVersion": "example.com/v1alpha1", "kind": "Thing", "spec": spec}
        assert ask("POST", things, {**thing, "metadata": {"name": "a"}})[0] == 201
        assert ask("DELETE", f"{path}/things.example.com")[0] == 200
        assert ask("GET", things)[0] == 404
        assert ask("POST", path, manifest)[0] == 201
        assert ask("GET", things)[1]["items"] == [], "objects go with their definition"

    def test_discovery(self, ask):
        groups = {group["name"] for group in ask("GET", "/apis")[1]["groups"]}
        assert {"test.podnet.dev", "coordination.k8s.io", "k8s.cni.cncf.io"} <= groups
        names = {one["name"] for one in ask("GET", "/apis/test.podnet.dev/v1")[1]["resources"]}
        assert names == {"widgets", "widgets/status"}

    def test_methods_that_do_not_fit_are_refused(self, ask):
        assert ask("PUT", PATH, widget())[0] == 405
        assert ask("POST", "/apis/test.podnet.dev/v1/widgets", widget())[0] == 405

    def test_kubeconfig_is_json_and_so_yaml(self, kube, tmp_path):
        path = kube.kubeconfig(str(tmp_path), token="secret", namespace="red")
        with open(path) as file:
            document = json.load(file)
        assert document["clusters"][0]["cluster"]["server"] == kube.url
        assert document["contexts"][0]["context"]["namespace"] == "red"


def test_a_kubeconfig_that_cannot_be_written_is_one_line(capsys):
    from podnet.testing.kube.__main__ import main

    with pytest.raises(SystemExit) as end:
        main(["--kubeconfig", "/nosuchdir/x"])
    assert end.value.code == 1
    assert capsys.readouterr().err == "cannot write /nosuchdir/x: No such file or directory\n"
