"""How a shoreline moved between two periods, and how sure that is at each place.

The line is MNDWI 0 on the median of a period's clear dates, drawn between pixels by marching squares (the composite and
the line of DEA Coastlines, Bishop-Taylor et al. 2021, doi 10.1016/j.rse.2021.112734). How far it can be trusted is told
by the data: the lines of every other date of the same period are independent looks at the same shore, and their
distance from the line of all dates has the spread of that line's own error.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from affine import Affine
from rasterio.windows import Window
from scipy.ndimage import map_coordinates, uniform_filter1d

from geossl.artefacts import (
    atomic_directory,
    check_place,
    hash_file,
    hash_json,
    is_complete,
    read_manifest,
    write_manifest,
)
from geossl.errors import InputError
from geossl.maps.coast import PLANES
from geossl.progress import say
from geossl.tasks.waterline import shorelines

KIND = "shoreline-change"
STEP_M = 30.0
"""Places along the earlier line are so far apart."""
LEAST_LINE_M = 100.0
"""Shorter lines are left out: puddles of a few pixels."""
REACH_M = 300.0
"""A line further away is not the same shore."""
NEIGHBOURS = 9
"""Errors are averaged over so many places along the line."""
LEAST_ERROR_PX = 0.15
"""The error of a line on one picture without noise (Bishop-Taylor et al. 2019: 1.4 to 1.6 m at pixels of 10 m)."""
FEW_DATES, UNSTEADY_PX = 8, 1.0
"""Fewer clear dates, or a line whose own looks lie a pixel apart, are flagged."""
Z_95 = 1.96
CERTAINTIES = ("moved", "no certain change", "unsteady", "few dates", "no shore now")
"""``moved``: the change is larger than its 95 % error; ``unsteady``: the looks of a period disagree by a pixel or more
(tides, levels, surf); ``few dates``: fewer than eight clear dates in a period; ``no shore now``: no line within 300 m.
"""
_COUNT, _ALL, _ODD, _EVEN = 1, 2, 3, 4
_WINDOW_PX = 1024


def write_shore_change(earlier: Path, later: Path, out: Path) -> Path:
    """Compare the shorelines of two layers of values of a coast; the folder ``out`` is made, unless it is there.

    ``places.gpkg`` (layer ``places``: points every 30 m along the earlier line with ``change_m``, positive where the
    land grew, ``error_m``, the standard error, ``certainty``, and the clear dates of both periods; layer ``lines``:
    both lines), ``places.csv`` and ``summary.json`` (number, mean change and share of each certainty).

    Args:
        earlier, later: ``value.tif`` of two maps of a task with a rule of form ``coast``, on one CRS with metres.
        out: the folder.

    Raises:
        InputError: other rasters, other CRS or pixels, no shoreline in the earlier one.
    """
    inputs = {"earlier": hash_file(earlier), "later": hash_file(later), "kind": KIND}
    identity = hash_json(inputs)
    out = out.absolute()
    check_place(out, KIND)
    if is_complete(out) and read_manifest(out, KIND).get("inputs_hash") == identity:
        say(f"this change is there already: {out}")
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(earlier) as then, rasterio.open(later) as now:
        _check(then, now, earlier, later)
        crs = then.crs
        places = _places(then, now)
        lines = [shapely.multilinestrings(_lines(source, _ALL)) for source in (then, now)]
    summary = summarise(places)
    with atomic_directory(out) as folder:
        places.to_file(folder / "places.gpkg", layer="places", driver="GPKG")
        both = gpd.GeoDataFrame({"period": ["earlier", "later"]}, geometry=lines, crs=crs)
        both.to_file(folder / "places.gpkg", layer="lines", driver="GPKG", mode="a")
        table = places.drop(columns="geometry")
        table.insert(0, "x", places.geometry.x.round(1))
        table.insert(1, "y", places.geometry.y.round(1))
        table.to_csv(folder / "places.csv", index=False)
        (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        files = ["places.csv", "places.gpkg", "summary.json"]
        write_manifest(folder, KIND, inputs=inputs, inputs_hash=identity, files=files, summary=summary)
    return out


def summarise(places: gpd.GeoDataFrame) -> dict[str, Any]:
    """Places, their mean change in metres and its share of each certainty."""
    rows = {}
    for name in CERTAINTIES:
        some = places.loc[places["certainty"] == name, "change_m"]
        mean = round(float(some.mean()), 2) if some.notna().any() else None
        rows[name] = {"places": len(some), "share": round(len(some) / max(len(places), 1), 4), "mean_change_m": mean}
    return {"places": len(places), "step_m": STEP_M, "certainty": rows}


def _check(then: Any, now: Any, earlier: Path, later: Path) -> None:
    for source, path in ((then, earlier), (now, later)):
        if source.count != len(PLANES) or source.descriptions[_ALL] != PLANES[_ALL]:
            raise InputError(
                "this raster is no map of a coast to compare with",
                where=path,
                expected="value.tif of an earlier geossl map --task coastal-zone",
                remedy="map the earlier period first and give the value.tif of its layer coastal-zone-values",
            )
    if then.crs != now.crs or then.res != now.res or not then.crs.is_projected:
        raise InputError(
            "shorelines are compared in one CRS with metres and pixels of one size",
            where=earlier,
            expected=f"{now.crs}, pixels of {now.res[0]:g}",
            found=f"{then.crs}, pixels of {then.res[0]:g}",
        )


def _places(then: Any, now: Any) -> gpd.GeoDataFrame:
    """The table of :func:`write_shore_change`."""
    pixel = abs(then.transform.a)
    points, line = _along(_lines(then, _ALL))
    if not len(points):
        raise InputError("the earlier map shows no shoreline", where=then.name, found="no line at MNDWI 0")
    moved, nearest = _nearest(points, _lines(now, _ALL))
    x, y = shapely.get_x(points), shapely.get_y(points)
    # Where the later map has land at the earlier line, the land grew.
    land = _sample(now, _ALL, x, y) < 0
    errors = []
    for source, at in ((then, points), (now, nearest)):
        looks = np.stack([_nearest(at, _lines(source, plane))[0] for plane in (_ODD, _EVEN)])
        squares = np.where(np.isfinite(looks), looks, REACH_M) ** 2
        # Each look has twice the variance of the whole, with which it shares half: their distance has the whole's own.
        errors.append(_smooth(squares.mean(0), line) + (LEAST_ERROR_PX * pixel) ** 2)
    error = np.sqrt(errors[0] + errors[1])
    dates = [_sample(source, _COUNT, shapely.get_x(at), shapely.get_y(at)) for source, at in
             ((then, points), (now, nearest))]  # fmt: skip
    gone = ~np.isfinite(moved)
    change = np.where(gone, np.nan, np.where(land, moved, -moved))
    few = ~(np.minimum(*dates) >= FEW_DATES - 0.5)
    unsteady = np.sqrt(np.maximum(*errors)) > UNSTEADY_PX * pixel
    certain = np.abs(change) > Z_95 * error
    flag = np.select(
        [gone, few, unsteady, certain], [CERTAINTIES[4], CERTAINTIES[3], CERTAINTIES[2], CERTAINTIES[0]], CERTAINTIES[1]
    )
    columns = {
        "change_m": np.round(change, 2),
        "error_m": np.where(gone, np.nan, np.round(error, 2)),
        "certainty": flag,
        "dates_earlier": np.round(dates[0]),
        "dates_later": np.where(gone, np.nan, np.round(dates[1])),
    }
    return gpd.GeoDataFrame(columns, geometry=points, crs=then.crs)


def _lines(source: Any, plane: int) -> list[Any]:
    """Lines of a plane at 0, window by window; neighbouring windows share a row and a column."""
    found = []
    for y in range(0, source.height, _WINDOW_PX):
        for x in range(0, source.width, _WINDOW_PX):
            size = (min(_WINDOW_PX + 1, source.width - x), min(_WINDOW_PX + 1, source.height - y))
            values = source.read(plane + 1, window=Window(x, y, *size))
            found += [shapely.linestrings(one) for one in
                      shorelines(values, source.transform * Affine.translation(x, y))]  # fmt: skip
    merged = shapely.line_merge(shapely.multilinestrings(found)) if found else shapely.multilinestrings([])
    return [part for part in shapely.get_parts(merged) if part.length >= LEAST_LINE_M]


def _along(lines: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Points every :data:`STEP_M` along lines, and the number of each one's line."""
    points, owner = [], []
    for number, line in enumerate(lines):
        steps = np.arange(STEP_M / 2, line.length, STEP_M)
        points.append(shapely.line_interpolate_point(line, steps))
        owner.append(np.full(len(steps), number))
    return (np.concatenate(points), np.concatenate(owner)) if points else (np.empty(0, object), np.empty(0, int))


def _nearest(points: np.ndarray, lines: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Distance of points from the nearest line, and the nearest point on it; NaN and the point itself beyond reach."""
    distance, there = np.full(len(points), np.nan), points.copy()
    if not lines:
        return distance, there
    number, line = shapely.STRtree(lines).query_nearest(points, max_distance=REACH_M, all_matches=False)
    chosen = np.asarray(lines, object)[line]
    along = shapely.line_locate_point(chosen, points[number])
    there[number] = shapely.line_interpolate_point(chosen, along)
    distance[number] = shapely.distance(points[number], there[number])
    return distance, there


def _smooth(squares: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Mean over neighbours on the same line."""
    found = np.empty_like(squares)
    for number in np.unique(line):
        here = line == number
        found[here] = uniform_filter1d(squares[here], NEIGHBOURS, mode="nearest")
    return found


def _sample(source: Any, plane: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A plane at points, bilinear between pixel centres; NaN beside the raster."""
    back = ~source.transform
    column, row = back.a * x + back.b * y + back.c - 0.5, back.d * x + back.e * y + back.f - 0.5
    return np.asarray(map_coordinates(source.read(plane + 1), [row, column], order=1, cval=np.nan))
