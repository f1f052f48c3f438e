"""The CNI executable: what is in the file, whose a file is, and putting it there atomically."""

from __future__ import annotations

import enum
import os
import tempfile

from podnet.errors import IOFailureError

MAIN = "podnet"
"""Name of the file; all other names are relative links to it."""

BESIDE = ".podnet-plugin"
"""Name of the in-process plugin, where ``MAIN`` is the shim that asks the agent."""

_MARK = "podnet's CNI executable, written by `podnet plugin install`"

# Linux reads 127 bytes of a #! line before 5.1 and 255 since (BINPRM_BUF_SIZE in
# include/uapi/linux/binfmts.h); what is longer is cut off, and a space ends the path.
_SHEBANG_LIMIT = 127

# Of a file that a shim runs the kernel tells nothing but the path: the name comes in a variable.
_BODY = f'''
"""{_MARK}."""
import os
import sys

sys.argv[0] = os.environ.pop("PODNET_CALLED_AS", sys.argv[0])
%sfrom podnet.cni.main import main

sys.exit(main())
'''

_LARGEST = 8 << 20


class Found(enum.Enum):
    """What is at a path where an executable should be."""

    ABSENT = "-"
    OURS = "installed"
    LINK = "installed, link"
    FOREIGN = "not podnet's"
    FOLDER = "a folder"


def render(python: str, search: str | None = None) -> str:
    """Return the executable's text.

    Args:
        python: absolute path of the interpreter. It runs isolated (``-I``), so that nothing in
            the runtime's environment or working directory decides what is imported.
        search: folder to import podnet from; None finds out whether one is needed.

    Raises:
        IOFailureError: there is no interpreter that could be named, or it cannot be run.
    """
    if not python or not os.path.isabs(python) or not python.isprintable():
        raise IOFailureError(
            f"the Python interpreter has no usable path: {python!r}", "the executable starts it"
        )
    if search is None:
        search = _source_folder(python)
    path = f"sys.path.insert(0, {search!r})\n" if search else ""
    return _shebang(python) + _BODY % path


def shim(python: str) -> tuple[bytes, bool]:
    """Return the executable that asks the agent, and whether it is a compiled one.

    Args:
        python: absolute path of the interpreter, for machines without a C compiler.
    """
    from podnet.agent import making

    native = making.compiled()
    if native is not None:
        # Behind what the kernel loads of it.
        return native + f"\n{_MARK}\n".encode(), True
    shebang = _shebang(python, "-I -S")
    return f"{shebang}\n# {_MARK}\n{making.interpreted()}".encode(errors="surrogateescape"), False


def inspect(path: str) -> Found:
    """Tell whose the file is. Follows no link."""
    try:
        if os.path.islink(path):
            return Found.LINK if os.readlink(path) == MAIN else Found.FOREIGN
        if os.path.isdir(path):
            return Found.FOLDER
        with open(path, "rb") as file:
            return Found.OURS if _MARK.encode() in file.read(_LARGEST) else Found.FOREIGN
    except FileNotFoundError:
        return Found.ABSENT


def place(folder: str, name: str, text: str | bytes | None) -> None:
    """Put the executable, or a link to it, under a name; a runtime never sees half a file.

    Args:
        folder: an existing folder.
        name: the file's name.
        text: what to write; None makes a link to ``MAIN``.

    Raises:
        IOFailureError: the folder cannot be written.
    """
    try:
        # A folder of our own beside the target: a free name for the link, the same file system.
        with tempfile.TemporaryDirectory(prefix=".podnet-", dir=folder) as own:
            fresh = os.path.join(own, name)
            _write(fresh, text)
            os.replace(fresh, os.path.join(folder, name))
    except OSError as error:
        raise IOFailureError(f"cannot write {name} into {folder}", error.strerror or "") from error


def _write(path: str, text: str | bytes | None) -> None:
    if text is None:
        os.symlink(MAIN, path)
        return
    data = text.encode(errors="surrogateescape") if isinstance(text, str) else text
    with open(path, "xb") as file:
        file.write(data)
        os.fchmod(file.fileno(), 0o755)
        file.flush()
        os.fsync(file.fileno())


def _shebang(python: str, options: str = "-I") -> str:
    # An interpreter's line has one word of options at most; a shell takes several.
    line = f"#!{python} {options.replace(' -', '')}"
    if len(os.fsencode(line)) < _SHEBANG_LIMIT and " " not in python:
        return line
    # Both languages read the next lines: a shell replaces itself by Python, for which they are a
    # string without effect.
    quoted = "".join(f"\\{c}" if c in '"\\$`' else c for c in python)
    return f"#!/bin/sh\n'''exec' \"{quoted}\" {options} \"$0\" \"$@\"\n' '''"


def _source_folder(python: str) -> str:
    """Return the folder to import podnet from where an isolated interpreter would not find it.

    That is so for a source tree on PYTHONPATH; empty where podnet is installed.
    """
    import subprocess

    import podnet

    here = os.path.dirname(os.path.dirname(os.path.abspath(podnet.__file__)))
    probe = "import podnet, sys; sys.stdout.write(podnet.__file__ or '')"
    try:
        seen = subprocess.run(
            [python, "-I", "-c", probe], capture_output=True, text=True, check=False, cwd="/"
        )
    except OSError as error:
        raise IOFailureError(
            f"cannot run {python}, the Python interpreter that the plugins are to start",
            error.strerror or "",
        ) from error
    found = os.path.dirname(os.path.dirname(seen.stdout))
    return "" if seen.returncode == 0 and os.path.samefile(found or "/", here) else here
