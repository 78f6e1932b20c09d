"""``python -m tests.benchmarks.real_sets [NAME …]``: every real labelled set, its baselines and ours, in one table.

Each finished set is kept under ``--work`` as JSON, so the command goes on where it stopped; and
``docs/benchmarks/real-sets.md`` is written from those that are there and names those that are not.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks.real_sets import chips, pixels, scenes
from tests.benchmarks.real_sets.common import DATA, Table

OUT = Path(__file__).parents[3] / "docs" / "benchmarks" / "real-sets.md"
HEAD = """# Real sets

Made by `python -m tests.benchmarks.real_sets` (one set: add its name; `DATA` is `GEOSSL_REAL_DATA`). In brackets: 95 %
intervals by resampling blocks, sites or cells; *difference* is the first figure minus the reference row's on the same
resamples. Every model of a set saw the same splits and was tuned by the same search inside its training groups. One
seed. The sets are samples: a figure here says nothing about their parents.
"""


def main() -> None:
    """Make what is missing, then write the page from all there is."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.real_sets", description=__doc__)
    parser.add_argument("names", nargs="*", help="sets; all by default")
    parser.add_argument("--work", type=Path, default=Path("demo") / "real-sets", help="where finished sets are kept")
    parser.add_argument("--minutes", type=float, default=4, help="pretraining of a chip set")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    makers = makers_of(arguments.work, arguments.minutes)
    unknown = sorted(set(arguments.names) - set(makers))
    if unknown:
        parser.error(f"unknown set {', '.join(unknown)}; there are {', '.join(makers)}")
    arguments.work.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or makers:
        kept = arguments.work / f"{name}.json"
        if not kept.is_file():
            if not (DATA / name).is_dir():
                parser.error(f"{DATA / name} is not there: set GEOSSL_REAL_DATA")
            began = time.monotonic()
            made = makers[name]()
            made.seconds = round(time.monotonic() - began)
            kept.write_text(json.dumps(made.as_dict(), indent=1), encoding="utf-8")
        print(markdown(Table(**json.loads(kept.read_text(encoding="utf-8")))), flush=True)
    done = {name: arguments.work / f"{name}.json" for name in makers}
    there = [Table(**json.loads(path.read_text(encoding="utf-8"))) for path in done.values() if path.is_file()]
    missing = [name for name, path in done.items() if not path.is_file()]
    lacking = [f"Not made yet: {', '.join(missing)}.\n"] if missing else []
    arguments.out.write_text("\n".join([HEAD, *lacking, *map(markdown, there)]), encoding="utf-8")


def makers_of(work: Path, minutes: float) -> dict[str, Callable[[], Table]]:
    """What makes each set's table, in the order of the page."""
    return {
        **{name: partial(chips.table, name, work, minutes) for name in chips.SETS},
        "sen1floods11-spain": scenes.flood,
        "boadella-reservoir": scenes.reservoir,
        "s2-thousand-islands-bathymetry": scenes.bathymetry,
        **{name: partial(pixels.table, name) for name in pixels.SETS},
    }


def markdown(table: Table) -> str:
    """One section of the page."""
    columns = [*table.columns, *(["difference"] if any("difference" in row for row in table.rows) else [])]
    lines = [
        f"## {table.name}",
        "",
        f"{table.title}. Protocol: {table.protocol}. {table.seconds:g} s.",
        "",
        f"    {table.command}",
        "",
        f"| row | {' | '.join(name.replace('_', ' ') for name in columns)} |",
        f"|---|{'---|' * len(columns)}",
    ]
    lines += [f"| {row['name']} | {' | '.join(_cell(row.get(name)) for name in columns)} |" for row in table.rows]
    return "\n".join([*lines, "", *table.reading, ""])


def _cell(cell: list[Any] | None) -> str:
    if cell is None:
        return "–"
    value, low, high = cell
    if isinstance(value, str):
        return value
    text = f"{value:.3f}" if abs(value) < 100 else f"{value:.0f}"
    return text if low is None else f"{text} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
