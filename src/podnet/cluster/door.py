"""The one door to the Kubernetes API: verbs on plain JSON objects, with limits and retries.

What lightkube's own client leaves out is done here: preconditions of deletions, metadata-only
reads, time limits that hold for a whole call, ``Retry-After``, credentials read anew after 401,
and the difference between a write that was not carried out and one whose reply was lost.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from attrs import frozen

from podnet.cluster.access import Access
from podnet.cluster.answers import ExpiredError, MissingError
from podnet.cluster.line import Change, Line
from podnet.cluster.pauses import Pauses

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from podnet.cluster.resource import Resource

__all__ = ["APPLY_PATCH", "JSON_PATCH", "MERGE_PATCH", "Change", "Cluster", "Listing", "Object"]

Object = dict[str, Any]

MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

_META = "application/json;as={};g=meta.k8s.io;v=v1"
_PAGE = 500


@frozen
class Listing:
    """All objects of a list, however many pages it took.

    Attributes:
        items: the objects.
        version: resourceVersion of the list; a watch can start from it.
    """

    items: list[Object]
    version: str


class Cluster:
    """A connection to one API server; threads may share it, and forked processes inherit it.

    Every method takes at most ``timeout`` seconds, all pages of a list and waits for
    ``Retry-After`` included; only a slow name server, or an answer that comes in small pieces, may
    make it longer. ``watch`` has limits of its own. Errors that all of them raise:
    ``UnreachableError`` (nothing was done; code 11), ``DeniedError``, ``RefusedError``, and
    ``InvalidConfigError`` for credentials that cannot be used and resources that the cluster does
    not know. Writes raise ``UnknownOutcomeError`` besides.
    """

    def __init__(self, kubeconfig: str = "", context: str = "", *, timeout: float = 10.0) -> None:
        """Read the credentials; nothing is asked of the API server yet.

        Args:
            kubeconfig: file; if empty, the pod's service account or the user's default.
            context: of the file; empty for its current one.
            timeout: seconds that one call may take in all.

        Raises:
            InvalidConfigError: the credentials cannot be used.
        """
        self._access = Access(kubeconfig, context)
        self._timeout = timeout
        self._line = Line(self._access, timeout)

    @property
    def namespace(self) -> str:
        """Namespace of the context, or of the service account."""
        return self._access.namespace

    @property
    def named_namespace(self) -> str:
        """Namespace that the context names; empty if it names none."""
        return self._access.named_namespace

    @property
    def server(self) -> str:
        """URL of the API server."""
        return self._access.server

    def get(
        self, resource: Resource, name: str, namespace: str = "", *, meta_only: bool = False
    ) -> Object | None:
        """Return an object as it is now (a quorum read), or None if there is none.

        Args:
            resource: of which type.
            name: of the object.
            namespace: where it lives; empty for objects of the cluster.
            meta_only: return no more of it than ``metadata``.
        """
        accept = _META.format("PartialObjectMetadata") if meta_only else ""
        try:
            found: Object = self._line.call("GET", resource.path(namespace, name), accept=accept)
        except MissingError:
            return None
        return found

    def list_all(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        meta_only: bool = False,
        page: int = _PAGE,
    ) -> Listing:
        """Return all objects as they are now (a quorum read), fetched in pages.

        A list whose continue token expires on the way is begun anew.

        Args:
            resource: of which type.
            namespace: only there; empty for all.
            labels: label selector.
            fields: field selector.
            meta_only: return no more of each object than ``metadata``.
            page: most objects in one answer.
        """
        accept = _META.format("PartialObjectMetadataList") if meta_only else ""
        query = _given(labelSelector=labels, fieldSelector=fields, limit=str(page))
        pages = self._pages(resource.path(namespace), query, accept)
        items = [one for page in pages for one in page.get("items") or ()]
        return Listing(items, str(pages[-1]["metadata"].get("resourceVersion", "")))

    def version(self, resource: Resource, name: str, namespace: str = "") -> str | None:
        """Return an object's resourceVersion as it is now (a quorum read), or None: a few bytes."""
        query, accept = {"includeObject": "None"}, _META.format("Table")
        try:
            found = self._line.call("GET", resource.path(namespace, name), query, accept)
        except MissingError:
            return None
        return str(found["metadata"]["resourceVersion"])

    def table(self, resource: Resource, namespace: str = "", *, labels: str = "") -> list[Object]:
        """Return the printer columns of all objects by their headings, as they are now.

        That is less than their metadata; ``Name`` is always among them.
        """
        accept = _META.format("Table")
        query = _given(labelSelector=labels, limit=str(_PAGE), includeObject="None")
        pages = self._pages(resource.path(namespace), query, accept)
        # Later pages have no column definitions.
        heads = [column["name"] for column in pages[0].get("columnDefinitions") or ()]
        return [
            dict(zip(heads, row["cells"], strict=False))
            for page in pages
            for row in page.get("rows") or ()
        ]

    def create(
        self,
        resource: Resource,
        document: Mapping[str, Any],
        namespace: str = "",
        *,
        strict: bool = False,
        meta_only: bool = False,
    ) -> Object:
        """Create an object; return it as it was stored.

        Args:
            resource: of which type.
            document: the object; apiVersion and kind are put in.
            namespace: where it shall live.
            strict: refuse fields that the schema does not know, instead of dropping them.
            meta_only: return no more of it than ``metadata``.

        Raises:
            ExistsError: there is one of its name.
            InvalidObjectError: it breaks its schema.
            TooLargeError: it is too large.
            UnknownOutcomeError: the reply was lost.
        """
        body = {"apiVersion": resource.api_version, "kind": resource.kind, **document}
        accept = _META.format("PartialObjectMetadata") if meta_only else ""
        query = _given(fieldValidation="Strict" if strict else "")
        made: Object = self._line.call("POST", resource.path(namespace), query, accept, body=body)
        return made

    def replace(self, resource: Resource, document: Object) -> Object:
        """Put an object in the place of the one of its name; return it as it was stored.

        Its ``metadata.resourceVersion`` has to be there: without one, whatever is there is lost.

        Raises:
            MissingError: there is none.
            ConflictError: it is at another version.
            InvalidObjectError, TooLargeError, UnknownOutcomeError: see ``create``.
            ValueError: the document has no resourceVersion.
        """
        meta = document["metadata"]
        if not meta.get("resourceVersion"):
            raise ValueError("a replacement needs metadata.resourceVersion")
        body = {"apiVersion": resource.api_version, "kind": resource.kind, **document}
        path = resource.path(meta.get("namespace", ""), meta["name"])
        put: Object = self._line.call("PUT", path, body=body)
        return put

    def patch(  # noqa: PLR0913 - the parts of a patch, all by name
        self,
        resource: Resource,
        name: str,
        change: object,
        namespace: str = "",
        *,
        kind: str = MERGE_PATCH,
        manager: str = "",
        force: bool = False,
        sub: str = "",
        strict: bool = False,
        meta_only: bool = False,
    ) -> Object:
        """Change an object; return it as it is then.

        Args:
            resource: of which type.
            name: of the object.
            change: a merge patch, a list of JSON Patch operations, or the configuration to apply.
                ``metadata.resourceVersion`` in a merge patch makes it conditional.
            namespace: where it lives.
            kind: ``MERGE_PATCH``, ``JSON_PATCH`` or ``APPLY_PATCH`` (server-side apply, which
                creates what is not there).
            manager: field manager; needed to apply.
            force: take over fields that another manager owns; only to apply.
            sub: subresource, such as ``status``.
            strict: refuse fields that the schema does not know, instead of dropping them.
            meta_only: return no more of it than ``metadata``.

        Raises:
            MissingError: there is none.
            ConflictError: it is at another version, or another manager owns a field.
            InvalidObjectError: the result breaks the schema, or a ``test`` failed.
            TooLargeError, UnknownOutcomeError: see ``create``.
        """
        query = _given(
            fieldManager=manager,
            force="true" if force else "",
            fieldValidation="Strict" if strict else "",
        )
        accept = _META.format("PartialObjectMetadata") if meta_only else ""
        path = resource.path(namespace, name, sub)
        changed: Object = self._line.call("PATCH", path, query, accept, body=change, media=kind)
        return changed

    def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        uid: str = "",
        version: str = "",
    ) -> Object:
        """Delete an object, if it still has the UID and resourceVersion that are given.

        Returns:
            A ``Status``, or the object, which stays there until its finalizers are done.

        Raises:
            MissingError: there is none.
            ConflictError: it is another one, or at another version.
            UnknownOutcomeError: the reply was lost.
        """
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if wanted := _given(uid=uid, resourceVersion=version):
            body["preconditions"] = wanted
        gone: Object = self._line.call("DELETE", resource.path(namespace, name), body=body)
        return gone

    def watch(
        self,
        resource: Resource,
        version: str,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        meta_only: bool = False,
        lasting: float = 300.0,
        silence: float = 90.0,
    ) -> Iterator[Change]:
        """Begin a watch; the iterator yields changes after a version until the API server ends it.

        It ends it at any time; go on from the version of the last change or bookmark. Once this
        returns, the watch is running.

        Args:
            resource: of which type.
            version: resourceVersion to start from.
            namespace: only there; empty for all.
            labels: label selector.
            fields: field selector.
            meta_only: yield no more of each object than ``metadata``.
            lasting: seconds after which the API server shall end it.
            silence: seconds without a line after which the connection is taken for dead; the API
                server sends bookmarks about every minute.

        Raises:
            ExpiredError: the version is too old: list again. Also while it is iterated over.
            UnreachableError: the connection was lost, or never came about. Also while it is
                iterated over.
        """
        accept = _META.format("PartialObjectMetadata") if meta_only else ""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(max(1, int(lasting))),
            **_given(labelSelector=labels, fieldSelector=fields),
        }
        return self._line.stream(
            f"watch {resource}", resource.path(namespace), query, accept, silence
        )

    def close(self) -> None:
        """Close all connections; may be called again. What runs in other threads fails."""
        self._line.close()

    def _pages(self, path: str, query: Mapping[str, str], accept: str) -> list[Object]:
        pauses = Pauses(time.monotonic() + self._timeout)
        pages: list[Object] = []
        more: dict[str, str] = {}
        while True:
            try:
                page = self._line.call("GET", path, {**query, **more}, accept, ends=pauses.ends)
            except ExpiredError:
                if not pauses.again():
                    raise
                pages, more = [], {}
                continue
            pages.append(page)
            if not page["metadata"].get("continue"):
                return pages
            more = {"continue": page["metadata"]["continue"]}


def _given(**values: str) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}
