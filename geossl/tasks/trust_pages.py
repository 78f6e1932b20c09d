"""Sections of a head's page on how far it can be trusted: reliability, sets and intervals, outliers, where it fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from geossl.report.pages import Section, Table
from geossl.report.plots import PALETTE
from geossl.tasks.spec import TaskSpec

MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
          "November", "December")  # fmt: skip


def trust_sections(spec: TaskSpec, trust: Mapping[str, Any], side: float) -> list[Section]:
    """Sections of the facts that :func:`geossl.tasks.trust.make_trust` gives; none of a head without them.

    ``side``: of a chip, in units of its CRS.
    """
    sections = []
    tested = trust.get("tested") or {}
    on = f"Judged on {tested.get('items', 0)} labels in {tested.get('blocks', 0)} test blocks."
    calibration, conformal = trust.get("calibration") or {}, trust.get("conformal") or {}
    if "after" in calibration:
        floor = calibration["after"]["floor"]
        rows = [
            [name, calibration[name]["ece"], _bounds(calibration[name]["interval"])] for name in ("before", "after")
        ]
        sections.append(
            Section(
                "How sure it is, and how right",
                f"{calibration.get('sentence', '')} {on} The expected calibration error (ECE) is the mean gap between "
                f"the two, over all predictions; on so few labels as these a perfect head would show {floor:.3f}.",
                [reliability_figure(calibration)],
                [Table(["calibration", "ECE", "95 %"], rows)],
            )
        )
    if conformal.get("levels"):
        sections.append(_conformal_section(spec, conformal, on))
    elif conformal.get("sentence"):
        sections.append(Section("Sets and intervals", conformal["sentence"]))
    outliers = trust.get("outliers") or {}
    if outliers.get("share") is not None:
        unit = spec.unit or "" if spec.kind == "regression" else "share wrong"
        cells = [outliers["share"], outliers["error_unlike"], outliers["error_alike"]]
        table = Table(["share unlike what was taught", f"error there ({unit})", f"error elsewhere ({unit})"], [cells])
        sections.append(Section("Places unlike what was taught", f"{outliers['sentence']} {on}", tables=[table]))
    return sections + fails_sections(spec, trust.get("fails") or {}, side)


def _conformal_section(spec: TaskSpec, conformal: Mapping[str, Any], on: str) -> Section:
    values = spec.kind == "regression"
    columns = [
        "level",
        "holds the truth",
        "95 %",
        f"± half width ({spec.unit or ''})" if values else "classes in a set",
    ]
    columns += [] if values else ["empty sets"]
    body = [
        [f"{100 * one['level']:g} %", one["coverage"], _bounds(one["interval"]), one["size"]]
        + ([] if values else [one["empty"]])
        for one in conformal["levels"]
    ]
    tables = [Table(columns, body)]
    if not values:
        names = [f"{100 * one['level']:g} %" for one in conformal["levels"]]
        rows = [
            [name, *(one["per_class"][number] for one in conformal["levels"])]
            for number, name in enumerate(spec.class_names)
        ]
        tables.append(Table(["class", *names], rows, "how often a set holds each class where it is the truth"))
    what = "Intervals around a value" if values else "Sets of classes"
    return Section(
        "Sets and intervals" if not values else "Intervals",
        f"{what} that should hold the truth as often as their level says. {conformal.get('sentence', '')} {on}",
        tables=tables,
    )


def fails_sections(spec: TaskSpec, fails: Mapping[str, Any], side: float) -> list[Section]:
    """Where errors lie: blocks, months, years, places, classes taken for each other."""
    if not fails.get("blocks"):
        return []
    error = f"mean error ({spec.unit or ''})" if spec.kind == "regression" else "share wrong"
    rows = [[one["of"], one["items"], one["error"]] for one in fails["blocks"]]
    tables = [Table(["block", "test items", error], rows)]
    for key, name in (("months", "month"), ("years", "year")):
        rows = [
            [MONTHS[one["of"] - 1] if key == "months" else str(one["of"]), one["items"], one["error"]]
            for one in fails.get(key, [])
            if one["of"] > 0
        ]
        if rows:
            tables.append(Table([name, "test items", error], rows))
    if fails.get("confused"):
        rows = [[one["truth"], one["said"], one["share"], one["items"]] for one in fails["confused"]]
        tables.append(Table(["truth", "taken for", "share of that class", "test items"], rows))
    picture = error_map(fails.get("places", []), side, f" {spec.unit}" if spec.unit else "")
    figures = [] if picture is None else [picture]
    return [Section("Where it fails", "Blocks with most of the error come first.", figures, tables)]


def _bounds(interval: Sequence[float] | None) -> str:
    return "one block: none" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def reliability_figure(calibration: Mapping[str, Any]) -> Figure:
    """How right against how sure, before and after calibration; the size of a point is the share of predictions."""
    figure = Figure(figsize=(4.6, 4.2), layout="constrained", label="reliability")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="#b9c2c9", linewidth=1)
    for number, name in enumerate(("before", "after")):
        bins = calibration[name]["bins"]
        sure, right, share = (np.array([one[key] for one in bins]) for key in ("confidence", "accuracy", "share"))
        colour = PALETTE[1 - number]
        axes.plot(sure, right, color=colour, linewidth=1.4, label=f"{name}: ECE {calibration[name]['ece']:.3f}")
        axes.scatter(sure, right, s=12 + 160 * share, color=colour, alpha=0.75)
    axes.set(xlabel="how sure (probability)", ylabel="how often right", xlim=(0, 1.02), ylim=(0, 1.04))
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def confusion_figure(spec: TaskSpec, confusion: np.ndarray) -> Figure:
    """Rows (truth) as shares: dark where the head says it most; the number of items in each cell."""
    total = confusion.sum(axis=1, keepdims=True)
    share = confusion / np.maximum(total, 1)
    count = len(spec.class_names)
    side = 1.6 + 0.55 * count
    figure = Figure(figsize=(side + 0.8, side), layout="constrained", label="confusion")
    axes = figure.add_subplot()
    axes.imshow(share, cmap="Greens", vmin=0, vmax=1)
    if count <= 20:
        for row in range(count):
            for column in range(count):
                if confusion[row, column] > 0:
                    colour = "#ffffff" if share[row, column] > 0.6 else "#1d2730"
                    text = f"{confusion[row, column]:.0f}"
                    axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color=colour)
    axes.set_xticks(range(count), spec.class_names, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(count), spec.class_names, fontsize=8)
    axes.set(xlabel="what the head says", ylabel="truth")
    return figure


def error_map(places: Sequence[Sequence[float]], side: float, unit: str) -> Figure | None:
    """Where errors lie: each chip's place, the redder the more error; None where no chip has a place.

    ``places``: left, top and mean error; ``side`` of a chip, in units of its CRS.
    """
    if not places:
        return None
    left, top, wrong = np.array(places, dtype=np.float64).T
    figure = Figure(figsize=(6.2, 5.0), layout="constrained", label="errors by place")
    axes = figure.add_subplot()
    most = max(float(wrong.max()), 1e-9)
    for x, y, value in sorted(zip(left, top, wrong, strict=True), key=lambda one: one[2]):
        shade = 0.92 - 0.7 * float(value) / most
        colour = (0.92, shade, shade)
        axes.add_patch(Rectangle((x, y - side), side, side, facecolor=colour, edgecolor="#888888", linewidth=0.4))
    axes.set(xlim=(left.min() - side, left.max() + 2 * side), ylim=(top.min() - 2 * side, top.max() + side))
    axes.set_aspect("equal")
    axes.set(title=f"test chips: red is the most error ({most:.3g}{unit})", xticks=[], yticks=[])
    axes.title.set_fontsize(10)
    return figure
