"""Labels from files: vector files of points, lines and polygons, and rasters sampled to points.

In goes a path and what a task expects of it; out comes one frame of geometries with a value, a date and a confidence.
Everything a file can be wrong in is told with the file's own row numbers (the first row is 1). Files are read in parts
(:mod:`geossl.labels.files`): memory holds the labels of the region, not the file; a fault stops at the first part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from pyproj import CRS

from geossl.artefacts import hash_file
from geossl.errors import InputError
from geossl.labels import columns
from geossl.labels.columns import row_numbers as row_numbers
from geossl.labels.files import RASTER_SUFFIXES, VectorFile, open_vector
from geossl.progress import say, warn

if TYPE_CHECKING:
    from geossl.regions import Region


@dataclass(frozen=True)
class Labels:
    """Sparse labels.

    ``frame`` has one row a labelled place: ``geometry`` (any of points, lines, polygons, in the frame's CRS), ``value``
    (int64 index into ``classes``, or float64 in the task's unit where there are no classes), ``date`` (naive
    ``datetime64``, NaT where the label holds at any time), ``confidence`` (0..1), ``row`` (number in the file, from 1).
    Labels of a period have its last day in ``until``; soft labels a column ``share:<class>`` for every class.
    """

    frame: gpd.GeoDataFrame
    classes: tuple[str, ...]
    path: Path
    id: str

    def __len__(self) -> int:
        return len(self.frame)

    def to_crs(self, crs: str) -> Labels:
        """The same labels in another CRS."""
        return replace(self, frame=self.frame.to_crs(crs))

    @property
    def rows(self) -> np.ndarray:
        """(n,) number of each label in its file, from 1; labels made otherwise are numbered as they stand."""
        return np.asarray(self.frame.get("row", np.arange(1, len(self.frame) + 1)))

    @property
    def shares(self) -> np.ndarray | None:
        """Class proportions (n, K) float64 of soft labels, rows summing to 1; None where each label is one class."""
        names = [f"share:{name}" for name in self.classes]
        there = bool(names) and names[0] in self.frame.columns
        return self.frame[names].to_numpy(dtype=np.float64) if there else None

    def counts(self) -> dict[str, int]:
        """Labelled places of each class (all of them under ``values`` where there are no classes)."""
        if not self.classes:
            return {"values": len(self.frame)}
        per_class = self.frame["value"].value_counts()
        return {name: int(per_class.get(number, 0)) for number, name in enumerate(self.classes)}


@dataclass(frozen=True)
class Fields:
    """Names of a vector file's columns; all but ``label`` may be absent from the file."""

    label: str = "class"
    date: str | None = "date"
    confidence: str | None = "confidence"
    until: str | None = "date_end"
    """Last day of the label, where it holds for a period that begins on ``date``."""


def is_raster(path: Path) -> bool:
    """Whether a label file is read as a raster, by its suffix."""
    return path.suffix.lower() in RASTER_SUFFIXES


def read_vector_labels(
    path: str | Path,
    classes: Sequence[str],
    fields: Fields = Fields(),
    aliases: Mapping[str, str] | None = None,
    region: Region | None = None,
) -> Labels:
    """Labels of a vector file (GeoPackage, GeoJSON, GeoParquet, shapefile, FlatGeobuf).

    Args:
        path: the file.
        classes: class names in the order of their indices; empty where the label column holds numbers.
        fields: column names.
        aliases: other spellings that may stand in the file, each with its class.
        region: where given, labels outside it are dropped, and it is an error if none is left.

    Raises:
        InputError: unreadable file, no CRS, no label column, no filled cell, foreign classes, values that are no
            numbers, proportions that do not sum to 1, dates that are none, missing or broken geometries, no label in
            the region.

    A row whose label cell is empty is not labelled yet: it is left out, and its number told. A file without the label
    column, but with one column a class, holds soft labels: proportions of each class that sum to 1 (an empty cell is
    0). Their ``value`` is the largest class and their ``confidence`` its proportion times that of the file.
    """
    file = open_vector(Path(path))
    if file.crs is None:
        raise InputError(
            "these labels name no CRS",
            where=file.path,
            expected="a vector file with a coordinate reference system",
            remedy="write the file with its CRS (in QGIS: Set Layer CRS, then export)",
        )
    if not file.count:
        raise InputError("this label file is empty", where=file.path)
    wanted, soft = _wanted(file, classes, fields)
    area = None if region is None else region.geometry_in(file.crs.to_wkt())
    if area is not None:
        shapely.prepare(area)
    kept, repaired, unlabelled, outside, bounds = [], [], [], [], []
    for part in file.parts(wanted):
        empty = part[soft or [fields.label]].apply(columns.is_empty).to_numpy().all(axis=1)
        unlabelled.append(part.index.to_numpy()[empty])
        part = part[~empty]
        if part.empty:
            continue
        shapes, mended = columns.geometries(part, file.path)
        repaired.append(mended)
        frame = _frame(part, shapes, classes, fields, aliases or {}, bool(soft), file)
        if area is not None:
            within = shapely.intersects(area, shapes)
            outside.append(frame["row"].to_numpy()[~within])
            bounds.append(frame.total_bounds)
            frame = frame[within]
        kept.append(frame)
    _tell(repaired, "polygons cross themselves and were repaired")
    _tell(unlabelled, "rows are not labelled yet and are left out")
    if not kept:
        raise InputError("no row of this file is labelled", where=file.path, found=f"{file.count} rows, all empty")
    frame = pd.concat(kept, ignore_index=True)
    if region is not None:
        lost = np.concatenate(outside)
        if frame.empty:
            low, high = np.min(bounds, axis=0)[:2], np.max(bounds, axis=0)[2:]
            raise _none_inside(region, file.path, (*low, *high), file.crs)
        _tell_outside(region, lost, len(frame) + len(lost))
    if "until" in frame and frame["until"].isna().all():
        frame = frame.drop(columns="until")
    return Labels(frame, tuple(classes), file.path, hash_file(file.path))


def _wanted(file: VectorFile, classes: Sequence[str], fields: Fields) -> tuple[list[str], list[str]]:
    """The columns to read, and those of class proportions (none where the label column is there)."""
    by_key = {columns.key(name): name for name in file.columns}
    soft = [by_key[columns.key(name)] for name in classes if columns.key(name) in by_key]
    if fields.label in file.columns or not classes or len(soft) < len(classes):
        soft = []
    if fields.label not in file.columns and not soft:
        raise InputError(
            f"these labels have no column '{fields.label}'",
            where=file.path,
            expected=fields.label,
            found=", ".join(file.columns) or "no columns",
            remedy="rename the column, or name yours as label_field in the task's YAML (soft labels: a column a class)",
        )
    others = [name for name in (fields.date, fields.until, fields.confidence) if name in file.columns]
    return [*(soft or [fields.label]), *(name for name in others if name is not None)], soft


def _frame(
    part: gpd.GeoDataFrame,
    shapes: np.ndarray,
    classes: Sequence[str],
    fields: Fields,
    aliases: Mapping[str, str],
    soft: bool,
    file: VectorFile,
) -> gpd.GeoDataFrame:
    """A part of the file as the frame of :class:`Labels`; ``until`` is there whenever the file has the column."""
    confidence = columns.confidences(part, fields.confidence, file.path)
    more: dict[str, pd.Series | np.ndarray] = {}
    if soft:
        shares = columns.shares(part, classes, file.path)
        values, confidence = shares.argmax(axis=1), confidence * shares.max(axis=1)
        more = {f"share:{name}": shares[:, number] for number, name in enumerate(classes)}
    elif classes:
        values = columns.class_indices(part[fields.label], classes, aliases, file.path)
    else:
        values = columns.numbers(part[fields.label], file.path)
    date, until = (columns.dates(part, field, file.path) for field in (fields.date, fields.until))
    columns.check_periods(date, until, file.path)
    if fields.until in part.columns:
        more = {"until": until, **more}
    made = {"value": values, "date": date, "confidence": confidence, "row": part.index.to_numpy(), **more}
    return gpd.GeoDataFrame(made, geometry=shapes, crs=file.crs)


def _tell(rows: list[np.ndarray], what: str) -> None:
    every = np.concatenate(rows) if rows else np.empty(0)
    if len(every):
        warn(f"{len(every)} {what}: {row_numbers(every)}")


def label_column(labels: Labels, name: str) -> pd.Series | None:
    """Another column of the file that vector labels come from, a value a label in their order; None without such."""
    if is_raster(labels.path):
        return None
    file = open_vector(labels.path)
    return file.column(name).loc[labels.rows].reset_index(drop=True) if name in file.columns else None


def class_names_in(path: str | Path, field: str) -> tuple[str, ...]:
    """The different values of a vector file's label column as class names, sorted."""
    file = open_vector(Path(path))
    if field not in file.columns:
        raise InputError(f"these labels have no column '{field}'", where=path, found=", ".join(file.columns))
    column = file.column(field)
    return tuple(sorted({columns.as_text(value) for value in column[~columns.is_empty(column)]}))


def inside(labels: Labels, region: Region) -> Labels:
    """The labels that touch a region.

    Raises:
        InputError: none does; the message shows both extents.
    """
    crs = labels.frame.crs
    area = region.geometry_in(crs)
    shapely.prepare(area)
    within = shapely.intersects(area, labels.frame.geometry.to_numpy())
    kept = labels.frame[within].reset_index(drop=True)
    if kept.empty:
        raise _none_inside(region, labels.path, labels.frame.total_bounds, crs)
    _tell_outside(region, labels.rows[~within], len(within))
    return replace(labels, frame=kept)


def _none_inside(region: Region, path: Path, bounds: Sequence[float] | np.ndarray, crs: CRS) -> InputError:
    extent = gpd.GeoSeries([shapely.box(*bounds)], crs=crs).to_crs("EPSG:4326").total_bounds
    return InputError(
        f"no label lies in region {region.name}",
        where=path,
        expected=f"labels within {_box(region.bbox)} degrees",
        found=f"labels within {_box(extent)} degrees ({crs.to_string()})",
        remedy="check --region and the CRS the labels were written with",
    )


def _tell_outside(region: Region, rows: np.ndarray, of: int) -> None:
    if len(rows):
        say(f"{len(rows)} of {of} labels lie outside region {region.name} and are left out: {row_numbers(rows)}")


def _box(bounds: Sequence[float] | np.ndarray) -> str:
    return ", ".join(f"{value:.4f}" for value in bounds)
