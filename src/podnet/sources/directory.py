"""Pods and network definitions from files and folders of manifests."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

from podnet.delegation.selection import NETWORKS_ANNOTATION
from podnet.errors import DecodingError, PodnetError
from podnet.sources import confdir
from podnet.sources.manifests import SUFFIXES, Manifests, parse_manifests

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from podnet.model.attachment import Pod

T = TypeVar("T")

_Signature = tuple[int, int, int, int]


class DirectorySource:
    """A ``NetworkSource`` of manifests on disk.

    Files are read when first needed, and again when they change. A broken file does not hide
    what the others hold: half-written, it must not stop every pod of a node. What cannot be found
    while some file is broken is an error, not absent. The same object in two files is a mistake in
    both: which one counts would be an accident of their names.
    """

    def __init__(self, *paths: str | os.PathLike[str]) -> None:
        """Take files, and folders whose ``.yaml``, ``.yml`` and ``.json`` files are read."""
        self._paths = tuple(os.fspath(path) for path in paths)
        self._read: dict[str, tuple[_Signature, Manifests | PodnetError]] = {}

    def selection(self, pod: Pod, annotation: str = NETWORKS_ANNOTATION) -> str | None:
        """Return the text of an annotation of the pod; None if there is no such pod.

        Raises:
            DecodingError: it is in two files; or in none, and a file is broken.
            IOFailureError: a path cannot be read.
        """
        found: list[tuple[str, str]] = []
        for path, manifests in self._whole():
            if known := manifests.pods.get((pod.namespace, pod.name)):
                found.append((path, known[1].get(annotation, "")))
        return self._only(found, f"pod {pod}")

    def definition(self, namespace: str, name: str) -> bytes | None:
        """Return the network definition as JSON, or None if there is none.

        Raises:
            DecodingError: it is in two files; or in none, and a file is broken.
            IOFailureError: a path cannot be read.
        """
        found = [
            (path, manifests.definitions[namespace, name])
            for path, manifests in self._whole()
            if (namespace, name) in manifests.definitions
        ]
        return self._only(found, f"network {namespace}/{name}")

    def definitions(self) -> tuple[tuple[str, str], ...]:
        """Return namespaces and names of all network definitions, in the order of files.

        Raises:
            IOFailureError: a path cannot be read.
        """
        found = (place for _, manifests in self._whole() for place in manifests.definitions)
        return tuple(dict.fromkeys(found))

    def faults(self) -> tuple[tuple[str, PodnetError], ...]:
        """Return the files that cannot be read, with why.

        Raises:
            IOFailureError: a folder cannot be read.
        """
        self._refresh()
        return tuple(
            (path, read) for path, (_, read) in self._read.items() if isinstance(read, PodnetError)
        )

    def claim(self, namespace: str, name: str) -> bytes | None:
        """Return the IPAMClaim as JSON, or None if there is none.

        Raises:
            DecodingError: it is in two files; or in none, and a file is broken.
            IOFailureError: a path cannot be read.
        """
        found = [
            (path, manifests.claims[namespace, name])
            for path, manifests in self._whole()
            if (namespace, name) in manifests.claims
        ]
        return self._only(found, f"claim {namespace}/{name}")

    def tell(self, namespace: str, name: str, ips: Sequence[str], pod: str) -> None:
        """Do nothing: manifests are their author's, and podnet's store has the leases."""

    def close(self) -> None:
        """Do nothing: no file is open between calls."""

    def pods(self) -> tuple[Pod, ...]:
        """Return all pods, in the order of files and documents.

        Raises:
            DecodingError: a file is broken: others of its pods would be missing; or a pod is in
                two files.
            IOFailureError: a path cannot be read.
        """
        found: dict[tuple[str, str], list[tuple[str, Pod]]] = {}
        for path, manifests in self._whole():
            for place, (pod, _) in manifests.pods.items():
                found.setdefault(place, []).append((path, pod))
        self._complain()
        pods = (self._only(each, f"pod {'/'.join(place)}") for place, each in found.items())
        return tuple(pod for pod in pods if pod is not None)

    def _only(self, found: list[tuple[str, T]], what: str) -> T | None:
        if len(found) > 1:
            raise DecodingError(f"{what} is in {' and '.join(path for path, _ in found)}")
        if found:
            return found[0][1]
        self._complain()
        return None

    def _whole(self) -> Iterator[tuple[str, Manifests]]:
        """Yield the files that can be read, with what they hold, after a look for changes."""
        self._refresh()
        for path, (_, read) in self._read.items():
            if isinstance(read, Manifests):
                yield path, read

    def _complain(self) -> None:
        for _, read in self._read.values():
            if isinstance(read, PodnetError):
                raise read

    def _refresh(self) -> None:
        read = {}
        for path in self._files():
            signature = _signature(path)
            known = self._read.get(path)
            if known is None or known[0] != signature:
                known = signature, _load(path)
            read[path] = known
        self._read = read

    def _files(self) -> Iterator[str]:
        seen = set()
        for path in self._paths:
            files = [path]
            if os.path.isdir(path):
                names = confdir.list_files(path, SUFFIXES, missing_ok=False)
                files = [os.path.join(path, name) for name in names]
            for file in files:
                # A file given beside its folder is one file.
                if (real := os.path.realpath(file)) not in seen:
                    seen.add(real)
                    yield file


def _signature(path: str) -> _Signature:
    """Return what differs when a file has changed; ctime also tells edits within a clock tick."""
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0, 0, 0)
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _load(path: str) -> Manifests | PodnetError:
    try:
        return parse_manifests(confdir.read_file(path), path)
    except PodnetError as error:
        return error
