"""The shim as a file for the runtime's folder: compiled, if there is a compiler, else Python's."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile

_HERE = os.path.dirname(os.path.abspath(__file__))
_OPTIONS = ("-std=c11", "-O2", "-s")
_COMPILERS = ("cc", "gcc", "clang")
_PATIENCE = 60.0


def compiled() -> bytes | None:
    """Return the executable for this machine: the package's own, or made of its source just now.

    None if the package brings none and the machine has no C compiler that makes one that runs.
    """
    ready = os.path.join(_HERE, f"shim-{platform.machine()}")
    if os.path.isfile(ready):
        with open(ready, "rb") as file:
            return file.read()
    for compiler in filter(None, map(shutil.which, _COMPILERS)):
        # Static: it starts in half the time, and runs in any container's root.
        for static in (("-static",), ()):
            made = _made(compiler, static)
            if made is not None:
                return made
    return None


def interpreted() -> str:
    """Return the source of the shim in Python; it imports nothing of podnet."""
    with open(os.path.join(_HERE, "shim.py"), encoding="utf-8") as file:
        return file.read()


def _made(compiler: str, static: tuple[str, ...]) -> bytes | None:
    with tempfile.TemporaryDirectory(prefix="podnet-shim-") as folder:
        out = os.path.join(folder, "shim")
        command = [compiler, *_OPTIONS, *static, "-o", out, os.path.join(_HERE, "shim.c")]
        try:
            subprocess.run(command, capture_output=True, check=True, timeout=_PATIENCE)
            # Without an agent and without a plugin beside it, it has to tell that in JSON.
            environ = {"CNI_COMMAND": "VERSION", "PODNET_SOCKET": os.path.join(folder, "none")}
            tried = subprocess.run(
                [out], capture_output=True, check=False, timeout=_PATIENCE, env=environ
            )
            if tried.returncode != 1 or b'"code": 11' not in tried.stdout:
                return None
            with open(out, "rb") as file:
                return file.read()
        except (OSError, subprocess.SubprocessError):
            return None
