"""Labels from files: vector files of points, lines and polygons, and rasters sampled to points.

In goes a path and what a task expects of it; out comes one frame of geometries with a value, a date and a confidence.
Everything a file can be wrong in is told with the file's own row numbers (the first row is 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from shapely import force_2d, is_valid, is_valid_reason, make_valid

from geossl.artefacts import hash_file
from geossl.errors import InputError
from geossl.progress import say, warn

if TYPE_CHECKING:
    from geossl.regions import Region

VECTOR_SUFFIXES = (".gpkg", ".geojson", ".json", ".parquet", ".shp", ".fgb")
RASTER_SUFFIXES = (".tif", ".tiff", ".vrt")
_SHOWN_ROWS = 5


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
        InputError: unreadable file, no CRS, no label column, empty cells, foreign classes, values that are no numbers,
            proportions that do not sum to 1, dates that are none, missing or broken geometries, no label in the region.

    A file without the label column, but with one column a class, holds soft labels: proportions of each class that sum
    to 1 (an empty cell is 0). Their ``value`` is the largest class and their ``confidence`` its proportion times that
    of the file.
    """
    file = Path(path)
    frame = _read_frame(file)
    if frame.crs is None:
        raise InputError(
            "these labels name no CRS",
            where=file,
            expected="a vector file with a coordinate reference system",
            remedy="write the file with its CRS (in QGIS: Set Layer CRS, then export)",
        )
    shares = _shares(frame, classes, fields, file)
    if fields.label not in frame.columns and shares is None:
        raise InputError(
            f"these labels have no column '{fields.label}'",
            where=file,
            expected=fields.label,
            found=", ".join(str(name) for name in frame.columns if name != frame.geometry.name) or "no columns",
            remedy="rename the column, or name yours as label_field in the task's YAML (soft labels: a column a class)",
        )
    if not len(frame):
        raise InputError("this label file is empty", where=file)
    geometry = _checked_geometry(frame, file)
    confidence = _confidence(frame, fields.confidence, file)
    if shares is not None:
        confidence = confidence * shares.max(axis=1)
    values = (
        shares.argmax(axis=1)
        if shares is not None
        else _class_indices(frame[fields.label], classes, aliases or {}, file)
        if classes
        else _numbers(frame[fields.label], file)
    )
    date = _dates(frame, fields.date, file)
    until = _dates(frame, fields.until, file)
    _check_periods(date, until, file)
    soft = {} if shares is None else {f"share:{name}": shares[:, k] for k, name in enumerate(classes)}
    period = {"until": until} if until.notna().any() else {}
    out = gpd.GeoDataFrame(
        {
            "value": values,
            "date": date,
            "confidence": confidence,
            "row": np.arange(1, len(frame) + 1),
            **period,
            **soft,
        },
        geometry=geometry,
        crs=frame.crs,
    )
    labels = Labels(out, tuple(classes), file, hash_file(file))
    return labels if region is None else inside(labels, region)


def label_column(labels: Labels, name: str) -> pd.Series | None:
    """Another column of the file that vector labels come from, a value a label in their order; None without such."""
    if is_raster(labels.path):
        return None
    frame = _read_frame(labels.path)
    return frame[name].iloc[labels.frame["row"].to_numpy() - 1].reset_index(drop=True) if name in frame else None


def class_names_in(path: str | Path, field: str) -> tuple[str, ...]:
    """The different values of a vector file's label column as class names, sorted."""
    frame = _read_frame(Path(path))
    if field not in frame.columns:
        raise InputError(f"these labels have no column '{field}'", where=path, found=", ".join(map(str, frame.columns)))
    return tuple(sorted({_text(value) for value in frame[field].dropna()}))


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
        extent = labels.frame.to_crs("EPSG:4326").total_bounds
        raise InputError(
            f"no label lies in region {region.name}",
            where=labels.path,
            expected=f"labels within {_box(region.bbox)} degrees",
            found=f"labels within {_box(extent)} degrees ({crs.to_string()})",
            remedy="check --region and the CRS the labels were written with",
        )
    if not within.all():
        outside = labels.frame["row"].to_numpy()[~within] if "row" in labels.frame else np.flatnonzero(~within) + 1
        say(f"{len(outside)} of {len(within)} labels lie outside region {region.name} and are left out: "
            f"{row_numbers(outside)}")  # fmt: skip
    return replace(labels, frame=kept)


def _read_frame(path: Path) -> gpd.GeoDataFrame:
    if not path.is_file():
        raise InputError("no such label file", where=path, remedy="check --labels")
    if path.suffix.lower() not in VECTOR_SUFFIXES:
        raise InputError(
            "this kind of label file is not known",
            where=path,
            expected=f"{', '.join(VECTOR_SUFFIXES)}, or a raster {', '.join(RASTER_SUFFIXES)}",
            found=path.suffix or "no suffix",
        )
    try:
        frame = gpd.read_parquet(path) if path.suffix.lower() == ".parquet" else gpd.read_file(path)
    except Exception as error:  # pyogrio, pyarrow and GDAL raise their own types
        raise InputError("cannot read this label file", where=path, found=error) from None
    if not isinstance(frame, gpd.GeoDataFrame):
        raise InputError("this label file has no geometries", where=path)
    return frame.reset_index(drop=True)


def _checked_geometry(frame: gpd.GeoDataFrame, path: Path) -> np.ndarray:
    """2D geometries; self-crossing polygons are repaired as OGC says, what cannot be is an error."""
    shapes = force_2d(frame.geometry.to_numpy())
    missing = shapely.is_missing(shapes) | shapely.is_empty(shapes)
    if missing.any():
        raise InputError("labels without a geometry", where=path, found=_rows(missing), remedy="delete these rows")
    finite = np.isfinite(shapely.bounds(shapes)).all(axis=1)
    if not finite.all():
        raise InputError("coordinates that are no numbers", where=path, found=_rows(~finite))
    broken = ~is_valid(shapes)
    if broken.any():
        repaired = make_valid(shapes[broken])
        areal = np.isin(shapely.get_type_id(shapes[broken]), (3, 6))
        lost = areal & (shapely.area(repaired) == 0)
        if lost.any():
            mask = np.zeros(len(shapes), dtype=bool)
            mask[np.flatnonzero(broken)[lost]] = True
            raise InputError(
                "broken geometries",
                where=path,
                found=f"{_rows(mask)}: {is_valid_reason(shapes[mask][0])}",
                remedy="repair them (in QGIS: Fix geometries)",
            )
        warn(f"{int(broken.sum())} polygons cross themselves and were repaired: {_rows(broken)}")
        shapes[broken] = repaired
    return shapes


def _shares(frame: gpd.GeoDataFrame, classes: Sequence[str], fields: Fields, path: Path) -> np.ndarray | None:
    """Proportions (n, K) where the file has a column a class and no label column; else None."""
    columns = {_key(str(name)): name for name in frame.columns}
    if fields.label in frame.columns or not classes or not all(_key(name) in columns for name in classes):
        return None
    table = frame[[columns[_key(name)] for name in classes]]
    values = table.apply(pd.to_numeric, errors="coerce").where(table.notna(), 0.0).to_numpy(dtype=np.float64)
    bad = ~(np.isfinite(values).all(axis=1) & (values >= 0).all(axis=1) & (np.abs(values.sum(axis=1) - 1) <= 0.01))
    if bad.any():
        raise InputError(
            "class proportions that do not sum to 1",
            where=path,
            expected=f"numbers from 0 to 1 in columns {', '.join(classes)}",
            found=f"{table[bad].iloc[0].to_dict()}; {_rows(bad)}",
        )
    shares: np.ndarray = values / values.sum(axis=1, keepdims=True)
    return shares


def _check_periods(date: pd.Series, until: pd.Series, path: Path) -> None:
    bad = (until.notna() & ~(until >= date)).to_numpy()
    if bad.any():
        raise InputError(
            "periods that end before they begin, or have no first day",
            where=path,
            found=_rows(bad),
            remedy="give the first day too",
        )


def _class_indices(column: pd.Series, classes: Sequence[str], aliases: Mapping[str, str], path: Path) -> np.ndarray:
    missing = column.isna().to_numpy()
    if missing.any():
        raise InputError(f"empty cells in column '{column.name}'", where=path, found=_rows(missing))
    text = column.map(_text)
    known = {_key(name): number for number, name in enumerate(classes)}
    for other, name in aliases.items():
        known.setdefault(_key(other), list(classes).index(name))
    index = text.map(lambda value: known.get(_key(value), -1)).to_numpy(dtype=np.int64)
    foreign = index < 0
    if foreign.any():
        names = text[foreign].value_counts()
        shown = ", ".join(f"'{name}' ({count})" for name, count in names.head(8).items())
        raise InputError(
            f"classes that the task does not know in column '{column.name}'",
            where=path,
            expected=", ".join(classes),
            found=f"{shown}; {_rows(foreign)}",
            remedy="correct the labels, or name these spellings as aliases of a class in the task's YAML",
        )
    return index


def _numbers(column: pd.Series, path: Path) -> np.ndarray:
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        raise InputError(
            f"values that are no numbers in column '{column.name}'",
            where=path,
            found=f"{column[bad].iloc[0]!r}; {_rows(bad)}",
        )
    return values


def _dates(frame: gpd.GeoDataFrame, field: str | None, path: Path) -> pd.Series:
    if field is None or field not in frame.columns:
        return pd.Series(pd.NaT, index=frame.index, dtype="datetime64[ns]")
    column = frame[field]
    given = column.notna() & (column.astype(str).str.strip() != "")
    dates = pd.to_datetime(column.where(given), errors="coerce", utc=True).dt.tz_localize(None)
    bad = (given & dates.isna()).to_numpy()
    if bad.any():
        raise InputError(
            f"dates that cannot be read in column '{field}'",
            where=path,
            expected="dates such as 2018-07-15, or empty cells",
            found=f"{column[bad].iloc[0]!r}; {_rows(bad)}",
        )
    return dates.astype("datetime64[ns]")


def _confidence(frame: gpd.GeoDataFrame, field: str | None, path: Path) -> np.ndarray:
    if field is None or field not in frame.columns:
        return np.ones(len(frame))
    values = pd.to_numeric(frame[field], errors="coerce").to_numpy(dtype=np.float64, copy=True)
    values[frame[field].isna().to_numpy()] = 1.0
    bad = ~((values >= 0) & (values <= 1))
    if bad.any():
        raise InputError(
            f"confidences outside 0 to 1 in column '{field}'",
            where=path,
            found=f"{frame[field][bad].iloc[0]!r}; {_rows(bad)}",
        )
    return values


def _text(value: Any) -> str:
    """Whole numbers as they are written, so that class codes match whatever type the file gave them."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _key(text: str) -> str:
    return text.strip().casefold()


def _rows(mask: np.ndarray) -> str:
    return row_numbers(np.flatnonzero(mask) + 1)


def row_numbers(rows: Sequence[int] | np.ndarray) -> str:
    """The first few of these row numbers (counted from 1), and how many more there are."""
    shown = ", ".join(str(row) for row in rows[:_SHOWN_ROWS])
    more = f" and {len(rows) - _SHOWN_ROWS} more" if len(rows) > _SHOWN_ROWS else ""
    return f"row {shown}{more}" if len(rows) == 1 else f"rows {shown}{more}"


def _box(bounds: Sequence[float] | np.ndarray) -> str:
    return ", ".join(f"{value:.4f}" for value in bounds)
