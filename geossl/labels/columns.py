"""The columns of a label file, one by one: what they say as arrays, and the rows in which they say nothing usable.

Every function takes (a part of) a frame whose index is the row's number in the file, from 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from shapely import force_2d, is_valid, is_valid_reason, make_valid

from geossl.errors import InputError

_SHOWN_ROWS = 5
_AREAL = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)


def geometries(frame: gpd.GeoDataFrame, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """2D geometries, self-crossing polygons repaired as OGC says, and the rows (numbers) that were.

    Raises:
        InputError: missing or empty geometries, coordinates that are no numbers, polygons that cannot be repaired.
    """
    shapes = force_2d(frame.geometry.to_numpy())
    missing = shapely.is_missing(shapes) | shapely.is_empty(shapes)
    if missing.any():
        rows = _rows(frame, missing)
        raise InputError("labels without a geometry", where=path, found=rows, remedy="delete these rows")
    finite = np.isfinite(shapely.bounds(shapes)).all(axis=1)
    if not finite.all():
        raise InputError("coordinates that are no numbers", where=path, found=_rows(frame, ~finite))
    broken = ~is_valid(shapes)
    if broken.any():
        repaired = make_valid(shapes[broken])
        areal = np.isin(shapely.get_type_id(shapes[broken]), _AREAL)
        lost = areal & (shapely.area(repaired) == 0)
        if lost.any():
            mask = np.zeros(len(shapes), dtype=bool)
            mask[np.flatnonzero(broken)[lost]] = True
            raise InputError(
                "broken geometries",
                where=path,
                found=f"{_rows(frame, mask)}: {is_valid_reason(shapes[mask][0])}",
                remedy="repair them (in QGIS: Fix geometries)",
            )
        shapes[broken] = repaired
    return shapes, frame.index.to_numpy()[broken]


def shares(frame: pd.DataFrame, classes: Sequence[str], path: Path) -> np.ndarray:
    """Proportions (n, K) float64 of columns named after the classes, rows summing to 1 (an empty cell is 0).

    Raises:
        InputError: proportions that are no numbers from 0 to 1, or do not sum to 1.
    """
    columns = {key(str(name)): name for name in frame.columns}
    table = frame[[columns[key(name)] for name in classes]]
    values = table.apply(pd.to_numeric, errors="coerce").where(table.notna(), 0.0).to_numpy(dtype=np.float64)
    bad = ~(np.isfinite(values).all(axis=1) & (values >= 0).all(axis=1) & (np.abs(values.sum(axis=1) - 1) <= 0.01))
    if bad.any():
        raise InputError(
            "class proportions that do not sum to 1",
            where=path,
            expected=f"numbers from 0 to 1 in columns {', '.join(classes)}",
            found=f"{table[bad].iloc[0].to_dict()}; {_rows(frame, bad)}",
        )
    found: np.ndarray = values / values.sum(axis=1, keepdims=True)
    return found


def class_indices(column: pd.Series, classes: Sequence[str], aliases: Mapping[str, str], path: Path) -> np.ndarray:
    """(n,) int64 indices into ``classes``; case and outer blanks do not matter.

    Raises:
        InputError: classes that the task does not know.
    """
    known = {key(name): number for number, name in enumerate(classes)}
    for other, name in aliases.items():
        known.setdefault(key(other), list(classes).index(name))
    text = column.map(as_text)
    index = text.map(lambda value: known.get(key(value), -1)).to_numpy(dtype=np.int64)
    foreign = index < 0
    if foreign.any():
        names = text[foreign].value_counts()
        shown = ", ".join(f"'{name}' ({count})" for name, count in names.head(8).items())
        raise InputError(
            f"classes that the task does not know in column '{column.name}'",
            where=path,
            expected=", ".join(classes),
            found=f"{shown}; {_rows(column, foreign)}",
            remedy="correct the labels, or name these spellings as aliases of a class in the task's YAML",
        )
    return index


def numbers(column: pd.Series, path: Path) -> np.ndarray:
    """(n,) float64.

    Raises:
        InputError: cells that are no finite number.
    """
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        raise InputError(
            f"values that are no numbers in column '{column.name}'",
            where=path,
            found=f"{column[bad].iloc[0]!r}; {_rows(column, bad)}",
        )
    return values


def dates(frame: pd.DataFrame, field: str | None, path: Path) -> pd.Series:
    """(n,) naive ``datetime64[ns]`` in UTC, NaT where the cell is empty or the column is not there.

    Raises:
        InputError: cells that are no date.
    """
    if field is None or field not in frame.columns:
        return pd.Series(pd.NaT, index=frame.index, dtype="datetime64[ns]")
    column = frame[field]
    given = column.notna() & (column.astype(str).str.strip() != "")
    found = pd.to_datetime(column.where(given), errors="coerce", utc=True).dt.tz_localize(None)
    bad = (given & found.isna()).to_numpy()
    if bad.any():
        raise InputError(
            f"dates that cannot be read in column '{field}'",
            where=path,
            expected="dates such as 2018-07-15, or empty cells",
            found=f"{column[bad].iloc[0]!r}; {_rows(column, bad)}",
        )
    return found.astype("datetime64[ns]")


def check_periods(date: pd.Series, until: pd.Series, path: Path) -> None:
    """
    Raises:
        InputError: a last day without a first, or before it.
    """
    bad = (until.notna() & ~(until >= date)).to_numpy()
    if bad.any():
        raise InputError(
            "periods that end before they begin, or have no first day",
            where=path,
            found=_rows(date, bad),
            remedy="give the first day too",
        )


def confidences(frame: pd.DataFrame, field: str | None, path: Path) -> np.ndarray:
    """(n,) float64 from 0 to 1; 1 where the cell is empty or the column is not there.

    Raises:
        InputError: cells outside 0 to 1.
    """
    if field is None or field not in frame.columns:
        return np.ones(len(frame))
    values = pd.to_numeric(frame[field], errors="coerce").to_numpy(dtype=np.float64, copy=True)
    values[frame[field].isna().to_numpy()] = 1.0
    bad = ~((values >= 0) & (values <= 1))
    if bad.any():
        raise InputError(
            f"confidences outside 0 to 1 in column '{field}'",
            where=path,
            found=f"{frame[field][bad].iloc[0]!r}; {_rows(frame, bad)}",
        )
    return values


def is_empty(column: pd.Series) -> np.ndarray:
    """(n,) bool: nothing, or blanks only."""
    empty: np.ndarray = (column.isna() | (column.astype(str).str.strip() == "")).to_numpy()
    return empty


def as_text(value: Any) -> str:
    """Whole numbers as they are written, so that class codes match whatever type the file gave them."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def key(text: str) -> str:
    """What two spellings of a name have in common."""
    return text.strip().casefold()


def _rows(frame: pd.DataFrame | pd.Series, mask: np.ndarray) -> str:
    return row_numbers(frame.index.to_numpy()[mask])


def row_numbers(rows: Sequence[int] | np.ndarray) -> str:
    """The first few of these row numbers (counted from 1), and how many more there are."""
    shown = ", ".join(str(row) for row in rows[:_SHOWN_ROWS])
    more = f" and {len(rows) - _SHOWN_ROWS} more" if len(rows) > _SHOWN_ROWS else ""
    return f"row {shown}{more}" if len(rows) == 1 else f"rows {shown}{more}"
