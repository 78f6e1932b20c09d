"""Vector files of labels, read in parts: the columns that are asked for, and geometries, so many rows at a time.

A file of a million polygons is never in memory as a whole: what a part holds beyond its labels is gone with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import shapely
from pyproj import CRS

from geossl.errors import InputError

VECTOR_SUFFIXES = (".gpkg", ".geojson", ".json", ".parquet", ".shp", ".fgb")
RASTER_SUFFIXES = (".tif", ".tiff", ".vrt")
ROWS_AT_ONCE = 50_000


@dataclass(frozen=True)
class VectorFile:
    """A file that can be read: its CRS (None where it names none), its columns but for the geometry's, its rows."""

    path: Path
    crs: CRS | None
    columns: tuple[str, ...]
    count: int

    def parts(self, columns: Sequence[str]) -> Iterator[gpd.GeoDataFrame]:
        """These columns and the geometry, in parts of at most :data:`ROWS_AT_ONCE` rows; the index is the row's number
        in the file, from 1.

        Raises:
            InputError: the file cannot be read to its end.
        """
        first = 1
        try:
            for batch, geometry in _batches(self.path, list(columns)):
                table = batch.to_pandas()
                shapes = shapely.from_wkb(table.pop(geometry).to_numpy())
                frame = gpd.GeoDataFrame(table, geometry=shapes, crs=self.crs)
                frame.index = pd.RangeIndex(first, first + len(frame))
                first += len(frame)
                yield frame
        except (RuntimeError, ValueError, OSError) as error:  # pyogrio's, Arrow's and GEOS' errors are of these
            if isinstance(error, InputError):
                raise
            raise InputError("cannot read this label file", where=self.path, found=error) from None

    def column(self, name: str) -> pd.Series:
        """One column as a whole, its index the row's number in the file."""
        return pd.concat([part[name] for part in self.parts([name])])


def open_vector(path: Path) -> VectorFile:
    """A vector file, not read yet.

    Raises:
        InputError: no such file, an unknown suffix, an unreadable file, no geometries.
    """
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
        return _parquet(path) if path.suffix.lower() == ".parquet" else _ogr(path)
    except (RuntimeError, ValueError, OSError, KeyError) as error:  # as above; KeyError: damaged GeoParquet metadata
        if isinstance(error, InputError):
            raise
        raise InputError("cannot read this label file", where=path, found=error) from None


def _ogr(path: Path) -> VectorFile:
    facts = pyogrio.read_info(path, force_feature_count=True)
    if facts["geometry_type"] is None:
        raise InputError("this label file has no geometries", where=path)
    crs = CRS.from_user_input(facts["crs"]) if facts["crs"] else None
    return VectorFile(path, crs, tuple(map(str, facts["fields"])), int(facts["features"]))


def _parquet(path: Path) -> VectorFile:
    schema, rows = pq.read_schema(path), pq.read_metadata(path).num_rows
    geo = _geo(schema, path)
    about = geo["columns"][geo["primary_column"]]
    # GeoParquet: without the key the CRS is OGC:CRS84, null says that it is not known.
    crs = (
        CRS.from_user_input(about["crs"] if about.get("crs") else "OGC:CRS84")
        if about.get("crs", "") is not None
        else None
    )
    return VectorFile(path, crs, tuple(name for name in schema.names if name not in geo["columns"]), rows)


def _geo(schema: pa.Schema, path: Path) -> dict[str, Any]:
    if b"geo" not in (schema.metadata or {}):
        raise InputError("this label file has no geometries", where=path)
    facts: dict[str, Any] = json.loads(schema.metadata[b"geo"])
    encoding = facts["columns"][facts["primary_column"]]["encoding"]
    if encoding != "WKB":
        raise InputError("GeoParquet with an unusual encoding", where=path, expected="WKB", found=encoding)
    return facts


def _batches(path: Path, columns: list[str]) -> Iterator[tuple[pa.RecordBatch, str]]:
    """Parts of the file, and the name of their geometry column."""
    if path.suffix.lower() == ".parquet":
        with pq.ParquetFile(path) as file:
            geometry = _geo(file.schema_arrow, path)["primary_column"]
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=[*columns, geometry]):
                yield batch, geometry
        return
    with pyogrio.open_arrow(path, columns=columns, batch_size=ROWS_AT_ONCE, use_pyarrow=True) as (facts, reader):
        for batch in reader:
            yield batch, facts["geometry_name"] or "wkb_geometry"
