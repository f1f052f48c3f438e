"""Run every benchmark, one after the other, and fail if one misses its target.

Each script prints a table, or one JSON object with ``--json``, and ends with 1 off target. A peer
that is not installed is named, and its ratio does not count as reached.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SCRIPTS = ("import_cost.py", "plan.py", "leases.py")


def main() -> int:
    as_json = "--json" in sys.argv[1:]
    reports: dict[str, object] = {}
    failed = []
    for name in SCRIPTS:
        command = [sys.executable, str(HERE / name), *(["--json"] if as_json else [])]
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
