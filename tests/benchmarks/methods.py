"""What every method learns, at equal wall-clock and at equal samples, beside the controls:
``python -m tests.benchmarks.methods`` writes ``docs/benchmarks/methods.md``.

Each row is one run of ``geossl.pretrain`` (or a control), one thread, kept as JSON in the work folder as soon as it is
finished: run again after an interruption, the command continues, and ``--table-only`` writes the table from what there
is. ``--jobs`` processes share the runs. The last line printed is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from geossl.evaluation.intervals import paired_difference
from geossl.methods.protocol import method_names
from tests.benchmarks.methods_runs import BATCH, ENCODER, RESAMPLES, Run, Settings, done, execute, predictions, score
from tests.benchmarks.methods_sets import DATED, SETS, Study, open_study

ROOT = Path(__file__).parents[2]
BUDGETS = ("wall-clock", "samples")
FIXED = ("random init", "image statistics", "random convolutions")
BASE = "simclr"
"""The method whose switches are measured."""
SWITCHES: dict[str, tuple[dict[str, Any], ...]] = {
    "bigearthnet-finland": ({"balance": True},),
    "sandbox": ({"balance": True}, {"pairs": "30-days"}, {"pairs": "other-season"}),
    "s2-romania-series": ({"balance": True}, {"pairs": "30-days"}, {"pairs": "other-season"}),
}


def runs_of(sets: list[str], methods: list[str], transfer: bool) -> list[Run]:
    """Every row of the table, the cheap ones first."""
    runs = []
    for name in sets:
        controls = [*FIXED, *(["transfer"] if transfer else [])]
        runs += [Run(name, control) for control in controls]
        if name in DATED:
            runs += [Run(name, BASE, "samples")]
        else:
            trained = (*methods, "supervised from scratch")
            runs += [Run(name, method, budget) for budget in BUDGETS for method in trained]
        if BASE in methods:
            runs += [Run(name, BASE, "samples", **switch) for switch in SWITCHES.get(name, ())]
    return runs


def make(runs: list[Run], settings: Settings, jobs: int) -> None:
    """Make the rows that are still missing, in ``jobs`` processes of one thread."""
    missing = [run for run in runs if done(run, settings) is None]
    print(f"{len(runs) - len(missing)} of {len(runs)} rows are there", file=sys.stderr, flush=True)
    if not missing:
        return
    began = time.monotonic()
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(execute, run, settings): run for run in missing}
        for number, future in enumerate(as_completed(waiting), 1):
            outcome = future.result()
            said = outcome.get("error") or ", ".join(f"{n} {outcome[n]['value']:.3f}" for n in ("knn", "linear"))
            minutes = (time.monotonic() - began) / 60
            print(
                f"{minutes:5.1f} min, {number}/{len(missing)} {waiting[future].key}: {said}",
                file=sys.stderr,
                flush=True,
            )


def page(runs: list[Run], settings: Settings, jobs: int) -> tuple[str, dict[str, Any]]:
    """The table as Markdown, and the outcomes by key, of the rows that are there."""
    outcomes = {run.key: outcome for run in runs if (outcome := done(run, settings)) is not None}
    told = f"""
        Made by `python -m tests.benchmarks.methods`: {len(outcomes)} of {len(runs)} rows. Every row is one run of
        `geossl.pretrain` ({ENCODER}, views of {settings.view_px} px, batch {BATCH}, seed {settings.seed}, the shipped
        recipe else) in a process of one thread, {jobs} beside each other. *Equal time*: `max_minutes`
        {settings.minutes:.2g}, in which timing the first steps, evaluations and report count too. *Equal samples*:
        about {settings.samples} chips seen. Probes on frozen features of whole chips, from training blocks to blocks
        that neither pretraining nor probes saw; 95 % intervals by {RESAMPLES} resamples of those blocks. Runs are
        short and of one seed: they compare what a minute of a CPU buys, not what the methods reach, and intervals that
        overlap say nothing about the order. *Supervised from scratch* learns the training labels with the same network;
        its *linear* is its own answer. Statistics and convolutions are standardised before both probes."""
    lines = ["# What the methods learn", "", *textwrap.wrap(" ".join(told.split()), 116)]
    for name in dict.fromkeys(run.study for run in runs):
        mine = [run for run in runs if run.study == name and run.key in outcomes]
        if mine:
            study = open_study(name, settings.work, settings.size_km)
            lines += ["", f"## {Path(name).name}", "", f"{study.describe()[0].upper()}{study.describe()[1:]}.", ""]
            lines += main_table(mine, outcomes)
            lines += switch_table(mine, outcomes, study, settings)
    return "\n".join(lines) + "\n", outcomes


def main_table(runs: list[Run], outcomes: dict[str, Any]) -> list[str]:
    """A row a method: both budgets beside each other."""
    lines = [
        "| features | kNN, equal time | linear, equal time | steps, training s | kNN, equal samples | "
        "linear, equal samples | steps, training s |",
        "|---|---|---|---|---|---|---|",
    ]
    plain = [run for run in runs if not run.balance and run.pairs is None]
    for method in dict.fromkeys(run.method for run in plain):
        cells, faults = [], []
        for budget in BUDGETS:
            outcome = next((outcomes[r.key] for r in plain if r.method == method and r.budget in {budget, ""}), None)
            if outcome is None or "error" in outcome:
                cells += ["–"] * 3
                faults += [] if outcome is None else [f"{budget}: {outcome['error'].split('   ')[0]}"]
            else:
                length = f"{outcome['steps']}, {outcome['train_seconds']:.0f}" if "steps" in outcome else "none"
                cells += [_cell(outcome["knn"]), _cell(outcome["linear"]), length]
        lines.append(f"| {method} | {' | '.join(cells)} |")
        lines += [f"| ↳ {fault} | | | | | | |" for fault in faults]
    return lines


def switch_table(runs: list[Run], outcomes: dict[str, Any], study: Study, settings: Settings) -> list[str]:
    """What each switch of the base method changes, paired on the same resamples of blocks."""
    base = Run(runs[0].study, BASE, "samples")
    switched = [run for run in runs if (run.balance or run.pairs) and "error" not in outcomes[run.key]]
    if not switched or "error" in outcomes.get(base.key, {"error": "missing"}):
        return []
    lines = ["", f"{BASE} with a switch, equal samples; difference to without it, paired:", "",
             "| switch | kNN | difference | linear | difference |", "|---|---|---|---|---|"]  # fmt: skip
    without = predictions(base, settings)
    for run in switched:
        said, cells = predictions(run, settings), []
        for probe in ("knn", "linear"):
            first, second = score(study, said[probe]), score(study, without[probe])
            change = paired_difference(first, second, study.test_blocks, resamples=RESAMPLES)
            cells += [_cell(outcomes[run.key][probe]), f"{change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"]
        name = "`--balance`" if run.balance else f"`--pairs {run.pairs}`"
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _cell(figure: dict[str, float]) -> str:
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def main(arguments: list[str] | None = None) -> int:
    """Parse, make, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes-per-run", type=float, default=2 / 3, help="max_minutes of the equal-time runs")
    parser.add_argument("--samples", type=int, default=3072, help="chips seen in the equal-samples runs")
    parser.add_argument("--sets", nargs="+", default=[*SETS, *DATED], help="and folders of ready chips")
    parser.add_argument("--methods", nargs="+", default=method_names())
    parser.add_argument("--view-px", type=int, default=32, help="side of a view; small: more steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", help="a file of weights for the row 'transfer'")
    parser.add_argument("--weights-bands", nargs="+", help="names of its input bands, where the file does not say them")
    parser.add_argument("--sandbox-km", type=float, help="side of the simulated landscape, by default its own 12.8")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="processes of one thread")
    parser.add_argument("--work", type=Path, default=ROOT / ".geossl" / "methods-table", help="kept runs")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "methods.md")
    parser.add_argument("--table-only", action="store_true", help="make no runs, write the table from what there is")
    given = parser.parse_args(arguments)
    work = given.work.absolute()
    settings = Settings(
        work, given.minutes_per_run, given.samples, given.view_px, given.seed, given.sandbox_km, given.weights,
        tuple(given.weights_bands or ()),
    )  # fmt: skip
    check_settings(settings)
    runs = runs_of(given.sets, given.methods, given.weights is not None)
    if not given.table_only:
        for name in given.sets:  # made once, before processes share it
            open_study(name, work, given.sandbox_km)
        make(runs, settings, given.jobs)
    text, outcomes = page(runs, settings, given.jobs)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(text, encoding="utf-8")
    print(text)
    print(json.dumps(outcomes))
    return 0


def check_settings(settings: Settings) -> None:
    """Refuse to mix rows of other settings: the work folder says which ones its rows have."""
    facts = {key: value for key, value in vars(settings).items() if key not in {"work", "weights", "weights_bands"}}
    path = settings.work / "settings.json"
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != facts:
        raise SystemExit(f"{settings.work} holds rows of other settings ({path.read_text()}): give another --work")
    settings.work.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
