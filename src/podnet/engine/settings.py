"""Where podnet keeps its state and finds its neighbours, from environment and one file."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from podnet.errors import DecodingError, InvalidConfigError, IOFailureError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CONFIG_FILE = "/etc/cni/net.d/podnet.d/podnet.conf"
"""Beside the runtime's configurations, in a folder that runtimes do not read."""


@frozen(kw_only=True)
class Settings:
    """How one installation of podnet is set up.

    Attributes:
        state_dir: absolute folder of journal, locks and, by default, leases.
        store: URL of the IPAM store, such as ``file:/var/lib/podnet/leases``.
        networks: files or folders with manifests of pods and network definitions.
        conf_dir: folder of on-disk CNI configurations that definitions and default networks
            may name (Multus' ``confDir``).
        bin_dirs: folders searched for delegate executables before those of ``CNI_PATH``.
        node: this node's name, part of leases and of chosen MAC addresses.
        timeout: seconds that one call of the runtime may take in all, below the 2 minutes that
            kubelet grants a CRI call (``--runtime-request-timeout``).
        owned: a process that stays on this node, such as the agent, takes whole blocks of large
            pools, and hands out of them without a write to the store.
        strict_capabilities: refuse an attachment whose pod asks for what no plugin of the network
            declares as capability (NPWG 1.3, 4.1.2.1.3.2); Multus never refuses.
        claims: where IPAMClaims are: ``kubernetes:`` with or without the path of a kubeconfig;
            empty for the manifests of ``networks``.
        reserved: addresses, networks and ``first-last`` texts that no pool hands out.
    """

    state_dir: str = "/var/lib/podnet"
    store: str = ""
    networks: tuple[str, ...] = ()
    conf_dir: str = "/etc/cni/multus/net.d"
    bin_dirs: tuple[str, ...] = ()
    node: str = ""
    timeout: float = 110.0
    owned: bool = False
    strict_capabilities: bool = False
    claims: str = ""
    reserved: tuple[str, ...] = ()


_TEXTS = {
    "stateDir": "state_dir",
    "store": "store",
    "confDir": "conf_dir",
    "node": "node",
    "claims": "claims",
}
_TRUTHS = {"strictCapabilities": "strict_capabilities", "owned": "owned"}
_FOLDERS = ("file", "host-local")
_KUBECONFIGS = ("kubernetes", "whereabouts")
_LISTS = {"networks": "networks", "binDirs": "bin_dirs", "reserved": "reserved"}


def load(environ: Mapping[str, str], **overrides: object) -> Settings:
    """Return the settings: overrides, then environment, then file, then defaults.

    Args:
        environ: ``PODNET_CONFIG`` names the file, ``PODNET_STATE_DIR`` and ``PODNET_STORE`` win
            over what it says.
        overrides: fields of ``Settings``; None means not given.

    Raises:
        IOFailureError: the file that ``PODNET_CONFIG`` names cannot be read.
        DecodingError, InvalidConfigError: the file is not what it has to be.
    """
    path = environ.get("PODNET_CONFIG", "")
    fields = _read_file(path or CONFIG_FILE, required=bool(path))
    for variable, name in (("PODNET_STATE_DIR", "state_dir"), ("PODNET_STORE", "store")):
        if environ.get(variable):
            fields[name] = environ[variable]
            if any(not path.startswith("/") for path in _paths(name, fields[name])):
                # A runtime starts ADD and DEL in folders of its own choice.
                what = f"must be an absolute path, not {environ[variable]!r}"
                raise InvalidConfigError("invalid environment", ((variable, what),))
    fields.update({k: v for k, v in overrides.items() if v is not None})
    settings = Settings(**fields)  # type: ignore[arg-type]  # each value was checked by its reader
    state_dir = os.path.abspath(settings.state_dir)
    return evolve(
        settings,
        state_dir=state_dir,
        store=absolute_store(settings.store) or f"file:{state_dir}/leases",
        node=settings.node or os.uname().nodename,
    )


def absolute_store(url: str) -> str:
    """Return a store's URL that means the same in every working folder."""
    scheme, colon, folder = url.partition(":")
    query = ""
    if scheme == "sqlite":
        folder = _database_file(folder)
        return url if not folder or folder.startswith("/") else f"sqlite:{os.path.abspath(folder)}"
    if scheme in _KUBECONFIGS:
        folder, mark, options = folder.partition("?")
        query = mark + options
    elif scheme not in _FOLDERS:
        return url
    if not folder or folder.startswith("/"):
        return url
    return f"{scheme}{colon}{os.path.abspath(folder)}{query}"


def _read_file(path: str, *, required: bool) -> dict[str, object]:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        if required:
            raise IOFailureError(f"cannot read PODNET_CONFIG {path}", "no such file") from None
        return {}
    except OSError as error:
        raise IOFailureError(f"cannot read {path}", error.strerror or str(error)) from error
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DecodingError(f"{path} is not JSON", str(error)) from error
    if not isinstance(document, dict):
        raise DecodingError(f"{path} is not a JSON object")
    return _checked(document, path)


def _checked(document: dict[str, object], path: str) -> dict[str, object]:
    fields: dict[str, object] = {}
    mistakes: list[tuple[str, str]] = []
    for key, value in document.items():
        if key in _TEXTS and isinstance(value, str):
            fields[_TEXTS[key]] = value
        elif key in _LISTS and isinstance(value, str):
            fields[_LISTS[key]] = (value,)
        elif key in _LISTS and isinstance(value, list) and all(isinstance(v, str) for v in value):
            fields[_LISTS[key]] = tuple(value)
        elif key == "timeout" and _is_positive(value):
            fields["timeout"] = float(value)  # type: ignore[arg-type]  # checked one line above
        elif key in _TRUTHS and isinstance(value, bool):
            fields[_TRUTHS[key]] = value
        elif key in (*_TEXTS, *_LISTS, *_TRUTHS, "timeout"):
            mistakes.append((key, f"has a value of the wrong type: {value!r}"))
        else:
            # Unlike a network configuration this file is podnet's alone: an unknown key is a typo.
            mistakes.append((key, "is not a setting of podnet"))
    mistakes += [
        (key, f"must be an absolute path, not {value!r}")
        for key, name in (*_TEXTS.items(), *_LISTS.items())
        for value in _paths(name, fields.get(name))
        if not value.startswith("/")
    ]
    mistakes += _not_addresses(fields.get("reserved", ()))  # type: ignore[arg-type]  # texts, checked above
    if mistakes:
        raise InvalidConfigError(f"{path} has mistakes", tuple(mistakes))
    return fields


def _not_addresses(texts: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if not texts:
        return
    from podnet.model.addresses import parse_span

    for n, text in enumerate(texts):
        try:
            parse_span(text)
        except ValueError as error:
            yield f"reserved[{n}]", str(error)


def _paths(name: str, value: object) -> tuple[str, ...]:
    """Return the paths in a setting: a plugin's working folder is the runtime's, whatever it is."""
    if name in ("node", "reserved") or value is None:
        return ()
    if name in ("store", "claims"):
        scheme, _, folder = str(value).partition(":")
        if scheme == "sqlite":
            return (_database_file(folder),)
        if scheme in _KUBECONFIGS:
            folder = folder.partition("?")[0]
            return (folder,) if folder else ()
        return (folder,) if scheme in _FOLDERS else ()
    return (value,) if isinstance(value, str) else tuple(value)  # type: ignore[arg-type]  # texts, checked above


def _database_file(rest: str) -> str:
    """Return the path in the rest of a URL of SQLite; an absolute one is behind four slashes."""
    return rest.removeprefix("///")


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
