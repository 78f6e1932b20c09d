"""Where a map's pixels come from: the cube, read window by window, or ready chips that touch.

A source has one geobox for the whole map; a window of it is read as float32 reflectance with a mask of clear pixels
for each chosen day. Pixels that are not clear carry no meaning (a failed read is not clear, never a zero).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from geossl.errors import InputError
from geossl.evaluation.controls import spectral_index
from geossl.maps.windows import Window
from geossl.tasks.deep_water import DeepSignal, deep_signal

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from geossl.chips.chipset import ChipSet
    from geossl.cube.connect import Product, Scene
    from geossl.tasks.spec import DeepWaterRule, PixelRule


class Failure(Protocol):
    """A read that failed, as :class:`geossl.cube.read.ReadFailure` tells it."""

    @property
    def scene_id(self) -> str: ...  # noqa: D102
    @property
    def band(self) -> str: ...  # noqa: D102
    @property
    def uri(self) -> str: ...  # noqa: D102
    @property
    def reason(self) -> str: ...  # noqa: D102


@dataclass(frozen=True)
class WindowRead:
    """The pixels of one window on some days.

    Attributes:
        values: (T, C, H, W) float32 reflectance, finite everywhere.
        clear: (T, H, W) bool.
        inside: (H, W) bool, which pixels belong to the region.
        days: (T,) index of each day in the source's days.
        reads: how many files (scene and band) were asked for.
        failures: those that could not be read.
    """

    values: np.ndarray
    clear: np.ndarray
    inside: np.ndarray
    days: tuple[int, ...]
    reads: int = 0
    failures: tuple[Failure, ...] = ()


class WindowSource(Protocol):
    """A map's pixels, read in windows; :meth:`read` is called from one thread."""

    geobox: GeoBox
    bands: tuple[str, ...]
    available: tuple[str, ...]
    """All bands that could be asked for."""
    days: tuple[date | None, ...]
    """The days there are pixels of, in order; ``None`` where a chip's date is not known."""
    scene_ids: tuple[str, ...]
    reads_per_window: int
    """Files asked for in one window over all days, at most."""
    origin: str
    """Product or chip set, for manifests and catalogues."""

    def read(self, window: Window, days: Sequence[int]) -> WindowRead:
        """Read a window (pixels of ``geobox``) on the days with these indices."""
        ...

    def footprint(self) -> BaseGeometry:
        """The mapped area in ``geobox.crs``."""
        ...


def crop(geobox: GeoBox, window: Window) -> GeoBox:
    """The part of a geobox that a window covers; it may reach beyond the geobox."""
    moved = geobox.translate_pix(window.x, window.y)
    return GeoBox((window.height, window.width), moved.affine, geobox.crs)


def grow_to_cells(geobox: GeoBox, cell_px: int, least_px: int = 1) -> GeoBox:
    """The geobox, extended to the right and below to whole cells and to at least ``least_px`` pixels a side."""
    height, width = (-(-max(side, least_px) // cell_px) * cell_px for side in geobox.shape)
    return GeoBox((height, width), geobox.affine, geobox.crs)


class CubeSource:
    """Scenes of an Open Data Cube, read through :func:`geossl.cube.read.read_scenes`, one mosaic a solar day."""

    def __init__(
        self,
        product: Product,
        scenes: Sequence[Scene],
        bands: Sequence[str],
        geobox: GeoBox,
        region: BaseGeometry,
        threads: int = 2,
    ) -> None:
        """``region`` is the area to map, in the CRS of ``geobox``."""
        self.product, self.bands, self.geobox, self.region = product, tuple(bands), geobox, region
        self.origin, self.available = product.name, tuple(product.bands)
        self._threads = threads
        by_day: dict[date, list[Scene]] = {}
        for scene in sorted(scenes, key=lambda scene: (scene.solar_day, str(scene.id))):
            by_day.setdefault(scene.solar_day, []).append(scene)
        self.days: tuple[date | None, ...] = tuple(by_day)
        self._scenes = list(by_day.values())
        self.scene_ids = tuple(sorted(str(scene.id) for scene in scenes))
        self._reads_per_scene = len(self.bands) + (product.profile.mask is not None)
        self.reads_per_window = len(scenes) * self._reads_per_scene

    def on_grid_of(self, other: CubeSource) -> CubeSource:
        """The same scenes, read on the grid and over the region of another source."""
        scenes = [scene for day in self._scenes for scene in day]
        return CubeSource(self.product, scenes, self.bands, other.geobox, other.region, self._threads)

    def footprint(self) -> BaseGeometry:
        """The region, in the CRS of the geobox."""
        from shapely.geometry import box

        return self.region.intersection(box(*self.geobox.boundingbox.bbox))

    def read(self, window: Window, days: Sequence[int]) -> WindowRead:
        """Read one window; days whose scenes do not touch it cost nothing."""
        from geossl.cube.read import read_scenes

        part = crop(self.geobox, window)
        shape = (window.height, window.width)
        values = np.zeros((len(days), len(self.bands), *shape), np.float32)
        clear = np.zeros((len(days), *shape), bool)
        inside = inside_mask(self.region, part)
        reads, failures = 0, []
        touched = part.geographic_extent.geom if inside.any() else None
        for position, day in enumerate(days):
            scenes = [scene for scene in self._scenes[day] if touched and scene.footprint.intersects(touched)]
            if not scenes:
                continue
            pixels = read_scenes(scenes, self.product, part, self.bands, threads=self._threads)
            values[position], clear[position] = decoded(pixels.data, pixels.flags, self.product.encoding)
            reads += len(scenes) * self._reads_per_scene
            failures += list(pixels.failures)
        return WindowRead(values, clear, inside, tuple(days), reads, tuple(failures))


class ApplicableSource:
    """Another source without the pixels that a task does not speak of (water in a drought map): they are not clear."""

    def __init__(self, source: WindowSource, rules: Sequence[PixelRule]) -> None:
        self._source, self._rules = source, tuple(rules)
        self.geobox, self.bands, self.days = source.geobox, source.bands, source.days
        self.available = source.available
        self.scene_ids, self.reads_per_window, self.origin = source.scene_ids, source.reads_per_window, source.origin

    def footprint(self) -> BaseGeometry:
        """Of the other source."""
        return self._source.footprint()

    def read(self, window: Window, days: Sequence[int]) -> WindowRead:
        """The other source's window; a pixel whose index lies beyond a rule's limit on a day is not clear that day."""
        read = self._source.read(window, days)
        clear = read.clear
        for rule in self._rules:
            index = spectral_index(rule.index, read.values, self.bands)
            # Where both bands are dark the index is not defined; such pixels stay.
            with np.errstate(invalid="ignore"):
                clear = clear & ~(index > rule.above if rule.above is not None else index < rule.below)
        return replace(read, clear=clear)


_SAMPLE_SIDE, _SAMPLE_PX = 4, 96
"""A date's deep water is estimated from so many windows along each side of the map, of so many pixels."""


class SeenBedSource:
    """Another source without the pixels whose bed is not seen on a day (:mod:`geossl.tasks.deep_water`): not clear."""

    def __init__(self, source: WindowSource, rule: DeepWaterRule) -> None:
        self._source, self._rule = source, rule
        self.geobox, self.bands, self.days = source.geobox, source.bands, source.days
        self.available, self.footprint = source.available, source.footprint
        self.scene_ids, self.reads_per_window, self.origin = source.scene_ids, source.reads_per_window, source.origin
        self._signals: dict[int, DeepSignal | None] = {}

    def read(self, window: Window, days: Sequence[int]) -> WindowRead:
        """The other source's window; the first window of a day with clear pixels costs the sample of the day's map."""
        read = self._source.read(window, days)
        clear = read.clear.copy()
        for number, day in enumerate(days):
            if not clear[number].any():
                continue
            if day not in self._signals:
                self._signals[day] = self._signal(day)
            signal = self._signals[day]
            if signal is not None:
                clear[number] &= ~signal.hides(read.values[number], self.bands, self._rule.sigmas)
        return replace(read, clear=clear)

    def _signal(self, day: int) -> DeepSignal | None:
        height, width = self.geobox.shape
        side = min(_SAMPLE_PX, height, width)
        places = [np.unique(np.linspace(0, length - side, _SAMPLE_SIDE).astype(int)) for length in (height, width)]
        reads = [
            self._source.read(Window(0, 0, int(y), int(x), side, side), (day,)) for y in places[0] for x in places[1]
        ]
        values, clear = (np.concatenate(one) for one in zip(*((r.values, r.clear) for r in reads), strict=True))
        return deep_signal(values, clear, self.bands)


class ChipMosaicSource:
    """Ready chips of one block that touch, joined by their corners to one picture."""

    def __init__(
        self, chips: ChipSet, rows: Sequence[int], bands: Sequence[str], cell_px: int = 1, least_px: int = 1
    ) -> None:
        """``rows`` are the chips to join; all must be georeferenced on one pixel grid."""
        table = chips.table.iloc[list(rows)]
        self.bands, self.available, self.origin = tuple(bands), tuple(chips.bands), chips.name
        self._chips, self._rows = chips, np.asarray(rows)
        self._band_index = [chips.bands.index(band) for band in bands]
        self.geobox, self._left, self._top = _mosaic_grid(chips, table)
        self._covered = self.geobox
        self.geobox = grow_to_cells(self.geobox, cell_px, least_px)
        known = [None if stamp is None or stamp != stamp else stamp.date() for stamp in table["datetime"]]
        self.days: tuple[date | None, ...] = tuple(sorted(set(known), key=lambda day: (day is not None, day)))
        self._day = np.array([self.days.index(day) for day in known])
        self.scene_ids = tuple(sorted(str(chip) for chip in table["chip"]))
        self.reads_per_window = 0

    def footprint(self) -> BaseGeometry:
        """The union of the chips, in the CRS of the geobox."""
        from shapely.geometry import box
        from shapely.ops import unary_union

        height, width = self._chips.shape
        corners = [
            crop(self._covered, Window(0, 0, int(top), int(left), height, width)).boundingbox.bbox
            for left, top in zip(self._left, self._top, strict=True)
        ]
        return unary_union([box(*corner) for corner in corners])

    def read(self, window: Window, days: Sequence[int]) -> WindowRead:
        """Paste the chips that touch the window; where there is none, nothing is clear."""
        shape = (window.height, window.width)
        values = np.zeros((len(days), len(self.bands), *shape), np.float32)
        clear = np.zeros((len(days), *shape), bool)
        height, width = self._chips.shape
        for position, day in enumerate(days):
            touching = np.flatnonzero(
                (self._day == day)
                & (self._left < window.x + window.width)
                & (self._left + width > window.x)
                & (self._top < window.y + window.height)
                & (self._top + height > window.y)
            )
            if touching.size == 0:
                continue
            stored, flags = self._chips.load(self._rows[touching])
            for chip, data, flag in zip(touching, stored, flags, strict=True):
                pixels, usable = decoded(data[self._band_index], flag, self._chips.encoding)
                into, out_of = _overlap(int(self._top[chip]) - window.y, int(self._left[chip]) - window.x, shape, flag)
                values[(position, slice(None), *into)] = pixels[(slice(None), *out_of)]
                clear[(position, *into)] = usable[out_of]
        return WindowRead(values, clear, np.ones(shape, bool), tuple(days))


def _overlap(
    y: int, x: int, shape: tuple[int, int], chip: np.ndarray
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Slices of the window and of a chip whose corner lies at (y, x) of the window."""
    rows = slice(max(y, 0), min(y + chip.shape[0], shape[0]))
    columns = slice(max(x, 0), min(x + chip.shape[1], shape[1]))
    return (rows, columns), (
        slice(rows.start - y, rows.stop - y),
        slice(columns.start - x, columns.stop - x),
    )


def _mosaic_grid(chips: ChipSet, table: Any) -> tuple[GeoBox, np.ndarray, np.ndarray]:
    """The geobox that chips span, and the pixel offsets (left, top) of each chip in it."""
    where = f"chips of {chips.name}"
    if table[["left", "top"]].isna().any(axis=None) or table["crs"].isna().any():
        raise InputError(
            "these chips have no place on the ground",
            where=where,
            expected="chips with a CRS and a corner each",
            remedy="choose chips that are georeferenced",
        )
    crs = sorted({str(name) for name in table["crs"]})
    if len(crs) > 1:
        raise InputError("chips in several CRS cannot be joined", where=where, found=", ".join(crs))
    pixel = chips.resolution_m
    height, width = chips.shape
    west, north = float(table["left"].min()), float(table["top"].max())
    columns = (table["left"].to_numpy(float) - west) / pixel
    rows = (north - table["top"].to_numpy(float)) / pixel
    left, top = np.rint(columns), np.rint(rows)
    if max(np.abs(columns - left).max(), np.abs(rows - top).max()) > 0.01:
        raise InputError(
            "these chips do not lie on one pixel grid",
            where=where,
            expected=f"corners whole pixels of {pixel:g} m apart",
            remedy="choose another block",
        )
    shape = (int(top.max()) + height, int(left.max()) + width)
    geobox = GeoBox(shape, Affine(pixel, 0, west, 0, -pixel, north), crs[0])
    return geobox, left.astype(int), top.astype(int)


def decoded(stored: np.ndarray, flags: np.ndarray, encoding: Any) -> tuple[np.ndarray, np.ndarray]:
    """Stored pixels (C, H, W) and flags (H, W) as reflectance and clear mask; values are finite everywhere.

    A pixel with no value in any band is not clear whatever its flags say; what is not clear is set to 0, which no
    model may look at.
    """
    values = encoding.decode(stored)
    clear = (flags == 0) & np.isfinite(values).all(0)
    if not clear.all():
        values[:, ~clear] = 0
    return values, clear


def inside_mask(region: BaseGeometry, part: GeoBox) -> np.ndarray:
    """(H, W) bool: pixels of a geobox whose centre lies in ``region`` (same CRS)."""
    from rasterio.features import geometry_mask
    from shapely.geometry import box

    extent = box(*part.boundingbox.bbox)
    if region.contains(extent):
        return np.ones(part.shape, bool)
    nearby = region.intersection(extent)
    if nearby.is_empty or nearby.area == 0:
        return np.zeros(part.shape, bool)
    return geometry_mask([nearby], out_shape=part.shape, transform=part.affine, invert=True)
