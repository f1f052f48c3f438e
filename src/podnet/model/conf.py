"""The network configuration that one plugin gets, and what a runtime puts into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve, field, frozen

from podnet.errors import InvalidConfigError
from podnet.model.names import (
    container_id_fault,
    ifname_fault,
    network_name_fault,
    plugin_type_fault,
)
from podnet.model.reader import INVALID, Reader
from podnet.model.result import DNS, Result, read_dns, read_result
from podnet.model.versions import DEL_PREV_RESULT_SINCE, SUPPORTED, at_least, reconcile
from podnet.model.wire import short

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# The 1.1.0 tag of the specification named the key of GC `attachments`; libcni sends both.
VALID_ATTACHMENTS = ("cni.dev/valid-attachments", "cni.dev/attachments")


@frozen(kw_only=True)
class NetworkConfig:
    """One plugin's network configuration: the keys that the specification reserves.

    Attributes:
        name: the network's name.
        cni_version: the version to speak; 0.1.0 if the configuration names none.
        type: the plugin's name.
        args: ``args``, extra arguments of the runtime's user.
        capabilities: names of the capabilities and whether the plugin has them.
        runtime_config: ``runtimeConfig``: capability arguments.
        ipam: ``ipam``; empty if there is none.
        dns: ``dns``.
        prev_result: ``prevResult``; None if there is none, or it has mistakes.
        document: the whole object, untouched.
        faults: ``(path, what)`` mistakes that were passed over; see ``salvage_config``.
    """

    name: str
    cni_version: str
    type: str
    args: Mapping[str, object] = field(factory=dict)
    capabilities: Mapping[str, bool] = field(factory=dict)
    runtime_config: Mapping[str, object] = field(factory=dict)
    ipam: Mapping[str, object] = field(factory=dict)
    dns: DNS = field(factory=DNS)
    prev_result: Result | None = None
    document: Mapping[str, object] = field(factory=dict)
    faults: tuple[tuple[str, str], ...] = ()


def network_config(document: Mapping[str, object]) -> NetworkConfig:
    """Return the configuration in a JSON object.

    Raises:
        InvalidConfigError: with all mistakes; its message is the reference's if name or previous
            result is wrong.
        IncompatibleVersionError: the version is not supported; then nothing but the name was
            judged, for that version's rules are unknown.
    """
    config = salvage_config(document)
    if config.faults:
        wrong_result = config.faults[0][0].startswith("prevResult")
        raise InvalidConfigError(
            "could not parse prevResult" if wrong_result else INVALID, config.faults
        )
    return config


def salvage_config(document: Mapping[str, object]) -> NetworkConfig:
    """Return what can be read of a configuration, its other mistakes in ``faults``.

    For DEL, which completes "without error to the fullest extent possible" (CNI 1.1.0, section 2,
    DEL): of a previous result with mistakes, for one, it has no need.

    Raises:
        InvalidConfigError: name or type is missing or wrong; with all mistakes.
        IncompatibleVersionError: the version is not supported.
    """
    reader = Reader(document)
    name = reader.checked("name", network_name_fault)
    name_is_good = not reader.mistakes
    given = reader.string("cniVersion")
    if name_is_good:
        reconcile(given)
    elif given and given not in SUPPORTED:
        reader.mistake("cniVersion", f"{short(given)} is not one of {', '.join(SUPPORTED)}")
    version = given if given in SUPPORTED else SUPPORTED[0]
    plugin = read_type(reader)
    fatal = bool(reader.mistakes)
    config = NetworkConfig(
        name=name,
        cni_version=version,
        type=plugin,
        args=reader.section("args").document,
        capabilities=read_capabilities(reader),
        runtime_config=reader.section("runtimeConfig").document,
        ipam=_read_ipam(reader),
        dns=read_dns(reader),
        # Which shape it has, only a supported version tells.
        prev_result=_read_prev_result(reader, version) if given in ("", version) else None,
        document=document,
    )
    if fatal:
        reader.finish(network_name_fault(name) or INVALID)
    return evolve(config, faults=tuple(reader.mistakes))


def read_type(reader: Reader) -> str:
    """Return the plugin's ``type``; that it is missing or has a path is a mistake."""
    return reader.checked("type", plugin_type_fault)


def read_capabilities(reader: Reader) -> dict[str, bool]:
    """Return ``capabilities``: which capability arguments the plugin wants."""
    section = reader.section("capabilities")
    return {key: section.boolean(key) for key in section.document}


def _read_ipam(reader: Reader) -> Mapping[str, object]:
    ipam = reader.section("ipam")
    ipam.checked("type", lambda text: plugin_type_fault(text) if text else "")
    return ipam.document


def _read_prev_result(reader: Reader, version: str) -> Result | None:
    if "prevResult" not in reader:
        return None
    before = len(reader.mistakes)
    result = read_result(reader.section("prevResult"), version)
    return result if len(reader.mistakes) == before else None


def valid_attachments(document: Mapping[str, object]) -> tuple[tuple[str, str], ...] | None:
    """Return GC's ``(container id, interface name)`` pairs that are still in use.

    Returns:
        None if the runtime named none at all, which is not the same as an empty list. libcni
        leaves the key out where its caller gave no arguments, and prints Go's nil list as null.

    Raises:
        InvalidConfigError: with every wrong entry: passing over one would end a live attachment.
    """
    reader = Reader(document)
    key = next((each for each in VALID_ATTACHMENTS if each in reader), None)
    if key is None:
        return None
    pairs = tuple(
        (entry.checked("containerID", container_id_fault), entry.checked("ifname", ifname_fault))
        for entry in reader.sections(key)
    )
    reader.finish()
    return pairs


def with_valid_attachments(
    document: Mapping[str, object], pairs: Iterable[tuple[str, str]]
) -> dict[str, object]:
    """Return a configuration of GC with another list of valid attachments."""
    entries = [{"containerID": container_id, "ifname": ifname} for container_id, ifname in pairs]
    others = {k: v for k, v in document.items() if k.lower() not in VALID_ATTACHMENTS}
    return {**others, **dict.fromkeys(VALID_ATTACHMENTS, entries)}


def inject(
    plugin: Mapping[str, object],
    name: str,
    cni_version: str,
    *,
    prev_result: Mapping[str, object] | None = None,
    runtime_config: Mapping[str, object] | None = None,
    extra: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """Return the configuration a plugin is to get (CNI 1.1.0, section 4, "Deriving").

    All other keys are passed through untouched. ``capabilities`` is left out, as the
    specification demands and libcni forgets.

    Args:
        plugin: the plugin's object as its author wrote it.
        name: the network's name.
        cni_version: the list's version.
        prev_result: the result before it, as a document; None for none.
        runtime_config: capability arguments of the caller, of which the plugin gets those that
            its ``capabilities`` ask for; if there are none, its own ``runtimeConfig`` stays.
        extra: further keys to set, such as GC's valid attachments.
    """
    new: dict[str, object] = {"cniVersion": cni_version, "name": name}
    wanted = Reader(plugin).value("capabilities")
    asked = wanted if isinstance(wanted, dict) else {}
    passed = {k: v for k, v in (runtime_config or {}).items() if asked.get(k) is True}
    if passed:
        new["runtimeConfig"] = passed
    if prev_result is not None:
        new["prevResult"] = prev_result
    new |= extra or {}
    gone = {each.lower() for each in (*new, "capabilities")}
    return {**{k: v for k, v in plugin.items() if k.lower() not in gone}, **new}


def takes_prev_result(cni_version: str, verb: str) -> bool:
    """Tell whether a runtime passes ``prevResult`` with that verb in that supported version."""
    if verb == "DEL":
        return at_least(cni_version, DEL_PREV_RESULT_SINCE)
    return verb in ("ADD", "CHECK")
