"""Kubeconfig files that lead to an emulator."""

from __future__ import annotations

import json
import os


def write_kubeconfig(
    url: str, path: str, *, token: str = "", namespace: str = "default", token_file: str = ""
) -> str:
    """Write a kubeconfig that leads to a server; return its path.

    Args:
        url: of the server.
        path: the file, or a folder to put ``kubeconfig`` in.
        token: bearer token to send.
        namespace: of the context.
        token_file: file to read the bearer token from instead.
    """
    path = os.path.join(path, "kubeconfig") if os.path.isdir(path) else path
    user = {"token": token} if token else {"tokenFile": token_file} if token_file else {}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "emulator",
        "clusters": [{"name": "emulator", "cluster": {"server": url}}],
        "users": [{"name": "emulator", "user": user}],
        "contexts": [
            {
                "name": "emulator",
                "context": {
                    "cluster": "emulator",
                    "user": "emulator",
                    "namespace": namespace,
                },
            }
        ],
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=2)  # JSON is YAML
    return path
