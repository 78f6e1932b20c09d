"""Small scenes on disk and the ODC documents of them, without any database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine

from geossl.cube import documents, profiles
from geossl.cube.connect import Product, Scene, scene_of
from geossl.products import ProductProfile

Item = dict[str, Any]
ORIGIN = (600_000.0, 6_600_000.0)


def write_tif(path: Path, data: np.ndarray, gsd: float, nodata: float | None = 0, crs: str = "EPSG:32633") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = data if data.ndim == 3 else data[None]
    with rasterio.open(
        path, "w", driver="GTiff", width=bands.shape[2], height=bands.shape[1], count=bands.shape[0],
        dtype=bands.dtype, crs=crs, transform=Affine(gsd, 0, ORIGIN[0], 0, -gsd, ORIGIN[1]), nodata=nodata,
        tiled=True, blockxsize=128, blockysize=128, compress="deflate",
    ) as file:  # fmt: skip
        file.write(bands)


def make_item(folder: Path, bands: dict[str, tuple[np.ndarray, float]], name: str = "scene", **properties: Any) -> Item:
    """A STAC item in Element 84's form with its files; ``bands`` maps an asset key to pixels and pixel size."""
    assets: dict[str, Any] = {}
    for key, (data, gsd) in bands.items():
        path = folder / name / f"{key}.tif"
        write_tif(path, data, gsd)
        raster: dict[str, Any] = {"data_type": str(data.dtype), "nodata": 0}
        if key != "scl":
            raster |= {"scale": 1e-4, "offset": -0.1}
        assets[key] = {
            "href": str(path),
            "type": "image/tiff; application=geotiff",
            "roles": ["data"],
            "raster:bands": [raster],
            "proj:shape": list(data.shape),
            "proj:transform": [gsd, 0, ORIGIN[0], 0, -gsd, ORIGIN[1]],
        }
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": "sentinel-2-l2a",
        "geometry": None,
        "bbox": None,
        "links": [],
        "properties": {
            "datetime": "2024-06-01T10:00:00Z",
            "proj:epsg": 32633,
            "s2:processing_baseline": "05.10",
            **properties,
        },
        "assets": assets,
    }


def as_scene(item: Item, profile: ProductProfile | None = None) -> tuple[Scene, Product]:
    """What the cube makes of an item, without a database."""
    from datacube.index.eo3 import prep_eo3
    from datacube.metadata._utils import EO3_MD_TYPE
    from datacube.model import Dataset
    from datacube.model import Product as OdcProduct

    name = profiles.product_name(item["collection"])
    profile = profile or profiles.of_items(item["collection"], [item], None)[0]
    product = OdcProduct(EO3_MD_TYPE, documents.product_document(name, profile))
    dataset = Dataset(product, prep_eo3(documents.dataset_document(item, name, profile)), uri="file:///")
    return scene_of(dataset), Product(name, profile)
