"""STAC items as ODC documents (EO3), and grids back out of them.

ODC's own conversion (``datacube.metadata``) drops scale and offset, wants one set of grids for all items of a
collection and stumbles over an empty ``proj:epsg``; a document is a handful of fields, so it is written here, with the
scaling of every band under ``properties["geossl:radiometry"]``. Identifiers follow ODC's rule for STAC items.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from geossl.cube import assets, profiles, radiometry
from geossl.cube.assets import Item, Raster
from geossl.products import ProductProfile

if TYPE_CHECKING:
    from datacube.model import Dataset
    from odc.geo import Geometry
    from odc.geo.geobox import GeoBox
    from shapely.geometry.base import BaseGeometry

RADIOMETRY = "geossl:radiometry"
FOOTPRINT = "geossl:footprint"
"""The footprint in EPSG:4326, so that listing ten thousand scenes needs no reprojection."""
_NAMESPACE_STAC = uuid.UUID("55d26088-a6d0-5c77-bf9a-3a7f3c6a6dab")
"""ODC's namespace for datasets that come from STAC items."""
_RENAMED = {
    "platform": "eo:platform",
    "instruments": "eo:instrument",
    "gsd": "eo:gsd",
    "start_datetime": "dtr:start_datetime",
    "end_datetime": "dtr:end_datetime",
    "grid:code": "odc:region_code",
    "created": "odc:processing_datetime",
}


@dataclass(frozen=True)
class Refusal:
    """An item that was not indexed, and why."""

    item: str
    reason: str


class RefusedItem(ValueError):
    """Raised for an item that cannot be indexed; the text is the reason, for the user."""


def product_document(name: str, profile: ProductProfile) -> dict[str, Any]:
    """The ODC product definition; the resolved profile travels in its ``metadata``."""
    measurements: list[dict[str, Any]] = []
    for measurement, band in profile.bands.items():
        aliases = [alias for alias in dict.fromkeys((band.common, *band.aliases)) if alias != measurement]
        measurements.append(
            {
                "name": measurement,
                "dtype": profile.dtype,
                "nodata": _odc_nodata(profile.nodata, profile.dtype),
                "units": "1",
                "aliases": aliases,
            }
        )
    if profile.mask is not None:
        kind = "uint8" if profile.mask.kind == "classes" else "uint16"
        measurements.append({"name": profile.mask.band, "dtype": kind, "nodata": 0, "units": "1"})
    return {
        "name": name,
        "description": profile.title,
        "metadata_type": "eo3",
        "metadata": {"product": {"name": name}, profiles.STORED: profile.model_dump_json()},
        "measurements": measurements,
    }


def _odc_nodata(nodata: float | None, dtype: str) -> float | int | str:
    """ODC wants a nodata value that fits the type; where there is none, one that hardly occurs."""
    import numpy as np

    kind = np.dtype(dtype)
    if kind.kind == "f":
        return "NaN" if nodata is None else float(nodata)
    bounds = np.iinfo(kind)
    if nodata is None or not (float(nodata).is_integer() and bounds.min <= nodata <= bounds.max):
        return int(bounds.min if kind.kind == "i" else bounds.max)
    return int(nodata)


def dataset_document(item: Item, product: str, profile: ProductProfile) -> dict[str, Any]:
    """An item as an EO3 dataset document (before ``prep_eo3``).

    Raises:
        RefusedItem: no time, no usable footprint or grid, a band missing, or a file without grid.
    """
    properties = item.get("properties", {})
    moment = _moment(properties)
    footprint = _footprint_in_degrees(item)
    found = profiles.find_rasters(profile, item)
    needed = (*profile.bands, *((profile.mask.band,) if profile.mask else ()))
    missing = [name for name in needed if name not in found]
    if missing:
        raise RefusedItem(f"lacks the bands {', '.join(missing)} of product {product}")
    grids: dict[str, GeoBox] = {}
    measurements: dict[str, dict[str, Any]] = {}
    for measurement, raster in found.items():
        grid = _grid(item, raster)
        name = next((known for known, box in grids.items() if box == grid), None)
        if name is None:
            name = f"g{len(grids)}"
            grids[name] = grid
        measurements[measurement] = {"path": _uri(raster.href), "grid": name}
        if raster.index > 1:
            measurements[measurement]["band"] = raster.index
    crs = _one_crs(grids)
    default = min(grids, key=lambda name: abs(grids[name].resolution.x * grids[name].resolution.y))
    renamed = {default: "default", **{name: name for name in grids if name != default}}
    for entry in measurements.values():
        entry["grid"] = renamed[entry["grid"]]
        if entry["grid"] == "default":
            del entry["grid"]
    outline = _outline(footprint, grids[default])
    return {
        "$schema": "https://schemas.opendatacube.org/dataset",
        "id": _identifier(product, str(item["id"])),
        "label": str(item["id"]),
        "product": {"name": product},
        "crs": crs,
        "geometry": outline.json,
        "grids": {
            renamed[name]: {"shape": list(box.shape.yx), "transform": [float(value) for value in box.transform[:6]]}
            for name, box in grids.items()
        },
        "measurements": measurements,
        "properties": {
            **_plain_properties(properties),
            "datetime": moment,
            "odc:file_format": "GeoTIFF",
            FOOTPRINT: to_degrees(outline).__geo_interface__,
            RADIOMETRY: {
                measurement: radiometry.settle(
                    profile, properties, found[measurement].scale, found[measurement].offset, found[measurement].nodata
                ).as_dict()
                for measurement in profile.bands
            },
        },
        "accessories": {},
        "lineage": {},
    }


def _identifier(product: str, item: str) -> str:
    try:
        return str(uuid.UUID(item))
    except ValueError:
        return str(uuid.uuid5(_NAMESPACE_STAC, f"{product}\n{item}\n"))


def _moment(properties: Mapping[str, Any]) -> str:
    for key in ("datetime", "start_datetime"):
        if text := properties.get(key):
            try:
                datetime.fromisoformat(str(text).replace("Z", "+00:00"))
            except ValueError:
                raise RefusedItem(f"its {key} '{text}' is not a date") from None
            return str(text)
    raise RefusedItem("it has neither datetime nor start_datetime")


def _footprint_in_degrees(item: Item) -> Any:
    """The item's footprint (shapely, EPSG:4326), or ``None`` if it has none."""
    from shapely.geometry import shape
    from shapely.validation import make_valid

    if not item.get("geometry"):
        return None
    try:
        footprint = make_valid(shape(item["geometry"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RefusedItem(f"its geometry is not GeoJSON ({error})") from None
    west, south, east, north = footprint.bounds
    if not (-180.001 <= west <= east <= 180.001 and -90.001 <= south <= north <= 90.001):
        raise RefusedItem(
            f"its footprint is not in degrees: x {west:g} to {east:g}, y {south:g} to {north:g} (pixel coordinates?)"
        )
    if footprint.area == 0:
        raise RefusedItem("its footprint has no area")
    return footprint


def _grid(item: Item, raster: Raster) -> GeoBox:
    """The grid of a raster as the item says, else as the file's own header says."""
    try:
        stated = assets.geobox(item, raster.key)
    except Exception as error:  # pyproj's CRSError, affine's and numpy's own
        raise RefusedItem(f"asset {raster.key}: its proj: fields make no grid ({error})") from None
    if stated is not None:
        return stated
    import rasterio
    from odc.geo.geobox import GeoBox
    from rasterio.errors import RasterioError

    try:
        with rasterio.Env(GDAL_HTTP_TIMEOUT="20", GDAL_HTTP_CONNECTTIMEOUT="10"), rasterio.open(raster.href) as file:
            if file.crs is None:
                raise RefusedItem(f"asset {raster.key}: neither the item nor the file names a CRS")
            code = file.crs.to_epsg()
            return GeoBox(file.shape, file.transform, f"EPSG:{code}" if code else file.crs.to_wkt())
    except RasterioError as error:
        raise RefusedItem(
            f"asset {raster.key} has no proj:shape and proj:transform, and its file cannot be opened ({error})"
        ) from None


def _one_crs(grids: Mapping[str, GeoBox]) -> str:
    found = {str(box.crs) for box in grids.values()}
    if len(found) > 1:
        raise RefusedItem(f"its bands are in several CRS: {', '.join(sorted(found))}")
    return found.pop()


def _outline(footprint: Any, grid: GeoBox) -> Geometry:
    """The footprint in the grid's CRS; the grid's own outline where the item has none or crosses the antimeridian."""
    from odc.geo import Geometry

    whole = grid.extent
    if footprint is None:
        return whole
    in_degrees = to_degrees(whole)
    if not in_degrees.intersects(footprint):
        raise RefusedItem(
            f"its footprint {tuple(round(x, 3) for x in footprint.bounds)} does not touch its own raster "
            f"{tuple(round(x, 3) for x in in_degrees.bounds)}"
        )
    if in_degrees.geom_type != "Polygon" or footprint.geom_type != "Polygon":
        return whole
    assert grid.crs is not None
    return Geometry(footprint, "EPSG:4326").to_crs(grid.crs)


def to_degrees(outline: Geometry) -> BaseGeometry:
    """An outline in EPSG:4326, split where it crosses the antimeridian.

    Edges are divided in eight, so that straight lines of one CRS stay where they are in the other.
    """
    bounds = outline.boundingbox
    step = max(bounds.span_x, bounds.span_y) / 8
    return outline.to_crs("EPSG:4326", resolution=step, wrapdateline=True).geom


def footprint_of(dataset: Dataset) -> BaseGeometry:
    """The footprint of a dataset in EPSG:4326, whoever indexed it."""
    from shapely.geometry import box, shape

    stored = dataset.metadata_doc.get("properties", {}).get(FOOTPRINT)
    if stored is not None:
        return shape(stored)
    if dataset.extent is not None:
        return to_degrees(dataset.extent)
    lon, lat = dataset.metadata.lon, dataset.metadata.lat
    return box(lon.begin, lat.begin, lon.end, lat.end)


def refuse_broken(item: Item) -> None:
    """Raise ``RefusedItem`` for an item without a usable time or footprint, before anything else is looked at."""
    _moment(item.get("properties", {}))
    _footprint_in_degrees(item)


def _plain_properties(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Scalars and short lists of the item; the projection is in the grids."""
    kept: dict[str, Any] = {}
    for key, value in properties.items():
        if key.startswith("proj:") or value is None or isinstance(value, dict):
            continue
        if key == "instruments":
            value = "_".join(map(str, value)).upper()
        elif isinstance(value, list) and (len(value) > 8 or any(isinstance(part, dict | list) for part in value)):
            continue
        kept[_RENAMED.get(key, key)] = value
    return kept


def _uri(href: str) -> str:
    """A local path as a ``file://`` URI, so that it means the same wherever the index is read."""
    from pathlib import Path

    if "://" in href or href.startswith("/vsi"):
        return href
    return Path(href).absolute().as_uri()


def band_geobox(dataset: Dataset, measurement: str) -> GeoBox | None:
    """The grid of one measurement according to the dataset document; ``None`` if the document has none."""
    from affine import Affine
    from odc.geo.geobox import GeoBox

    document = dataset.metadata_doc
    name = document.get("measurements", {}).get(measurement, {}).get("grid", "default")
    grid = document.get("grids", {}).get(name)
    if grid is None or document.get("crs") is None:
        return None
    return GeoBox(tuple(grid["shape"]), Affine(*grid["transform"][:6]), document["crs"])


def finest_geobox(dataset: Dataset) -> GeoBox:
    """The grid of a dataset's finest band. Datasets without grids in their document: the first file's header."""
    boxes = [box for name in dataset.measurements if (box := band_geobox(dataset, name)) is not None]
    if boxes:
        return min(boxes, key=lambda box: abs(box.resolution.x * box.resolution.y))
    import rasterio
    from odc.geo.geobox import GeoBox

    with rasterio.open(measurement_uri(dataset, next(iter(dataset.measurements)))[0]) as file:
        return GeoBox.from_rio(file)


def measurement_uri(dataset: Dataset, measurement: str) -> tuple[str, int]:
    """Where a measurement's pixels lie (a path or URI that GDAL opens) and in which band of the file, from 1."""
    from urllib.parse import unquote, urlparse

    from datacube.utils.uris import uri_resolve

    entry = dataset.measurements[measurement]
    uri = uri_resolve(dataset.uri, entry["path"]) if dataset.uri else entry["path"]
    parts = urlparse(uri)
    return (unquote(parts.path) if parts.scheme == "file" else uri), int(entry.get("band", 1))
