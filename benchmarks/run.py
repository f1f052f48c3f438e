"""Run every benchmark, one after the other, and fail if one misses its target.

Each script prints tables, or one JSON document, and ends with 1 off target. A peer that is not
installed is named, and its ratio does not count as reached. ``--full`` is for those who have a
quiet machine and an hour.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
# Name to the options for tables, for JSON, and for a full run.
SCRIPTS: dict[str, tuple[list[str], list[str], list[str]]] = {
    "import_cost.py": ([], ["--json"], []),
    "plan.py": ([], ["--json"], []),
    "leases.py": ([], ["--json"], []),
    "simulate.py": (["--output=table"], ["--output=json"], ["--profile=page"]),
    "ipam.py": (["--output=table"], ["--output=json"], ["--full"]),
}


def main() -> int:
    as_json, full = "--json" in sys.argv[1:], "--full" in sys.argv[1:]
    reports: dict[str, object] = {}
    failed = []
    for name, (table, document, more) in SCRIPTS.items():
        options = [*(document if as_json else table), *(more if full else ())]
        command = [sys.executable, str(HERE / name), *options]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            failed.append(name)
        if as_json:
            reports[name] = json.loads(done.stdout) if done.stdout.strip() else None
        else:
            print(f"== {name}\n{done.stdout.rstrip()}\n", flush=True)
    if as_json:
        print(json.dumps(reports, indent=2))
    if failed:
        print(f"off target: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
