"""What a task gives from scenes alone, without a head: ``rule`` in a task's YAML, made by ``geossl map --task``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from geossl.config import Settings


class MapRule(Settings):
    """How the layers of a task are made without a head."""

    form: Literal["extent", "water-dates", "coast"]
    """``extent``: where a spectral index lies above a limit (:mod:`geossl.maps.index`). ``water-dates``: where and when
    there is water (:mod:`geossl.maps.water_dates`). ``coast``: zones along a shore and how it moved
    (:mod:`geossl.maps.coast`)."""
    index: Literal["ndvi", "ndmi", "ndwi", "mndwi", "ndre", "nbr"] | None = None
    composite: Literal["median", "max", "best", "frequency"] = "median"
    threshold: float | None = None
    within: Literal["water"] | None = None
    min_dates: int = Field(default=1, gt=0)
    """A pixel with fewer clear dates is masked (``water-dates``, ``coast``)."""
    shore_m: float = Field(default=60, gt=0)
    """How far from water that is there at times vegetation belongs to the shore, metres (``coast``)."""

    @model_validator(mode="after")
    def _whole(self) -> MapRule:
        if (self.form == "extent") != (self.index is not None and self.threshold is not None):
            raise ValueError("an extent, and nothing else, has an index and a threshold")
        return self
