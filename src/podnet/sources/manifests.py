"""Kubernetes manifests: files of YAML or JSON → pods and network definitions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen

from podnet.delegation.elements import namespace_fault, object_name_fault
from podnet.errors import DecodingError
from podnet.model.attachment import Pod
from podnet.model.reader import Reader
from podnet.model.wire import load_json, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SUFFIXES = (".yaml", ".yml", ".json")

_DEFINITION = "NetworkAttachmentDefinition"
_DEFINITION_GROUP = "k8s.cni.cncf.io/"
_CLAIM = "IPAMClaim"


@frozen(kw_only=True)
class Manifests:
    """What one file holds.

    Attributes:
        pods: pods by namespace and name, each with its annotations.
        definitions: network definitions by namespace and name, each as JSON.
        claims: IPAMClaims by namespace and name, each as JSON.
    """

    pods: Mapping[tuple[str, str], tuple[Pod, Mapping[str, str]]] = field(factory=dict)
    definitions: Mapping[tuple[str, str], bytes] = field(factory=dict)
    claims: Mapping[tuple[str, str], bytes] = field(factory=dict)


def parse_manifests(content: bytes, path: str) -> Manifests:
    """Return pods, network definitions and IPAMClaims of a file; other kinds are passed over.

    Several documents and ``List`` kinds are taken apart. An object without a namespace is in
    ``default``, where ``kubectl apply`` puts it. A definition keeps the keys that the API server's
    schema knows of it, and metadata.

    Args:
        content: the file's content, JSON if the path ends in ``.json``, else YAML.
        path: where it is, for messages.

    Raises:
        DecodingError: it is not YAML or JSON, or an object is not what its kind has to be; or it
            is YAML, and PyYAML is not installed.
    """
    pods: dict[tuple[str, str], tuple[Pod, Mapping[str, str]]] = {}
    definitions: dict[tuple[str, str], bytes] = {}
    claims: dict[tuple[str, str], bytes] = {}
    documents = _json(content, path) if path.endswith(".json") else _yaml(content, path)
    for reader in _objects(documents, path):
        kind, version = reader.string("kind"), reader.string("apiVersion")
        if kind == "Pod" and version == "v1":
            place, pod = _pod(reader)
            if place in pods:
                reader.mistake("metadata.name", f"pod {'/'.join(place)} is there twice")
            pods[place] = pod
        elif kind == _DEFINITION and version.startswith(_DEFINITION_GROUP):
            place, definition = _definition(reader)
            if place in definitions:
                reader.mistake("metadata.name", f"network {'/'.join(place)} is there twice")
            definitions[place] = definition
        elif kind == _CLAIM and version.startswith(_DEFINITION_GROUP):
            place, claim = _claim(reader)
            if place in claims:
                reader.mistake("metadata.name", f"claim {'/'.join(place)} is there twice")
            claims[place] = claim
        if reader.mistakes:
            what = "; ".join(f"{where}: {mistake}" for where, mistake in reader.mistakes)
            raise DecodingError(f"{path}: invalid {kind}", what)
    return Manifests(pods=pods, definitions=definitions, claims=claims)


def _objects(documents: Iterator[object], path: str) -> Iterator[Reader]:
    """Yield the objects of all documents, those of lists too."""
    for number, document in enumerate(documents, start=1):
        if document is None:
            continue  # nothing between two separators
        where = f"document {number}"
        if not isinstance(document, dict):
            raise DecodingError(f"{path}: {where} must be an object")
        kind = document.get("kind")
        if not isinstance(kind, str) or not kind.endswith("List"):
            yield Reader(document, where)
            continue
        # Items of a typed list, such as PodList, have neither kind nor version of their own.
        own = {"kind": kind.removesuffix("List"), "apiVersion": document.get("apiVersion")}
        items = document.get("items")
        for index, item in enumerate(items if isinstance(items, list) else ()):
            if isinstance(item, dict):
                yield Reader({**own, **item}, f"{where}.items[{index}]")


def _pod(reader: Reader) -> tuple[tuple[str, str], tuple[Pod, Mapping[str, str]]]:
    metadata = reader.section("metadata")
    place = _place(metadata)
    return place, (Pod(*place, metadata.string("uid")), _annotations(metadata))


def _definition(reader: Reader) -> tuple[tuple[str, str], bytes]:
    metadata = reader.section("metadata")
    namespace, name = _place(metadata)
    spec = reader.section("spec")
    document = {
        "apiVersion": reader.string("apiVersion"),
        "kind": reader.string("kind"),
        "metadata": {
            "name": name,
            "namespace": namespace,
            "annotations": _annotations(metadata),
        },
        "spec": {"config": spec.string("config")} if "config" in spec else {},
    }
    return (namespace, name), print_json(document)


def _claim(reader: Reader) -> tuple[tuple[str, str], bytes]:
    namespace, name = _place(reader.section("metadata"))
    document = {
        "apiVersion": reader.string("apiVersion"),
        "kind": reader.string("kind"),
        "metadata": {"name": name, "namespace": namespace},
        "spec": reader.section("spec").document,
        "status": reader.section("status").document,
    }
    return (namespace, name), print_json(document)


def _annotations(metadata: Reader) -> dict[str, str]:
    annotations = metadata.section("annotations")
    return {key: annotations.string(key) for key in annotations.document}


def _place(metadata: Reader) -> tuple[str, str]:
    namespace = metadata.string("namespace") or "default"
    name = metadata.string("name", required=True)
    if fault := namespace_fault(namespace):
        metadata.mistake("namespace", fault)
    if name and (fault := object_name_fault(name)):
        metadata.mistake("name", fault)
    return namespace, name


def _json(content: bytes, path: str) -> Iterator[object]:
    yield load_json(content, path)


def _yaml(content: bytes, path: str) -> Iterator[object]:
    try:
        import yaml

        from podnet.sources.yaml_loader import safe_loader
    except ImportError as error:
        raise DecodingError(
            f"{path} is YAML, and PyYAML is not installed",
            "install podnet with its extra 'cli', or give manifests as .json",
        ) from error
    try:
        yield from yaml.load_all(content, Loader=safe_loader())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" line {mark.line + 1} column {mark.column + 1}" if mark else ""
        raise DecodingError(f"{path}:{line} {error.problem or error.context}") from error
    except Exception as error:
        # PyYAML lets through what its constructors trip over: ValueError of a date that is none,
        # KeyError of `!!bool maybe`, RecursionError of deep nesting.
        raise DecodingError(f"{path}: not YAML", f"{type(error).__name__}: {error}") from error
