"""A picture of a map for people: colours, legend, scale bar, title and dates; what could not be seen is grey."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
import rasterio
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from shapely.geometry.base import BaseGeometry

from geossl.maps.legend import MASKED_COLOUR, Legend
from geossl.maps.sources import inside_mask

LONGEST_PX = 1000
_OUTSIDE = (1.0, 1.0, 1.0, 0.0)


def draw_quicklook(
    raster: Path, target: Path, legend: Legend, outline: BaseGeometry, title: str, subtitle: str
) -> None:
    """Draw a class or value raster as PNG.

    Args:
        raster: ``class.tif`` or ``value.tif``; nodata is drawn grey inside ``outline`` and left blank outside.
        target: the PNG.
        legend: classes, or the quantity's unit.
        outline: the mapped area in the raster's CRS.
        title: first line.
        subtitle: dates and source.
    """
    with rasterio.open(raster) as source:
        shrink = max(1.0, max(source.shape) / LONGEST_PX)
        shape = (max(1, round(source.height / shrink)), max(1, round(source.width / shrink)))
        values = source.read(1, out_shape=shape, resampling=Resampling.nearest, masked=True)
        geobox = GeoBox(source.shape, source.transform, source.crs.to_wkt()).zoom_to(shape)
        pixel_m = _ground_pixel_m(geobox)
    inside = inside_mask(outline, geobox)
    unseen = np.ma.getmaskarray(values) & inside
    picture = np.empty((*shape, 4))
    picture[:] = _OUTSIDE
    picture[unseen] = to_rgba(MASKED_COLOUR)
    seen = ~np.ma.getmaskarray(values)
    scale = None
    if legend.classes:
        shown = [entry for entry in legend.classes if (values[seen] == entry.value).any()]
        for entry in shown:
            picture[seen & (values.data == entry.value)] = to_rgba(entry.colour)
        handles = [
            Patch(facecolor=entry.colour, edgecolor="#444444", lw=0.4, label=fill(entry.name, 34)) for entry in shown
        ]
    else:
        handles = []
        low, high = legend.limits or value_range(values.compressed())
        scale = (LinearSegmentedColormap.from_list("value", list(legend.ramp)), Normalize(low, high))
        picture[seen] = scale[0](scale[1](values.data[seen]))
    if unseen.any():
        handles.append(_patch(MASKED_COLOUR, legend.unseen))
    figure = _page(shape)
    axes = figure.subplots()
    axes.imshow(picture, interpolation="nearest" if shrink == 1 else "antialiased")
    axes.set_axis_off()
    axes.set_title(f"{title}\n", loc="left", fontsize=13, fontweight="bold")
    axes.text(0, 1.008, subtitle, transform=axes.transAxes, fontsize=9, color="#333333", va="bottom")
    if handles:
        axes.legend(
            handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9, borderaxespad=0
        )
    if scale is not None:
        from matplotlib.cm import ScalarMappable

        figure.colorbar(ScalarMappable(scale[1], scale[0]), ax=axes, shrink=0.6, label=legend.unit or "value")
    _scale_bar(axes, shape, pixel_m)
    figure.savefig(
        target, metadata={"Software": None}, bbox_inches="tight", pil_kwargs={"compress_level": 3}, facecolor="white"
    )


def _patch(colour: str, name: str) -> Patch:
    return Patch(facecolor=colour, edgecolor="#444444", lw=0.4, label=fill(name, 34))


def value_range(values: np.ndarray) -> tuple[float, float]:
    """The 2nd and 98th percentile of values, as the range their colours span; (0, 1) where there are none."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = (float(number) for number in np.percentile(finite, [2, 98]))
    return (low, high) if high > low else (low, low + 1.0)


def _page(shape: tuple[int, int]) -> Figure:
    height, width = shape
    side = 7.5
    scale = side / max(height, width)
    return Figure(figsize=(max(width * scale, 3.5) + 3.2, max(height * scale, 2.5) + 1.1), dpi=120)


def _ground_pixel_m(geobox: GeoBox) -> float:
    """Width of a pixel on the ground at the middle of the picture, metres."""
    width = abs(geobox.resolution.x)
    if geobox.crs is not None and geobox.crs.geographic:
        latitude = geobox.boundingbox.bbox[1] / 2 + geobox.boundingbox.bbox[3] / 2
        return width * 111_320 * math.cos(math.radians(latitude))
    return float(width)


def _scale_bar(axes: Axes, shape: tuple[int, int], pixel_m: float) -> None:
    """A bar of a round length, a fifth of the picture or less, under its lower left corner."""
    height, width = shape
    most = width * pixel_m / 4
    power = 10 ** math.floor(math.log10(most))
    length = max(step for step in (1, 2, 5) if step * power <= most) * power
    label = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    pixels = length / pixel_m
    thick = max(height, width) * 0.008
    top = height + 2.2 * thick
    for part, colour in enumerate(("black", "white")):
        axes.add_patch(
            Rectangle(
                (part * pixels / 2, top), pixels / 2, thick, facecolor=colour, edgecolor="black", lw=0.8, clip_on=False
            )
        )
    axes.text(pixels + 2 * thick, top + thick / 2, label, va="center", ha="left", fontsize=9)
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height + 4.5 * thick, -0.5)


def period_text(days: Sequence[object]) -> str:
    """The dates of a map in words: one date, or the first and last with their number."""
    known = [day for day in days if day is not None]
    if not known:
        return "date not known" if days else "nothing clear"
    if len(known) == 1:
        return str(known[0])
    return f"{known[0]} to {known[-1]}, {len(known)} clear dates"
