"""The classes of the truth, with their names and colours: land cover, crops, drought; shores, plants, sea bed."""

from __future__ import annotations

from enum import IntEnum

NOT_APPLICABLE = 255
"""Value of truth rasters where a statement makes no sense (drought of water or of stubble)."""


class Cover(IntEnum):
    """Land cover (``truth/landcover.tif``)."""

    WATER = 1
    BUILT_UP = 2
    ROAD = 3
    ARABLE = 4
    GRASSLAND = 5
    SPRUCE = 6
    PINE = 7
    BROADLEAF = 8
    MIXED = 9
    CLEAR_CUT = 10
    MIRE = 11
    PLANTATION = 12
    """Planted pine in rows: the spectrum of ``PINE`` pixel for pixel in distribution, told apart by texture alone."""


class Crop(IntEnum):
    """What grows on arable land in one year (``truth/crops/<year>.tif``); 0 elsewhere."""

    SPRING_BARLEY = 1
    WINTER_WHEAT = 2
    OILSEED_RAPE = 3
    LEY = 4


class Drought(IntEnum):
    """Vegetation drought on one date (``truth/drought/<date>.tif``)."""

    NONE = 0
    MODERATE = 1
    SEVERE = 2


class Shore(IntEnum):
    """Kinds of shore (``truth/shore.tif``); 0 away from the water's edge."""

    SAND = 1
    REED = 2
    ROCK = 3


class Aquatic(IntEnum):
    """Plants that stand out of a lake in one month (``truth/vegetation/<year>-<month>.tif``); 0 none."""

    REED = 1
    FLOATING = 2


class Bottom(IntEnum):
    """What the sea bed is covered with (``truth/bottom.tif``); 0 on land."""

    SEAGRASS = 1
    MACROALGAE = 2
    MUSSEL_BED = 3
    SAND = 4
    MUD = 5


FOREST = (Cover.SPRUCE, Cover.PINE, Cover.BROADLEAF, Cover.MIXED, Cover.PLANTATION)

COVER_COLOURS: dict[int, tuple[int, int, int, int]] = {
    Cover.WATER: (64, 120, 190, 255),
    Cover.BUILT_UP: (200, 60, 60, 255),
    Cover.ROAD: (110, 110, 110, 255),
    Cover.ARABLE: (240, 215, 120, 255),
    Cover.GRASSLAND: (170, 215, 110, 255),
    Cover.SPRUCE: (20, 80, 45, 255),
    Cover.PINE: (50, 115, 60, 255),
    Cover.BROADLEAF: (90, 165, 70, 255),
    Cover.MIXED: (65, 135, 65, 255),
    Cover.CLEAR_CUT: (200, 165, 135, 255),
    Cover.MIRE: (140, 120, 170, 255),
    Cover.PLANTATION: (30, 150, 120, 255),
}
DROUGHT_COLOURS: dict[int, tuple[int, int, int, int]] = {
    Drought.NONE: (120, 180, 110, 255),
    Drought.MODERATE: (245, 190, 70, 255),
    Drought.SEVERE: (190, 50, 40, 255),
    NOT_APPLICABLE: (235, 235, 235, 0),
}
SHORE_COLOURS: dict[int, tuple[int, int, int, int]] = {
    0: (235, 235, 235, 0),
    Shore.SAND: (235, 200, 110, 255),
    Shore.REED: (90, 150, 70, 255),
    Shore.ROCK: (120, 110, 120, 255),
}
AQUATIC_COLOURS: dict[int, tuple[int, int, int, int]] = {
    0: (235, 235, 235, 0),
    Aquatic.REED: (140, 130, 40, 255),
    Aquatic.FLOATING: (70, 180, 110, 255),
}
BOTTOM_COLOURS: dict[int, tuple[int, int, int, int]] = {
    0: (235, 235, 235, 0),
    Bottom.SEAGRASS: (60, 160, 80, 255),
    Bottom.MACROALGAE: (150, 90, 40, 255),
    Bottom.MUSSEL_BED: (80, 60, 120, 255),
    Bottom.SAND: (240, 215, 140, 255),
    Bottom.MUD: (130, 130, 140, 255),
}


def label(member: IntEnum) -> str:
    """The name used in label files and legends: ``spring barley``."""
    return member.name.lower().replace("_", " ")
