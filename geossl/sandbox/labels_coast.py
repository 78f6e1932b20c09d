"""Sparse labels of an archipelago: what divers saw along a few transects, depths along a few ship's tracks, a gauge.

    labels/habitat.gpkg       points: class, date, depth_m, transect, confidence, block; EPSG:3006
    labels/soundings.gpkg     points: depth_m, error_m, date, track, block; EPSG:3006
    labels/gauge.csv          station, lon, lat, time (ISO date), level_m: daily, with errors and gaps
    labels/labels.json        what the columns mean, units and errors

Divers work where they can reach: transects lie in groups and run from the shore down the slope.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import geopandas as gpd
import numpy as np
from scipy import ndimage
from shapely.geometry import Point

from geossl.artefacts import atomic_file, write_json
from geossl.sandbox.classes import Bottom, label
from geossl.sandbox.dates import Acquisition
from geossl.sandbox.labels import LABEL_CRS, block_of
from geossl.sandbox.labels_lake import write_gauges
from geossl.sandbox.levels import GAUGE_ERROR_M, Levels
from geossl.sandbox.noise import generator
from geossl.sandbox.spec import Frame, SandboxSpec, WaterSettings
from geossl.sandbox.waterscape import Waterscape

POSITION_ERROR_M = 3.0
"""Standard deviation of a recorded position in each direction."""
MISTAKEN = 0.04
"""Share of the habitat points that were given another class than the right one."""
_GROUPS_OF = 5
_STEP_PX = 1.5
_DIVE_POINTS = 12
_TRACK_STEP_PX = 2.0
_TRACK_POINTS = 50


@dataclass(frozen=True)
class Walk:
    """Positions in pixels, (n, 2) row and column, along one transect or track."""

    name: str
    path: np.ndarray


def write_labels(
    root: Path,
    spec: SandboxSpec,
    settings: WaterSettings,
    frame: Frame,
    scape: Waterscape,
    levels: Levels,
    scenes: list[Acquisition],
) -> None:
    """Draw all label files of a finished archipelago."""
    folder, size = root / "labels", frame.size
    depth, bottom = scape.depth[:size, :size], scape.bottom()[:size, :size]
    rng = generator(spec.seed, 51)
    dives = dive_transects(depth, settings.dives, rng)
    tracks = ship_tracks(depth, settings.sounding_tracks, rng)
    _write_points(folder / "habitat.gpkg", _habitat(frame, depth, bottom, dives, spec.years, rng), frame)
    _write_points(folder / "soundings.gpkg", _soundings(frame, depth, tracks, spec.years, rng), frame)
    write_gauges(folder, spec, settings, frame, scape, levels)
    write_json(folder / "labels.json", _description(scape))


def dive_transects(depth: np.ndarray, count: int, rng: np.random.Generator) -> list[Walk]:
    """Lines from the shore down the slope, in groups of five within some 600 m."""
    shore = (depth > 0) & ndimage.binary_dilation(depth <= 0)
    at = np.argwhere(shore)
    smooth_y, smooth_x = np.gradient(ndimage.gaussian_filter(depth, 4))
    walks: list[Walk] = []
    for _ in range(40 * count):
        if len(walks) == count or not len(at):
            break
        middle = at[rng.integers(len(at))]
        near = at[np.hypot(*(at - middle).T) < 30]
        for start in near[rng.permutation(len(near))[:_GROUPS_OF]]:
            path = [start.astype(float)]
            for _ in range(_DIVE_POINTS - 1):
                row, column = np.clip(path[-1].round().astype(int), 0, np.array(depth.shape) - 1)
                down = np.array([smooth_y[row, column], smooth_x[row, column]])
                down = down / max(float(np.hypot(*down)), 1e-6) + rng.normal(0, 0.25, 2)
                step = path[-1] + _STEP_PX * down / max(float(np.hypot(*down)), 1e-6)
                if not _is_water(depth, step):
                    break
                path.append(step)
            if len(path) >= 4 and len(walks) < count:
                walks.append(Walk(f"T{len(walks) + 1:03d}", np.stack(path)))
    return walks


def ship_tracks(depth: np.ndarray, count: int, rng: np.random.Generator) -> list[Walk]:
    """Slightly bent lines over water deeper than a metre, a sounding every 20 m."""
    at = np.argwhere(depth > 1.5)
    walks: list[Walk] = []
    for _ in range(40 * count):
        if len(walks) == count or not len(at):
            break
        path, heading = [at[rng.integers(len(at))].astype(float)], rng.uniform(0, 2 * np.pi)
        for _ in range(_TRACK_POINTS - 1):
            heading += rng.normal(0, 0.06)
            step = path[-1] + _TRACK_STEP_PX * np.array([np.sin(heading), np.cos(heading)])
            if not _is_water(depth, step, 0.8):
                break
            path.append(step)
        if len(path) >= 15:
            walks.append(Walk(f"S{len(walks) + 1:03d}", np.stack(path)))
    return walks


def _is_water(depth: np.ndarray, place: np.ndarray, least_m: float = 0.0) -> bool:
    row, column = place.round().astype(int)
    inside = 0 <= row < depth.shape[0] and 0 <= column < depth.shape[1]
    return inside and float(depth[row, column]) > least_m


def _day(years: tuple[int, ...], rng: np.random.Generator) -> str:
    """A day of field work: June to August."""
    return (date(int(rng.choice(years)), 6, 1) + timedelta(days=int(rng.integers(0, 92)))).isoformat()


def _recorded(frame: Frame, place: np.ndarray, rng: np.random.Generator) -> Point:
    """Where the position was read: the true one with the error of the receiver."""
    x, y = frame.transform(10) @ (place[1] + 0.5, place[0] + 0.5)
    return Point(x + rng.normal(0, POSITION_ERROR_M), y + rng.normal(0, POSITION_ERROR_M))


def _habitat(
    frame: Frame,
    depth: np.ndarray,
    bottom: np.ndarray,
    dives: list[Walk],
    years: tuple[int, ...],
    rng: np.random.Generator,
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for dive in dives:
        day = _day(years, rng)
        for place in dive.path:
            row, column = place.round().astype(int)
            kind = Bottom(int(bottom[row, column]))
            if rng.random() < MISTAKEN:
                kind = Bottom(int(rng.choice([int(other) for other in Bottom if other != kind])))
            rows.append(
                {
                    "class": label(kind),
                    "date": day,
                    "depth_m": round(max(0.0, float(depth[row, column] + rng.normal(0, 0.15))), 2),
                    "transect": dive.name,
                    "confidence": round(float(rng.uniform(0.7, 1.0)), 2),
                    "block": block_of(int(row), int(column)),
                    "geometry": _recorded(frame, place, rng),
                }
            )
    return rows


def _soundings(
    frame: Frame, depth: np.ndarray, tracks: list[Walk], years: tuple[int, ...], rng: np.random.Generator
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for track in tracks:
        day = _day(years, rng)
        for place in track.path:
            row, column = place.round().astype(int)
            true = float(depth[row, column])
            error = float(np.hypot(0.10, 0.02 * true))
            rows.append(
                {
                    "depth_m": round(true + float(rng.normal(0, error)), 2),
                    "error_m": round(error, 3),
                    "date": day,
                    "track": track.name,
                    "block": block_of(int(row), int(column)),
                    "geometry": _recorded(frame, place, rng),
                }
            )
    return rows


def _write_points(path: Path, rows: list[dict[str, object]], frame: Frame) -> None:
    table = gpd.GeoDataFrame(rows, geometry="geometry", crs=frame.crs).to_crs(LABEL_CRS)
    with atomic_file(path) as temporary:
        table.to_file(temporary, driver="GPKG", layer="labels")


def _description(scape: Waterscape) -> dict[str, object]:
    position = f"position error {POSITION_ERROR_M} m (1 sd, each direction)"
    return {
        "habitat.gpkg": {
            "crs": LABEL_CRS,
            "class": [label(kind) for kind in Bottom],
            "date": "ISO date of the dive; what covers the bed does not change between years",
            "depth_m": "metres below the mean level, error 0.15 m (1 sd)",
            "transect": "dive that the point belongs to",
            "confidence": "0…1, drawn at random; says nothing about the label",
            "block": "row-column of blocks of 3.2 km from the north-western corner",
            "errors": f"{MISTAKEN:.0%} of the points bear a wrong class; {position}",
        },
        "soundings.gpkg": {
            "crs": LABEL_CRS,
            "depth_m": "metres below the mean level",
            "error_m": "standard deviation of depth_m, metres",
            "date": "ISO date of the sounding",
            "track": "run of the boat that the point belongs to",
            "errors": position,
        },
        "gauge.csv": {
            "time": "ISO date",
            "level_m": f"metres above the datum of truth/elevation.tif; error {GAUGE_ERROR_M} m (1 sd); with gaps",
        },
        "mean_level_m": scape.level_m,
    }
