"""What a sandbox is: place, size, years and dates (``configs/sandbox/*.yaml``), and the grid its pixels lie on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from affine import Affine
from pydantic import Field, field_validator, model_validator

from geossl import config
from geossl.errors import InputError

PIXEL_M = 10
TILE_M = 800
MAX_SIZE_KM = 25.6
"""The landscape itself (about 60 bytes a pixel) is held in memory; only the scenes are rendered in blocks."""
PRODUCT = "sandbox_s2_l2a"


class LabelCounts(config.Settings):
    """How many labels are drawn."""

    polygons: int = Field(ge=0)
    points: int = Field(ge=0)
    landcover_points: int = Field(ge=0)
    landcover_polygons: int = Field(ge=0)


class WaterSettings(config.Settings):
    """The lake or the sea of a sandbox: how its level moves, what its water does to light, how many labels it has."""

    share: float = Field(gt=0.2, lt=0.9)
    """Share of the square that is water."""
    level_m: float
    """Mean level, metres above the datum of all heights."""
    range_m: float = Field(gt=0)
    """The level stays within half of this above and below the mean."""
    season_m: float = Field(ge=0)
    """Half the difference between the highest and the lowest level of an average year."""
    peak_day: int = Field(ge=1, le=366)
    memory_days: float = Field(gt=1)
    """How long a high or low level lasts: e-folding time of the departures from the season."""
    spread_m: float = Field(ge=0)
    """Standard deviation of those departures before they meet the bounds."""
    gauge_first_year: int
    stations: tuple[str, ...] = Field(min_length=1)
    turbidity: float = Field(gt=0)
    """Mean load of particles: 1 is clear coastal water."""
    yellow: float = Field(ge=0)
    """Absorption by dissolved humus at 443 nm, 1/m."""
    glint: float = Field(ge=0)
    """Mean reflectance of the sun in the waves."""
    label_points: int = Field(0, ge=0)
    label_polygons: int = Field(0, ge=0)
    dives: int = Field(0, ge=0)
    """Transects of divers, each of some ten habitat points."""
    sounding_tracks: int = Field(0, ge=0)


class SandboxSpec(config.Settings):
    """Schema of ``configs/sandbox/*.yaml``."""

    version: int
    """Raised whenever the pixels change: results of different versions must not be compared."""
    layout: Literal["farmland", "lake", "archipelago"] = "farmland"
    title: str
    crs: str
    mgrs_tile: str
    left_m: int
    top_m: int
    size_km: float
    latitude: float = Field(ge=-66, le=66)
    seed: int
    years: tuple[int, ...] = Field(min_length=1)
    dry_years: dict[int, Literal["severe", "moderate"]] = Field(default_factory=dict)
    scenes_a_year: tuple[int, int]
    first_day: str
    last_day: str
    shoulder_scene: float = Field(0.0, ge=0, le=1)
    labels: LabelCounts | None = None
    """Of farmland."""
    water: WaterSettings | None = None
    """Of lakes and archipelagos."""

    @model_validator(mode="after")
    def _whole(self) -> SandboxSpec:
        needed = "labels" if self.layout == "farmland" else "water"
        if getattr(self, needed) is None:
            raise ValueError(f"the layout {self.layout} needs a section '{needed}'")
        return self

    @field_validator("left_m", "top_m")
    @classmethod
    def _on_the_grid(cls, metres: int) -> int:
        if metres % 2400:
            raise ValueError("must be a multiple of 2400 m (tiles of 800 m, bands of 60 m)")
        return metres


def identity(spec: SandboxSpec) -> dict[str, Any]:
    """What tells one sandbox from another, for ``sandbox.json`` and the manifest: all settings that are set."""
    return spec.model_dump(mode="json", exclude_none=True)


@dataclass(frozen=True)
class Frame:
    """The square the pixels of a sandbox lie in: ``size`` pixels of 10 m a side; ``padded`` is a multiple of 6."""

    crs: str
    left_m: float
    top_m: float
    size: int

    @property
    def padded(self) -> int:
        """Side of the rendered square in 10 m pixels: whole pixels of 60 m."""
        return -(-self.size // 6) * 6

    def shape(self, gsd_m: int) -> tuple[int, int]:
        """Rows and columns of a band; the 60 m bands reach up to 50 m beyond the square."""
        side = -(-self.size * PIXEL_M // gsd_m)
        return side, side

    def transform(self, gsd_m: int) -> Affine:
        """Pixel → CRS metres of a band."""
        return Affine(gsd_m, 0, self.left_m, 0, -gsd_m, self.top_m)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top in CRS metres."""
        side = self.size * PIXEL_M
        return self.left_m, self.top_m - side, self.left_m + side, self.top_m


def load_spec(name: str, *, seed: int | None = None, size_km: float | None = None) -> SandboxSpec:
    """A shipped sandbox by name, or one's own by path of a ``.yaml`` file, with seed and size replaced where given."""
    spec = config.load(SandboxSpec, "sandbox", name)
    size_km = spec.size_km if size_km is None else size_km
    tiles = size_km * 1000 / TILE_M
    if abs(tiles - round(tiles)) > 1e-6 or not 1.6 <= size_km <= MAX_SIZE_KM:
        raise InputError(
            "not a size a sandbox can have",
            where="--size-km",
            expected=f"a multiple of 0.8 km (one tile) from 1.6 to {MAX_SIZE_KM}",
            found=size_km,
            remedy="12.8 is the default",
        )
    seed = spec.seed if seed is None else seed
    if seed < 0:
        raise InputError("not a seed", where="--seed", expected="0 or more", found=seed)
    return spec.model_copy(update={"size_km": round(float(size_km), 3), "seed": seed})


def frame_of(spec: SandboxSpec) -> Frame:
    """The square of a sandbox."""
    return Frame(spec.crs, spec.left_m, spec.top_m, round(spec.size_km * 1000 / PIXEL_M))
