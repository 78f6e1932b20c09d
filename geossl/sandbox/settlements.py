"""What people built: a town, villages and farms with streets, houses and gardens; roads between them; a river.

Shares are of a pixel's area, 0…1, so that a 7 m road brightens a 10 m pixel by what it covers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import dijkstra, minimum_spanning_tree
from scipy.spatial import cKDTree

from geossl.sandbox.noise import Field, fractal, hash01
from geossl.sandbox.terrain import Terrain

PIXEL_M = 10.0
_NODE_PX = 8


@dataclass(frozen=True)
class Built:
    """What is built, as shares of each pixel."""

    settled: np.ndarray
    """(y, x) bool: within a town, village or farmstead."""
    asphalt: Field
    gravel: Field
    roof: Field
    roof_tone: Field
    """0…1: dark felt, red tiles, bright metal."""
    trees: Field
    """0…1: how much of the gardens is trees."""
    river: Field


@dataclass(frozen=True)
class Place:
    """One settlement: centre in pixels, radius in pixels."""

    row: float
    column: float
    radius: float
    angle: float


def choose_places(terrain: Terrain, arable: np.ndarray, rng: np.random.Generator) -> list[Place]:
    """A town, villages and farms on dry, open or half-open land, apart from each other."""
    side = arable.shape[0]
    area_km2 = (side * PIXEL_M / 1000) ** 2
    wanted = [80.0] * round(area_km2 / 130) + [26.0] * max(1, round(area_km2 / 24)) + [6.0] * max(2, round(area_km2))
    suitable = (terrain.rank > 0.16) & (terrain.rank < 0.55) & ~terrain.water
    rows, columns = np.nonzero(suitable)
    places: list[Place] = []
    for radius in wanted:
        radius = min(radius, side / 7)
        for index in rng.integers(0, len(rows), 40):
            row, column = float(rows[index]), float(columns[index])
            margin = min(radius, side / 5)
            inside = margin < row < side - margin and margin < column < side - margin
            apart = all(np.hypot(row - p.row, column - p.column) > 2.2 * p.radius + 1.6 * radius for p in places)
            if inside and apart:
                places.append(Place(row, column, radius, float(rng.uniform(0, np.pi / 2))))
                break
    return places


def build(terrain: Terrain, arable: np.ndarray, rng: np.random.Generator) -> Built:
    """Settlements, roads and a river on the given ground."""
    side = arable.shape[0]
    places = choose_places(terrain, arable, rng)
    settled = np.zeros((side, side), bool)
    asphalt, gravel, roof, river = (np.zeros((side, side), np.float32) for _ in range(4))
    tone, trees = np.full((side, side), 0.5, np.float32), np.zeros((side, side), np.float32)
    outline = fractal(side, rng, 34, slope=4.2)
    for number, place in enumerate(places):
        _settle(place, number, outline, terrain.water, settled, asphalt, roof, tone, trees)
    links = _roads(terrain, arable, places, rng)
    for path, width_m, paved in links:
        cover = line_share(path, width_m, side)
        target = asphalt if paved else gravel
        np.maximum(target, cover, out=target)
    for path in _rivers(terrain, rng):
        np.maximum(river, line_share(path, 16.0, side), out=river)
    dry = (~terrain.water).astype(np.float32)
    for share in (gravel, roof, river):
        share *= dry
    river *= 1 - np.clip(asphalt + gravel + roof, 0, 1)
    gravel *= 1 - asphalt
    roof *= 1 - np.clip(asphalt + gravel, 0, 1)
    return Built(settled, asphalt, gravel, roof, tone, trees, river)


def _settle(
    place: Place,
    number: int,
    outline: Field,
    water: np.ndarray,
    settled: np.ndarray,
    asphalt: Field,
    roof: Field,
    tone: Field,
    trees: Field,
) -> None:
    """Draw one settlement into the shares: lots of 26 × 30 m along streets, bigger buildings in the middle."""
    side = outline.shape[0]
    reach = int(place.radius * 1.7) + 3
    window = (
        slice(max(0, int(place.row) - reach), min(side, int(place.row) + reach)),
        slice(max(0, int(place.column) - reach), min(side, int(place.column) + reach)),
    )
    y, x = np.mgrid[window].astype(np.float32)
    dy, dx = (y - place.row) * PIXEL_M, (x - place.column) * PIXEL_M
    away = np.hypot(dx, dy) / (place.radius * PIXEL_M)
    inside = (away + 0.26 * outline[window] < 1) & ~water[window]
    if not inside.any():
        return
    # Directions change between quarters of a town.
    quarter = np.floor(dx / 420 + 0.3 * outline[window]) + 7 * np.floor(dy / 380)
    angle = place.angle + 0.9 * (hash01(quarter, number, 1) - 0.5) * (place.radius > 30)
    u, v = dx * np.cos(angle) + dy * np.sin(angle), -dx * np.sin(angle) + dy * np.cos(angle)
    dense = (away < 0.33) & (place.radius > 30)
    industry = (hash01(quarter, number, 2) < 0.22) & (away > 0.4) & (place.radius > 30)
    lot_u = np.where(industry, 95.0, np.where(dense, 44.0, 27.0))
    lot_v = np.where(industry, 75.0, np.where(dense, 40.0, 34.0))
    street_u, street_v = lot_u * np.where(industry, 2, 4), lot_v * 2
    gap = np.minimum(_to_line(u, street_u) * 1.0, _to_line(v, street_v))
    width = np.where(dense, 11.0, 8.0)
    street = np.clip((width / 2 + 5 - gap) / 10, 0, 1) * (place.radius > 12)
    a, b = np.floor(u / lot_u), np.floor(v / lot_v)
    key = (a * 1009 + b).astype(np.int64)
    size = 0.30 + 0.25 * hash01(key, number, 3) + np.where(industry | dense, 0.22, 0.0)
    if place.radius < 12:  # a farm: house, barn and yard
        size = size + 0.25 * (hash01(key, number, 9) < 0.4)
    du = np.abs(u / lot_u - a - 0.5 + 0.15 * (hash01(key, number, 4) - 0.5)) * lot_u
    dv = np.abs(v / lot_v - b - 0.5 + 0.15 * (hash01(key, number, 5) - 0.5)) * lot_v
    house = np.clip((size * lot_u / 2 + 5 - du) / 10, 0, 1) * np.clip((size * lot_v / 2 + 5 - dv) / 10, 0, 1)
    house *= hash01(key, number, 6) < 0.86
    settled[window] |= inside
    asphalt[window] = np.where(inside, np.maximum(street, np.where(industry | dense, 0.35, 0.06)), asphalt[window])
    roof[window] = np.where(inside, house * (1 - street), roof[window])
    shade = hash01(key, number, 7)
    tone[window] = np.where(inside, np.where(industry, 0.35 + 0.65 * shade, 0.75 * shade), tone[window])
    trees[window] = np.where(inside, 0.15 + 0.6 * hash01(key, number, 8) * ~(industry | dense), trees[window])


def _to_line(position: np.ndarray, period: np.ndarray) -> np.ndarray:
    """Metres to the nearest of parallel lines ``period`` metres apart."""
    return np.abs(position / period - np.round(position / period)) * period


def line_share(path: np.ndarray, width_m: float, side: int) -> Field:
    """The share of each pixel that a line of some width covers. ``path``: (n, 2) row, column in pixels."""
    share = np.zeros((side, side), np.float32)
    steps = np.hypot(*np.diff(path, axis=0).T)
    total = np.concatenate([[0], np.cumsum(steps)])
    if total[-1] < 1:
        return share
    at = np.arange(0, total[-1], 0.4)
    points = np.stack([np.interp(at, total, path[:, 0]), np.interp(at, total, path[:, 1])], -1)
    reach = int(np.ceil(width_m / 2 / PIXEL_M + 1))
    offsets = np.argwhere(np.ones((2 * reach + 1, 2 * reach + 1), bool)) - reach
    near = np.unique(points.round().astype(int), axis=0)
    near = (near[:, None, :] + offsets).reshape(-1, 2)
    near = near[((near >= 0) & (near < side)).all(axis=1)]
    flat = np.unique(near[:, 0] * side + near[:, 1])
    near = np.stack([flat // side, flat % side], -1)
    away = cKDTree(points).query(near, workers=1)[0] * PIXEL_M
    share[near[:, 0], near[:, 1]] = np.clip((width_m / 2 + 5 - away) / 10, 0, min(1.0, width_m / 10))
    return share


def _cost_graph(terrain: Terrain, cost: Field) -> tuple[csr_matrix, int]:
    """Steps between neighbouring nodes of a coarse grid, each as costly as the ground it crosses."""
    coarse = cost[_NODE_PX // 2 :: _NODE_PX, _NODE_PX // 2 :: _NODE_PX]
    height = terrain.elevation[_NODE_PX // 2 :: _NODE_PX, _NODE_PX // 2 :: _NODE_PX]
    n = coarse.shape[0]
    node = np.arange(n * n).reshape(n, n)
    starts, ends, weights = [], [], []
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1), (1, 2), (2, 1), (1, -2), (2, -1)):
        a = (slice(0, n - dy), slice(max(0, -dx), n - max(0, dx)))
        b = (slice(dy, n), slice(max(0, dx), n + min(0, dx)))
        climb = np.abs(height[a] - height[b])
        starts.append(node[a].ravel())
        ends.append(node[b].ravel())
        weights.append((np.hypot(dy, dx) * (coarse[a] + coarse[b]) / 2 + 0.15 * climb).ravel())
    matrix = coo_matrix((np.concatenate(weights), (np.concatenate(starts), np.concatenate(ends))), (n * n, n * n))
    return matrix.tocsr(), n


def _route(graph: csr_matrix, n: int, start: tuple[float, float], ends: list[tuple[float, float]]) -> list[np.ndarray]:
    """Cheapest ways from one point to others, rounded; points and ways as row, column in pixels."""

    def number(point: tuple[float, float]) -> int:
        row, column = (int(np.clip(part / _NODE_PX, 0, n - 1)) for part in point)
        return row * n + column

    _, before = dijkstra(graph, directed=False, indices=number(start), return_predecessors=True)
    ways = []
    for end in ends:
        here, nodes = number(end), []
        while here >= 0:
            nodes.append(here)
            here = before[here]
        way = np.stack(np.divmod(np.array(nodes), n), -1) * float(_NODE_PX) + _NODE_PX // 2
        for _ in range(3):  # Chaikin's corner cutting
            if len(way) > 2:
                cut = np.stack([0.75 * way[:-1] + 0.25 * way[1:], 0.25 * way[:-1] + 0.75 * way[1:]], 1).reshape(-1, 2)
                way = np.concatenate([way[:1], cut, way[-1:]])
        ways.append(way)
    return ways


def _roads(
    terrain: Terrain, arable: np.ndarray, places: list[Place], rng: np.random.Generator
) -> list[tuple[np.ndarray, float, bool]]:
    """Roads between settlements and out of the square: (path, width in metres, paved)."""
    side = arable.shape[0]
    if not places:
        return []
    jitter = fractal(side, rng, 40, slope=3.0)
    cost = 1 + 0.5 * (~arable) + 40.0 * terrain.water + 0.35 * np.clip(jitter, 0, None)
    graph, n = _cost_graph(terrain, cost)
    centres = np.array([(place.row, place.column) for place in places])
    gaps = np.hypot(*(centres[:, None] - centres[None]).transpose(2, 0, 1))
    tree = minimum_spanning_tree(gaps).tocoo()
    roads = []
    for a in np.unique(tree.row):
        ends = tree.col[tree.row == a]
        for b, way in zip(ends, _route(graph, n, tuple(centres[a]), [tuple(centres[b]) for b in ends]), strict=True):
            big = min(places[a].radius, places[b].radius) > 12
            roads.append((way, 8.0 if big else 4.5, bool(big)))
    hubs = sorted(places, key=lambda place: -place.radius)[: max(1, min(6, len(places) // 6))]
    exits = [(0.0, rng.uniform(0, side)), (side - 1.0, rng.uniform(0, side)), (rng.uniform(0, side), 0.0)]
    exits.append((rng.uniform(0, side), side - 1.0))
    roads += [(way, 11.0, True) for way in _route(graph, n, (hubs[0].row, hubs[0].column), exits)]
    others = [(hub.row, hub.column) for hub in hubs[1:]]
    roads += [(way, 8.0, True) for way in _route(graph, n, (hubs[0].row, hubs[0].column), others)]
    return roads


def _rivers(terrain: Terrain, rng: np.random.Generator) -> list[np.ndarray]:
    """One river along the low ground from an edge to the nearest water."""
    side = terrain.rank.shape[0]
    if not terrain.water.any() or side < 200:
        return []
    bends = fractal(side, rng, 14, slope=3.0)
    cost = (0.15 + 6 * terrain.rank**2 + 0.5 * np.clip(bends, 0, None) - 0.1 * terrain.water).astype(np.float32)
    graph, n = _cost_graph(terrain, cost)
    low = terrain.rank.copy()
    low[terrain.water] = 1
    edge = np.r_[low[0], low[-1]]
    at = int(np.argmin(edge))
    start = (0.0, float(at)) if at < side else (side - 1.0, float(at - side))
    rows, columns = np.nonzero(terrain.water)
    far = np.argsort(np.hypot(rows - start[0], columns - start[1]))
    goal = far[int(0.35 * len(far))]
    return _route(graph, n, start, [(float(rows[goal]), float(columns[goal]))])
