"""The page of ``geossl labels check``: tables, where the labels lie, and pictures of the suspicious ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import shapely
from affine import Affine
from matplotlib.figure import Figure
from rasterio.features import rasterize

from geossl.chips.chipset import ChipSet
from geossl.labels.quality import KEEP
from geossl.labels.read import row_numbers
from geossl.labels.spatial import nearest
from geossl.report.pages import Section, Table, facts, page
from geossl.report.plots import PALETTE, chip_grid, lines, true_colour
from geossl.tasks.sources import Source

_SHOWN = 24
_WINDOW = 48
_MARK = np.array([255, 60, 40], dtype=np.uint8)
_SAME_GROUND = 0.5
"""A random split is called misleading where labels lie this many times closer to each other than the map to them."""


def distances(
    source: Source, table: pd.DataFrame, judged: tuple[np.ndarray, np.ndarray] | None
) -> tuple[list[Figure], str]:
    """Distances label to label against map to label (over the ground), and within against between blocks (features).

    Milà et al. 2022, doi:10.1111/2041-210X.13851: a split is fair where test labels lie as far from training labels as
    the map's pixels do. Gives figures and one sentence.
    """
    figures, sentence = [], "Labels have no places, so distances over the ground say nothing."
    used = (table["fate"] == "used").to_numpy()
    if table["geometry"].notna().all() and used.sum() >= 3:
        places = shapely.get_coordinates(shapely.centroid(table.loc[used, "geometry"].to_numpy()))
        tiles = source.chips.table.groupby("tile", sort=True).first()
        height, width = (side * source.chips.resolution_m for side in source.chips.shape)
        grid = np.array([(x, y) for y in np.arange(0.1, 1, 0.2) for x in np.arange(0.1, 1, 0.2)])
        corners = tiles[["left", "top"]].to_numpy(dtype=float)
        pixels = (corners[:, None] + grid * (width, -height)).reshape(-1, 2)
        block = table.loc[used, "block"].to_numpy(dtype=str)
        curves = {"label to label": nearest(places), "map to label": nearest(pixels, places)}
        if len(np.unique(block)) > 1:
            curves["label to label of another block"] = _between(places, block)
        figures.append(_cumulative(curves, "metres to the nearest", "Over the ground"))
        ours, theirs = float(np.median(curves["label to label"])), float(np.median(curves["map to label"]))
        lies = ours < _SAME_GROUND * theirs
        sentence = (
            f"Half of the labels have another within {ours:,.0f} m, half of the map none within {theirs:,.0f} m: a "
            f"random split would {'look better than the map is; split by block' if lies else 'not mislead by much'}."
        )
    if judged is not None and len(judged[0]) >= 3:
        rows, features = judged
        block = table["block"].to_numpy(dtype=str)[rows]
        curves = {"label to label": nearest(features)}
        if len(np.unique(block)) > 1:
            curves["label to label of another block"] = _between(features, block)
        figures.append(_cumulative(curves, "distance to the nearest in features", "In the encoder's features"))
    return figures, sentence


def _between(points: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    found = np.empty(len(points))
    for one in np.unique(blocks):
        found[blocks == one] = nearest(points[blocks == one], points[blocks != one])
    return found


def _cumulative(curves: dict[str, np.ndarray], xlabel: str, title: str) -> Figure:
    x = np.linspace(0, max(float(np.percentile(one, 98)) for one in curves.values()), 200)
    shares = {name: np.searchsorted(np.sort(one), x, side="right") / len(one) for name, one in curves.items()}
    return lines(x, shares, xlabel=xlabel, ylabel="share of them", title=title)


def write_check_report(
    path: Path,
    source: Source,
    table: pd.DataFrame,
    found: dict[str, Any],
    apart: list[Figure],
    sentence: str,
    problem: str,
) -> None:
    """Write the page."""
    dates = table["date"].dropna()
    known = {
        "file": source.labels.path.name if source.labels is not None else source.chips.name,
        "labels": len(table),
        "of each class": found["counts"],
        "commonest to rarest class": found["imbalance"],
        "dates": f"{dates.min():%Y-%m-%d} to {dates.max():%Y-%m-%d}" if len(dates) else "none",
        "labels without a date": int(table["date"].isna().sum()),
        "area of polygons, m²": float(table["area_m2"].sum()) if "area_m2" in table else None,
        "duplicates": found["duplicates"],
        "labels in conflict": found["conflicts"],
        "Clark-Evans ratio (1 is random, below is clustered)": found["clark_evans"],
    }
    fate = [
        [name, len(some), row_numbers(some["row"].to_numpy())] for name, some in table.groupby("fate", sort=False)
    ]  # fmt: skip
    sections = [
        Section("What is there", problem and f"finetune would refuse these labels:\n{problem}", tables=[facts(known)]),
        Section(
            "What would become of them",
            "Exactly what finetune does with this file on these chips.",
            tables=[Table(["fate", "labels", "rows of the file"], fate)],
            figures=_places(table),
        ),
    ]
    again = table[(table["duplicate_of"] != "") | (table["conflicts_with"] != "")]
    if len(again):
        columns = ["row", "label", "duplicate_of", "conflicts_with"]
        sections.append(
            Section(
                "The same twice, or contradictory",
                "Pixels that labels of different classes claim are used for none.",
                tables=[Table(columns, again[columns].head(50).to_numpy().tolist(), "the first 50")],
            )
        )
    sections.append(Section("Would a random split lie?", sentence, figures=apart))
    if found["verdicts"]:
        sections += _suspicious(source, table)
    page(path, f"Labels for {source.spec.title.lower()}", sections)


def _places(table: pd.DataFrame) -> list[Figure]:
    if not table["geometry"].notna().all():
        return []
    points = shapely.get_coordinates(shapely.centroid(table["geometry"].to_numpy())) / 1000
    figure = Figure(figsize=(5.4, 4.6), layout="constrained", label="where the labels lie")
    axes = figure.add_subplot()
    used = (table["fate"] == "used").to_numpy()
    axes.scatter(points[~used, 0], points[~used, 1], s=14, marker="x", color="#8a949c", label="left out")
    axes.scatter(points[used, 0], points[used, 1], s=10, color=PALETTE[0], label="used")
    axes.set(xlabel="km east", ylabel="km north", title="Where the labels lie")
    axes.set_aspect("equal", adjustable="datalim")
    axes.legend(frameon=False, fontsize=9)
    return [figure]


def _suspicious(source: Source, table: pd.DataFrame) -> list[Section]:
    order = table.sort_values("doubt", ascending=False, kind="stable")
    bad = order[(order["verdict"] != KEEP) & (order["verdict"] != "")]
    one_each = source.spec.classes and source.spec.kind != "multilabel"
    counts = pd.crosstab(table["label"], table["verdict"]) if one_each else None
    tables = []
    if counts is not None:
        counts = counts.drop(columns="", errors="ignore")
        body = [[name, *map(int, row)] for name, row in zip(counts.index, counts.to_numpy(), strict=True)]
        tables.append(Table(["class", *counts.columns], body))
    shown = bad.head(_SHOWN)
    columns = ["row", "label", "instead", "agreement", "verdict", "outlier"]
    tables.append(Table(columns, shown[columns].to_numpy().tolist(), "the most doubtful; all are in verdicts.csv"))
    text = (
        "The nearest labels, and a model that has not seen the label's block, say little for these. Remove: under a "
        "quarter of what they usually say for labels of the class. Look at: under half, or unlike all other labels. "
        "A rare but right label can be among them: look first."
    )
    if not source.spec.classes:
        text = (
            "Remove: the nearest labels, and a model that has not seen the label's block, both say quite another "
            "number. Look at: one of them does, or the label is unlike all others. Look first: it may be right."
        )
    if source.spec.kind == "multilabel":
        text += (
            " Each label of a chip is judged by itself: remove means little support for two or more, look at for one."
        )
    figures = []
    if len(shown):
        pictures = [_picture(source, row) for _, row in shown.iterrows()]
        titles = [f"row {row.row}: {row.label}\n{row.verdict}: {row.instead}?" for row in shown.itertuples()]
        figures = [chip_grid(np.stack(pictures), titles, columns=6, title="The most doubtful labels", inch=1.5)]
    return [Section("Which labels look wrong", text, figures, tables)]


def _picture(source: Source, row: pd.Series) -> np.ndarray:
    """The clearest chip around a label, the label outlined; a whole ready chip where labels have no places."""
    chips = source.chips
    shape, side = chips.shape, chips.resolution_m
    if row["geometry"] is None:
        number, centre = int(row["chip_row"]), (shape[0] // 2, shape[1] // 2)
    else:
        point = row["geometry"].centroid
        table = chips.table
        left, top = table["left"].to_numpy(float), table["top"].to_numpy(float)
        x, y = (point.x - left) / side, (top - point.y) / side
        near = (
            np.clip(-x, 0, None)
            + np.clip(x - shape[1], 0, None)
            + np.clip(-y, 0, None)
            + np.clip(y - shape[0], 0, None)
        )  # noqa: E501
        number = int(np.lexsort((-table["clear"].to_numpy(float), near))[0])
        centre = (int(y[number]), int(x[number]))
    return picture_of(chips, number, centre, row["geometry"])


def picture_of(chips: ChipSet, number: int, centre: tuple[int, int], geometry: Any | None) -> np.ndarray:
    """(48, 48, 3) of the chip in row ``number`` of the table around a pixel, the geometry (in the chips' CRS) outlined;
    without a geometry the whole chip.
    """
    stored, flags = chips.load(np.array([number]))
    values = np.where(flags[:, None] == 0, chips.encoding.decode(stored), np.nan)[0]
    picture = true_colour(values, chips.bands)
    shape = chips.shape
    size = min(_WINDOW if geometry is not None else max(shape), *shape)
    y0, x0 = (int(np.clip(c - size // 2, 0, n - size)) for c, n in zip(centre, shape, strict=True))
    if geometry is not None:
        _outline(picture, geometry, chips.table.iloc[number], chips.resolution_m)
    return picture[y0 : y0 + size, x0 : x0 + size]


def _outline(picture: np.ndarray, geometry: Any, chip: pd.Series, side: float) -> None:
    transform = Affine(side, 0, float(chip["left"]), 0, -side, float(chip["top"]))
    around = geometry.boundary if geometry.area > (6 * side) ** 2 else geometry.centroid.buffer(3 * side).boundary
    mask = rasterize([(around, 1)], picture.shape[:2], transform=transform, all_touched=True, dtype="uint8")
    picture[mask == 1] = _MARK
