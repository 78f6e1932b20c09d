"""What a STAC item says about its rasters: names, grids, scale and offset, whichever version of STAC it speaks.

An item here is its plain JSON (a dict) with absolute asset links.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

Item = dict[str, Any]

_NOT_PIXELS = {"thumbnail", "overview", "visual", "metadata"}
_RASTER_TYPES = ("image/tiff", "image/jp2", "image/vnd.stac.geotiff", "application/x-hdf", "application/netcdf")
_RASTER_SUFFIXES = (".tif", ".tiff", ".jp2", ".img", ".vrt")


@dataclass(frozen=True)
class Raster:
    """One band of one asset. ``None`` where the item does not say."""

    key: str
    """Asset key."""
    index: int
    """Band in the file, from 1."""
    href: str
    names: tuple[str, ...]
    """Every name the item gives it: asset key, band name, common name (that last, and only if there is one)."""
    common: str | None
    dtype: str | None
    nodata: float | None
    scale: float | None
    offset: float | None
    gsd_m: float | None
    wavelength_um: float | None
    classes: tuple[tuple[int, str], ...] = ()
    """Of ``classification:classes``: value and name."""


def rasters(item: Item) -> list[Raster]:
    """Every band of pixels of an item; thumbnails, previews, true-colour pictures and metadata are left out."""
    found: list[Raster] = []
    for key, asset in item.get("assets", {}).items():
        if _is_raster(asset):
            bands = _bands(asset)
            found.extend(_raster(key, asset, band, number, len(bands)) for number, band in enumerate(bands, 1))
    return found


def _is_raster(asset: dict[str, Any]) -> bool:
    if _NOT_PIXELS & set(asset.get("roles") or ()):
        return False
    kind = str(asset.get("type") or "").lower()
    path = str(asset.get("href", "")).lower().partition("?")[0]
    if not kind:
        return path.endswith(_RASTER_SUFFIXES)
    if not kind.startswith(_RASTER_TYPES):
        return False
    bands = asset.get("eo:bands") or asset.get("bands") or []
    names = [band.get("common_name", band.get("eo:common_name")) for band in bands]
    return names != ["red", "green", "blue"]  # a picture for the eye, not measurements


def _bands(asset: dict[str, Any]) -> list[dict[str, Any]]:
    """The bands of an asset as STAC 1.1 would list them, older fields (``eo:bands``, ``raster:bands``) included."""
    modern = asset.get("bands") or []
    eo = asset.get("eo:bands") or []
    raster = asset.get("raster:bands") or []
    count = max(len(modern), len(eo), len(raster), 1)
    merged: list[dict[str, Any]] = []
    for number in range(count):
        band: dict[str, Any] = {}
        for source in (modern, eo, raster):
            if number < len(source) and isinstance(source[number], dict):
                band.update(source[number])
        merged.append(band)
    return merged


def _raster(key: str, asset: dict[str, Any], band: dict[str, Any], number: int, count: int) -> Raster:
    def field(*names: str) -> Any:
        for place in (band, asset):
            for name in names:
                if place.get(name) is not None:
                    return place[name]
        return None

    common = band.get("common_name", band.get("eo:common_name"))
    name = band.get("name")
    names = [key if count == 1 else f"{key}_{number}", name, band.get("description") if count > 1 else None]
    classes = field("classification:classes") or ()
    return Raster(
        key=key,
        index=int(asset.get("geossl:band", number)),
        href=str(asset["href"]),
        names=tuple(dict.fromkeys(str(text) for text in (*names, common) if text)),
        common=common,
        dtype=field("data_type", "raster:data_type"),
        nodata=_number(field("nodata", "raster:nodata")),
        scale=_number(field("scale", "raster:scale")),
        offset=_number(field("offset", "raster:offset")),
        gsd_m=_number(field("gsd", "eo:gsd", "raster:spatial_resolution", "spatial_resolution")),
        wavelength_um=_number(field("center_wavelength", "eo:center_wavelength")),
        classes=tuple((int(entry["value"]), str(entry.get("name", ""))) for entry in classes if "value" in entry),
    )


def _number(value: Any) -> float | None:
    """A number; STAC writes NaN and infinities as strings."""
    if value is None or isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def geobox(item: Item, key: str) -> GeoBox | None:
    """The grid of one asset from the projection extension (asset first, then item); ``None`` if the item is silent."""
    from odc.geo.geobox import GeoBox

    crs = crs_text(item, key)
    places = (item["assets"][key], item.get("properties", {}))
    shape = next((place["proj:shape"] for place in places if place.get("proj:shape")), None)
    transform = next((place["proj:transform"] for place in places if place.get("proj:transform")), None)
    if crs is None or shape is None or transform is None:
        return None
    from affine import Affine

    return GeoBox((int(shape[0]), int(shape[1])), Affine(*transform[:6]), crs)


def crs_text(item: Item, key: str) -> str | None:
    """The CRS of an asset as a code or WKT; an empty ``proj:epsg`` does not hide ``proj:wkt2``."""
    import json

    for place in (item["assets"][key], item.get("properties", {})):
        if place.get("proj:code"):
            return str(place["proj:code"])
        if place.get("proj:epsg"):
            return f"EPSG:{int(place['proj:epsg'])}"
        if place.get("proj:wkt2"):
            return str(place["proj:wkt2"])
        if place.get("proj:projjson"):
            return json.dumps(place["proj:projjson"])
    return None


def word(text: str) -> str:
    """A name ODC accepts: letters, digits and underscores."""
    return re.sub(r"\W+", "_", text).strip("_").lower()
