"""What a build reads: which chips are drawn, and in which large areas their pixels are read.

Everything here is a function of the region's grid, the scenes and ``max_chips``: the same inputs give the same plan,
and a plan whose first part is already done goes on where it stopped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import shapely
from odc.geo.geobox import GeoBox

from geossl.chips.grid import Grid, to_grid_crs
from geossl.regions import Region

if TYPE_CHECKING:
    from geossl.cube.connect import Scene

_CLOUDY = 60.0  # per cent; days above are drawn only when the better ones of their stratum are used up
_PANEL_BYTES = 256 << 20
_PANEL_STEP = 512  # the usual block side of a COG
_PANEL_MAX = 3072  # six such blocks of the finest bands, one of bands six times as coarse
_PANEL_MAX_WARPED = 4608


@dataclass(frozen=True)
class Candidates:
    """Every tile of the region on every solar day whose scenes reach it; arrays of equal length."""

    ix: np.ndarray
    iy: np.ndarray
    day: np.ndarray
    """Index into ``days``."""
    days: tuple[date, ...]
    scenes: tuple[tuple[Scene, ...], ...]
    """The scenes of each day, by time."""

    def __len__(self) -> int:
        return len(self.ix)

    def chip_id(self, number: int) -> str:
        """A chip's name: tile and solar day, ``ix_iy_yyyymmdd``."""
        return f"{self.ix[number]}_{self.iy[number]}_{self.days[self.day[number]]:%Y%m%d}"

    def keys(self) -> np.ndarray:
        """One int64 a candidate: tile and day, as :func:`chip_keys`."""
        return chip_keys(self.ix, self.iy, np.array([day.toordinal() for day in self.days], np.int64)[self.day])


def chip_keys(ix: np.ndarray, iy: np.ndarray, ordinal: np.ndarray) -> np.ndarray:
    """Tile and day (proleptic ordinal) in one int64, to compare millions of chips at once."""
    return ((ix.astype(np.int64) << 42) + ((iy.astype(np.int64) + (1 << 20)) << 21)) + ordinal.astype(np.int64)


def find_candidates(region: Region, grid: Grid, scenes: Sequence[Scene]) -> Candidates:
    """Tiles that share area with the region and with a scene's footprint, day by day."""
    by_day: dict[date, list[Scene]] = defaultdict(list)
    for scene in scenes:
        by_day[scene.solar_day].append(scene)
    days = tuple(sorted(by_day))
    ix, iy = grid.tiles(to_grid_crs(region.geometry, grid.crs))
    boxes = grid.boxes(ix, iy)
    reached: dict[bytes, np.ndarray] = {}
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for number, day in enumerate(days):
        inside = np.zeros(len(ix), dtype=bool)
        for scene in by_day[day]:
            key = scene.footprint.wkb
            if key not in reached:
                reached[key] = _reaches(scene, grid, boxes)
            inside |= reached[key]
        tiles = np.flatnonzero(inside)
        parts.append((tiles, np.full(len(tiles), number)))
    tile = np.concatenate([part[0] for part in parts]) if parts else np.empty(0, np.int64)
    number_of = np.concatenate([part[1] for part in parts]) if parts else np.empty(0, np.int64)
    ordered = tuple(tuple(sorted(by_day[day], key=lambda scene: (scene.datetime, scene.id))) for day in days)
    return Candidates(ix[tile], iy[tile], number_of.astype(np.int64), days, ordered)


def _reaches(scene: Scene, grid: Grid, boxes: np.ndarray) -> np.ndarray:
    # Half a pixel less on each side: a tile that only touches the edge of a scene has no pixel of it.
    footprint = to_grid_crs(scene.footprint, grid.crs).buffer(-0.5 * min(grid.resolution))
    shapely.prepare(footprint)
    return shapely.intersects(footprint, boxes)


def draw(candidates: Candidates, grid: Grid, max_chips: int, done: np.ndarray | None = None) -> np.ndarray:
    """Indices of at most ``max_chips`` candidates, stratified by block and quarter of the year; ``done`` (bool) count
    first and are always among them.

    Each stratum gives one chip in turn. Inside a stratum whole days follow each other (a block read on one day gives
    its tiles at the price of one), mostly cloudy days last, and the tiles come in the same order on every day, so that
    places recur over time. All orders are by hash: no generator, no dependence on how much was drawn before.
    """
    n = len(candidates)
    done = np.zeros(n, dtype=bool) if done is None else done
    if n <= max_chips:
        return np.arange(n)
    bx, by = candidates.ix // grid.block_tiles, candidates.iy // grid.block_tiles
    quarter = np.array([(day.month - 1) // 3 for day in candidates.days])[candidates.day]
    ordinal = np.array([day.toordinal() for day in candidates.days])[candidates.day]
    cloudy = np.array([_cloud(scenes) > _CLOUDY for scenes in candidates.scenes])[candidates.day]
    block = _mix(_mix(bx) ^ _u(by))
    stratum = _mix(block ^ _u(quarter))
    on_day = _mix(block ^ _u(ordinal))
    tile = _mix(_mix(candidates.ix) ^ _u(candidates.iy))
    inner = np.lexsort((tile, on_day, cloudy, stratum))
    sorted_stratum = stratum[inner]
    start = np.flatnonzero(np.r_[True, sorted_stratum[1:] != sorted_stratum[:-1]])
    turn = np.empty(n, dtype=np.int64)
    turn[inner] = np.arange(n) - np.repeat(start, np.diff(np.r_[start, n]))
    priority = np.lexsort((stratum, turn))
    kept = np.flatnonzero(done)
    fresh = priority[~done[priority]][: max(0, max_chips - len(kept))]
    return np.sort(np.concatenate([kept, fresh]))


def _cloud(scenes: Sequence[Scene]) -> float:
    known = [scene.cloud_cover for scene in scenes if scene.cloud_cover is not None]
    return float(np.mean(known)) if known else 0.0


def _u(values: np.ndarray) -> np.ndarray:
    return np.asarray(values).astype(np.int64).view(np.uint64)


def _mix(values: np.ndarray) -> np.ndarray:
    """A 64-bit hash of integers (the finaliser of splitmix64)."""
    x = _u(values) if values.dtype != np.uint64 else values.copy()
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@dataclass(frozen=True)
class Panel:
    """One large read: a pixel window of the grid on one day, and the chips (candidate indices) that it reaches."""

    day: int
    column: int
    row: int
    width: int
    height: int
    chips: tuple[int, ...]
    """Every planned chip that shares pixels with the window, in reading order."""

    def geobox(self, grid: Grid) -> GeoBox:
        """The window as a geobox."""
        return grid.window(self.column, self.row, self.width, self.height)


def panel_side(bytes_per_pixel: int, native: bool = True) -> int:
    """Pixels a side of the areas that are read at once: a multiple of usual COG blocks, bounded in memory.

    Off the scenes' own grid areas are larger: their edges cut through blocks, which are then decoded twice.
    """
    most_bytes, most = (_PANEL_BYTES, _PANEL_MAX) if native else (2 * _PANEL_BYTES, _PANEL_MAX_WARPED)
    side = int((most_bytes / bytes_per_pixel) ** 0.5) // _PANEL_STEP * _PANEL_STEP
    return max(_PANEL_STEP, min(most, side))


def panels(candidates: Candidates, grid: Grid, planned: np.ndarray, side: int) -> Iterator[Panel]:
    """The reads that give all planned chips, each pixel of a day read at most once; by day, row, column.

    Areas are cells of ``side`` pixels counted from the upper left corner of the day's first scene, so that cells and
    the blocks of its files have common edges, cut to what the planned chips need. A chip on the edge of two cells is
    put together from both.
    """
    order = planned[np.lexsort((candidates.ix[planned], candidates.iy[planned], candidates.day[planned]))]
    day_of = candidates.day[order]
    for day in np.unique(day_of):
        chips = order[day_of == day]
        column0, row0 = _scene_corner(candidates.scenes[day][0], grid)
        left, top = candidates.ix[chips] * grid.tile_px, candidates.iy[chips] * grid.tile_px
        right, bottom = left + grid.tile_px, top + grid.tile_px
        first_c, last_c = (left - column0) // side, (right - 1 - column0) // side
        first_r, last_r = (top - row0) // side, (bottom - 1 - row0) // side
        cells: dict[tuple[int, int], list[int]] = defaultdict(list)
        for place in range(len(chips)):
            for r in range(int(first_r[place]), int(last_r[place]) + 1):
                for c in range(int(first_c[place]), int(last_c[place]) + 1):
                    cells[r, c].append(place)
        for (r, c), inside in sorted(cells.items()):
            x0 = max(int(left[inside].min()), column0 + c * side)
            x1 = min(int(right[inside].max()), column0 + (c + 1) * side)
            y0 = max(int(top[inside].min()), row0 + r * side)
            y1 = min(int(bottom[inside].max()), row0 + (r + 1) * side)
            yield Panel(int(day), x0, y0, x1 - x0, y1 - y0, tuple(int(chips[place]) for place in inside))


def _scene_corner(scene: Scene, grid: Grid) -> tuple[int, int]:
    """The upper left corner of a scene in pixels of the grid (of its footprint where the CRS differ)."""
    native = scene.geobox.crs is not None and scene.geobox.crs == grid.crs
    bounds = tuple(scene.geobox.boundingbox) if native else to_grid_crs(scene.footprint, grid.crs).bounds
    column = (bounds[0] - grid.origin[0]) / grid.resolution[0]
    row = (grid.origin[1] - bounds[3]) / grid.resolution[1]
    return round(column), round(row)
