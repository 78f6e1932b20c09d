"""``python -m tests.benchmarks.tasks_truth [NAME …]``: each task's figure against simulated truth or a real set.

Sandboxes are made under ``--work`` (``--size-km``), and every finished section is kept there, so the command goes on
where it stopped; ``docs/benchmarks/tasks.md`` is written from the sections that are there.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks import tasks_truth_real as real
from tests.benchmarks import tasks_truth_simulated as simulated

OUT = Path(__file__).parents[2] / "docs" / "benchmarks" / "tasks.md"
HEAD = """# Tasks against truth

Made by `python -m tests.benchmarks.tasks_truth` (one section: add its name). Sandboxes are simulated landscapes whose
truth is known; their figures show that a product does what it says, not how it does on real ground. Land cover and
heads on real sets: [real-sets.md](real-sets.md). What a head is worth beside these rules is told by `geossl finetune`.
"""
SECTIONS: dict[str, Callable[[Path, float], str]] = {
    "aquatic-vegetation": simulated.aquatic_vegetation,
    "surface-water": simulated.surface_water,
    "coastal-zone": simulated.coastal_zone,
    "coastal-zone-head": simulated.coastal_head,
    "shoreline-change": simulated.shoreline_change,
    "areal": simulated.areal,
    "shallow-water": simulated.shallow_water,
    "boadella-reservoir": real.reservoir,
    "dfc24-water": real.water_masks,
    "s2-thousand-islands-bathymetry": real.depths,
}


def main() -> None:
    """Make the sections asked for, then write the page from all there are."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.tasks_truth", description=__doc__)
    parser.add_argument("names", nargs="*", help="sections; all by default")
    parser.add_argument(
        "--work", type=Path, default=Path("demo") / "tasks", help="where sandboxes and sections are kept"
    )
    parser.add_argument("--size-km", type=float, default=6.4, help="side of the sandboxes")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(SECTIONS))
    if unknown:
        parser.error(f"unknown section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    work = arguments.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    os.environ["GEOSSL_HOME"] = str(work / "home")
    for name in arguments.names or SECTIONS:
        kept = work / f"{name}.md"
        if not kept.is_file():
            began = time.monotonic()
            text = SECTIONS[name](work, arguments.size_km)
            kept.write_text(f"## {name}\n\n{text}\n\n{time.monotonic() - began:.0f} s.\n", encoding="utf-8")
        print(kept.read_text(encoding="utf-8"), flush=True)
    there = [(work / f"{name}.md") for name in SECTIONS if (work / f"{name}.md").is_file()]
    missing = [name for name in SECTIONS if not (work / f"{name}.md").is_file()]
    lacking = [f"Not made yet: {', '.join(missing)}.\n"] if missing else []
    pages = [path.read_text(encoding="utf-8") for path in there]
    arguments.out.write_text("\n".join([HEAD, *lacking, *pages]), encoding="utf-8")


if __name__ == "__main__":
    main()
