"""The page beside a head: what it was taught on, what it reaches on held-out blocks, and what stands next to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from geossl.chips.chipset import IGNORE
from geossl.evaluation.intervals import Interval
from geossl.report.pages import Section, Table, page
from geossl.report.plots import bars, chip_grid, true_colour
from geossl.tasks.compare import Comparison, Row
from geossl.tasks.examples import ChipExamples, PixelExamples
from geossl.tasks.heads import Head
from geossl.tasks.metrics import LOWER_IS_BETTER
from geossl.tasks.series import load_series
from geossl.tasks.spec import TaskSpec
from geossl.tasks.trust_pages import confusion_figure

PALETTE = ("#4477aa", "#ccbb44", "#228833", "#ee6677", "#66ccee", "#aa3377", "#999933", "#882255")
_TITLES = {
    "macro_f1": "macro F1",
    "balanced_accuracy": "balanced accuracy",
    "mean_iou": "mean IoU",
    "accuracy": "accuracy",
    "macro_ap": "macro average precision",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
}
_SHOWN = 6


def write_report(
    path: Path,
    spec: TaskSpec,
    facts: dict[str, Any],
    comparison: Comparison,
    main: int | None,
    pictures: Sequence[Figure],
    captions: Sequence[Table] = (),
    further: Sequence[Section] = (),
) -> None:
    """Write the page: facts, the comparison at each budget, figures of each class, the confusion matrix, pictures."""
    ours = comparison.row(comparison.ours, main)
    assert ours is not None
    sections = [
        Section(
            "What was taught",
            "Figures are of test blocks that neither the head nor (unless said) the encoder has learnt from. Intervals "
            "are 95 %, by resampling whole test blocks; differences are paired, on the same resamples.",
            tables=[Table(["what", ""], [[name, value] for name, value in facts.items()])],
        ),
        *_comparisons(comparison),
        Section("Each class", "", tables=[class_table(spec, ours)] if ours.figures.per_class else []),
    ]
    if ours.figures.confusion is not None:
        sections.append(
            Section(
                "Confusion",
                "Rows are the truth, columns what the head says.",
                [confusion_figure(spec, ours.figures.confusion)],
                [_confusion_table(spec, ours)],
            )
        )
    sections += further
    if pictures:
        sections.append(Section("Examples from test blocks", _captions(spec), pictures, captions))
    page(path, f"{spec.title}: head", sections)


def year_sections(rows: Sequence[Mapping[str, Any]]) -> list[Section]:
    """The table of withheld years, as one section; none where no year was withheld."""
    if not rows:
        return []
    columns = [name for name in rows[0] if name != "pixels"]
    return [
        Section(
            "Each year left out",
            "Learnt from the labels of all other years, tested on those of the year. Hits and false alarms are of the "
            "driest third of its tiles. This is what to expect in a new year.",
            tables=[Table(columns, [[row.get(name) for name in columns] for row in rows])],
        )
    ]


def budget_name(budget: int | None) -> str:
    """``all labels`` or ``10 labels a class``."""
    return "all labels" if budget is None else f"{budget} labels a class"


def comparison_records(comparison: Comparison) -> list[dict[str, Any]]:
    """The whole comparison as plain data, for manifests and ``--json``."""
    records = []
    for row in comparison.rows:
        ours = comparison.row(comparison.ours, row.budget)
        minus = None if ours is None or ours is row else ours.figures.minus(row.figures, comparison.headline)
        records.append(
            {
                "row": row.name,
                "labels_per_class": row.budget,
                "draws": row.draws,
                **{name: _rounded(value) for name, value in row.figures.values.items()},
                "interval": _bounds(row.figures.interval(comparison.headline)),
                "ours_minus_row": None
                if minus is None
                else {"value": _rounded(minus.value), "interval": _bounds(minus)},
                "note": row.note,
            }
        )
    return records


def class_records(spec: TaskSpec, row: Row) -> dict[str, dict[str, float | None]]:
    """Figures of each class of one row, as plain data; None where a figure is undefined."""
    return {
        name: {figure: _rounded(value) for figure, value in one.items()}
        for name, one in zip(spec.class_names, row.figures.per_class, strict=False)
    }


def _rounded(value: float) -> float | None:
    return round(float(value), 5) if np.isfinite(value) else None


def _bounds(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [round(interval.low, 5), round(interval.high, 5)]


def _comparisons(comparison: Comparison) -> list[Section]:
    sections = []
    for budget in comparison.budgets:
        rows = [row for row in comparison.rows if row.budget == budget]
        ours = comparison.row(comparison.ours, budget)
        names = list(rows[0].figures.values)
        head = comparison.headline
        others = [name for name in names if name != head]
        columns = ["row", _TITLES[head], "95 %", *(_TITLES[name] for name in others), "ours − row", "settled by"]
        body = []
        for row in rows:
            minus = None if ours is None or ours is row else ours.figures.minus(row.figures, head)
            interval = row.figures.interval(head)
            body.append(
                [
                    row.name,
                    f"{row.figures.values[head]:.3f}",
                    f"{interval.low:.3f} to {interval.high:.3f}" if interval else "one block: none",
                    *(f"{row.figures.values[name]:.3f}" for name in others),
                    "" if minus is None else f"{minus.value:+.3f} [{minus.low:+.3f}, {minus.high:+.3f}]",
                    row.note,
                ]
            )
        draws = max(row.draws for row in rows)
        text = _verdict(comparison, budget)
        if draws > 1:
            text += f"\n\nMean of {draws} draws of labels; every row chooses C and weights of kinds in the same way."
        if budget is None and comparison.left_out:
            text += "\n\nNot possible here: " + "; ".join(
                f"{name} ({why})" for name, why in comparison.left_out.items()
            )
        figure = bars(
            {row.name: float(row.figures.values[head]) for row in rows},
            {row.name: (one.low, one.high) for row in rows if (one := row.figures.interval(head))},
            xlabel=_TITLES[head],
        )
        sections.append(Section(f"Beside it, {budget_name(budget)}", text, [figure], [Table(columns, body)]))
    return sections


def _verdict(comparison: Comparison, budget: int | None) -> str:
    """One sentence: which rows the head beats, loses to, or cannot be told from."""
    ours = comparison.row(comparison.ours, budget)
    if ours is None:
        return ""
    sign = -1 if comparison.headline in LOWER_IS_BETTER else 1
    beaten: list[str] = []
    lost: list[str] = []
    open_: list[str] = []
    for row in comparison.rows:
        if row.budget != budget or row is ours:
            continue
        minus = ours.figures.minus(row.figures, comparison.headline)
        if minus is None or minus.low <= 0 <= minus.high:
            open_.append(row.name)
        else:
            (beaten if sign * minus.value > 0 else lost).append(row.name)
    parts = [
        f"better than {', '.join(beaten)}" if beaten else "",
        f"worse than {', '.join(lost)}" if lost else "",
        f"not to be told from {', '.join(open_)}" if open_ else "",
    ]
    return f"This head is {'; '.join(part for part in parts if part)}." if any(parts) else ""


def class_table(spec: TaskSpec, row: Row) -> Table:
    """Figures of each class of one row, with intervals."""
    multilabel = spec.kind == "multilabel"
    names = ("ap",) if multilabel else ("f1", "iou")
    titles = {"ap": "average precision", "f1": "F1", "iou": "IoU"}
    columns = ["class", *(part for name in names for part in (titles[name], "95 %"))]
    columns += ["share of chips"] if multilabel else ["recall", "precision"]
    body = []
    for name, one in zip(spec.class_names, row.figures.per_class, strict=True):
        cells: list[Any] = [name]
        for figure in names:
            low, high = one.get(f"{figure}_low"), one.get(f"{figure}_high")
            cells += [one[figure], f"{low:.3f} to {high:.3f}" if low is not None and high is not None else ""]
        cells += [one["share"]] if multilabel else [one["recall"], one["precision"]]
        body.append([*cells, int(one["items"])])
    return Table([*columns, "test items"], body)


def _confusion_table(spec: TaskSpec, row: Row) -> Table:
    assert row.figures.confusion is not None
    body = [
        [name, *(round(float(value)) for value in cells)]
        for name, cells in zip(spec.class_names, row.figures.confusion, strict=True)
    ]
    return Table(["truth", *spec.class_names], body)


def _captions(spec: TaskSpec) -> str:
    if not spec.per_pixel:
        return "Test chips and, below, what they are."
    colours = ", ".join(f"{one.name} {_colour(spec, number)}" for number, one in enumerate(spec.classes))
    wrong = "errors (green: right, red: wrong)" if spec.classes else "errors (red: a quarter of the labels' range)"
    return f"Each: the scene, the labels (white: none), the prediction, {wrong}. {colours}"


def _colour(spec: TaskSpec, number: int) -> str:
    return spec.classes[number].colour or PALETTE[number % len(PALETTE)]


def pixel_pictures(head: Head, examples: PixelExamples) -> Figure:
    """Test chips with most labelled pixels, one of each block first: scene, labels, prediction, errors."""
    spec, data = head.task, examples.data
    pixels = examples.part("test")
    counts = np.bincount(examples.chip[pixels], minlength=len(data.rows))
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] > 0]
    firsts = [int(order[data.block[order] == block][0]) for block in dict.fromkeys(data.block[order])]
    chosen = np.array([*firsts, *(int(one) for one in order if int(one) not in firsts)][:_SHOWN])
    values, clear = data.load(chosen)
    count = len(data.chips.bands)  # anomaly planes follow the bands
    scene = true_colour(np.where(clear[:, None], values[:, :count], np.nan), data.chips.bands)
    if head.net.takes_dates:
        dates = load_series(data, chosen, head.select(data.chips.bands), spec.needs_days)
        predicted = head.predict(*dates)
    else:
        channels = [*head.select(data.chips.bands), *range(count, values.shape[1])]
        predicted = head.predict(values[:, channels][:, None], clear[:, None])
    tiles, titles = [], []
    limits = (float(examples.value.min()), float(examples.value.max()))
    for number, position in enumerate(chosen):
        mask = examples.mask(np.arange(len(examples.chip)), int(position))
        if spec.kind == "regression":
            said = predicted[number, 0].numpy()
            shown = [_ramp(mask, limits), _ramp(said, limits)]
            wrong = np.abs(said - mask) / max((limits[1] - limits[0]) / 4, 1e-9)
        else:
            best = predicted[number].argmax(0).numpy()
            shown = [_painted(spec, mask), _painted(spec, best)]
            wrong = np.where(mask == IGNORE, np.nan, best != mask)
        shown[1][~clear[number].numpy()] = 200
        tiles += [scene[number], *shown, _errors(wrong)]
        titles += [f"{data.chips.table['chip'].iloc[int(data.rows[position])]}"[-24:], "labels", "prediction", "errors"]
    return chip_grid(np.stack(tiles), titles, columns=8, inch=1.3)


def _errors(wrong: np.ndarray) -> np.ndarray:
    """Green where right (0), through to red where wrong (1 and above), white where no label is (NaN)."""
    share = np.clip(np.nan_to_num(wrong), 0, 1)[..., None]
    mixed = (1 - share) * np.array([34, 136, 51]) + share * np.array([238, 60, 60])
    mixed[~np.isfinite(wrong)] = 255
    return mixed.astype(np.uint8)


def _painted(spec: TaskSpec, indices: np.ndarray) -> np.ndarray:
    picture = np.full((*indices.shape, 3), 255, dtype=np.uint8)
    for number in range(len(spec.classes)):
        colour = _colour(spec, number)
        picture[indices == number] = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return picture


def _ramp(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    share = np.clip((values - limits[0]) / max(limits[1] - limits[0], 1e-9), 0, 1)
    gray = np.nan_to_num(40 + 180 * share, nan=255).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=-1)


def chip_pictures(head: Head, examples: ChipExamples) -> tuple[Figure, Table]:
    """Numbered test chips, and a table of their labels and what the head says."""
    data, names = examples.data, head.task.class_names
    test = examples.part("test")
    chosen = test[np.linspace(0, len(test) - 1, min(12, len(test))).astype(int)]
    values, clear = data.load(chosen)
    said = head.predict(values[:, head.select(data.chips.bands)][:, None], clear[:, None])[:, :, 0, 0]
    scene = true_colour(np.where(clear[:, None], values, np.nan), data.chips.bands)
    body = []
    for number, chip in enumerate(chosen):
        if head.task.kind == "multilabel":
            truth = [names[one] for one in np.flatnonzero(examples.target[chip])]
            found = [names[one] for one in torch.nonzero(said[number] > 0.5).flatten().tolist()]
        elif head.task.kind == "regression":
            truth, found = [f"{float(examples.target[chip]):.4g}"], [f"{float(said[number, 0]):.4g}"]
        else:
            truth, found = [names[int(examples.target[chip])]], [names[int(said[number].argmax())]]
        body.append([str(number + 1), "; ".join(truth) or "none", "; ".join(found) or "none"])
    figure = chip_grid(scene, [row[0] for row in body], columns=6, inch=1.5)
    return figure, Table(["chip", "labels", "the head says"], body)
