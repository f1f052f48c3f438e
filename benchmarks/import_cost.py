"""What starting costs: modules loaded and time, as ratios to a bare interpreter in the same run.

Targets are numbers of modules, which do not depend on the machine; times are for reading.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

RUNS = 11

# name → (code, most modules that it may add to a bare `python -I`; None: only shown)
CASES: dict[str, tuple[str, int | None]] = {
    "bare python -I": ("pass", 0),
    "import podnet": ("import podnet", 1),
    "CNI VERSION": (
        "import os, sys; sys.argv = ['podnet']; os.environ['CNI_COMMAND'] = 'VERSION'\n"
        "from podnet.cni import main; main._write = lambda *a: None; main.main()",
        130,
    ),
    "open_ipam('memory:')": ("import podnet; podnet.open_ipam('memory:').close()", 130),
    "Kernel (pyroute2)": ("from podnet.kernel.sandbox import Kernel; Kernel().close()", None),
}


def modules(code: str) -> int:
    """Modules in a fresh interpreter after the code."""
    script = f"{code}\nimport sys; sys.stderr.write(str(len(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True
    )
    return int(done.stderr)


def seconds(code: str) -> float:
    """Median wall-clock time of a fresh interpreter running the code."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> int:
    bare, base = modules("pass"), seconds("pass")
    rows = []
    for name, (code, most) in CASES.items():
        added = modules(code) - bare
        rows.append(
            {
                "case": name,
                "modules": added,
                "most": most,
                "ratio": round(seconds(code) / base, 2),
                "ok": most is None or added <= most,
            }
        )
    if "--json" in sys.argv[1:]:
        print(json.dumps({"bare_ms": round(base * 1000, 1), "rows": rows}))
    else:
        print(f"bare interpreter: {base * 1000:.1f} ms (median of {RUNS})")
        print(f"{'case':24} {'modules':>8} {'at most':>8} {'× bare':>8}")
        for row in rows:
            most = "-" if row["most"] is None else row["most"]
            mark = "" if row["ok"] else "  ← off target"
            print(f"{row['case']:24} {row['modules']:>8} {most:>8} {row['ratio']:>8}{mark}")
    return 0 if all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
