"""Empty label files to be filled in by people: the fields that :mod:`geossl.labels.read` looks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import pandas as pd

from geossl.artefacts import atomic_file
from geossl.errors import InputError
from geossl.labels.read import Fields

CRS = "EPSG:4326"
"""Labels may be written in any CRS; this one holds everywhere."""


def write_template(path: Path, layer: str, fields: Fields, classes: Sequence[str], numbers: bool) -> Path:
    """An empty GeoPackage for labels: any geometry (points, lines, polygons), a label, a date, a confidence.

    Args:
        path: the file, ``.gpkg``; an existing one is never overwritten, since it may hold somebody's labels.
        layer: name of its layer.
        fields: names of the columns; those that are None are left out.
        classes: what may stand in the label column, told in the layer's description.
        numbers: the label column holds numbers instead of names.

    Raises:
        InputError: another suffix, or the file is there already.
    """
    check_new(path)
    columns: dict[str, pd.Series] = {fields.label: pd.Series(dtype="float64" if numbers else "object")}
    if fields.date is not None:
        columns[fields.date] = pd.Series(dtype="datetime64[ms]")
    if fields.confidence is not None:
        columns[fields.confidence] = pd.Series(dtype="float64")
    frame = gpd.GeoDataFrame(columns, geometry=gpd.GeoSeries([], crs=CRS))
    what = "a number" if numbers else f"one of: {', '.join(classes)}" if classes else "a name of your own"
    about = f"{fields.label}: {what}" + (f"; {fields.date}: day of the label, may be empty" if fields.date else "")
    about += f"; {fields.confidence}: 0 to 1, may be empty" if fields.confidence else ""
    with atomic_file(path) as temporary:
        frame.to_file(temporary, layer=layer, driver="GPKG", geometry_type="Unknown", DESCRIPTION=about)
    return path


def check_new(path: Path) -> None:
    """See that a GeoPackage for labels can be written: an existing file is never replaced.

    Raises:
        InputError: another suffix, or the file is there already.
    """
    if path.suffix.lower() != ".gpkg":
        raise InputError("labels to fill in are a GeoPackage", where=path, expected="--out FILE.gpkg")
    if path.exists():
        raise InputError("this file is there already", where=path, remedy="choose another --out")
