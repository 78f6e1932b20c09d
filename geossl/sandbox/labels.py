"""Sparse labels drawn from the truth, as a field campaign would bring them home: points and parts of fields.

    labels/drought.gpkg                points and polygons in one layer ``labels``
    labels/drought_points.gpkg, labels/drought_polygons.gpkg
    labels/landcover.gpkg

In SWEREF 99 TM (EPSG:3006), not in the scenes' CRS, as Swedish data would be. Drought labels: ``class`` (none,
moderate, severe), ``date`` (ISO), ``confidence``, ``block``. They lie where the sky was clear on their date, spread
over years and blocks. ``confidence`` is drawn at random from 0.7…1 (points) and 0.8…1 (polygons): it is there so that
readers meet the column, and says nothing about the label; every class is that of the truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import geopandas as gpd
import numpy as np
from affine import Affine
from rasterio.features import shapes
from scipy import ndimage
from shapely.geometry import Point, shape
from shapely.geometry.base import BaseGeometry

from geossl.artefacts import atomic_file
from geossl.sandbox.classes import Cover, Drought, label
from geossl.sandbox.dates import Acquisition
from geossl.sandbox.files import read_raster
from geossl.sandbox.landscape import Landscape
from geossl.sandbox.noise import generator
from geossl.sandbox.spec import Frame, LabelCounts, SandboxSpec

LABEL_CRS = "EPSG:3006"
_BLOCK_PX = 320
_WINDOW_PX = 28
_SMALLEST_PX = 14


@dataclass(frozen=True)
class Candidate:
    """A label that could be taken."""

    geometry: BaseGeometry
    """In the sandbox's CRS."""
    name: str
    date: str
    confidence: float
    block: str


def write_labels(
    root: Path, spec: SandboxSpec, counts: LabelCounts, frame: Frame, land: Landscape, scenes: list[Acquisition]
) -> list[Path]:
    """Draw all label files from the truth rasters of a finished sandbox; returns their paths."""
    points: list[Candidate] = []
    polygons: list[Candidate] = []
    number = land.number[: frame.size, : frame.size]
    for scene in scenes:
        if 5 <= scene.datetime.month <= 9:
            rng = generator(spec.seed, 50, scene.number)
            found = _drought_candidates(root, frame, number, scene, rng)
            points += found[0]
            polygons += found[1]
    rng = generator(spec.seed, 51)
    points = balanced(points, counts.points, rng)
    polygons = balanced(polygons, counts.polygons, rng)
    cover = _cover_labels(counts, frame, land, generator(spec.seed, 52))
    folder = root / "labels"
    files = {
        "drought_points.gpkg": points,
        "drought_polygons.gpkg": polygons,
        "drought.gpkg": points + polygons,
        "landcover.gpkg": cover,
    }
    for name, labels in files.items():
        write_candidates(folder / name, labels, frame, dated=name.startswith("drought"))
    return [folder / name for name in files]


def write_candidates(path: Path, labels: list[Candidate], frame: Frame, dated: bool) -> None:
    """One GeoPackage in :data:`LABEL_CRS`: ``class``, ``date`` where dated, ``confidence``, ``block``."""
    table: dict[str, list[object]] = {"class": [part.name for part in labels]}
    if dated:
        table["date"] = [part.date for part in labels]
    table["confidence"] = [part.confidence for part in labels]
    table["block"] = [part.block for part in labels]
    frame_out = gpd.GeoDataFrame(table, geometry=[part.geometry for part in labels], crs=frame.crs).to_crs(LABEL_CRS)
    with atomic_file(path) as temporary:
        frame_out.to_file(temporary, driver="GPKG", layer="labels")


def _drought_candidates(
    root: Path, frame: Frame, number: np.ndarray, scene: Acquisition, rng: np.random.Generator
) -> tuple[list[Candidate], list[Candidate]]:
    """Points and polygons of one date, a few of each class, all under clear sky."""
    drought = read_raster(root / "truth" / "drought" / f"{scene.date}.tif")
    clear = read_raster(root / "truth" / "sky" / f"{scene.date}.tif") == 1
    clear = ndimage.binary_erosion(clear, iterations=3, border_value=1)
    points, polygons = [], []
    for kind in Drought:
        mask = (drought == kind) & clear
        if mask.mean() < 0.002:
            continue
        core = ndimage.binary_erosion(mask, np.ones((3, 3)))
        for row, column in spread(core, 24, rng):
            confidence = round(float(rng.uniform(0.7, 1.0)), 2)
            points.append(_candidate(Point(*centre(frame, row, column)), row, column, kind, scene, confidence))
        for row, column in spread(core, 12, rng):
            part = part_around(mask & (number == number[row, column]), row, column)
            if part is not None:
                geometry = outline(part, row, column, frame)
                confidence = round(float(rng.uniform(0.8, 1.0)), 2)
                polygons.append(_candidate(geometry, row, column, kind, scene, confidence))
    return points, polygons


def _candidate(
    geometry: BaseGeometry, row: int, column: int, kind: Drought, scene: Acquisition, confidence: float
) -> Candidate:
    return Candidate(geometry, label(kind), scene.date, confidence, block_of(row, column))


def block_of(row: int, column: int) -> str:
    """The block of 3.2 km a pixel lies in, counted from the north-western corner."""
    return f"{row // _BLOCK_PX}-{column // _BLOCK_PX}"


def centre(frame: Frame, row: int, column: int) -> tuple[float, float]:
    """The middle of a pixel in the sandbox's CRS."""
    x, y = frame.transform(10) @ (column + 0.5, row + 0.5)
    return float(x), float(y)


def spread(mask: np.ndarray, count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Up to ``count`` pixels of the mask, drawn block by block in turn."""
    at = np.flatnonzero(mask)
    if not len(at):
        return []
    drawn = rng.choice(at, min(len(at), count * 20), replace=False)
    rows, columns = np.divmod(drawn, mask.shape[1])
    chosen: list[tuple[int, int]] = []
    by_block: dict[str, list[tuple[int, int]]] = {}
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        by_block.setdefault(block_of(row, column), []).append((row, column))
    order = [sorted(by_block)[n] for n in rng.permutation(len(by_block))]
    while len(chosen) < count and any(by_block.values()):
        for name in order:
            if by_block[name] and len(chosen) < count:
                chosen.append(by_block[name].pop())
    return chosen


def part_around(mask: np.ndarray, row: int, column: int) -> np.ndarray | None:
    """The connected part of a mask around a pixel, in a window of 57 × 57 pixels; ``None`` if too small to walk."""
    window = np.zeros((2 * _WINDOW_PX + 1, 2 * _WINDOW_PX + 1), bool)
    top, left = row - _WINDOW_PX, column - _WINDOW_PX
    low_y, low_x = max(0, top), max(0, left)
    cut = mask[low_y : row + _WINDOW_PX + 1, low_x : column + _WINDOW_PX + 1]
    window[low_y - top : low_y - top + cut.shape[0], low_x - left : low_x - left + cut.shape[1]] = cut
    window = ndimage.binary_opening(window)
    parts, _ = ndimage.label(window)
    here = parts[_WINDOW_PX, _WINDOW_PX]
    if here == 0 or (parts == here).sum() < _SMALLEST_PX:
        return None
    return ndimage.binary_fill_holes(parts == here) & window


def outline(part: np.ndarray, row: int, column: int, frame: Frame) -> BaseGeometry:
    """The outline of a window's pixels, drawn a little inside them, in the sandbox's CRS."""
    origin = frame.transform(10) @ Affine.translation(column - _WINDOW_PX, row - _WINDOW_PX)
    geometries = [shape(found) for found, value in shapes(part.astype(np.uint8), mask=part, transform=origin) if value]
    whole = max(geometries, key=lambda geometry: geometry.area)
    inside = whole.buffer(-3).simplify(6)
    if inside.geom_type == "MultiPolygon":
        inside = max(inside.geoms, key=lambda geometry: geometry.area)
    return whole if inside.is_empty else inside


def balanced(found: list[Candidate], count: int, rng: np.random.Generator) -> list[Candidate]:
    """``count`` labels, as many of each class as there are, and within a class spread over years and dates."""
    chosen: list[Candidate] = []
    names = sorted({part.name for part in found})
    for n, name in enumerate(names):
        queues: dict[tuple[int, str], list[Candidate]] = {}
        for part in found:
            if part.name == name:
                queues.setdefault((date.fromisoformat(part.date).year, part.date), []).append(part)
        for queue in queues.values():
            rng.shuffle(queue)  # type: ignore[arg-type]
        wanted = count // len(names) + (n < count % len(names))
        taken: list[Candidate] = []
        years = sorted({year for year, _ in queues})
        turn = 0
        while len(taken) < wanted and any(queues.values()):
            open_dates = [key for key in sorted(queues) if key[0] == years[turn % len(years)] and queues[key]]
            if open_dates:
                taken.append(queues[open_dates[(turn // len(years)) % len(open_dates)]].pop())
            turn += 1
        chosen += taken
    return chosen


def _cover_labels(counts: LabelCounts, frame: Frame, land: Landscape, rng: np.random.Generator) -> list[Candidate]:
    """Land cover labels: points in even ground of one class, and parts of fields, stands and lakes."""
    cover, number = land.cover[: frame.size, : frame.size], land.number[: frame.size, : frame.size]
    kinds = [kind for kind in Cover if kind != Cover.ROAD]
    labels = []
    for kind in kinds:
        core = ndimage.binary_erosion(cover == kind, np.ones((3, 3)))
        for row, column in spread(core, -(-counts.landcover_points // len(kinds)), rng):
            point = Point(*centre(frame, row, column))
            labels.append(Candidate(point, label(kind), "", 1.0, block_of(row, column)))
        for row, column in spread(core, -(-counts.landcover_polygons // len(kinds)), rng):
            part = part_around((cover == kind) & (number == number[row, column]), row, column)
            if part is not None:
                geometry = outline(part, row, column, frame)
                labels.append(Candidate(geometry, label(kind), "", 1.0, block_of(row, column)))
    return labels
