"""Requests as the emulator reads them, and the forms in which it shows objects."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

from attrs import define, field, frozen

from podnet.testing.kube.replies import Refusal, bad_request
from podnet.testing.kube.storage import encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from podnet.testing.kube.kinds import Kind
    from podnet.testing.kube.storage import Storage, Stored

BODY_MOST = 3 << 20
"""``--max-request-body-bytes`` of the API server's resource handlers."""

_META = "meta.k8s.io/v1"


@define
class Request:
    """One HTTP request.

    Attributes:
        method: such as ``PATCH``.
        path: without the query, unquoted.
        query: last value of each parameter.
        headers: names in lower case.
        body: bytes.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes = b""

    @classmethod
    def read(cls, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Request:
        """Take a request target apart."""
        path, _, query = target.partition("?")
        values = parse_qs(query, keep_blank_values=True)
        return cls(
            method, unquote(path), {name: many[-1] for name, many in values.items()}, headers, body
        )

    @property
    def content_type(self) -> str:
        """Of the body, without parameters."""
        return self.headers.get("content-type", "application/json").partition(";")[0].strip()

    @property
    def manager(self) -> str:
        """Who writes: the parameter ``fieldManager``, else the program named by User-Agent."""
        agent = self.headers.get("user-agent", "unknown").partition("/")[0]
        return self.query.get("fieldManager") or agent

    def flag(self, name: str) -> bool:
        """Tell whether a parameter is given and true."""
        return self.query.get(name, "false").lower() in ("true", "1")

    def number(self, name: str) -> int:
        """Return a whole number given as parameter; 0 if it is not there.

        Raises:
            Refusal: it is none (400).
        """
        text = self.query.get(name) or "0"
        if not text.isdigit():
            raise bad_request(f"invalid {name}: {text!r}")
        return int(text)

    def json(self) -> Any:
        """Return the body's JSON, whole numbers beyond 64 bits as Go reads them: as floats.

        Raises:
            Refusal: it is none (400).
        """
        try:
            return json.loads(self.body, parse_int=_go_integer, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise bad_request(f"error decoding body: {error}") from error


def _go_integer(text: str) -> int | float:
    value = int(text)
    return value if -(1 << 63) <= value < 1 << 63 else float(value)


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


@frozen
class Target:
    """What the path of a request names.

    Attributes:
        kind: of the objects.
        namespace: None for objects of the cluster, and for all namespaces.
        name: empty for the whole collection.
        sub: subresource, or empty.
    """

    kind: Kind
    namespace: str | None
    name: str = ""
    sub: str = ""


@frozen
class Reply:
    """An answer.

    Attributes:
        code: HTTP status.
        body: bytes.
        headers: besides length and type.
        lines: if not None, the answer is a stream of these instead of ``body``.
    """

    code: int
    body: bytes = b""
    headers: dict[str, str] = field(factory=dict)
    lines: Iterable[bytes] | None = None


class Form:
    """How the caller wants objects shown: whole, metadata only, or as a table."""

    def __init__(self, kind: Kind, request: Request, storage: Storage) -> None:
        """Read the Accept header.

        Raises:
            Refusal: nothing that is asked for can be had (406).
        """
        self._kind = kind
        self._storage = storage
        self._include = request.query.get("includeObject", "Metadata")
        self._as = ""
        accepted = request.headers.get("accept", "*/*")
        for offer in accepted.split(","):
            media, *parameters = (part.strip() for part in offer.split(";"))
            if media not in ("*/*", "application/*", "application/json"):
                continue
            wish = dict(part.partition("=")[::2] for part in parameters)
            shape = wish.get("as", "")
            if shape and (wish.get("g"), wish.get("v")) != ("meta.k8s.io", "v1"):
                continue
            if shape in ("", "Table", "PartialObjectMetadata", "PartialObjectMetadataList"):
                self._as = shape
                return
        text = "only the following media types are accepted: application/json"
        raise Refusal(406, "NotAcceptable", text)

    def one(self, stored: Stored) -> bytes:
        """Show an object."""
        if self._as == "Table":
            return self._table([stored], {"resourceVersion": str(stored.version)})
        if self._as:
            return _partial(stored)
        return stored.raw

    def many(self, found: list[Stored], meta: dict[str, Any]) -> bytes:
        """Show a list."""
        if self._as == "Table":
            return self._table(found, meta)
        if self._as:
            name, version = "PartialObjectMetadataList", _META
        else:
            name, version = f"{self._kind.kind}List", self._kind.api_version
        head = encode({"kind": name, "apiVersion": version, "metadata": meta})
        shown = b",".join(_partial(one) if self._as else one.raw for one in found)
        return head[:-1] + b',"items":[' + shown + b"]}"

    def event(self, kind: str, stored: Stored) -> bytes:
        """Show a line of a watch."""
        return b'{"type":"' + kind.encode() + b'","object":' + self.one(stored) + b"}\n"

    def bookmark(self, version: int) -> bytes:
        """Show a bookmark."""
        shown: dict[str, Any] = {
            "kind": "PartialObjectMetadata" if self._as else self._kind.kind,
            "apiVersion": _META if self._as else self._kind.api_version,
            "metadata": {"resourceVersion": str(version), "creationTimestamp": None},
        }
        return encode({"type": "BOOKMARK", "object": shown}) + b"\n"

    def _table(self, found: list[Stored], meta: dict[str, Any]) -> bytes:
        heads = [{"name": "Name", "type": "string", "format": "name", "priority": 0}]
        columns = self._kind.columns
        heads += [{"name": c.name, "type": c.type, "priority": c.priority} for c in columns]
        for head in heads:
            head.setdefault("format", "")
            head["description"] = ""
        table = {
            "kind": "Table",
            "apiVersion": _META,
            "metadata": meta,
            "columnDefinitions": heads,
        }
        rows = b",".join(self._row(stored) for stored in found)
        return encode(table)[:-1] + b',"rows":[' + rows + b"]}"

    def _row(self, stored: Stored) -> bytes:
        shown = {"None": b"null", "Object": stored.raw}.get(self._include) or _partial(stored)
        return b'{"cells":' + encode([stored.name, *stored.cells]) + b',"object":' + shown + b"}"


def _partial(stored: Stored) -> bytes:
    head = b'{"kind":"PartialObjectMetadata","apiVersion":"' + _META.encode() + b'","metadata":'
    return head + stored.meta + b"}"
