"""What a map will be, before any pixel is read: the head, the source of pixels, the grid, the windows, the place.

Everything that can be wrong with the input is found here, so that a wrong command starts nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from odc.geo.geobox import GeoBox
from shapely import union_all

from geossl.artefacts import MANIFEST, hash_file, hash_json
from geossl.config import geossl_home
from geossl.errors import InputError
from geossl.evaluation.controls import INDICES
from geossl.maps.composite import IndexComposite, NearbyCloudSource, WithoutHead
from geossl.maps.dated import DatedSource
from geossl.maps.layers import span_of
from geossl.maps.legend import Legend, make_legend
from geossl.maps.predictors import MapHead, make_predictor
from geossl.maps.references import ReferenceSource
from geossl.maps.sources import (
    ApplicableSource,
    ChipMosaicSource,
    CubeSource,
    SeenBedSource,
    WindowSource,
    grow_to_cells,
)
from geossl.maps.stream import Predictor, make_layout
from geossl.maps.trusted import TrustedHead, trusted
from geossl.maps.windows import Layout
from geossl.progress import warn
from geossl.regions import Period, Region, load_region, parse_months, parse_period
from geossl.tasks.anomaly import reference_bands
from geossl.tasks.deep_water import NEEDED
from geossl.tasks.matching import OPTION, differ

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from geossl.chips.chipset import ChipSet
    from geossl.cube.connect import Product, Scene

MAX_CELLS = 2_000_000_000
Bands = Callable[[Sequence[str]], Sequence[str]]
"""The bands that are read, from those there are."""


@dataclass(frozen=True)
class MapPlan:
    """A map that could be made; ``--dry-run`` prints it.

    Attributes:
        out: the layer's folder.
        task: name of the task.
        region: name of the region, or of the chip set and block.
        source: product or chip set.
        days: days with pixels.
        scenes: number of scenes (or chips).
        shape: rows and columns of the map.
        crs: its CRS.
        resolution_m: side of a map cell, in units of the CRS.
        windows: windows to predict.
        reads: files that will be opened, at most.
        inputs: all that the map depends on; its hash is the identity of the layer.
    """

    out: Path
    task: str
    region: str
    source: str
    days: tuple[date | None, ...]
    scenes: int
    shape: tuple[int, int]
    crs: str
    resolution_m: float
    windows: int
    reads: int
    inputs: dict[str, Any]


@dataclass(frozen=True)
class Workpieces:
    """A plan with the objects that carry it out."""

    plan: MapPlan
    pixels: WindowSource
    predictor: Predictor
    layout: Layout
    legend: Legend
    grid: GeoBox
    """Grid of the map's cells."""
    head_id: str
    head_path: Path | None
    span: tuple[date, date]


def make_plan(
    head: str | Path | MapHead,
    *,
    region: str | Path | Region | None = None,
    chips: str | Path | ChipSet | None = None,
    block: str | None = None,
    product: str | None = None,
    period: str | Period | None = None,
    months: str | Sequence[int] | None = None,
    out: str | Path | None = None,
    trust: bool = False,
    other_pixels: bool = False,
) -> Workpieces:
    """Check the input of :func:`geossl.maps.make.make_map` and say what will be done; see there."""
    if (region is None) == (chips is None):
        raise InputError(
            "say where the map's pixels come from",
            expected="either a region (--region, read from the cube) or ready chips (--chips with --block)",
            found="both" if region is not None else "neither",
        )
    when = parse_period(period) if isinstance(period, str) else period
    in_months = parse_months(months) if isinstance(months, str) else tuple(months) if months else None
    asked, head_id, head_path = open_head(head)
    if trust:
        asked = trusted(asked)
    legend, predictor = _legend_and_predictor(asked)
    bands: Bands = asked.bands_in if isinstance(asked, WithoutHead) else lambda there: asked.bands
    pixels: WindowSource
    if chips is not None:
        pixels, name = _from_chips(chips, block, when, in_months, bands, predictor)
    else:
        area = region if isinstance(region, Region) else load_region(str(region))
        when, in_months = when or area.period, in_months or area.months
        mapped, name = _from_cube(area, product, when, in_months, bands, predictor), area.name
        pixels = mapped
    rules = tuple(getattr(asked.task, "not_applicable", ()))
    if rules:
        for rule in rules:
            check_bands(INDICES[rule.index], asked.bands, f"task {asked.task.name}: not_applicable {rule.index}")
        pixels = ApplicableSource(pixels, rules)
    deep = getattr(asked.task, "not_seen", None)
    if deep is not None:
        check_bands(NEEDED, asked.bands, f"task {asked.task.name}: not_seen")
        pixels = SeenBedSource(pixels, deep)
    if isinstance(asked, IndexComposite) and asked.composite == "best":
        pixels = NearbyCloudSource(pixels)
    references = tuple(getattr(asked.task, "references", ()))
    if references:
        check_bands(reference_bands(references), asked.bands, f"task {asked.task.name}: references")
        needed = reference_bands(references)
        archive: WindowSource
        if chips is not None:
            archive = _from_chips(chips, block, None, None, lambda there: needed, predictor)[0]
            _same_grid(archive, pixels)
        else:
            archive = _from_cube(area, product, None, None, lambda there: needed, predictor).on_grid_of(mapped)
        pixels = ReferenceSource(pixels, archive, references, asked.task.season_days)
    if isinstance(asked, WithoutHead):
        predictor = asked.on(pixels.days)
    if getattr(asked.task, "needs_days", False):
        pixels = DatedSource(pixels)
    span = span_of(pixels.days, when)
    _compare_resolution(asked, pixels.geobox, other_pixels)
    layout = make_layout((pixels.geobox.height, pixels.geobox.width), predictor.sizes, predictor.cell_px)
    grid = pixels.geobox.zoom_out(predictor.cell_px) if predictor.cell_px > 1 else pixels.geobox
    inputs = {
        "head": head_id,
        "task": asked.task.name,
        "legend": [[entry.value, entry.name, entry.colour] for entry in legend.classes] or legend.unit,
        "ordinal": legend.ordinal,
        "not_applicable": [rule.model_dump() for rule in rules],
        **({"not_seen": deep.model_dump()} if deep is not None else {}),
        **({"trust": list(legend.trust)} if legend.trust else {}),
        "source": pixels.origin,
        "bands": list(pixels.bands),
        "scenes": list(pixels.scene_ids),
        "days": pixels.days,
        "area": hash_json(pixels.footprint().wkt),
        "period": str(when) if when else None,
        "months": list(in_months) if in_months else None,
        "crs": str(grid.crs),
        "transform": list(grid.transform[:6]),
        "shape": list(grid.shape),
        "windows": {"size": [layout.rows.size, layout.columns.size], "cell_px": predictor.cell_px,
                    "rows": len(layout.rows.starts), "columns": len(layout.columns.starts)},
    }  # fmt: skip
    usual = geossl_home() / "maps" / f"{asked.task.name}-{name}" / _period_folder(span, in_months)
    folder = Path(out) if out else usual
    plan = MapPlan(
        out=folder.absolute(),
        task=str(asked.task.name),
        region=name,
        source=pixels.origin,
        days=pixels.days,
        scenes=len(pixels.scene_ids),
        shape=(int(grid.shape[0]), int(grid.shape[1])),
        crs=str(grid.crs),
        resolution_m=abs(float(grid.resolution.x)),
        windows=layout.count,
        reads=pixels.reads_per_window * layout.count,
        inputs=inputs,
    )
    return Workpieces(plan, pixels, predictor, layout, legend, grid, head_id, head_path, span)


def _period_folder(span: tuple[date, date], months: Sequence[int] | None) -> str:
    days = "_".join(dict.fromkeys(day.isoformat() for day in span))
    return days + (f"_months-{'-'.join(map(str, months))}" if months else "")


def open_head(head: str | Path | MapHead) -> tuple[MapHead, str, Path | None]:
    """The head, its identity (hash of its files) and its folder."""
    if not isinstance(head, str | Path):
        return head, str(getattr(head, "id", type(head).__name__)), getattr(head, "path", None)
    from geossl.tasks.heads import load_head

    path = Path(head).absolute()
    opened: MapHead = load_head(path)
    files = sorted([path / MANIFEST, *path.rglob("*.safetensors")])
    return opened, hash_json([[file.relative_to(path), hash_file(file)] for file in files]), path


def _legend_and_predictor(head: MapHead) -> tuple[Legend, Predictor]:
    """What the map's values mean, and what makes them."""
    if isinstance(head, WithoutHead):
        return head.legend, cast(Predictor, head)
    legend = make_legend(head.task)
    if isinstance(head, TrustedHead):
        legend = replace(legend, trust=head.planes)
    chip_px = getattr(head, "chip_px", None)
    return legend, make_predictor(head, legend.channels, legend.kind, str(head.task.temporal), chip_px)


def _same_grid(archive: WindowSource, mapped: WindowSource) -> None:
    """Refuse chips of other dates that span another picture than those to be mapped."""
    if archive.geobox != mapped.geobox:
        raise InputError(
            "the chips of other years do not cover what is mapped",
            where=mapped.origin,
            expected=f"chips of all dates over {tuple(mapped.geobox.shape)} pixels",
            found=f"{tuple(archive.geobox.shape)} pixels",
            remedy="map from the cube with --region",
        )


def _compare_resolution(head: MapHead, geobox: GeoBox, allowed: bool) -> None:
    """Refuse pixels of another size than the head has learnt from, unless they are allowed as they are.

    Raises:
        InputError: as said.
    """
    taught = getattr(head, "meta", {}).get("resolution_m")
    pixel = abs(float(geobox.resolution.x))
    if not taught or geobox.crs is None or geobox.crs.geographic or not differ(float(taught), pixel):
        return
    if allowed:
        warn(f"this head has learnt from pixels of {taught:g} m, this map has pixels of {pixel:g} m")
        return
    raise InputError(
        "this head has learnt from pixels of another size",
        where="the map's grid",
        expected=f"pixels of {taught:g} m",
        found=f"pixels of {pixel:g} m",
        remedy=f"set resolution_m: {taught:g} in the region's YAML (scenes are resampled), or allow it with {OPTION}",
    )


def check_bands(wanted: Sequence[str], there: Sequence[str], source: str) -> None:
    """Raise ``InputError`` when the head needs bands that the source lacks."""
    missing = [band for band in wanted if band not in there]
    if missing:
        raise InputError(
            f"this head needs bands that {source} does not have",
            where=source,
            expected=f"bands {', '.join(wanted)}",
            found=f"bands {', '.join(there)}; missing: {', '.join(missing)}",
            remedy="choose a product with these bands, or train an encoder and a head on the bands of this one",
        )


def _from_chips(
    chips: str | Path | ChipSet,
    block: str | None,
    when: Period | None,
    months: Sequence[int] | None,
    bands: Bands,
    predictor: Predictor,
) -> tuple[ChipMosaicSource, str]:
    """Ready chips of one block as a source, and its name."""
    if isinstance(chips, str | Path):
        from geossl.chips.open import open_chips

        chips = open_chips(chips)
    wanted = bands(chips.bands)
    check_bands(wanted, chips.bands, f"chip set {chips.name}")
    blocks = chips.table["block"].astype(str)
    sizes = blocks.value_counts()
    if block is None or block not in sizes.index:
        largest = ", ".join(f"{name} ({number})" for name, number in sizes.sort_index().sort_values(
            ascending=False, kind="stable").head(5).items())  # fmt: skip
        raise InputError(
            "say which block to map" if block is None else f"unknown block '{block}'",
            where=f"chip set {chips.name}",
            expected=f"--block with one of {len(sizes)} blocks; those with most chips: {largest}",
        )
    chosen = (blocks == block).to_numpy()
    if (when is not None or months) and chips.table["datetime"].notna().any():
        dates = chips.table["datetime"].dt.date
        chosen = chosen & np.array([_on(stamp, when, months) for stamp in dates], bool)
        if not chosen.any():
            raise InputError(
                "no chip of this block lies in the period",
                where=f"chip set {chips.name}, block {block}",
                expected=f"{when or 'any time'}{f', months {sorted(months)}' if months else ''}",
                found=f"dates {min(dates.dropna())} to {max(dates.dropna())}",
            )
    rows = np.flatnonzero(chosen).tolist()
    source = ChipMosaicSource(chips, rows, wanted, predictor.cell_px, predictor.least_px)
    return source, f"{chips.name}-{block}"


def _on(day: date, when: Period | None, months: Sequence[int] | None) -> bool:
    """Whether a chip's date (NaT: not known) is one of those asked for."""
    return day == day and (when is None or when.contains(day)) and (not months or day.month in months)


def _from_cube(
    region: Region,
    product: str | None,
    when: Period | None,
    months: Sequence[int] | None,
    bands: Bands,
    predictor: Predictor,
) -> CubeSource:
    """Scenes of the cube over a region as a source."""
    from geossl.cube.connect import choose_product

    cube, chosen = choose_product(region, product)
    with cube:
        wanted = bands(chosen.bands)
        check_bands(wanted, chosen.bands, f"product {chosen.name}")
        scenes = cube.find(chosen, region.geometry, when, months)
        if not scenes:
            raise _no_scenes(cube.find(chosen, region.geometry), chosen, region, when, months)
    grid, outline = map_grid(region, scenes)
    grid = grow_to_cells(grid, predictor.cell_px, predictor.least_px)
    if grid.shape[0] * grid.shape[1] > MAX_CELLS:
        raise InputError(
            "this map would be very large",
            where=f"region {region.name}",
            expected=f"at most {MAX_CELLS:,} pixels",
            found=f"{grid.shape[0]} × {grid.shape[1]} pixels",
            remedy="map the region in parts",
        )
    return CubeSource(chosen, scenes, wanted, grid, outline)


def _no_scenes(
    others: Sequence[Scene], product: Product, region: Region, when: Period | None, months: Sequence[int] | None
) -> InputError:
    asked = f"{when or 'any time'}{f', months {sorted(months)}' if months else ''}"
    days = sorted({scene.solar_day for scene in others})
    return InputError(
        "no scene lies over this region in this period",
        where=f"product {product.name}, region {region.name}",
        expected=f"scenes in {asked}",
        found=f"{len(days)} dates from {days[0]} to {days[-1]}" if days else "no scene at any time",
        remedy="choose another --period" if days else "index scenes of this region (geossl cube index)",
    )


def map_grid(region: Region, scenes: Sequence[Scene]) -> tuple[GeoBox, BaseGeometry]:
    """The part of the region's tile grid where the region and the scenes' rasters meet, and its outline in that CRS.

    Pixels of a map are pixels of the region's chips; a hundredth of a pixel at the edge is left out. A region much
    larger than its scenes gives a map of the scenes.
    """
    from geossl.chips.grid import region_grid, to_grid_crs

    tiles = region_grid(region, scenes)
    rasters = {scene.geobox.extent.to_crs(tiles.crs).geom for scene in scenes}
    outline = to_grid_crs(region.geometry, tiles.crs).intersection(union_all(list(rasters)))
    if outline.is_empty:
        raise InputError("the region only touches its scenes", where=f"region {region.name}", remedy="enlarge it")
    west, south, east, north = outline.bounds
    left, right = ((x - tiles.origin[0]) / tiles.resolution[0] for x in (west, east))
    top, bottom = ((tiles.origin[1] - y) / tiles.resolution[1] for y in (north, south))
    column, row = math.floor(left + 0.01), math.floor(top + 0.01)
    width, height = (max(1, math.ceil(end - 0.01) - start) for end, start in ((right, column), (bottom, row)))
    return tiles.window(column, row, width, height), outline
