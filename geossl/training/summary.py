"""The report of a pretraining run: curves, what the encoder sees as alike, costs, settings, and its training chips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geossl.report.pages import Section, Table, facts, page
from geossl.report.plots import chip_grid, embedding_map, lines, neighbours, principal_axes, true_colour
from geossl.training.plan import Plan

_MOST_PICTURES = 400
_QUERIES, _NEAREST = 7, 6
_PROBES = {"recall_at_1": "recall@1 of the same tile on another date", "knn": "kNN with the probe labels"}
_HEALTH = ("feature_std", "effective_rank", "alignment", "uniformity", "duplicates")


@dataclass(frozen=True)
class Gallery:
    """Chips of the probe set: reflectance (n, band, y, x) with NaN where not clear, embeddings (n, d), tile names."""

    values: np.ndarray
    embeddings: np.ndarray
    tiles: Sequence[str]
    held_out: bool
    """Whether the network was not trained on them."""


def write_report(
    path: Path, plan: Plan, figures: Sequence[Mapping[str, float]], gallery: Gallery, costs: Mapping[str, Any]
) -> Path:
    """Write ``report.html``; ``figures`` are the rows of ``metrics.csv``, ``costs`` names to values."""
    pictures = true_colour(gallery.values[:_MOST_PICTURES], plan.chips.bands)
    unit = gallery.embeddings / np.maximum(np.linalg.norm(gallery.embeddings, axis=1, keepdims=True), 1e-12)
    chips_are = "held-out validation chips" if gallery.held_out else "training chips (too few are held out)"
    sections = [
        Section("Result", _result_text(plan, figures), tables=[_first_and_last(figures)]),
        Section("Learning", figures=_learning(figures)),
        Section(
            "Probes and health",
            "Taken on a fixed set of chips, without augmentation. A collapsing network shows a feature spread and an "
            "effective rank that fall towards nothing.",
            figures=_curves(figures),
        ),
        Section(
            "What the encoder sees as alike",
            f"Nearest {chips_are} by cosine similarity, from other tiles. The framed chip is the query.",
            figures=[_nearest(unit[:_MOST_PICTURES], pictures, gallery.tiles)] if len(pictures) > 2 else [],
        ),
        Section(
            "Map of the embedding",
            f"Up to {_MOST_PICTURES} {chips_are} on the first two principal axes of their embeddings. Chips that would "
            "overlap are shown as dots.",
            figures=[embedding_map(principal_axes(unit[:_MOST_PICTURES]), pictures)] if len(pictures) > 2 else [],
        ),
        Section("What it was trained on", tables=[facts(_data_facts(plan))], figures=[_examples(plan)]),
        Section("Cost", tables=[facts(costs)]),
        Section("Settings", tables=[_settings(plan)]),
    ]
    return page(path, f"Encoder {plan.method} for {plan.name}", sections)


def _result_text(plan: Plan, figures: Sequence[Mapping[str, float]]) -> str:
    last = figures[-1]
    seen = f"{int(last['step']) * plan.step_chips:,} chips seen in {last.get('epoch', 0):.1f} epochs"
    kind = " Every block was trained on, so figures on this region are transductive." if plan.options.all_blocks else ""
    return f"{plan.options.encoder}, {len(plan.chips.bands)} bands, {seen}.{kind}"


def _first_and_last(figures: Sequence[Mapping[str, float]]) -> Table:
    names = [*_PROBES, *_HEALTH]
    measured = [row for row in figures if any(name in row for name in names)]
    shown = [name for name in names if any(name in row for row in measured)]
    rows = [[_PROBES.get(name, _words(name)), measured[0].get(name), measured[-1].get(name)] for name in shown]
    return Table(("figure", "untrained", "trained"), rows)


def _learning(figures: Sequence[Mapping[str, float]]) -> list[Any]:
    rows = [row for row in figures if "loss" in row]
    steps = [row["step"] for row in rows]
    return [
        lines(steps, {"loss": [row["loss"] for row in rows]}, ylabel="loss", title="Loss"),
        lines(steps, {"rate": [row["learning_rate"] for row in rows]}, ylabel="learning rate", title="Learning rate"),
    ]


def _curves(figures: Sequence[Mapping[str, float]]) -> list[Any]:
    drawn = []
    for name in (*_PROBES, *_HEALTH):
        rows = [row for row in figures if name in row]
        if len(rows) > 1:
            title = _PROBES.get(name, _words(name))
            values = {name: [row[name] for row in rows]}
            drawn.append(lines([row["step"] for row in rows], values, ylabel=_words(name), title=title, markers=True))
    return drawn


def _nearest(unit: np.ndarray, pictures: np.ndarray, tiles: Sequence[str]) -> Any:
    """Rows of nearest neighbours for queries spread along the first principal axis."""
    similarity = unit @ unit.T
    names = np.asarray(tiles[: len(unit)])
    similarity[names[:, None] == names[None, :]] = -2.0  # another date of the same tile would prove little
    order = np.argsort(principal_axes(unit)[:, 0], kind="stable")
    queries = order[np.linspace(0, len(order) - 1, min(_QUERIES, len(order))).astype(int)]
    count = min(_NEAREST, len(unit) - 1)
    nearest = np.argsort(-similarity[queries], axis=1, kind="stable")[:, :count]
    rows = np.concatenate([queries[:, None], nearest], axis=1)
    return neighbours(pictures[rows], np.take_along_axis(similarity[queries], nearest, axis=1))


def _examples(plan: Plan) -> Any:
    rows = plan.split.train[np.linspace(0, len(plan.split.train) - 1, min(16, len(plan.split.train))).astype(int)]
    stored, flags = plan.chips.load(rows)
    values = plan.chips.encoding.decode(stored)
    values[np.broadcast_to((flags != 0)[:, None], values.shape)] = np.nan
    dates = plan.chips.table["datetime"].iloc[rows]
    titles = [f"{date:%Y-%m-%d}" if date == date else "" for date in dates]
    return chip_grid(true_colour(values, plan.chips.bands), titles if any(titles) else None, title="Training chips")


def _data_facts(plan: Plan) -> dict[str, Any]:
    table = plan.chips.table.iloc[plan.split.train]
    dates = table["datetime"].dropna()
    return {
        "chips": f"{plan.chips.name} ({plan.chips.id})",
        "training chips": len(table),
        "tiles": int(table["tile"].nunique()),
        "dates": f"{dates.min():%Y-%m-%d} to {dates.max():%Y-%m-%d}" if len(dates) else "unknown",
        "bands": list(plan.chips.bands),
        "pixel side (m)": plan.chips.resolution_m,
        "chip side (px)": list(plan.chips.shape),
        "training blocks": plan.split.blocks["train"],
        "validation blocks": plan.split.blocks["val"],
        "test blocks": plan.split.blocks["test"],
        "left out as too cloudy": plan.split.cloudy,
    }


def _settings(plan: Plan) -> Table:
    flat: dict[str, Any] = {}
    for name, value in plan.config.items():
        if isinstance(value, dict):
            flat |= {f"{name}: {key}": item for key, item in value.items()}
        else:
            flat[name] = value
    return facts(flat)


def _words(name: str) -> str:
    return name.replace("_", " ")
