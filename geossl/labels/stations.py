"""Series of stations (soil moisture, turbidity, chlorophyll) as dated point labels of a quantity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd

from geossl.artefacts import hash_file
from geossl.errors import InputError
from geossl.labels.read import Labels, row_numbers
from geossl.progress import warn

COLUMNS = ("station", "lon", "lat", "time", "value")


def is_stations(path: Path) -> bool:
    """Whether a label file is a table of station readings: a CSV, or a Parquet file without geometries."""
    if path.suffix.lower() == ".csv":
        return True
    if path.suffix.lower() != ".parquet" or not path.is_file():
        return False
    import pyarrow.parquet as pq

    return b"geo" not in (pq.read_schema(path).metadata or {})


def read_stations(path: str | Path, classes: Sequence[str]) -> Labels:
    """Readings (columns ``station``, ``lon``, ``lat`` in degrees, ``time`` in ISO, ``value``) as points in EPSG:4326.

    A reading without a value is no label: it is left out, and its row told. ``station`` stays a column of the frame.

    Raises:
        InputError: a task with classes, unreadable file, missing columns, places, times or values that are none.
    """
    file = Path(path)
    if classes:
        raise InputError("station readings are numbers, and this task has classes", where=file)
    if not file.is_file():
        raise InputError("no such label file", where=file, remedy="check --labels")
    try:
        table = pd.read_csv(file) if file.suffix.lower() == ".csv" else pd.read_parquet(file)
    except (ValueError, OSError) as error:  # parser, encoding and Arrow errors are of these
        raise InputError("cannot read these station readings", where=file, found=error) from None
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise InputError(
            f"station readings without column {', '.join(missing)}",
            where=file,
            expected=", ".join(COLUMNS),
            found=", ".join(map(str, table.columns)),
        )
    lon, lat = (pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64) for name in ("lon", "lat"))
    times = pd.to_datetime(table["time"], errors="coerce", utc=True, format="ISO8601").dt.tz_localize(None)
    value = pd.to_numeric(table["value"], errors="coerce").to_numpy(dtype=np.float64)
    gap = table["value"].isna().to_numpy()
    for bad, what in (
        (~((np.abs(lon) <= 180) & (np.abs(lat) <= 90)), "places outside -180 to 180, -90 to 90 degrees"),
        (times.isna().to_numpy(), "times that cannot be read"),
        (~np.isfinite(value) & ~gap, "values that are no numbers"),
    ):
        if bad.any():
            raise InputError(f"station readings with {what}", where=file, found=row_numbers(np.flatnonzero(bad) + 1))
    if gap.all():
        raise InputError("this file holds no reading", where=file)
    if gap.any():
        rows = row_numbers(np.flatnonzero(gap) + 1)
        warn(f"{int(gap.sum())} readings without a value are left out: {rows}")
    frame = gpd.GeoDataFrame(
        {
            "value": value,
            "date": times.astype("datetime64[ns]"),
            "confidence": 1.0,
            "row": np.arange(1, len(table) + 1),
            "station": table["station"].astype(str),
        },
        geometry=gpd.points_from_xy(lon, lat),
        crs="EPSG:4326",
    )
    return Labels(frame[~gap].reset_index(drop=True), (), file, hash_file(file))
