"""Sparse labels of a lake: gauges, a few points and polygons of water, land and reed, an old map of the reeds.

labels/gauge.csv                     station, lon, lat, time (ISO date), level_m: daily, with errors and gaps
labels/water.gpkg                    class (water, land, reed), date, confidence, block; EPSG:3006
labels/water_points.gpkg, labels/water_polygons.gpkg
labels/historical_vegetation.tif     uint8: 1 where reeds stood in the period that labels.json names
labels/labels.json                   what the columns mean, units and errors
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyproj
from scipy import ndimage
from shapely.geometry import Point

from geossl.artefacts import write_json
from geossl.sandbox import aquatic
from geossl.sandbox.classes import Aquatic
from geossl.sandbox.dates import Acquisition
from geossl.sandbox.files import read_raster, write_truth
from geossl.sandbox.labels import (
    LABEL_CRS,
    Candidate,
    balanced,
    block_of,
    centre,
    outline,
    part_around,
    spread,
    write_candidates,
)
from geossl.sandbox.levels import GAUGE_ERROR_M, Levels, gauge_rows
from geossl.sandbox.noise import generator
from geossl.sandbox.spec import Frame, SandboxSpec, WaterSettings
from geossl.sandbox.truth_water import FRACTION_SCALE, MONTHS, write_csv
from geossl.sandbox.waterscape import Waterscape

CLASSES = ("water", "land", "reed")
_NEAR_M = 600
"""People label what lies near the shore."""


def write_labels(
    root: Path,
    spec: SandboxSpec,
    settings: WaterSettings,
    frame: Frame,
    scape: Waterscape,
    stands: aquatic.Stands,
    levels: Levels,
    scenes: list[Acquisition],
) -> None:
    """Draw all label files of a finished lake."""
    folder = root / "labels"
    write_gauges(folder, spec, settings, frame, scape, levels)
    near = np.abs(scape.distance[: frame.size, : frame.size]) < _NEAR_M
    points: list[Candidate] = []
    polygons: list[Candidate] = []
    for scene in scenes:
        if scene.datetime.month in MONTHS:
            found = _candidates(root, frame, near, scene, generator(spec.seed, 50, scene.number))
            points += found[0]
            polygons += found[1]
    rng = generator(spec.seed, 51)
    points = balanced(points, settings.label_points, rng)
    polygons = balanced(polygons, settings.label_polygons, rng)
    for name, chosen in (("points", points), ("polygons", polygons)):
        write_candidates(folder / f"water_{name}.gpkg", chosen, frame, dated=True)
    write_candidates(folder / "water.gpkg", points + polygons, frame, dated=True)
    old = aquatic.historical(stands, spec.seed)
    write_truth(folder / "historical_vegetation.tif", old, frame, overviews="mode", colours=_OLD_COLOURS)
    write_json(folder / "labels.json", _description(scape))


_OLD_COLOURS = {0: (235, 235, 235, 0), 1: (140, 130, 40, 255)}


def write_gauges(
    folder: Path, spec: SandboxSpec, settings: WaterSettings, frame: Frame, scape: Waterscape, levels: Levels
) -> None:
    """``gauge.csv``: one row a station and day."""
    places = _gauge_places(settings, frame, scape, spec.seed)
    write_csv(
        folder / "gauge.csv",
        ("station", "lon", "lat", "time", "level_m"),
        gauge_rows(levels, spec, settings, places),
    )


def _gauge_places(settings: WaterSettings, frame: Frame, scape: Waterscape, seed: int) -> list[tuple[float, float]]:
    """Longitude and latitude of each gauge: in water of 1 to 4 m close to the shore."""
    size = frame.size
    near = (scape.depth[:size, :size] > 1) & (scape.depth[:size, :size] < 4) & (scape.distance[:size, :size] > -60)
    at = np.flatnonzero(near if near.any() else scape.depth[:size, :size] > 0)
    to_degrees = pyproj.Transformer.from_crs(frame.crs, "EPSG:4326", always_xy=True).transform
    chosen = generator(seed, 72).choice(at, len(settings.stations), replace=False)
    return [to_degrees(*centre(frame, *divmod(int(index), size))) for index in chosen]


def _candidates(
    root: Path, frame: Frame, near: np.ndarray, scene: Acquisition, rng: np.random.Generator
) -> tuple[list[Candidate], list[Candidate]]:
    """Points and polygons of one date, a few of each class, all under clear sky and where ``near`` says."""
    truth = root / "truth"
    share = read_raster(truth / "water_fraction" / f"{scene.date}.tif")
    plants = read_raster(truth / "vegetation" / f"{scene.date[:7]}.tif")
    clear = ndimage.binary_erosion(read_raster(truth / "sky" / f"{scene.date}.tif") == 1, iterations=3, border_value=1)
    masks = {
        "water": (share == FRACTION_SCALE) & (plants == 0),
        "land": (share == 0) & (plants == 0),
        "reed": plants == Aquatic.REED,
    }
    points, polygons = [], []
    for name in CLASSES:
        mask = masks[name] & clear & near
        core = ndimage.binary_erosion(mask, np.ones((3, 3)))
        for row, column in spread(core, 16, rng):
            confidence = round(float(rng.uniform(0.7, 1.0)), 2)
            point = Point(*centre(frame, row, column))
            points.append(Candidate(point, name, scene.date, confidence, block_of(row, column)))
        for row, column in spread(core, 8, rng):
            part = part_around(mask, row, column)
            if part is not None:
                confidence = round(float(rng.uniform(0.8, 1.0)), 2)
                geometry = outline(part, row, column, frame)
                polygons.append(Candidate(geometry, name, scene.date, confidence, block_of(row, column)))
    return points, polygons


def _description(scape: Waterscape) -> dict[str, object]:
    return {
        "gauge.csv": {
            "station": "name of the gauge",
            "lon": "degrees, WGS 84",
            "lat": "degrees, WGS 84",
            "time": "ISO date",
            "level_m": f"metres above the datum of truth/elevation.tif; error {GAUGE_ERROR_M} m (1 sd); with gaps",
        },
        "water.gpkg": {
            "crs": LABEL_CRS,
            "class": list(CLASSES),
            "date": "ISO date of a scene; the sky was clear there",
            "confidence": "0…1, drawn at random; says nothing about the label",
            "block": "row-column of blocks of 3.2 km from the north-western corner",
        },
        "historical_vegetation.tif": {
            "0": "none",
            "1": "reeds",
            "period": aquatic.HISTORICAL,
            "form": "as the reeds' greatest extent in that period, 10 m, the scenes' grid",
        },
        "mean_level_m": scape.level_m,
    }
