"""Runs the emulator by itself: ``python -m podnet.testing.kube --kubeconfig FILE``."""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from podnet.manifests.resources import definition
from podnet.testing.kube.emulator import Emulator


def main(arguments: list[str] | None = None) -> int:
    """Serve until it is interrupted or terminated."""
    parser = argparse.ArgumentParser(prog="python -m podnet.testing.kube", description=__doc__)
    parser.add_argument("--kubeconfig", required=True, help="file to write: how to reach it")
    parser.add_argument("--port", type=int, default=0, help="to listen on; 0 for any")
    parser.add_argument("--write-latency", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--read-latency", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument(
        "--bare", action="store_true", help="without podnet's own definitions: install them"
    )
    options = parser.parse_args(arguments)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with Emulator(
        [] if options.bare else [definition()],
        port=options.port,
        write_latency=options.write_latency,
        read_latency=options.read_latency,
    ) as kube:
        try:
            kube.kubeconfig(options.kubeconfig)
        except OSError as error:
            parser.exit(1, f"cannot write {options.kubeconfig}: {error.strerror}\n")
        sys.stdout.write(f"{kube.url}\n")
        sys.stdout.flush()
        ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
