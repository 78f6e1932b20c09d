"""Run every benchmark here, one process each, and keep what they print as Markdown and JSON.

``python -m tests.benchmarks [NAME …]`` writes ``docs/benchmarks/performance.md`` and ``performance.json``. Each
``bench_*.py`` prints Markdown on stdout and, as its last line, one JSON object with its figures.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
OUT = HERE.parents[1] / "docs" / "benchmarks"


def main(names: list[str]) -> int:
    scripts = sorted(path for path in HERE.glob("bench_*.py") if not names or path.stem.removeprefix("bench_") in names)
    pages, figures, failed = [], {}, []
    for script in scripts:
        print(f"== {script.name}", file=sys.stderr, flush=True)
        done = subprocess.run([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, cwd=HERE.parents[1])
        lines = done.stdout.rstrip().splitlines()
        if done.returncode != 0 or not lines:
            failed.append(script.name)
            continue
        figures[script.stem.removeprefix("bench_")] = json.loads(lines[-1])
        pages.append("\n".join(lines[:-1]))
        print(pages[-1], flush=True)
    if not names:
        OUT.mkdir(parents=True, exist_ok=True)
        machine = f"{platform.machine()}, {os.cpu_count()} cores; ratios are within one run, made by `make bench`."
        head = f"# Performance\n\n{machine}\n\n"
        (OUT / "performance.md").write_text(head + "\n\n".join(pages) + "\n", encoding="utf-8")
        (OUT / "performance.json").write_text(json.dumps(figures, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for name in failed:
        print(f"failed: {name}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
