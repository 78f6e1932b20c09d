"""The files of the raster of cells: COGs, a picture of the first three components, and a STAC item."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import numpy as np
import rasterio
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from shapely.geometry.base import BaseGeometry

from geossl import rasters, stac
from geossl.maps.embed_cells import CellSink, Components
from geossl.maps.embed_plan import EmbedWork
from geossl.maps.legend import MASKED_COLOUR
from geossl.maps.quicklook import LONGEST_PX, period_text, value_range
from geossl.maps.sources import inside_mask

FILES = {"cells": "cells.tif", "clear_dates": "clear_dates.tif"}
QUICKLOOK = "quicklook.png"
COMPONENT_FILE = "components.safetensors"
TABLE = "embeddings.parquet"


def write_cells(folder: Path, work: EmbedWork, sink: CellSink, components: Components, days: list[date | None]) -> None:
    """COGs, picture, ``item.json`` and ``collection.json`` of finished working rasters."""
    assert work.mosaic is not None and work.span is not None and work.plan.cells is not None
    for name, path in sink.paths.items():
        overviews = "average" if name == "cells" else "nearest"
        rasters.write_cog(path, folder / FILES[name], overviews=overviews)
    outline = work.mosaic.footprint()
    draw_components(
        folder / FILES["cells"], folder / QUICKLOOK, outline, f"Embedding of cells — {work.plan.name}",
        f"{period_text(days)}  ·  {work.chips.name}", components.explained,
    )  # fmt: skip
    first, last = work.span
    grid = work.mosaic.geobox.zoom_out(work.encoder.strides[0])
    placement = stac.Placement(outline, str(grid.crs), work.plan.cells, grid.affine)
    bands = [
        {"name": f"component {n}", "data_type": "float32", "nodata": "nan", "geossl:variance_share": round(share, 5)}
        for n, share in enumerate(components.explained, 1)
    ]  # fmt: skip
    parquet = "application/vnd.apache.parquet"
    assets = {
        "cells": stac.AssetFile(
            FILES["cells"], "principal components of the encoder's maps, mean over clear dates", stac.COG_TYPE,
            ("data",), {"bands": bands},
        ),
        "clear_dates": stac.AssetFile(FILES["clear_dates"], "number of clear dates", stac.COG_TYPE, ("metadata",)),
        "chips": stac.AssetFile(TABLE, "embeddings of chips", parquet, ("data",)),
        "components": stac.AssetFile(
            COMPONENT_FILE, "basis and offset of the components", "application/octet-stream", ("metadata",)
        ),
        "quicklook": stac.AssetFile(QUICKLOOK, "first three components", "image/png", ("overview",)),
    }  # fmt: skip
    properties = {
        "title": f"Embeddings, {work.plan.name}, {period_text(days)}",
        "geossl:encoder": work.inputs["encoder"],
        "geossl:chips": work.chips.name,
        "geossl:dates": [day.isoformat() for day in days if day is not None],
    }
    manifest = Path(os.path.relpath(work.plan.encoder / "manifest.json", folder)).as_posix()
    name = f"embedding-{work.plan.name}"
    item = stac.make_item(
        f"{name}-{first.isoformat()}-{last.isoformat()}", placement, first, last, assets, properties, [manifest]
    )
    told = f"Embeddings of {work.plan.name}, made by geossl"
    stac.write_item_folder(folder, item, stac.make_collection(name, "Embeddings", told, [item]))


def draw_components(
    raster: Path, target: Path, outline: BaseGeometry, title: str, subtitle: str, explained: tuple[float, ...]
) -> None:
    """The first three components as red, green and blue, each from its 2nd to its 98th percentile, as PNG.

    ``outline`` is in the raster's CRS: cells in it that were not seen are grey, those beyond it blank.
    """
    with rasterio.open(raster) as source:
        shrink = max(1.0, max(source.shape) / LONGEST_PX)
        shape = (max(1, round(source.height / shrink)), max(1, round(source.width / shrink)))
        bands = list(range(1, min(3, source.count) + 1))
        values = source.read(bands, out_shape=(len(bands), *shape), resampling=Resampling.nearest)
        geobox = GeoBox(source.shape, source.transform, source.crs.to_wkt()).zoom_to(shape)
    values = values[[0, 1, 2] if len(bands) == 3 else [0, 0, 0]]
    seen = np.isfinite(values).all(0)
    picture = np.ones((*shape, 3))
    picture[inside_mask(outline, geobox)] = to_rgb(MASKED_COLOUR)
    for place, band in enumerate(values):
        low, high = value_range(band[seen])
        picture[..., place][seen] = np.clip((band[seen] - low) / (high - low), 0, 1)
    height, width = shape
    scale = 7.5 / max(height, width)
    figure = Figure(figsize=(max(width * scale, 4.5) + 0.3, max(height * scale, 2.5) + 1.1), dpi=120)
    axes = figure.subplots()
    axes.imshow(picture, interpolation="nearest" if shrink == 1 else "antialiased")
    axes.set_axis_off()
    axes.set_title(f"{title}\n", loc="left", fontsize=13, fontweight="bold")
    axes.text(0, 1.008, subtitle, transform=axes.transAxes, fontsize=9, color="#333333", va="bottom")
    shares = ", ".join(f"{100 * share:.0f} %" for share in explained[:3])
    note = f"red, green, blue: components 1 to 3 ({shares} of the variance); grey: not seen"
    axes.text(0, -0.015, note, transform=axes.transAxes, fontsize=8, color="#333333", va="top")
    figure.savefig(target, metadata={"Software": None}, bbox_inches="tight", facecolor="white")
