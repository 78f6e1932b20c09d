"""What labels are worth, and what pretraining saves of them, on every real labelled set:
``python -m tests.benchmarks.budgets`` writes ``docs/benchmarks/budgets.md``.

Rows are kept seed by seed (those that learn by steps also budget by budget) in the work folder as soon as they are
made: run again after an interruption, the command continues, and ``--table-only`` writes the page from what there is.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geossl.artefacts import atomic_file, read_manifest
from geossl.encoders.saved import KIND
from geossl.errors import GeosslError
from geossl.progress import set_quiet
from geossl.tasks.compare import Judge
from geossl.tasks.metrics import Figures
from geossl.tasks.spec import TaskSpec
from tests.benchmarks.budgets_rows import (
    BUDGETS,
    CONVOLUTIONS,
    FINE_TUNED,
    GROUPS,
    INDICES,
    JOINED,
    LARGE,
    LINEAR,
    RANDOM,
    SCRATCH,
    SSL,
    STATISTICS,
    Run,
    Settings,
    budget_name,
    done,
    execute,
    parts,
)
from tests.benchmarks.budgets_sets import SETS, Case, Spectra, open_case

ROOT = Path(__file__).parents[2]
NAMES = tuple(budget_name(budget) for budget in BUDGETS)
PAIRS = ((JOINED, SCRATCH), (SSL, SCRATCH), (SSL, RANDOM), (JOINED, CONVOLUTIONS), (FINE_TUNED, SCRATCH))
"""Rows whose difference is told, paired on the same resamples of blocks."""
ORDER = (RANDOM, STATISTICS, INDICES, CONVOLUTIONS, SSL, JOINED, FINE_TUNED, SCRATCH)
MOST_IN_ALL = 0.02
"""How close to all labels' supervised figure a tenth of the labels shall come (issue: within 2 points)."""


def runs_of(study: str, case: Case | Spectra, groups: list[str], budgets: list[str], seeds: int) -> list[Run]:
    """Runs of a set, seed by seed; single pixels have one group of rows. ``budgets``: of rows that learn by steps."""
    if isinstance(case, Spectra):
        return [Run(study, LINEAR, seed) for seed in range(seeds)]
    found = []
    for seed in range(seeds):
        for group in groups:
            asked = [one for one in BUDGETS if budget_name(one) in budgets]
            found += [Run(study, group, seed)] if group == LINEAR else [Run(study, group, seed, one) for one in asked]
    return found


def make(names: list[str], groups: list[str], budgets: list[str], seeds: int, settings: Settings) -> None:
    """Make what is missing."""
    began = time.monotonic()
    for name in names:
        case = open_case(name, settings.work, _given_meta(name, settings))
        _keep_truth(case, settings.work)
        for run in runs_of(name, case, groups, budgets, seeds):
            if done(run, settings.work) is not None:
                continue
            try:
                outcome = execute(run, case, settings)["notes"]
            except GeosslError as error:  # a set that is too small for a budget: told, and the others go on
                outcome = f"not made: {error}"
            minutes = (time.monotonic() - began) / 60
            print(f"{minutes:6.1f} min {run.key}: {str(outcome)[:200]}", file=sys.stderr, flush=True)


def _given_meta(name: str, settings: Settings) -> dict[str, Any]:
    given = dict(settings.given).get(name)
    return read_manifest(Path(given), KIND) if given else {}


def _truth_files(name: str, work: Path) -> tuple[Path, Path]:
    return work / "truth" / f"{name}.json", work / "truth" / f"{name}.npz"


def _keep_truth(case: Case | Spectra, work: Path) -> None:
    """Labels and blocks of the test part, so that the page can be written without data or encoders."""
    facts, arrays = _truth_files(case.name, work)
    facts.parent.mkdir(parents=True, exist_ok=True)
    test = parts(case)[2]
    truth, blocks = case.labels[test], case.blocks[test].astype(str)
    told = {"spec": case.spec.model_dump(mode="json"), "sentence": case.sentence}
    if facts.is_file():
        with np.load(arrays) as kept:
            if not (np.array_equal(kept["truth"], truth) and np.array_equal(kept["blocks"], blocks)):
                raise SystemExit(f"{work} holds rows of another split of {case.name}: give another --work")
        return
    with atomic_file(arrays) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, truth=truth, blocks=blocks)
    facts.write_text(json.dumps(told), encoding="utf-8")


@dataclass(frozen=True)
class Gathered:
    """Figures by row and budget (the mean over the seeds that are there), how many seeds each row has, the headline's
    name, and what the set is.
    """

    figures: dict[tuple[str, str], Figures]
    seeds: dict[str, int]
    headline: str
    sentence: str


def gathered(name: str, work: Path) -> Gathered:
    """What is there of a set."""
    facts, arrays = _truth_files(name, work)
    told = json.loads(facts.read_text(encoding="utf-8"))
    spec = TaskSpec.model_validate(told["spec"])
    with np.load(arrays) as kept:
        judge = Judge(spec, kept["truth"], kept["blocks"], 0)
    said: dict[tuple[str, str], list[np.ndarray]] = {}
    for path in sorted((work / "runs").glob(f"{name}_*.npz")):
        with np.load(path) as kept:
            for key in kept.files:
                row, _, budget = key.partition("|")
                one = kept[key]
                said.setdefault((row, budget), []).append(one.astype(np.int64) if one.dtype == np.uint8 else one)
    figures = {key: judge.figures(ones) for key, ones in said.items()}
    seeds = {row: max(len(ones) for (one, _), ones in said.items() if one == row) for row, _ in said}
    return Gathered(figures, seeds, spec.headline, told["sentence"])


def page(names: list[str], settings: Settings, seeds: int) -> tuple[str, dict[str, Any]]:
    """The page as Markdown, and its figures by set, row and budget."""
    encoders = "given" if settings.given else "none given"
    told = f"""
        Made by `python -m tests.benchmarks.budgets`. Budgets are labels a class (1, 5, 10; of rarer classes all there
        are) or shares of the training labels. Figures are means over the seeds that are done ({seeds} at most), which
        draw the labels, the first weights of untrained and supervised networks, and the random convolutions; 95 %
        intervals, and those of
        differences, resample test blocks (the same for every row), so they leave the spread of seeds out. Every row
        chooses its regularisation, or its learning rate of three, on the same validation labels, which are more than
        the smallest budgets: figures compare ways of learning, not what a user with ten labels would get. Encoders:
        {encoders}; else {settings.method}, {settings.pretrainings} of them a set,
        {settings.minutes:g} minutes of pretraining each (of less than {LARGE} chips in proportion less), on chips of
        blocks that are not tested. Single pixels have no
        picture around them, so an encoder of images has nothing to look at: their table has spectra alone."""
    lines = ["# What labels are worth", "", *textwrap.wrap(" ".join(told.split()), 116)]
    figures: dict[str, Any] = {}
    for name in names:
        if not _truth_files(name, settings.work)[0].is_file():
            continue
        found = gathered(name, settings.work)
        rows, headline = found.figures, found.headline
        if not rows:
            continue
        lines += ["", f"## {name}", "", *textwrap.wrap(f"{found.sentence} Figure: {headline}.", 116), ""]
        lines += table(found) + differences(rows, headline) + [""] + reading(rows, headline)
        figures[name] = {f"{row}|{budget}": one.values[headline] for (row, budget), one in rows.items()}
    return "\n".join(lines) + "\n", figures


def table(found: Gathered) -> list[str]:
    """A row a way of learning, a column a budget."""
    rows, headline = found.figures, found.headline
    lines = [f"| row | seeds | {' | '.join(NAMES)} |", "|---" * (len(NAMES) + 2) + "|"]
    names = list(dict.fromkeys(row for row, _ in rows))
    for name in sorted(names, key=lambda one: ORDER.index(one) if one in ORDER else len(ORDER)):
        cells = []
        for budget in NAMES:
            one = rows.get((name, budget))
            interval = None if one is None else one.interval(headline)
            value = "–" if one is None else f"{one.values[headline]:.3f}"
            cells.append(value if interval is None else f"{value} [{interval.low:.3f}, {interval.high:.3f}]")
        lines.append(f"| {name} | {found.seeds[name]} | {' | '.join(cells)} |")
    return lines


def differences(rows: dict[tuple[str, str], Figures], headline: str) -> list[str]:
    """What each pair of rows differs by."""
    lines = []
    for first, second in PAIRS:
        cells = []
        for budget in NAMES:
            a, b = rows.get((first, budget)), rows.get((second, budget))
            apart = a.minus(b, headline) if a is not None and b is not None else None
            cells.append("–" if apart is None else f"{apart.value:+.3f} [{apart.low:+.3f}, {apart.high:+.3f}]")
        if set(cells) != {"–"}:
            lines.append(f"| {first} − {second} | {' | '.join(cells)} |")
    head = ["", "Differences, paired on the same blocks:", "", f"| rows | {' | '.join(NAMES)} |"]
    return [*head, "|---" * (len(NAMES) + 1) + "|", *lines] if lines else []


def reading(rows: dict[tuple[str, str], Figures], headline: str) -> list[str]:
    """Whether a tenth of the labels with pretraining reaches what supervised learning reaches."""
    ours = [one for row in (JOINED, FINE_TUNED) if (one := rows.get((row, "10 %"))) is not None]
    tenth, whole = rows.get((SCRATCH, "10 %")), rows.get((SCRATCH, "100 %"))
    if not ours or tenth is None or whole is None:
        return []
    best = max(one.values[headline] for one in ours)
    same, close = best - tenth.values[headline], best - whole.values[headline]
    return [
        f"With 10 % of the labels the better of joined and fine-tuned is {same:+.3f} from supervised with 10 % "
        f"({'at least equal' if same >= 0 else 'below it'}), and {close:+.3f} from supervised with 100 % "
        f"({'within' if close >= -MOST_IN_ALL else 'not within'} 2 points)."
    ]


def main(arguments: list[str] | None = None) -> int:
    """Parse, make, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--groups", nargs="+", default=list(GROUPS), choices=GROUPS, help="rows to make")
    parser.add_argument("--budgets", nargs="+", default=list(NAMES), choices=NAMES, help="of rows that learn by steps")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--encoder", nargs="+", default=[], metavar="SET=DIR", help="encoders that are there already")
    parser.add_argument("--minutes", type=float, default=10.0, help="pretraining of each encoder that is made here")
    parser.add_argument("--pretrainings", type=int, default=3, help="encoders made a set; seeds take turns with them")
    parser.add_argument("--method", default="simclr", help="of these")
    parser.add_argument("--view-px", type=int, default=32, help="side of a view in pretraining")
    parser.add_argument("--work", type=Path, default=ROOT / ".geossl" / "budgets", help="kept runs")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "budgets.md")
    parser.add_argument("--table-only", action="store_true", help="make nothing, write the page from what there is")
    given = parser.parse_args(arguments)
    encoders = tuple((one.partition("=")[0], one.partition("=")[2]) for one in given.encoder)
    for name, folder in encoders:
        if name not in SETS or not folder:
            raise SystemExit(f"--encoder takes SET=DIR with a set of {', '.join(SETS)}: {name}={folder}")
    work = given.work.absolute()
    settings = Settings(work, given.minutes, given.pretrainings, given.method, given.view_px, encoders)
    _check_settings(settings)
    if not given.table_only:
        set_quiet(True)
        make(given.sets, given.groups, given.budgets, given.seeds, settings)
    text, figures = page(given.sets, settings, given.seeds)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(text, encoding="utf-8")
    print(text)
    print(json.dumps(figures))
    return 0


def _check_settings(settings: Settings) -> None:
    """Refuse to mix rows of other encoders: the work folder says which ones its rows have."""
    facts = {key: value for key, value in vars(settings).items() if key != "work"}
    facts["given"] = [list(one) for one in settings.given]
    path = settings.work / "settings.json"
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != facts:
        raise SystemExit(f"{settings.work} holds rows of other settings ({path.read_text()}): give another --work")
    settings.work.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
