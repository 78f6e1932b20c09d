"""The page beside a suggestion: the rule, where the places lie, why each was chosen, and a picture of each."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
from matplotlib.figure import Figure

from geossl.chips.chipset import ChipSet
from geossl.report.pages import Section, Table, facts, page
from geossl.report.plots import PALETTE, chip_grid
from geossl.tasks.labels_candidates import Candidates
from geossl.tasks.labels_report import picture_of
from geossl.tasks.spec import TaskSpec

_SHOWN = 60


def write_preview(
    path: Path,
    spec: TaskSpec,
    chips: ChipSet,
    found: Candidates,
    chosen: np.ndarray,
    frame: gpd.GeoDataFrame,
    rule: str,
) -> Path:
    """Write the page; pictures of the first 60 places."""
    known = {
        "task": spec.title,
        "classes": list(spec.class_names) or spec.unit or "a name of your own, or a number",
        "chips": chips.name,
        "places": len(frame),
        "chosen from": f"{len(found)} candidates on {len(np.unique(found.row))} chips",
        "doubt": found.doubt_from,
        "places of each block": frame["block"].value_counts(sort=False).to_dict(),
    }
    text = (
        f"Fill in '{spec.label_field}' in QGIS, looking at the scene of the date in 'look_at'; delete or leave empty "
        "what you cannot tell, which then counts as not labelled. The places are the ones a model can learn most from, "
        "not a sample of the map: never estimate areas or accuracy from them."
    )
    shown = frame.head(_SHOWN)
    columns = ["rank", "look_at", "block", "uncertainty", "says", "why"]
    table = Table(columns, shown[columns].to_numpy().tolist(), f"the first {len(shown)}")
    sections = [
        Section("What to do", text, tables=[facts(known)]),
        Section("Where nothing is suggested", rule, figures=_places(frame)),
        Section("The places", tables=[table], figures=[_pictures(spec, chips, found, chosen[:_SHOWN], shown)]),
    ]
    return page(path, f"Label next: {spec.title.lower()}", sections)


def _places(frame: gpd.GeoDataFrame) -> list[Figure]:
    if frame.geometry.isna().any():
        return []
    points = shapely.get_coordinates(shapely.centroid(frame.geometry.to_numpy()))
    metres = frame.crs.is_projected
    points = points / 1000 if metres else points
    figure = Figure(figsize=(5.4, 4.6), layout="constrained", label="where the places lie")
    axes = figure.add_subplot()
    axes.scatter(points[:, 0], points[:, 1], s=14, color=PALETTE[0])
    for rank, point in zip(frame["rank"], points, strict=True):
        axes.annotate(str(rank), tuple(point), fontsize=6, xytext=(2, 2), textcoords="offset points")
    unit = "km" if metres else "degrees"
    axes.set(xlabel=f"{unit} east", ylabel=f"{unit} north", title="Where the places lie")
    axes.set_aspect("equal", adjustable="datalim")
    return [figure]


def _pictures(spec: TaskSpec, chips: ChipSet, found: Candidates, chosen: np.ndarray, shown: gpd.GeoDataFrame) -> Figure:
    pictures, titles = [], []
    for one, place in zip(chosen, shown.itertuples(), strict=True):
        at = (int(found.y[one]), int(found.x[one]))
        pictures.append(picture_of(chips, int(found.row[one]), at, place.geometry if spec.per_pixel else None))
        titles.append(f"{place.rank}: {place.look_at}\n{str(place.says)[:28]}")
    return chip_grid(np.stack(pictures), titles, columns=6, title="Each place on its date", inch=1.5)
