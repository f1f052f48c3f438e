"""A node's CNI configuration folder, read as libcni reads it (``libcni/conf.go``)."""

from __future__ import annotations

import os
import stat

from podnet.errors import DecodingError, IOFailureError, PodnetError
from podnet.model.names import network_name_fault
from podnet.model.reader import Reader
from podnet.model.wire import load_json, print_json

LIST_SUFFIX = ".conflist"
SUFFIXES = (LIST_SUFFIX, ".conf", ".json")
# etcd's bound for one object is 1.5 MiB; a bigger file is not a configuration.
_FILE_LIMIT = 4 << 20


def read_configs(folder: str) -> tuple[tuple[str, bytes | PodnetError], ...]:
    """Return names of the folder's configuration files, in order, with their contents.

    Lists come with the plugins of the folder that has their network's name, see ``read_config``.
    A folder that does not exist has no files. A file that cannot be read comes with the error, for
    its network alone is lost.

    Raises:
        IOFailureError: the folder cannot be read.
    """
    return tuple(
        (name, _read_or_error(os.path.join(folder, name)))
        for name in list_files(folder, SUFFIXES, missing_ok=True)
    )


def _read_or_error(path: str) -> bytes | PodnetError:
    try:
        return read_config(path)
    except PodnetError as error:
        return error


def read_config(path: str) -> bytes:
    """Return the content of one configuration file.

    A list gets the plugins of ``<its folder>/<network name>/*.conf`` appended, in the order of
    file names, unless it says ``loadOnlyInlinedPlugins`` or has no valid name. What is wrong in a
    list is left to its parser; what is wrong in one of the other files cannot be.

    Raises:
        IOFailureError: a file cannot be read.
        DecodingError: a file of the network's folder is not a JSON object.
    """
    content = read_file(path)
    if not path.endswith(LIST_SUFFIX):
        return content
    try:
        document = load_json(content, path)
    except DecodingError:
        return content
    reader = Reader(document)
    name = reader.string("name")
    plugins = reader.values("plugins")
    only_inlined = reader.boolean("loadOnlyInlinedPlugins", texts=True)
    # The name becomes part of a path here.
    if reader.mistakes or only_inlined or network_name_fault(name):
        return content
    folder = os.path.join(os.path.dirname(path), name)
    added = [
        load_json(read_file(file), file)
        for file in (
            os.path.join(folder, each) for each in list_files(folder, (".conf",), missing_ok=True)
        )
    ]
    if not added:
        return content
    others = {key: value for key, value in document.items() if key.lower() != "plugins"}
    return print_json({**others, "plugins": [*plugins, *added]})


def list_files(folder: str, suffixes: tuple[str, ...], *, missing_ok: bool) -> list[str]:
    """Return the names of the folder's regular files that end so, in order.

    Raises:
        IOFailureError: it cannot be read, or is missing and must not be.
    """
    try:
        with os.scandir(folder) as entries:
            # is_file: a pipe in that folder would stop the reader for ever.
            return sorted(e.name for e in entries if e.name.endswith(suffixes) and e.is_file())
    except (FileNotFoundError, NotADirectoryError) as error:
        if missing_ok:
            return []
        raise IOFailureError(f"cannot read folder {folder}", error.strerror or "") from error
    except OSError as error:
        raise IOFailureError(f"cannot read folder {folder}", error.strerror or "") from error


def read_file(path: str) -> bytes:
    """Return a regular file's content.

    Raises:
        IOFailureError: it cannot be read, is no regular file, or is bigger than 4 MiB.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise IOFailureError(f"{path} is not a regular file")
            content = file.read(_FILE_LIMIT + 1)
    except OSError as error:
        raise IOFailureError(f"cannot read {path}", error.strerror or "") from error
    if len(content) > _FILE_LIMIT:
        raise IOFailureError(f"{path} is bigger than {_FILE_LIMIT} bytes")
    return content


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # opening a pipe waits for its writer otherwise
