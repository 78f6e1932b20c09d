"""The simulated landscape: what covers each pixel, which field or stand it belongs to, its texture and its soil.

Everything that does not change with the date. Fields are (y, x) on 10 m pixels, north up; made once from the seed in
a few seconds and held in memory (about 60 bytes a pixel).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from geossl.sandbox.classes import FOREST, Cover, Crop
from geossl.sandbox.noise import Field, fractal, gaussian, generator, hash01
from geossl.sandbox.parcels import Plots, Stands, make_plots, make_stands
from geossl.sandbox.settlements import Built, build
from geossl.sandbox.terrain import Terrain, make_terrain, zones

ROW_PERIOD_M = 42.0
"""Distance of the planting rows of plantations (with their cleared strips): four pixels of 10 m."""
_ROTATIONS = (
    (Crop.SPRING_BARLEY, Crop.LEY, Crop.LEY, Crop.LEY, Crop.WINTER_WHEAT),
    (Crop.WINTER_WHEAT, Crop.SPRING_BARLEY, Crop.OILSEED_RAPE, Crop.WINTER_WHEAT, Crop.SPRING_BARLEY),
    (Crop.LEY, Crop.LEY, Crop.WINTER_WHEAT, Crop.SPRING_BARLEY),
    (Crop.SPRING_BARLEY, Crop.WINTER_WHEAT, Crop.SPRING_BARLEY, Crop.OILSEED_RAPE, Crop.WINTER_WHEAT),
)


@dataclass(frozen=True)
class Objects:
    """Facts of each object (lake, field, stand, settlement, …): arrays of length n, indexed by object number."""

    cover: np.ndarray
    """uint8 of :class:`Cover`."""
    tone: np.ndarray
    """(n, 3) float32, standard normal: brightness, near infrared, shortwave infrared of this object."""
    shift: np.ndarray
    """float32, standard normal: earlier or later than others of its kind."""
    rotation: np.ndarray
    """int: which crop rotation, and ``phase`` where in it the first year lies."""
    phase: np.ndarray
    age: np.ndarray
    """float32 0…1."""

    def __len__(self) -> int:
        return len(self.cover)

    def crops(self, year: int) -> np.ndarray:
        """(n,) uint8 of :class:`Crop`: what grows on each arable object in a year; 0 for all others."""
        crop = np.zeros(len(self), np.uint8)
        for number, rotation in enumerate(_ROTATIONS):
            mine = (self.rotation == number) & (self.cover == Cover.ARABLE)
            plan = np.array([int(step) for step in rotation], np.uint8)
            crop[mine] = plan[(self.phase[mine] + year) % len(plan)]
        return crop


@dataclass(frozen=True)
class Landscape:
    """The static layers, (y, x) each."""

    cover: np.ndarray
    """uint8 of :class:`Cover`."""
    number: np.ndarray
    """int32: object of each pixel."""
    objects: Objects
    elevation: Field
    capacity: Field
    """Plant-available water, mm a metre of rooting depth."""
    clay: Field
    vigour: Field
    """Standard normal, smooth: where within a field plants stand thick or thin."""
    texture: Field
    """Standard normal: fine texture of the class (crowns, rows, tufts)."""
    height: Field
    """Metres of vegetation."""
    built: Built
    margin: Field
    """Share of grass strip or ditch between fields."""

    @property
    def side(self) -> int:
        """Pixels a side."""
        return self.cover.shape[0]


def make_landscape(side: int, seed: int, terrain: Terrain | None = None) -> Landscape:
    """A landscape of ``side`` × ``side`` pixels of 10 m, the same for the same seed; on ``terrain`` where given."""
    terrain = terrain or make_terrain(side, generator(seed, 1))
    zone = zones(terrain, generator(seed, 2))
    plots = make_plots(terrain, generator(seed, 3))
    stands = make_stands(terrain, generator(seed, 4))
    built = build(terrain, zone["arable"], generator(seed, 5))
    cover, number, first_stand = _numbered(terrain, zone, plots, stands, built, generator(seed, 6))
    objects = _objects(cover, number, generator(seed, 7))
    height = _heights(cover, number, first_stand, stands, built)
    texture = _texture(cover, number, first_stand, stands, plots, generator(seed, 8))
    tall = np.isin(cover, [int(kind) for kind in FOREST])
    height += np.where(tall, 0.14 * height * texture, 0)
    margin = np.where(cover == Cover.ARABLE, np.clip((7.0 - plots.ditch_m) / 10, 0, 0.75), 0).astype(np.float32)
    track = np.where(cover == Cover.ARABLE, np.clip((7.0 - plots.track_m) / 10, 0, 0.45), 0).astype(np.float32)
    built.gravel[:] = np.maximum(built.gravel, track * (1 - built.asphalt))
    vigour = fractal(side, generator(seed, 9), 24, slope=2.6)
    vigour = gaussian(vigour + 0.9 * (terrain.clay - 0.5) - 0.25 * terrain.hollow)
    return Landscape(
        cover=cover,
        number=number,
        objects=objects,
        elevation=terrain.elevation,
        capacity=terrain.capacity,
        clay=terrain.clay,
        vigour=vigour,
        texture=texture,
        height=height.astype(np.float32),
        built=built,
        margin=margin,
    )


def _numbered(
    terrain: Terrain, zone: dict[str, np.ndarray], plots: Plots, stands: Stands, built: Built, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, dict[int, int]]:
    """Cover and object number of each pixel; and object number → stand number for forest objects."""
    side = terrain.rank.shape[0]
    cover = np.zeros((side, side), np.uint8)
    key = np.zeros((side, side), np.int64)
    base = np.int64(1 << 44)  # kinds of objects get ranges of keys that cannot meet

    def put(mask: np.ndarray, kind: np.ndarray | int, keys: np.ndarray | np.int64) -> None:
        cover[mask] = kind[mask] if isinstance(kind, np.ndarray) else kind
        key[mask] = keys[mask] if isinstance(keys, np.ndarray) else keys

    put(zone["forest"], stands.cover[stands.number], base + stands.number.astype(np.int64))
    put(zone["mire"], Cover.MIRE, 2 * base + ndimage.label(zone["mire"])[0])
    put(zone["grass"], Cover.GRASSLAND, 3 * base + (plots.key >> 13))
    put(zone["arable"], Cover.ARABLE, 4 * base + plots.key)
    parts = ndimage.label(terrain.water)[0]
    put(terrain.water | (built.river > 0.6), Cover.WATER, 5 * base + parts)
    put(built.settled & ~terrain.water, Cover.BUILT_UP, 6 * base + ndimage.label(built.settled)[0])
    put((built.asphalt + built.gravel > 0.6) & ~built.settled & ~terrain.water, Cover.ROAD, 7 * base)
    keys, numbers = np.unique(key, return_inverse=True)
    forest = {int(n): int(k - base) for n, k in enumerate(keys) if base <= k < 2 * base}
    return cover, numbers.reshape(key.shape).astype(np.int32), forest


def _objects(cover: np.ndarray, number: np.ndarray, rng: np.random.Generator) -> Objects:
    """Facts per object, drawn in the order of the numbers."""
    n = int(number.max()) + 1
    kind = np.zeros(n, np.uint8)
    kind[number.ravel()] = cover.ravel()
    tone = np.clip(rng.standard_normal((n, 3)), -2.2, 2.2)
    shift = np.clip(rng.standard_normal(n), -2, 2)
    rotation = rng.integers(0, len(_ROTATIONS), n)
    phase = rng.integers(0, 20, n)
    return Objects(kind, tone.astype(np.float32), shift.astype(np.float32), rotation, phase, rng.random(n, np.float32))


def _per_object(of_stand: np.ndarray, first_stand: dict[int, int], n: int) -> np.ndarray:
    """A fact of stands as a table over all objects; 0 for those that are no stands."""
    table = np.zeros(n, np.float32)
    table[list(first_stand)] = of_stand[list(first_stand.values())]
    return table


def _heights(cover: np.ndarray, number: np.ndarray, first_stand: dict[int, int], stands: Stands, built: Built) -> Field:
    """Height of the vegetation and of gardens and houses, metres."""
    forest = np.isin(cover, [int(kind) for kind in (*FOREST, Cover.CLEAR_CUT)])
    height = _per_object(stands.height_m, first_stand, int(number.max()) + 1)[number]
    height = np.where(forest, height, 0).astype(np.float32)
    return np.where(cover == Cover.BUILT_UP, 3 * built.trees + 4 * built.roof, height).astype(np.float32)


def _texture(
    cover: np.ndarray,
    number: np.ndarray,
    first_stand: dict[int, int],
    stands: Stands,
    plots: Plots,
    rng: np.random.Generator,
) -> Field:
    """Texture by class. Values of pine and plantation have one distribution; only their arrangement differs."""
    side = cover.shape[0]
    crowns = gaussian(ndimage.gaussian_filter(rng.standard_normal((side, side), np.float32), 0.55))
    clumps = gaussian(fractal(side, rng, 6, slope=2.2))
    fine = rng.standard_normal((side, side), np.float32)
    angle = _per_object(stands.angle, first_stand, int(number.max()) + 1)[number]
    offset = 2 * np.pi * hash01(number, 11)
    y = np.arange(side, dtype=np.float32)[:, None] * 10
    x = np.arange(side, dtype=np.float32)[None, :] * 10
    rows = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / ROW_PERIOD_M + offset)
    rows = gaussian(rows + 0.35 * fine)
    lines = np.sin(2 * np.pi * (-x * np.sin(plots.angle) + y * np.cos(plots.angle)) / 36.0)
    texture = 0.55 * fine + 0.5 * clumps + 0.55 * lines  # fields: tramlines and unevenness
    for kinds, field in (
        ((Cover.SPRUCE, Cover.MIXED), 0.75 * crowns + 0.66 * clumps),
        ((Cover.PINE,), crowns),
        ((Cover.BROADLEAF, Cover.CLEAR_CUT, Cover.BUILT_UP), 0.5 * crowns + 0.87 * clumps),
        ((Cover.PLANTATION,), rows),
        ((Cover.MIRE, Cover.GRASSLAND), 0.6 * fine + 0.8 * clumps),
        ((Cover.WATER,), 0.25 * fine),
    ):
        texture = np.where(np.isin(cover, [int(kind) for kind in kinds]), field, texture)
    return texture.astype(np.float32)
