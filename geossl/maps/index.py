"""``make_index_map``: index and composite layers without a model, extents above a limit, change against a raster."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from geossl.artefacts import hash_file, read_manifest
from geossl.config import geossl_home
from geossl.errors import InputError
from geossl.evaluation.controls import INDICES
from geossl.maps.areas import AREA_FIELDS, write_areas, write_zones
from geossl.maps.composite import IndexComposite
from geossl.maps.derive import (
    DIFFERENCE_RAMP,
    Block,
    Derived,
    change,
    change_legend,
    derive_layer,
    extent,
    extent_legend,
    is_quantity,
    mask_reader,
    warped,
)
from geossl.maps.legend import Legend
from geossl.maps.make import MapResult, carry_out, layer_facts
from geossl.maps.plan import MapPlan, Workpieces, make_plan
from geossl.regions import Period, Region, parse_months

if TYPE_CHECKING:
    from geossl.chips.chipset import ChipSet

WATER = "water"
WATER_SHARE, WATER_DATES = 0.2, 2
"""A pixel lies in water where the water index is above 0 on at least this share of its clear dates in the period, all
months of it, and on so many dates: vegetation hides the water for a season, a missed cloud shadow looks like it once.
"""
_WATER_RASTERS = ("value", "clear_dates")
VEGETATION_INDICES = ("ndvi", "ndre")


@dataclass(frozen=True)
class IndexMapResult:
    """Layers made without a model.

    Attributes:
        layers: folders of the layers: values, and where asked for water, extent and change (each of them a month).
        areas: rows of areas of all layers with classes: layer, month, value, class, pixels, hectares, share.
        table: a CSV with all rows where there are several months.
        zones: tables of areas in zones.
        maps: facts of the layers of values.
        change: folder that tells how a shoreline moved, where it was compared.
    """

    layers: tuple[Path, ...]
    areas: tuple[dict[str, Any], ...]
    table: Path | None
    zones: tuple[Path, ...]
    maps: tuple[MapResult, ...]
    change: Path | None = None


@dataclass(frozen=True)
class Places:
    """Where layers go: each to its usual place, or all into one folder."""

    out: Path | None
    alone: bool

    def of(self, task: str, region: str, days: str, month: int | None) -> Path:
        """The folder of one layer."""
        if self.out is None:
            return (geossl_home() / "maps" / f"{task}-{region}" / days).absolute()
        folder = self.out.absolute()
        return folder if self.alone else folder / (task if month is None else f"{task}-{month:02d}")


def make_index_map(
    index: str,
    composite: str = "median",
    *,
    region: str | Path | Region | None = None,
    chips: str | Path | ChipSet | None = None,
    block: str | None = None,
    product: str | None = None,
    period: str | Period | None = None,
    months: str | Sequence[int] | None = None,
    out: str | Path | None = None,
    threshold: float | None = None,
    within: str | Path | None = None,
    per_month: bool = False,
    against: str | Path | None = None,
    zones: str | Path | None = None,
    zone_name: str | None = None,
) -> IndexMapResult:
    """Publish a spectral index of a region, composed of the clear dates of a period, as a layer of values.

    Values are of reflectance as it is, so they can be compared between dates, months and regions. With ``threshold``
    a layer of the extent above it comes too, with areas a class; with ``against`` the change against a raster.

    Args:
        index: a normalised difference: ndvi, ndmi, ndwi, mndwi, ndre, nbr, ndti.
        composite: median, max, best or frequency; see :mod:`geossl.maps.composite`.
        region, chips, block, product, period, months: as in :func:`geossl.maps.make.make_map`.
        out: the layer's folder, or with several layers the folder of all; by default each has its usual place under
            ``$GEOSSL_HOME/maps``.
        threshold: the limit of the extent.
        within: with ``threshold``: where the extent is looked for: a vector file of polygons, a raster that is not 0
            there, or ``water``: where the scenes of the whole period show water on a fifth of the dates.
        per_month: layers for each month of the year that has scenes, in place of one.
        against: a raster to compare with. Whole numbers are an earlier extent (above 0: there), numbers with a
            fraction an earlier index, to which the same limit is applied; without a limit, it is subtracted.
        zones, zone_name: areas in polygons, as in :func:`geossl.maps.areas.write_zones`.

    Raises:
        InputError: unknown index or composite, wrong files, nothing to read.
        WorkError: disk full, or more than 5 % of the reads failed.
    """
    ask = _Ask(IndexComposite(index, composite), threshold, *_checked_files(threshold, within, against))
    where: dict[str, Any] = {"region": region, "chips": chips, "block": block, "product": product, "period": period}
    asked = parse_months(months) if isinstance(months, str) else tuple(months) if months else None
    whole = make_plan(ask.head, **where, months=asked)
    chosen: list[int | None] = [None]
    if per_month:
        chosen = list(dict.fromkeys(day.month for day in whole.plan.days if day is not None))
        if not chosen:
            raise InputError("these chips carry no date, so there are no months", where=whole.plan.source)
    places = Places(Path(out) if out else None, not per_month and threshold is None and against is None)
    water = _make_water(whole, where, places) if ask.within == WATER else None
    maps: list[MapResult] = []
    layers: list[Path] = []
    rows: list[dict[str, Any]] = []
    for month in chosen:
        in_months = asked if month is None else (month,)
        pieces = make_plan(ask.head, **where, months=in_months)
        days = pieces.plan.out.name
        folder = places.of(ask.head.id, pieces.plan.region, days, month)
        made = carry_out(replace(pieces, plan=replace(pieces.plan, out=folder)), time.monotonic())
        maps.append(made)
        layers.append(made.layer)
        for name, layer, areas in _derive(ask, pieces, made, water, places, month):
            layers.append(layer)
            rows += [{"layer": name, "month": month, **row} for row in areas]
    table = None
    if per_month and rows:
        folder = Path(out).absolute() if out else maps[0].layer.parent / f"areas-{whole.plan.out.name}"
        write_areas(folder, rows, ("layer", "month", *AREA_FIELDS))
        table = folder / "areas.csv"
    tables = [write_zones(layer, zones, zone_name) for layer in layers] if zones else []
    return IndexMapResult(
        tuple([water.layer, *layers] if water else layers), tuple(rows), table, tuple(tables), tuple(maps)
    )


def plan_index_map(index: str, composite: str = "median", **where: Any) -> MapPlan:
    """What :func:`make_index_map` would read with the same arguments, without reading a pixel."""
    return make_plan(IndexComposite(index, composite), **where).plan


@dataclass(frozen=True)
class _Ask:
    """What is asked for besides the values."""

    head: IndexComposite
    threshold: float | None
    within: Path | str | None
    against: Path | None

    @property
    def extent_name(self) -> str:
        """The task of the extent's layer: what it is of, the limit, and where."""
        place = "" if self.within is None else f"-in-{self.within if self.within == WATER else Path(self.within).stem}"
        return f"{self.head.id}-above-{self.threshold:g}{place}"


def _checked_files(
    threshold: float | None, within: str | Path | None, against: str | Path | None
) -> tuple[Path | str | None, Path | None]:
    """``within`` and ``against`` as they are used, refused where they make no sense together."""
    if within is not None and threshold is None:
        raise InputError("--within says where an extent is looked for", expected="--threshold with it")
    if within is not None and within != WATER:
        within = Path(within)
        if not within.is_file():
            raise InputError("no such file", where=within, expected="polygons, a raster, or the word water: --within")
    raster = Path(against) if against is not None else None
    if raster is not None and not raster.is_file():
        raise InputError("no such raster", where=raster, remedy="check --against")
    if raster is not None and threshold is None and not is_quantity(raster):
        raise InputError(
            "this raster holds whole numbers, an extent",
            where=raster,
            expected="--threshold, so that there is an extent to compare it with",
        )
    return within, raster


def _make_water(whole: Workpieces, where: dict[str, Any], places: Places) -> MapResult:
    """The layer that says how often there is water: MNDWI where there is short-wave infrared, else NDWI."""
    index = "mndwi" if set(INDICES["mndwi"]) <= set(whole.pixels.available) else "ndwi"
    head = IndexComposite(index, "frequency")
    pieces = make_plan(head, **where)
    folder = places.of(head.id, pieces.plan.region, pieces.plan.out.name, None)
    return carry_out(replace(pieces, plan=replace(pieces.plan, out=folder)), time.monotonic())


def _derive(
    ask: _Ask, pieces: Workpieces, made: MapResult, water: MapResult | None, places: Places, month: int | None
) -> Iterator[tuple[str, Path, list[dict[str, Any]]]]:
    """Make the layers that follow from one layer of values: name, folder and areas of each."""
    facts = layer_facts(pieces, tuple(made.dates))
    geobox = GeoBox(made.shape, pieces.grid.affine, pieces.grid.crs)
    with ExitStack() as files:
        if water is None:
            inside = files.enter_context(mask_reader(Path(ask.within) if ask.within else None, geobox))
        else:
            share, dates = (files.enter_context(warped(water.layer / f"{name}.tif", geobox)) for name in _WATER_RASTERS)
            inside = lambda window: often_wet(share(window), dates(window))  # noqa: E731
        then = files.enter_context(warped(ask.against, geobox)) if ask.against else None
        water_id = read_manifest(water.layer, "layer")["inputs_hash"] if water else None
        for derived in _layers(ask, inside, then, water_id):
            folder = places.of(derived.name, pieces.plan.region, pieces.plan.out.name, month)
            yield derived.name, *derive_layer(made.layer, derived, facts, folder)


def often_wet(share: np.ndarray, dates: np.ndarray) -> np.ndarray:
    """Where there is water, from the share of wet dates and the number of clear ones (NaN: not seen)."""
    wet = np.nan_to_num(share) * np.nan_to_num(dates)
    return (np.nan_to_num(share) >= WATER_SHARE) & (wet > WATER_DATES - 0.5)


def _layers(ask: _Ask, inside: Block, then: Block | None, water_id: str | None) -> Iterator[Derived]:
    """Extent and change, or the difference."""
    name, limit = ask.head.index.upper(), ask.threshold
    inputs: dict[str, Any] = {
        "threshold": limit,
        "within": hash_file(Path(ask.within)) if ask.within and ask.within != WATER else water_id,
        "water_rule": [WATER_SHARE, WATER_DATES] if ask.within == WATER else None,
        "against": hash_file(ask.against) if ask.against else None,
    }
    since = ""
    if ask.against is not None:  # layers of ours are told apart by their folders
        named = ask.against.parent if ask.against.stem in ("value", "class") else ask.against
        since = f"change since {named.stem}"
    if limit is None:
        if then is not None and ask.against is not None:
            legend = Legend(f"{ask.head.title}: {since}", "derived", (), "", DIFFERENCE_RAMP, (-0.5, 0.5))
            yield Derived(f"{ask.head.id}-difference", legend, lambda now, window: now - then(window), inputs)
        return

    def extent_now(values: np.ndarray, window: Window) -> np.ndarray:
        return extent(values, limit, inside(window))

    if ask.within == WATER and ask.head.index in VEGETATION_INDICES:
        title, below, above = f"Aquatic vegetation: {ask.head.title.lower()}", "open water", "aquatic vegetation"
    else:
        title, below, above = ask.head.title, f"{name} up to {limit:g}", f"{name} above {limit:g}"
    legend = extent_legend(f"{title} above {limit:g}".replace(name.lower(), name), below, above)
    yield Derived(ask.extent_name, legend, extent_now, inputs)
    if then is None or ask.against is None:
        return
    quantity = is_quantity(ask.against)

    def change_now(values: np.ndarray, window: Window) -> np.ndarray:
        earlier = then(window)
        there = extent(earlier, limit if quantity else 0.0, inside(window))
        return change(extent_now(values, window), there)

    legend = change_legend(f"{legend.title}: {since}")
    yield Derived(f"{ask.extent_name}-change", legend, change_now, inputs)
