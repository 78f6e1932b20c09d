"""STAC items and collections for what geossl publishes; written last, when everything they name exists.

Items are self-contained: assets are relative to the folder that holds the item. No time of writing goes in, so
equal inputs give equal documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import pyproj
import pystac
from affine import Affine
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry
from shapely.ops import transform

from geossl.artefacts import write_json

PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
CLASSIFICATION = "https://stac-extensions.github.io/classification/v2.0.0/schema.json"
COG_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"


@dataclass(frozen=True)
class AssetFile:
    """A file of an item: its name in the item's folder, what it is, and further fields of the asset."""

    name: str
    title: str
    media_type: str
    roles: tuple[str, ...]
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Placement:
    """Where a raster lies: its outline in its own CRS, the CRS, its shape (rows, columns) and transform."""

    outline: BaseGeometry
    crs: str
    shape: tuple[int, int]
    transform: Affine


def make_item(
    item_id: str,
    placement: Placement,
    first: date,
    last: date,
    assets: Mapping[str, AssetFile],
    properties: Mapping[str, Any],
    derived_from: Sequence[str] = (),
) -> pystac.Item:
    """An item for rasters on one grid that stand for the days ``first`` to ``last`` (both included).

    Args:
        item_id: the id.
        placement: where the rasters lie.
        first: first day.
        last: last day.
        assets: asset key → file.
        properties: further properties.
        derived_from: addresses of what the item was made from.
    """
    crs = pyproj.CRS.from_user_input(placement.crs)
    to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform
    # Straight edges bend on the way to degrees: points every 1/16 of the extent keep them where they are.
    width = max(placement.outline.bounds[2] - placement.outline.bounds[0], 1e-9)
    outline = transform(to_degrees, placement.outline.segmentize(width / 16))
    start = datetime.combine(first, time.min, UTC)
    end = datetime.combine(last, time(23, 59, 59), UTC)
    code = crs.to_epsg()
    projection: dict[str, Any] = {
        "proj:code": f"EPSG:{code}" if code else None,
        "proj:shape": list(placement.shape),
        "proj:transform": [float(number) for number in placement.transform[:6]],
    }
    if code is None:
        projection["proj:wkt2"] = crs.to_wkt()
    extensions = [PROJECTION]
    if any("classification:classes" in asset.fields for asset in assets.values()):
        extensions.append(CLASSIFICATION)
    item = pystac.Item(
        id=item_id,
        geometry=_rounded(mapping(outline)),
        bbox=[round(number, 7) for number in outline.bounds],
        datetime=start if first == last else None,
        start_datetime=start,
        end_datetime=end,
        properties={**projection, **properties},
        stac_extensions=extensions,
    )
    for key, asset in assets.items():
        item.add_asset(
            key,
            pystac.Asset(
                href=f"./{asset.name}",
                title=asset.title,
                media_type=asset.media_type,
                roles=list(asset.roles),
                extra_fields=dict(asset.fields),
            ),
        )
    for address in derived_from:
        item.add_link(pystac.Link("derived_from", address))
    return item


def _rounded(geometry: Any) -> Any:
    """GeoJSON with coordinates to 7 decimals (a centimetre), as plain lists."""
    if isinstance(geometry, Mapping):
        return {key: _rounded(value) if key == "coordinates" else value for key, value in geometry.items()}
    if isinstance(geometry, int | float):
        return round(float(geometry), 7)
    return [_rounded(part) for part in geometry]


def make_collection(
    collection_id: str, title: str, description: str, items: Sequence[pystac.Item], licence: str = "other"
) -> pystac.Collection:
    """A collection whose extent is that of its items; the items are linked to it."""
    collection = pystac.Collection(
        id=collection_id,
        title=title,
        description=description,
        license=licence,
        extent=pystac.Extent.from_items(items),
    )
    for item in items:
        item.set_collection(collection)
    return collection


def write_item_folder(folder: Path, item: pystac.Item, collection: pystac.Collection) -> None:
    """``item.json`` and ``collection.json`` in one folder, linked to each other by relative addresses."""
    item.clear_links("root")
    item.clear_links("collection")
    written_item = item.to_dict(include_self_link=False, transform_hrefs=False)
    written_item["collection"] = collection.id
    written_item["links"] = [
        {"rel": "root", "href": "./collection.json", "type": "application/json"},
        {"rel": "collection", "href": "./collection.json", "type": "application/json"},
        {"rel": "parent", "href": "./collection.json", "type": "application/json"},
        *[link for link in written_item["links"] if link["rel"] not in {"root", "collection", "parent", "self"}],
    ]
    written = collection.to_dict(include_self_link=False, transform_hrefs=False)
    written["links"] = [
        {"rel": "root", "href": "./collection.json", "type": "application/json"},
        {"rel": "item", "href": "./item.json", "type": "application/geo+json"},
    ]
    write_json(folder / "item.json", written_item)
    write_json(folder / "collection.json", written)
