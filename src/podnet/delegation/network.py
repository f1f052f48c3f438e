"""A network definition → the CNI configuration list that makes attachments to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podnet.errors import (
    DecodingError,
    IncompatibleVersionError,
    InvalidConfigError,
    NetworkNotFoundError,
    PodnetError,
)
from podnet.model.conflist import is_conflist, parse_conflist, upconvert
from podnet.model.reader import Reader
from podnet.model.wire import load_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from podnet.model.conflist import NetworkConfigList

    OnDisk = Sequence[tuple[str, bytes | PodnetError]]
    """Names of files, and their contents or why they cannot be read."""

# Delegating to a plugin that delegates would read the same pod's annotation again, without end:
# what Multus does when its own file is taken for the default network (multus-cni issue 1162).
_DELEGATING = ("multus", "multus-shim", "podnet")


def resolve(
    definition: bytes, namespace: str, name: str, on_disk: Callable[[], OnDisk] = tuple
) -> NetworkConfigList:
    """Return the configuration of the network that a NetworkAttachmentDefinition defines.

    In the order of NPWG 1.3, 3.4.1: ``spec.config``; without it the on-disk ``.conflist`` whose
    name is the object's, then such a ``.conf`` or ``.json``. A configuration without a name gets
    the object's (3.4.2); one plugin's configuration becomes a list of one.

    Args:
        definition: the object as JSON.
        namespace: its namespace, for messages.
        name: its name.
        on_disk: returns the files of the node's CNI configuration folder; called only if there
            is no ``spec.config``.

    Raises:
        DecodingError: the object or its configuration is not JSON.
        InvalidConfigError: the configuration has mistakes, all of them listed.
        IncompatibleVersionError: it is of a version podnet does not know.
        NetworkNotFoundError: it holds no configuration, and no file has its name.
    """
    reader = Reader(load_json(definition, f"network definition {namespace}/{name}"))
    text = reader.section("spec").string("config")
    reader.finish(f"network definition {namespace}/{name}")
    if text.strip():
        what = f"spec.config of network definition {namespace}/{name}"
        return conflist(_decode(text, what), name, what)
    found, unreadable = _named(name, on_disk())
    if found is None:
        raise NetworkNotFoundError(
            f"network definition {namespace}/{name} has no spec.config, "
            f"and no file of the CNI configuration folder has the name {name}",
            unreadable,
        )
    return found


def conflist(document: Mapping[str, object], name: str, what: str) -> NetworkConfigList:
    """Return the list that the JSON object of a list, or of one plugin, means.

    Args:
        document: the object.
        name: name of the network if the object has none.
        what: what the object is, for messages.

    Raises:
        InvalidConfigError: it has mistakes, all of them listed.
        IncompatibleVersionError: it is of a version podnet does not know.
    """
    named = document if Reader(document).value("name") else _with_name(document, name)
    try:
        network = parse_conflist(named) if is_conflist(named) else upconvert(named)
    except InvalidConfigError as error:
        raise InvalidConfigError(f"{what}: {error.msg}", error.mistakes) from None
    except IncompatibleVersionError as error:
        raise IncompatibleVersionError(f"{what}: {error.msg}", error.details) from None
    mistakes: list[tuple[str, str]] = []
    for index, plugin in enumerate(network.plugins):
        _judge(Reader(plugin, f"plugins[{index}]", mistakes))
    if mistakes:
        raise InvalidConfigError(what, tuple(mistakes))
    return network


def find_on_disk(name: str, on_disk: OnDisk) -> NetworkConfigList:
    """Return the on-disk network of that name: lists first, then single plugins, by file name.

    A file that cannot be read does not hide a later one that has the name: an administrator's
    half-written file must not stop the pods of every other network, as it does with Multus and
    libcni. If no file has the name, all unreadable ones are told, for it may be in one of them.

    Raises:
        InvalidConfigError, IncompatibleVersionError: the file of that name has mistakes.
        NetworkNotFoundError: there is none; details list unreadable files.
    """
    found, unreadable = _named(name, on_disk)
    if found is None:
        raise NetworkNotFoundError(
            f"no network is named {name}: neither a network definition nor a file of the CNI "
            "configuration folder has the name",
            unreadable,
        )
    return found


def _named(name: str, on_disk: OnDisk) -> tuple[NetworkConfigList | None, str]:
    """Return the on-disk network of that name, and what is to be told of unreadable files."""
    unreadable = []
    lists = [each for each in on_disk if each[0].endswith(".conflist")]
    singles = [each for each in on_disk if each[0].endswith((".conf", ".json"))]
    for filename, content in sorted(lists, key=_by_name) + sorted(singles, key=_by_name):
        if isinstance(content, PodnetError):
            unreadable.append(str(content))
            continue
        try:
            document = load_json(content, filename)
        except DecodingError as error:
            unreadable.append(error.msg)
            continue
        if Reader(document).value("name") == name:
            return conflist(document, name, filename), ""
    return None, "; ".join(unreadable)


def _by_name(file: tuple[str, object]) -> str:
    return file[0]


def _decode(text: str, what: str) -> dict[str, object]:
    return load_json(text.encode(errors="replace"), what)


def _with_name(document: Mapping[str, object], name: str) -> dict[str, object]:
    """Return it with the name, in place of an empty one of any spelling."""
    return {**{k: v for k, v in document.items() if k.lower() != "name"}, "name": name}


def _judge(plugin: Reader) -> None:
    """Note what libcni takes and what breaks a delegating plugin.

    ``args`` and ``args.cni`` that are no objects end Multus in a panic when ``cni-args`` are to be
    merged into them (``pkg/types/conf.go``); here they are the definition's mistake.
    """
    plugin.section("args").section("cni")
    if plugin.string("type") in _DELEGATING:
        plugin.mistake("type", "a network cannot delegate to the delegating plugin itself")
