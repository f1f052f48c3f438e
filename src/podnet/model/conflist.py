"""Network configuration lists, as libcni reads them (``libcni/conf.go``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve, frozen

from podnet.errors import InvalidConfigError
from podnet.model.conf import read_capabilities, read_type
from podnet.model.names import network_name_fault
from podnet.model.reader import Reader
from podnet.model.versions import CURRENT, SUPPORTED, parse_version, reconcile
from podnet.model.wire import kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

INVALID_LIST = "error parsing configuration list"
INVALID_PLUGIN = "error parsing configuration"


@frozen(kw_only=True)
class NetworkConfigList:
    """One network: the plugins that make an attachment to it, in order of ADD.

    Attributes:
        name: the network's name.
        cni_version: the highest supported version it offers.
        plugins: each plugin's object, untouched.
        disable_check: CHECK must not be called.
        disable_gc: GC must not be called.
        load_only_inlined_plugins: plugins from a folder of the network's name are not added.
        document: the whole object, untouched.
    """

    name: str
    cni_version: str
    plugins: tuple[Mapping[str, object], ...] = ()
    disable_check: bool = False
    disable_gc: bool = False
    load_only_inlined_plugins: bool = False
    document: Mapping[str, object]


def is_conflist(document: Mapping[str, object]) -> bool:
    """Tell whether the object is a list rather than one plugin's configuration."""
    return "plugins" in Reader(document)


def parse_conflist(document: Mapping[str, object]) -> NetworkConfigList:
    """Return the list in a JSON object.

    ``plugins`` may be absent unless ``loadOnlyInlinedPlugins`` is true: they may come from a
    folder; see ``with_folder``.

    Raises:
        InvalidConfigError: with all mistakes.
        IncompatibleVersionError: it offers no supported version.
    """
    reader = Reader(document)
    name = reader.checked("name", network_name_fault)
    version = _read_version(reader)
    disable_check = reader.boolean("disableCheck", texts=True)
    disable_gc = reader.boolean("disableGC", texts=True)
    inlined = reader.boolean("loadOnlyInlinedPlugins", texts=True)
    plugins = reader.sections("plugins")
    if "plugins" not in reader:
        if inlined:
            reader.mistake("plugins", "is required, for loadOnlyInlinedPlugins is true")
    elif reader.value("plugins") == []:
        reader.mistake("plugins", "no plugins in list")
    for plugin in plugins:
        _judge_plugin(plugin)
    reader.finish(INVALID_LIST)
    return NetworkConfigList(
        name=name,
        cni_version=reconcile(version),
        plugins=tuple(plugin.document for plugin in plugins),
        disable_check=disable_check,
        disable_gc=disable_gc,
        load_only_inlined_plugins=inlined,
        document=document,
    )


def upconvert(document: Mapping[str, object]) -> NetworkConfigList:
    """Return one plugin's configuration as a list of one.

    Raises:
        InvalidConfigError: with all mistakes.
        IncompatibleVersionError: its version is not supported.
    """
    reader = Reader(document)
    name = reader.checked("name", network_name_fault)
    version = reader.string("cniVersion")
    _judge_plugin(reader)
    reader.finish(INVALID_PLUGIN)
    return NetworkConfigList(
        name=name,
        cni_version=reconcile(version),
        plugins=(document,),
        document={"name": name, "cniVersion": version, "plugins": [document]},
    )


def with_folder(
    network: NetworkConfigList, plugins: Iterable[Mapping[str, object]]
) -> NetworkConfigList:
    """Return the list with the plugins of the folder that has the network's name.

    They come after those of the list itself, in the order given (libcni's is that of the file
    names); with ``loadOnlyInlinedPlugins`` they are left out, as in libcni and in line 115 of the
    specification, which its line 116 contradicts.

    Raises:
        InvalidConfigError: one of them is wrong, with all mistakes; or there is no plugin at all.
    """
    added = () if network.load_only_inlined_plugins else tuple(plugins)
    mistakes: list[tuple[str, str]] = []
    for i, plugin in enumerate(added):
        _judge_plugin(Reader(plugin, f"{network.name}[{i}]", mistakes))
    if mistakes:
        raise InvalidConfigError(INVALID_PLUGIN, tuple(mistakes))
    whole = evolve(network, plugins=(*network.plugins, *added))
    if not whole.plugins:
        raise InvalidConfigError("no plugin configs found", (("plugins", "is required"),))
    return whole


def _judge_plugin(plugin: Reader) -> None:
    read_type(plugin)
    read_capabilities(plugin)


def _read_version(reader: Reader) -> str:
    """Return the highest supported version of ``cniVersion`` and ``cniVersions``."""
    single = reader.string("cniVersion")
    if "cniVersions" not in reader:
        return single
    offered = [single] if single else []
    for i, each in enumerate(reader.values("cniVersions")):
        if not isinstance(each, str):
            reader.mistake(f"cniVersions[{i}]", f"must be a string, not {kind(each)}")
            continue
        try:
            parse_version(each)
        except ValueError as error:
            reader.mistake(f"cniVersions[{i}]", str(error))
        else:
            offered.append(each)
    known = [each for each in offered if each in SUPPORTED]
    if known:
        return max(known, key=SUPPORTED.index)
    return single or (offered[0] if offered else CURRENT)
