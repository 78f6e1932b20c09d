"""What stands on each object on a day of the year: shares of green plants, flowers, straw, soil, water.

Shares are (n, m) float32 over objects and :data:`geossl.sandbox.spectra.MATERIALS`. The dates follow farming in
central Sweden: barley sown at the end of April and cut in mid August, winter wheat and rape green from autumn on,
leys cut two or three times, birch in leaf from the second week of May.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from geossl.sandbox.classes import Cover, Crop
from geossl.sandbox.landscape import Landscape, Objects
from geossl.sandbox.noise import hash01
from geossl.sandbox.spectra import MATERIALS, SPECTRA, stressed

Fill = Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray | float]]
"""Day of year and age of objects → shares of materials."""
Grow = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray | float]]
"""Day of year and chance of fields → green plants, straw, flowers."""
_GREEN = ("crop", "grass", "spruce", "pine", "leaves", "moss")
RESPONSE: dict[int, float] = {
    Cover.GRASSLAND: 1.0,
    Cover.SPRUCE: 0.42,
    Cover.PINE: 0.36,
    Cover.PLANTATION: 0.36,
    Cover.BROADLEAF: 0.52,
    Cover.MIXED: 0.45,
    Cover.CLEAR_CUT: 0.85,
    Cover.MIRE: 0.55,
    Cover.BUILT_UP: 0.45,
}
"""How strongly full stress shows, by cover (0…1); crops have their own."""
CROP_RESPONSE: dict[int, float] = {
    Crop.SPRING_BARLEY: 0.8,
    Crop.WINTER_WHEAT: 0.6,
    Crop.OILSEED_RAPE: 0.5,
    Crop.LEY: 0.95,
}


@dataclass(frozen=True)
class State:
    """Reflectance of each object on one date, (n, 12) float32 over ``spectra.BANDS``, and what drives it."""

    fresh: np.ndarray
    """Without stress (objects with plants) or with wet soil (bare objects)."""
    parched: np.ndarray
    """At full stress, or with dry soil."""
    thin: np.ndarray
    """What shows where plants stand thin: dry soil or litter, less shadow."""
    vegetated: np.ndarray
    """(n,) bool: at least a third of the object is green when not stressed: drought can be told here."""
    uneven: np.ndarray
    """(n,) float32: how much vigour differs within the object."""


def describe(land: Landscape, year: int, day: int, spring_days: float) -> State:
    """The reflectance of every object on a day of a year whose spring is ``spring_days`` late."""
    objects = land.objects
    crops = objects.crops(year)
    shares = _shares(objects, crops, year, day - spring_days)
    response = _lookup(RESPONSE, objects.cover) + _lookup(CROP_RESPONSE, crops)
    green = shares[:, [MATERIALS.index(name) for name in _GREEN]].sum(axis=1)
    vegetated = (green > 0.34) & ~np.isin(objects.cover, (int(Cover.WATER), int(Cover.BUILT_UP), int(Cover.ROAD)))

    # Under stress green turns to dry plants and bare ground, and what stays green holds less water.
    dried = shares.copy()
    lost = np.zeros(len(objects), np.float32)
    for name in _GREEN:
        column = MATERIALS.index(name)
        share = 0.72 if name in ("crop", "grass", "moss") else 0.20
        gone = share * response * shares[:, column]
        dried[:, column] -= gone
        lost += gone
    dried[:, MATERIALS.index("straw")] += 0.66 * lost
    dried[:, MATERIALS.index("dry_soil")] += 0.34 * lost
    wet, dry = MATERIALS.index("wet_soil"), MATERIALS.index("dry_soil")
    moved = dried[:, wet].copy()
    dried[:, wet], dried[:, dry] = 0, dried[:, dry] + moved

    tone = _tones(objects)
    fresh = shares @ SPECTRA * tone
    parched = np.empty_like(fresh)
    for level in np.unique(response):
        same = response == level
        parched[same] = dried[same] @ stressed(float(level)) * tone[same]
    ground = np.zeros_like(shares)
    ground[:, dry], ground[:, MATERIALS.index("straw")] = 0.62, 0.38
    uneven = _lookup(_UNEVEN, objects.cover)
    return State(fresh, parched, (ground @ SPECTRA).astype(np.float32), vegetated, uneven)


_UNEVEN: dict[int, float] = {
    Cover.ARABLE: 0.085,
    Cover.GRASSLAND: 0.09,
    Cover.CLEAR_CUT: 0.16,
    Cover.MIRE: 0.08,
    Cover.BROADLEAF: 0.02,
    Cover.MIXED: 0.015,
    Cover.SPRUCE: 0.012,
}


def _lookup(table: dict[int, float], kinds: np.ndarray) -> np.ndarray:
    values = np.zeros(256, np.float32)
    for kind, value in table.items():
        values[kind] = value
    return values[kinds]


def _tones(objects: Objects) -> np.ndarray:
    """(n, 12): each object's own factor on every band: brightness, near infrared, shortwave infrared."""
    spread = np.full(256, 0.055, np.float32)
    for cover, value in (
        (Cover.ARABLE, 0.085),
        (Cover.GRASSLAND, 0.08),
        (Cover.CLEAR_CUT, 0.12),
        (Cover.WATER, 0.12),
        (Cover.SPRUCE, 0.075),
    ):
        spread[cover] = value
    sizes = spread[objects.cover][:, None]
    loads = np.zeros((3, 12), np.float32)
    loads[0] = 1.0
    loads[1, 5:10] = 0.9
    loads[2, 10:] = 1.0
    return np.exp(sizes * (objects.tone @ loads)).astype(np.float32)


def _rise(day: np.ndarray, middle: np.ndarray | float, days: float) -> np.ndarray:
    """0 before, 1 after ``middle``; ``days`` is the scale of the change."""
    return 1 / (1 + np.exp(-(day - middle) / days))


def _shares(objects: Objects, crops: np.ndarray, year: int, day: float) -> np.ndarray:
    """Shares of the materials by object, unstressed; rows sum to about 1."""
    n = len(objects)
    shares = np.zeros((n, len(MATERIALS)), np.float32)
    index = np.arange(n)
    chance = hash01(index, year, 31).astype(np.float32)  # of this object in this year

    def put(mask: np.ndarray, **parts: np.ndarray | float) -> None:
        for name, part in parts.items():
            shares[mask, MATERIALS.index(name)] = part

    for cover, fill in _COVERS.items():
        mask = objects.cover == cover
        if mask.any():
            put(mask, **fill(day - 2.5 * objects.shift[mask], objects.age[mask]))
    for crop, grow in _CROPS.items():
        mask = crops == crop
        if mask.any():
            put(mask, **_field(*grow(day - 4.5 * objects.shift[mask], chance[mask])))
    return shares


def _field(
    green: np.ndarray, straw: np.ndarray, flower: np.ndarray | float, moist: float = 1.0
) -> dict[str, np.ndarray | float]:
    """A field: plants, straw or stubble, flowers; the rest is soil (``wet_soil`` dries with the weather)."""
    total = np.maximum(green + straw + flower, 1.0)
    green, straw, flower = green / total, straw / total, flower / total
    return {"crop": green, "straw": straw, "flower": flower, "wet_soil": (1 - green - straw - flower) * moist}


def _barley(day: np.ndarray, chance: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    harvest, plough = 226 + 9 * (chance - 0.5), np.where(chance > 0.55, 262 + 20 * (chance - 0.8), 400)
    green = 0.94 * _rise(day, 151, 5.5) * (1 - _rise(day, 205, 4.5))
    straw = 0.88 * _rise(day, 206, 5.0)
    cut, bare = day > harvest, day > plough
    straw = np.where(bare, 0.08, np.where(cut, 0.55, straw))
    green = np.where(bare, 0.0, np.where(cut, 0.04 + 0.14 * _rise(day, harvest + 24, 7), green))
    return green, straw, 0.0


def _wheat(day: np.ndarray, chance: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    harvest, plough = 223 + 12 * (chance - 0.5), np.where(chance > 0.4, 252 + 14 * (chance - 0.7), 400)
    green = (0.38 + 0.57 * _rise(day, 130, 7)) * (1 - _rise(day, 199, 5.0))
    straw = 0.04 + 0.86 * _rise(day, 200, 5.5)
    cut, bare = day > harvest, day > plough
    straw = np.where(bare, 0.06, np.where(cut, 0.60, straw))
    green = np.where(bare, 0.24 * _rise(day, plough + 24, 6), np.where(cut, 0.06, green))
    return green, straw, 0.0


def _rape(day: np.ndarray, chance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    harvest = 211 + 8 * (chance - 0.5)
    flower = 0.86 * np.exp(-(((day - 145) / 10.5) ** 2))
    green = (0.50 + 0.42 * _rise(day, 122, 6)) * (1 - 0.85 * flower) * (1 - _rise(day, 194, 5))
    straw = 0.05 + 0.70 * _rise(day, 195, 6)
    cut = day > harvest
    straw, green = np.where(cut, 0.48, straw), np.where(cut, 0.05 + 0.30 * _rise(day, harvest + 22, 6), green)
    return green, straw, np.where(cut, 0, flower)


def _ley(day: np.ndarray, chance: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    green = 0.42 + 0.50 * _rise(day, 122, 6)
    for middle in (158 + 10 * (chance - 0.5), 204 + 16 * (chance - 0.5), np.where(chance > 0.5, 247, 500)):
        since = day - middle
        green = green * np.where(since > 0, 1 - 0.52 * np.exp(-np.maximum(since, 0) / 13), 1)
    green = green * (1 - 0.12 * _rise(day, 270, 8))
    return green, 0.75 * (0.95 - green), 0.0


_CROPS: dict[Crop, Grow] = {
    Crop.SPRING_BARLEY: _barley,
    Crop.WINTER_WHEAT: _wheat,
    Crop.OILSEED_RAPE: _rape,
    Crop.LEY: _ley,
}


def _leaf(day: np.ndarray) -> np.ndarray:
    """0…1: leaf area of birch, aspen, oak."""
    return _rise(day, 133, 3.5) * (1 - _rise(day, 279, 5))


def _autumn(day: np.ndarray) -> np.ndarray:
    """0…1: yellowing of the leaves that are left."""
    return _rise(day, 266, 4.5)


def _broadleaf(day: np.ndarray, age: np.ndarray) -> dict[str, np.ndarray | float]:
    leaf, yellow = _leaf(day), _autumn(day)
    return {
        "leaves": 0.92 * leaf * (1 - 0.75 * yellow),
        "straw": 0.30 * leaf * yellow,
        "twigs": 0.08 + 0.92 * (1 - leaf),
        "flower": 0.20 * leaf * yellow,
    }


def _mixed(day: np.ndarray, age: np.ndarray) -> dict[str, np.ndarray | float]:
    part = 0.35 + 0.3 * age
    leafy = {name: part * share for name, share in _broadleaf(day, age).items()}
    return {**leafy, "spruce": 1 - part}


def _conifer(name: str, undergrowth: float) -> Fill:
    def fill(day: np.ndarray, age: np.ndarray) -> dict[str, np.ndarray | float]:
        summer = _rise(day, 150, 9) * (1 - 0.5 * _rise(day, 262, 9))
        litter = undergrowth * (0.6 + 0.8 * age)
        return {name: 1 - litter, "grass": litter * 0.45 * summer, "litter": litter * (1 - 0.45 * summer)}

    return fill


def _grassland(day: np.ndarray, age: np.ndarray) -> dict[str, np.ndarray | float]:
    green = (0.36 + 0.46 * _rise(day, 126, 7)) * (1 - 0.10 * _rise(day, 185, 10)) * (1 - 0.16 * age)
    return {"grass": green, "straw": 0.72 * (1 - green), "wet_soil": 0.28 * (1 - green)}


def _clear_cut(day: np.ndarray, age: np.ndarray) -> dict[str, np.ndarray | float]:
    green = age * (0.18 + 0.52 * _rise(day, 150, 9) * (1 - 0.5 * _rise(day, 262, 9)))
    return {"grass": green, "litter": 0.72 * (1 - green), "straw": 0.20 * (1 - green), "wet_soil": 0.08 * (1 - green)}


def _mire(day: np.ndarray, age: np.ndarray) -> dict[str, np.ndarray | float]:
    green = 0.42 + 0.34 * _rise(day, 152, 9) * (1 - 0.6 * _rise(day, 258, 9))
    return {"moss": green, "straw": 0.55 * (1 - green), "wet_soil": 0.33 * (1 - green), "water": 0.12 * (1 - green)}


def _gardens(day: np.ndarray, age: np.ndarray) -> dict[str, np.ndarray | float]:
    leaf = _leaf(day)
    grass = 0.30 + 0.18 * _rise(day, 126, 7)
    return {"grass": grass, "leaves": 0.24 * leaf, "twigs": 0.24 * (1 - leaf), "gravel": 0.76 - grass}


_COVERS: dict[Cover, Fill] = {
    Cover.WATER: lambda day, age: {"water": 1.0},
    Cover.ROAD: lambda day, age: {"grass": 0.5, "gravel": 0.5},
    Cover.BUILT_UP: _gardens,
    Cover.GRASSLAND: _grassland,
    Cover.SPRUCE: _conifer("spruce", 0.05),
    Cover.PINE: _conifer("pine", 0.14),
    Cover.PLANTATION: _conifer("pine", 0.14),
    Cover.BROADLEAF: _broadleaf,
    Cover.MIXED: _mixed,
    Cover.CLEAR_CUT: _clear_cut,
    Cover.MIRE: _mire,
}
