"""Scenes on disk: COGs and STAC items in the form of Element 84's Earth Search v1, a static catalogue around them.

    scenes/catalog.json
    scenes/sandbox_s2_l2a/collection.json
    scenes/sandbox_s2_l2a/<scene>/<scene>.json, coastal.tif, blue.tif, …, scl.tif

All links are relative, and nothing in the files depends on when or where they were written.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
from shapely.geometry import box, mapping
from shapely.ops import transform

from geossl.artefacts import atomic_directory, to_json, write_json
from geossl.sandbox.dates import Acquisition
from geossl.sandbox.files import encode_cog, write_bytes
from geossl.sandbox.render import Rendered
from geossl.sandbox.spec import PRODUCT, Frame, SandboxSpec
from geossl.sandbox.spectra import BANDS

_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_SCHEMAS = [
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in (
        "processing/v1.1.0", "grid/v1.0.0", "raster/v1.1.0", "view/v1.0.0", "projection/v1.1.0", "mgrs/v1.0.0",
        "eo/v1.1.0", "file/v2.1.0",
    )
]  # fmt: skip
_SCL_SHARES = {
    "s2:saturated_defective_pixel_percentage": (1,),
    "s2:dark_features_percentage": (2,),
    "s2:cloud_shadow_percentage": (3,),
    "s2:vegetation_percentage": (4,),
    "s2:not_vegetated_percentage": (5,),
    "s2:water_percentage": (6,),
    "s2:unclassified_percentage": (7,),
    "s2:medium_proba_clouds_percentage": (8,),
    "s2:high_proba_clouds_percentage": (9,),
    "s2:thin_cirrus_percentage": (10,),
    "s2:snow_ice_percentage": (11,),
    "eo:cloud_cover": (8, 9, 10),
}


def scene_folder(root: Path, scene_id: str) -> Path:
    """Where a scene lies below a sandbox's own folder."""
    return root / "scenes" / PRODUCT / scene_id


def is_written(root: Path, scene_id: str) -> bool:
    """Whether the scene is there as a whole (its folder appears with all its files at once)."""
    return (scene_folder(root, scene_id) / f"{scene_id}.json").is_file()


def write_scene(root: Path, spec: SandboxSpec, frame: Frame, acquisition: Acquisition, rendered: Rendered) -> None:
    """The bands, the scene classification and the item of one scene."""
    with atomic_directory(scene_folder(root, acquisition.id)) as folder:
        assets: dict[str, Any] = {}
        for band in BANDS:
            data = encode_cog(rendered.bands[band.key], frame, band.gsd_m, nodata=0, overviews="average")
            write_bytes(folder / f"{band.key}.tif", data)
            description = {
                "name": band.key,
                "common_name": band.common,
                "description": band.title,
                "center_wavelength": band.wavelength_um,
                "full_width_half_max": band.width_um,
            }
            pixels = {"data_type": "uint16", "bits_per_sample": 15, "scale": 0.0001, "offset": -0.1}
            assets[band.key] = {
                **_asset(f"{band.key}.tif", f"{band.title} - {band.gsd_m}m", frame, band.gsd_m, pixels, data),
                "eo:bands": [description],
                "gsd": band.gsd_m,
            }
        data = encode_cog(rendered.scl, frame, 20, nodata=0, overviews="nearest")
        write_bytes(folder / "scl.tif", data)
        title = "Scene classification map (SCL)"
        assets["scl"] = _asset("scl.tif", title, frame, 20, {"data_type": "uint8"}, data)
        half = frame.size // 2
        item = make_item(spec, frame, acquisition, rendered.scl[:half, :half], assets)
        write_bytes(folder / f"{acquisition.id}.json", to_json(item).encode())


def _asset(name: str, title: str, frame: Frame, gsd_m: int, pixels: dict[str, Any], data: bytes) -> dict[str, Any]:
    return {
        "href": f"./{name}",
        "type": _COG,
        "title": title,
        "proj:shape": list(frame.shape(gsd_m)),
        "proj:transform": [float(number) for number in frame.transform(gsd_m)[:6]],
        "raster:bands": [{"nodata": 0, "spatial_resolution": gsd_m, **pixels}],
        "roles": ["data", "reflectance"],
        "file:size": len(data),
        "file:checksum": "1220" + hashlib.sha256(data).hexdigest(),  # multihash: sha2-256, 32 bytes
    }


def make_item(
    spec: SandboxSpec, frame: Frame, acquisition: Acquisition, scl: np.ndarray, assets: dict[str, Any]
) -> dict[str, Any]:
    """The STAC item of a scene; percentages come from its scene classification ``scl``, as Sen2Cor's do."""
    counts = np.bincount(scl.ravel(), minlength=12)
    seen = max(1, int(counts[1:].sum()))
    shares = {key: round(100 * int(counts[list(codes)].sum()) / seen, 6) for key, codes in _SCL_SHARES.items()}
    to_degrees = pyproj.Transformer.from_crs(frame.crs, "EPSG:4326", always_xy=True).transform
    # Points every 1.6 km keep the straight edges of the square where they are in degrees.
    outline = transform(to_degrees, box(*frame.bounds).segmentize(1600))
    code = pyproj.CRS.from_user_input(frame.crs).to_epsg()
    tile, stamp = spec.mgrs_tile, acquisition.datetime
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": _SCHEMAS,
        "id": acquisition.id,
        "collection": PRODUCT,
        "geometry": _rounded(mapping(outline)),
        "bbox": [round(number, 7) for number in outline.bounds],
        "properties": {
            "datetime": stamp.isoformat().replace("+00:00", "Z"),
            "platform": acquisition.platform,
            "constellation": "sentinel-2",
            "instruments": ["msi"],
            "proj:epsg": code,
            "proj:shape": list(frame.shape(10)),
            "proj:transform": [float(number) for number in frame.transform(10)[:6]],
            "mgrs:utm_zone": int(tile[:2]),
            "mgrs:latitude_band": tile[2],
            "mgrs:grid_square": tile[3:],
            "grid:code": f"MGRS-{tile}",
            "view:sun_azimuth": round(acquisition.sun.azimuth, 4),
            "view:sun_elevation": round(acquisition.sun.elevation, 4),
            "s2:product_type": "S2MSI2A",
            "s2:processing_baseline": "05.10",
            "s2:nodata_pixel_percentage": round(100 * int(counts[0]) / scl.size, 6),
            "s2:sequence": "0",
            **shares,
            "earthsearch:boa_offset_applied": False,
            "processing:software": {"geossl sandbox": str(spec.version)},
            "geossl:simulated": True,
        },
        "links": [
            {"rel": "root", "href": "../../catalog.json", "type": "application/json"},
            {"rel": "parent", "href": "../collection.json", "type": "application/json"},
            {"rel": "collection", "href": "../collection.json", "type": "application/json"},
        ],
        "assets": assets,
    }


def _rounded(geometry: dict[str, Any]) -> dict[str, Any]:
    rings = [[[round(x, 7), round(y, 7)] for x, y in ring] for ring in geometry["coordinates"]]
    return {"type": geometry["type"], "coordinates": rings}


def write_catalog(root: Path, spec: SandboxSpec, frame: Frame, acquisitions: list[Acquisition]) -> Path:
    """The catalogue and the collection around the written scenes; returns the catalogue's path."""
    to_degrees = pyproj.Transformer.from_crs(frame.crs, "EPSG:4326", always_xy=True).transform
    bbox = [round(number, 7) for number in transform(to_degrees, box(*frame.bounds).segmentize(1600)).bounds]
    times = [scene.datetime.isoformat().replace("+00:00", "Z") for scene in acquisitions]
    collection = {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": PRODUCT,
        "title": "Simulated Sentinel-2 L2A",
        "description": f"{spec.title}. Simulated by geossl (sandbox version {spec.version}); no satellite saw this.",
        "license": "CC0-1.0",
        "extent": {"spatial": {"bbox": [bbox]}, "temporal": {"interval": [[min(times), max(times)]]}},
        "links": [
            {"rel": "root", "href": "../catalog.json", "type": "application/json"},
            {"rel": "parent", "href": "../catalog.json", "type": "application/json"},
            *[
                {"rel": "item", "href": f"./{scene.id}/{scene.id}.json", "type": "application/geo+json"}
                for scene in acquisitions
            ],
        ],
    }
    catalog = {
        "type": "Catalog",
        "stac_version": "1.0.0",
        "id": "geossl-sandbox",
        "title": spec.title,
        "description": "Simulated scenes whose truth is known; see ../truth.",
        "links": [
            {"rel": "root", "href": "./catalog.json", "type": "application/json"},
            {"rel": "child", "href": f"./{PRODUCT}/collection.json", "type": "application/json"},
        ],
    }
    write_json(root / "scenes" / PRODUCT / "collection.json", collection)
    path = root / "scenes" / "catalog.json"
    write_json(path, catalog)
    return path
