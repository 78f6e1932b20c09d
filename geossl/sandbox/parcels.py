"""How the land is parted: fields as rows of long plots in farm districts, forest stands, clear-cuts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from geossl.sandbox.classes import Cover
from geossl.sandbox.noise import fractal, hash01
from geossl.sandbox.terrain import Terrain

PIXEL_M = 10.0
_DISTRICT_PX = 85
_STAND_PX = 19
_ROWS = 1 << 20


@dataclass(frozen=True)
class Plots:
    """Fields before they are cut by what is not arable: keys and the distance to what parts them."""

    key: np.ndarray
    """(y, x) int64: the same number, the same field."""
    angle: np.ndarray
    """(y, x) float32: direction of the field's long side, radians."""
    ditch_m: np.ndarray
    """(y, x) float32: metres to the nearest edge between two fields."""
    track_m: np.ndarray
    """(y, x) float32: metres to the nearest farm track."""


def nearest_seed(side: int, spacing: float, wander: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Cells around jittered seeds, with edges that wander by about ``wander`` pixels.

    Returns:
        (y, x) int32 cell numbers, and (n, 2) seed positions (row, column) in pixels.
    """
    count = int(np.ceil(side / spacing)) + 2
    grid = np.stack(np.meshgrid(np.arange(count), np.arange(count), indexing="ij"), -1).reshape(-1, 2) - 0.5
    seeds = ((grid + rng.uniform(-0.46, 0.46, grid.shape)) * spacing).astype(np.float32)
    dy, dx = (wander * fractal(side, rng, 2.2 * spacing, slope=4.4) for _ in range(2))
    tree = cKDTree(seeds)
    cells = np.empty((side, side), np.int32)
    columns = np.arange(side, dtype=np.float32)
    for start in range(0, side, 256):  # rows in groups: the query's own arrays stay small
        rows = np.arange(start, min(start + 256, side), dtype=np.float32)
        points = np.stack([rows[:, None] + dy[start : start + 256], columns[None, :] + dx[start : start + 256]], -1)
        cells[start : start + 256] = tree.query(points, workers=1)[1]
    return cells, seeds


def make_plots(terrain: Terrain, rng: np.random.Generator) -> Plots:
    """Long fields side by side, in districts that each follow the lie of their land."""
    side = terrain.rank.shape[0]
    district, seeds = nearest_seed(side, _DISTRICT_PX, 5, rng)
    n = len(seeds)
    fall_y, fall_x = np.gradient(terrain.smooth)
    row, column = np.clip(seeds.round().astype(int), 0, side - 1).T
    contour = np.arctan2(fall_x[row, column], fall_y[row, column]) + rng.normal(0, 0.18, n)
    angle = contour.astype(np.float32)
    width = rng.uniform(95, 230, n).astype(np.float32)
    length = rng.uniform(230, 520, n).astype(np.float32)

    y = np.arange(side, dtype=np.float32)[:, None] * PIXEL_M
    x = np.arange(side, dtype=np.float32)[None, :] * PIXEL_M
    bend = 14 * fractal(side, rng, 60, slope=4.0)
    cos, sin = np.cos(angle)[district], np.sin(angle)[district]
    along, across = x * cos + y * sin, -x * sin + y * cos + bend
    line, low, high = _uneven(across / width[district], district, 1)
    near_line = np.minimum(low, high) * width[district]
    stretch = (0.7 + 0.7 * hash01(district, line, 2)).astype(np.float32) * length[district]
    plot, left, right = _uneven(along / stretch + hash01(district, line, 3), district * 131 + line, 4)
    near_end = np.minimum(left, right) * stretch
    key = (district.astype(np.int64) * _ROWS + (line + 4096)) * 8192 + (plot + 4096)
    # A farm track runs along the lower side of every third row of fields.
    tracked = hash01(district, line, 5) < 0.30
    track = np.where(tracked, low * width[district], np.float32(1e3))
    ditch = np.minimum(near_line, near_end)
    return Plots(key, angle[district], ditch.astype(np.float32), track.astype(np.float32))


def _uneven(position: np.ndarray, group: np.ndarray, salt: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells of uneven length along a line: their numbers, and the way to their lower and upper end (cell units)."""
    cell = np.floor(position).astype(np.int64)

    def start(number: np.ndarray) -> np.ndarray:
        return number + 0.5 * (hash01(group, number, salt) - 0.5)

    cell = np.where(position < start(cell), cell - 1, cell)
    cell = np.where(position >= start(cell + 1), cell + 1, cell)
    low = (position - start(cell)).astype(np.float32)
    return cell, low, (start(cell + 1) - position).astype(np.float32)


@dataclass(frozen=True)
class Stands:
    """Forest stands: their numbers per pixel and facts per stand."""

    number: np.ndarray
    """(y, x) int32."""
    cover: np.ndarray
    """(n,) uint8 of :class:`Cover`."""
    height_m: np.ndarray
    """(n,) float32: height of the canopy."""
    angle: np.ndarray
    """(n,) float32: direction of planting rows, radians."""


def make_stands(terrain: Terrain, rng: np.random.Generator) -> Stands:
    """Stands of spruce, pine, broadleaf and mixed forest, plantations and clear-cuts, by soil and chance."""
    side = terrain.rank.shape[0]
    number, seeds = nearest_seed(side, _STAND_PX, 2.6, rng)
    n = len(seeds)
    row, column = np.clip(seeds.round().astype(int), 0, side - 1).T
    rank, esker, clay = terrain.rank[row, column], terrain.esker[row, column], terrain.clay[row, column]
    regional = fractal(side, rng, 110, slope=3.0)[row, column]
    odds = {
        Cover.PINE: 0.10 + 0.55 * np.clip((rank - 0.6) * 2.2, 0, 1) + 1.5 * esker + 0.12 * regional,
        Cover.SPRUCE: 0.50 + 0.25 * np.clip(1 - np.abs(rank - 0.6) * 3, 0, 1) - 0.16 * regional,
        Cover.BROADLEAF: 0.07 + 0.65 * np.clip((0.56 - rank) * 3.0, 0, 1) + 0.2 * clay,
        Cover.MIXED: np.full(n, 0.22),
        Cover.CLEAR_CUT: np.full(n, 0.09),
        Cover.PLANTATION: 0.10 + 0.14 * np.clip((rank - 0.55) * 2.2, 0, 1),
    }
    weight = np.clip(np.stack(list(odds.values())), 0.005, None)
    share = np.cumsum(weight / weight.sum(axis=0), axis=0)
    pick = (rng.random(n)[None, :] > share).sum(axis=0).clip(0, len(odds) - 1)
    cover = np.array([int(kind) for kind in odds], np.uint8)[pick]
    height = np.clip(rng.normal(16, 4.5, n), 6, 26)
    height[cover == Cover.CLEAR_CUT] = 0.5
    height[np.isin(cover, (Cover.PINE, Cover.PLANTATION))] = 11.0  # equal: shadows must not tell the pair apart
    angle = rng.uniform(0, np.pi, n)
    return Stands(number, cover, height.astype(np.float32), angle.astype(np.float32))
