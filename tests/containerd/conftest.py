"""A containerd of the test's own, in mount and network namespaces that end with it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

IMAGE = "podnet.test/busybox:1"
SCENARIO = Path(__file__).parents[2] / "src/podnet/cli/scenario"

# Runs as the first process of the new namespaces and stays, as containerd: the mounts, the node's
# links and every shim and container end with it, because a pid namespace ends with its process 1.
INSIDE = r"""
set -e
mkdir -p /etc/cni /opt/cni
mount -t tmpfs tmpfs /etc/cni
mount -t tmpfs tmpfs /opt/cni
mount -t tmpfs tmpfs /run
mkdir -p /etc/cni/net.d /opt/cni/bin
ip link set lo up
ip link add eth1 type veth peer name uplink1
ip link set eth1 up
ip link set uplink1 up
exec containerd -c "$1/config.toml"
"""


def image() -> bytes:
    """An OCI image of one layer: busybox and three of its names."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        folder = tarfile.TarInfo("bin")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(folder)
        program = Path("/bin/busybox").read_bytes()
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = len(program), 0o755
        tar.addfile(entry, io.BytesIO(program))
        for name in ("sh", "ip", "sleep"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    blobs: dict[str, bytes] = {}

    def add(data: bytes) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"digest": f"sha256:{digest}", "size": len(data)}

    layer_ref = add(layer.getvalue())
    config = add(
        json.dumps(
            {
                "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
                "os": "linux",
                "config": {"Cmd": ["/bin/sh"]},
                "rootfs": {"type": "layers", "diff_ids": [layer_ref["digest"]]},
            }
        ).encode()
    )
    oci = "application/vnd.oci.image"
    manifest = add(
        json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": f"{oci}.manifest.v1+json",
                "config": {"mediaType": f"{oci}.config.v1+json", **config},
                "layers": [{"mediaType": f"{oci}.layer.v1.tar", **layer_ref}],
            }
        ).encode()
    )
    index = {
        "schemaVersion": 2,
        "manifests": [
            {
                "mediaType": f"{oci}.manifest.v1+json",
                **manifest,
                "annotations": {"io.containerd.image.name": IMAGE},
            }
        ],
    }
    files = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps(index).encode(),
        **blobs,
    }
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return whole.getvalue()


class Containerd:
    """A running containerd and the node around it."""

    def __init__(self, folder: Path, pid: int) -> None:
        self.folder = folder
        self.pid = pid
        self.state = folder / "podnet"

    def inside(self, *command: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command in the node's namespaces."""
        return subprocess.run(
            ["nsenter", "-t", str(self.pid), "-m", "-n", "-p", "--", *command],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={
                "PATH": os.environ["PATH"],
                "HOME": "/root",
                "PODNET_STATE_DIR": str(self.state),
                "PODNET_CONFIG": str(self.folder / "podnet.conf"),
            },
        )

    def write(self, path: str, text: str) -> None:
        """Write a file inside the node's mount namespace."""
        done = self.inside("sh", "-c", f"cat > {path} <<'END_OF_FILE'\n{text}\nEND_OF_FILE")
        assert done.returncode == 0, done.stderr

    def ctr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.inside("ctr", "-a", str(self.folder / "c.sock"), "-n", "podnet", *arguments)

    def run(self, name: str, script: str) -> subprocess.CompletedProcess[str]:
        """Run a container to its end, through CNI."""
        return self.ctr(
            "run", "--rm", "--cni", "--snapshotter", "native", IMAGE, name, "/bin/sh", "-c", script
        )


@pytest.fixture(scope="session")
def containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    missing = [p for p in ("containerd", "ctr", "runc", "nsenter") if shutil.which(p) is None]
    if missing or os.geteuid() != 0 or not Path("/bin/busybox").exists():
        pytest.fail(f"the containerd lane needs root, busybox and {missing or 'nothing else'}")
    folder = tmp_path_factory.mktemp("containerd")
    (folder / "image.tar").write_bytes(image())
    (folder / "podnet.conf").write_text("{}")
    (folder / "config.toml").write_text(
        f"""version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "{folder}/c.sock"
"""
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["unshare", "-m", "-n", "-p", "--fork", "--kill-child", "--mount-proc",
             "--propagation", "private", "sh", "-c", INSIDE, "-", folder],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        while not (folder / "c.sock").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail("containerd did not start:\n" + (folder / "log").read_text()[-2000:])
            time.sleep(0.05)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        node = Containerd(folder, int(children.split()[0]))
        done = node.ctr("images", "import", str(folder / "image.tar"))
        assert done.returncode == 0, done.stderr
        installed = node.inside(
            sys.executable, "-m", "podnet.cli.main", "plugin", "install",
            "--bin-dir", "/opt/cni/bin",
            "--name", "podnet", "--name", "macvlan", "--name", "whereabouts",
        )  # fmt: skip
        assert installed.returncode == 0, installed.stderr
        yield node
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)
