"""The classes of the truth: land cover, crops and drought, with their codes, names and colours."""

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


def label(member: IntEnum) -> str:
    """The name used in label files and legends: ``spring barley``."""
    return member.name.lower().replace("_", " ")
