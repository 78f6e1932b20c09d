"""Areas of a published layer as tables: each class on the whole map, and in zones (municipalities) that a user gives.

Areas are counts of pixels times the area of a pixel. Such counts are biased where the map errs; they are no estimate
with a confidence interval, which needs a probability sample of reference labels: :mod:`geossl.maps.areal`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from geossl.artefacts import atomic_file, read_manifest, write_json
from geossl.errors import InputError
from geossl.maps.legend import NODATA
from geossl.maps.sources import inside_mask
from geossl.regions import read_vector

STRIP_ROWS = 1024
NOTE = "pixel counts times the area of a pixel: not design-based estimates"
AREA_FIELDS = ("value", "class", "pixels", "hectares", "share")
ZONE_FIELDS = ("zone", *AREA_FIELDS)
VALUE_FIELDS = ("zone", "pixels", "hectares", "mean")
EARTH_RADIUS_M = 6_371_007.2
"""Radius of the sphere with the area of the ellipsoid."""


def class_areas(raster: Path, names: Mapping[int, str]) -> list[dict[str, Any]]:
    """A row a class of ``class.tif``: value, class, pixels, hectares and its share of the pixels that have a class."""
    pixels, hectares = np.zeros(256), np.zeros(256)
    with rasterio.open(raster) as source:
        for window in _strips(0, source.height, 0, source.width):
            some, area = _count(source, window, None)
            pixels += some
            hectares += area
    return _class_rows(pixels, hectares, names)


def write_areas(folder: Path, rows: Sequence[Mapping[str, Any]], fields: Sequence[str] = AREA_FIELDS) -> None:
    """``areas.csv`` and ``areas.json`` in a folder."""
    write_csv(folder / "areas.csv", rows, fields)
    write_json(folder / "areas.json", {"note": NOTE, "areas": list(rows)})


def write_zones(layer: Path, zones: str | Path, name_column: str | None) -> Path:
    """``zones.csv`` of a published layer: areas of each class, or the mean value, in each polygon of a vector file.

    A pixel belongs to a zone when its centre lies in it. A map of ordinal classes has a column ``mean_index`` too, the
    mean of ``index.tif``. The table is made anew each time and is no part of the layer's identity.

    Args:
        layer: folder of a layer.
        zones: vector file of polygons.
        name_column: its column with the names; without it the only text column.

    Raises:
        InputError: no such column, no CRS, no zone on the map.
    """
    manifest = read_manifest(layer, "layer")
    legend = manifest["inputs"]["legend"]
    names = {int(value): str(name) for value, name, _ in legend} if isinstance(legend, list) else {}
    main = layer / ("class.tif" if names else "value.tif")
    rows: list[dict[str, Any]] = []
    with rasterio.open(main) as source:
        frame, column = read_zones(Path(zones), name_column, source.crs.to_wkt())
        index = rasterio.open(layer / "index.tif") if (layer / "index.tif").is_file() else None
        geobox = GeoBox(source.shape, source.transform, source.crs.to_wkt())
        extent = geobox.extent.geom
        for name, shape in frame.dissolve(column).geometry.items():
            if not shape.intersects(extent):
                continue
            found = zone_rows(source, index, geobox, shape.intersection(extent), names)
            rows += [{"zone": name, **row} for row in found]
        if index is not None:
            index.close()
    if not rows:
        raise InputError("no zone lies on this map", where=zones, remedy="give zones that overlap the region")
    fields = (*ZONE_FIELDS, "mean_index") if (layer / "index.tif").is_file() else ZONE_FIELDS
    target = layer / "zones.csv"
    write_csv(target, rows, fields if names else VALUE_FIELDS)
    return target


def read_zones(path: Path, column: str | None, crs: str) -> tuple[Any, str]:
    """A vector file of polygons in a CRS, and the name of the column with their names.

    Raises:
        InputError: no file, no CRS, or it is not clear which column.
    """
    frame = read_vector(path)
    columns = [str(name) for name in frame.columns if name != frame.geometry.name]
    if column is None:
        texts = [name for name in columns if frame[name].map(lambda value: isinstance(value, str)).all()]
        column = texts[0] if len(texts) == 1 else None
    if column is None or column not in columns:
        raise InputError(
            "say which column names the zones" if column is None else f"these zones have no column '{column}'",
            where=path,
            expected=f"--zone-name with one of: {', '.join(columns)}",
        )
    frame = frame.to_crs(crs)
    frame.geometry = frame.geometry.make_valid()
    return frame, column


def zone_rows(source: Any, index: Any, geobox: GeoBox, shape: Any, names: Mapping[int, str]) -> list[dict[str, Any]]:
    """Rows of one polygon: of each class, or (``names`` empty) of the mean value; ``shape`` in the map's CRS."""
    west, south, east, north = shape.bounds
    corners = [~source.transform * corner for corner in ((west, north), (east, south))]
    x0, y0 = (max(0, int(np.floor(number))) for number in corners[0])
    x1, y1 = (int(np.ceil(number)) for number in corners[1])
    pixels, hectares, total, seen = np.zeros(256), np.zeros(256), 0.0, 0
    for window in _strips(y0, min(y1, source.height), x0, min(x1, source.width)):
        part = geobox[window.row_off : window.row_off + window.height, window.col_off : window.col_off + window.width]
        inside = inside_mask(shape, part)
        some, area = _count(source, window, inside)
        pixels += some
        hectares += area
        values = index if names else source
        if values is not None:
            read = values.read(1, window=window)[inside]
            finite = read[np.isfinite(read)]
            total, seen = total + float(finite.sum(dtype=np.float64)), seen + finite.size
    mean = round(total / seen, 4) if seen else None
    if not names:
        return [{"pixels": seen, "hectares": round(float(hectares.sum()), 4), "mean": mean}]
    rows = _class_rows(pixels, hectares, names)
    return [{**row, "mean_index": mean} for row in rows] if index is not None else rows


def _strips(top: int, bottom: int, left: int, right: int) -> Iterator[Window]:
    for y in range(top, bottom, STRIP_ROWS):
        if right > left:
            yield Window(left, y, right - left, min(STRIP_ROWS, bottom - y))


def _count(source: Any, window: Window, inside: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and hectares of each value (256,); finite values of a quantity count as value 0."""
    values = source.read(1, window=window)
    if values.dtype.kind == "f":
        values = np.where(np.isfinite(values), 0, NODATA).astype(np.uint8)
    if inside is not None:
        values = np.where(inside, values, NODATA)
    rows = row_hectares(source.crs, source.transform, window)
    counts = np.stack([np.bincount(row, minlength=256) for row in values])
    return counts.sum(0).astype(float), rows @ counts


def row_hectares(crs: Any, transform: Affine, window: Window) -> np.ndarray:
    """Area of a pixel in each row of a window (rows,), hectares; ``crs`` as rasterio has it."""
    width, height = abs(transform.a), abs(transform.e)
    if not crs.is_geographic:
        metres = crs.linear_units_factor[1]
        return np.full(window.height, width * height * metres**2 / 10_000)
    edges = transform.f + transform.e * (window.row_off + np.arange(window.height + 1))
    sines = np.sin(np.radians(edges))
    return EARTH_RADIUS_M**2 * np.radians(width) * np.abs(np.diff(sines)) / 10_000


def _class_rows(pixels: np.ndarray, hectares: np.ndarray, names: Mapping[int, str]) -> list[dict[str, Any]]:
    total = sum(pixels[value] for value in names)
    return [
        {
            "value": value,
            "class": name,
            "pixels": int(pixels[value]),
            "hectares": round(float(hectares[value]), 4),
            "share": round(float(pixels[value] / total), 4) if total else None,
        }
        for value, name in names.items()
    ]


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> None:
    """Rows as a CSV file with these columns."""
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(fields), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
