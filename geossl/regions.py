"""What an area and a period are: shipped regions, vector files, bounding boxes; periods and months.

A region carries the grid its tiles lie on (CRS, resolution, tile side, block side), fixed for all dates.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geossl import config
from geossl.errors import InputError, unknown_name

if TYPE_CHECKING:
    from geopandas import GeoDataFrame
    from shapely.geometry.base import BaseGeometry

DEFAULT_TILE_PX = 80
DEFAULT_BLOCK_TILES = 8


class RegionConfig(config.Settings):
    """Schema of ``configs/regions/*.yaml``."""

    title: str
    geometry: dict[str, Any]
    """GeoJSON geometry in longitude and latitude (WGS 84)."""
    crs: str
    """CRS of the tile grid, metres."""
    resolution_m: float = 10.0
    tile_px: int = DEFAULT_TILE_PX
    block_tiles: int = DEFAULT_BLOCK_TILES
    period: str | None = None
    months: str | None = None
    source: str | None = None


@dataclass(frozen=True)
class Period:
    """Days from ``start`` to ``end``, both included."""

    start: date
    end: date

    def __str__(self) -> str:
        return f"{self.start.isoformat()}/{self.end.isoformat()}"

    def contains(self, day: date) -> bool:
        """Whether ``day`` lies in the period."""
        return self.start <= day <= self.end


@dataclass(frozen=True)
class Region:
    """An area of interest and the grid its tiles lie on.

    ``geometry`` is in longitude and latitude (EPSG:4326); ``crs`` is the CRS of the tile grid, ``None`` where the
    region was given as a vector file or box: then the grid of the product's scenes is taken.
    """

    name: str
    geometry: BaseGeometry
    crs: str | None = None
    resolution_m: float | None = None
    tile_px: int = DEFAULT_TILE_PX
    block_tiles: int = DEFAULT_BLOCK_TILES
    period: Period | None = None
    months: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.tile_px < 8 or self.block_tiles < 1:
            raise InputError(
                "this tile grid is too small",
                where=f"region {self.name}",
                expected="tile_px of at least 8 and block_tiles of at least 1",
                found=f"tile_px {self.tile_px}, block_tiles {self.block_tiles}",
            )

    @cached_property
    def bbox(self) -> tuple[float, float, float, float]:
        """Bounding box: west, south, east, north in degrees."""
        west, south, east, north = self.geometry.bounds
        return west, south, east, north

    def geometry_in(self, crs: str) -> BaseGeometry:
        """The geometry in another CRS."""
        import pyproj
        from shapely.ops import transform

        to_crs = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
        return transform(to_crs.transform, self.geometry)

    def with_grid(
        self,
        crs: str | None = None,
        resolution_m: float | None = None,
        tile_px: int | None = None,
        block_tiles: int | None = None,
    ) -> Region:
        """The same area with other grid settings; ``None`` keeps what is there."""
        return replace(
            self,
            crs=crs or self.crs,
            resolution_m=resolution_m or self.resolution_m,
            tile_px=tile_px or self.tile_px,
            block_tiles=block_tiles or self.block_tiles,
        )


def region_names() -> list[str]:
    """Names of the shipped regions."""
    return config.config_names("regions")


def load_region(spec: str | Path) -> Region:
    """A region from a shipped name, a ``.yaml`` file, a vector file, or a box ``west,south,east,north`` in degrees.

    Raises:
        InputError: unknown name, unreadable file, missing CRS, empty or impossible geometry.
    """
    text = str(spec)
    if re.fullmatch(r"\s*-?[\d.]+(\s*,\s*-?[\d.]+){3}\s*", text):
        return _from_box(text)
    path = Path(text)
    if path.suffix in {".yaml", ".yml"} or text in region_names():
        return _from_config(config.load(RegionConfig, "regions", text), path.stem)
    if path.exists():
        return _from_vector(path)
    raise unknown_name(
        "region", text, region_names(), remedy="or give a vector file, or a box west,south,east,north in degrees"
    )


def _from_config(settings: RegionConfig, name: str) -> Region:
    from shapely.geometry import shape

    try:
        geometry = shape(settings.geometry)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError("not a GeoJSON geometry", where=f"region {name}: geometry", found=error) from None
    return Region(
        name=name,
        geometry=_checked(geometry, name),
        crs=settings.crs,
        resolution_m=settings.resolution_m,
        tile_px=settings.tile_px,
        block_tiles=settings.block_tiles,
        period=parse_period(settings.period) if settings.period else None,
        months=parse_months(settings.months) if settings.months else None,
    )


def _from_box(text: str) -> Region:
    from shapely.geometry import box

    west, south, east, north = (float(part) for part in text.split(","))
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
        raise InputError(
            "not a box on the globe", where="--region", expected="west,south,east,north in degrees", found=text
        )
    name = f"box_{west:g}_{south:g}_{east:g}_{north:g}".replace("-", "m").replace(".", "p")
    return Region(name=name, geometry=box(west, south, east, north))


def _from_vector(path: Path) -> Region:
    frame = read_vector(path)
    return Region(name=path.stem, geometry=_checked(frame.to_crs("EPSG:4326").union_all(), str(path)))


def read_vector(path: Path) -> GeoDataFrame:
    """A vector file or GeoParquet as a whole, in its CRS.

    Raises:
        InputError: no such file, it cannot be read, or it names no CRS.
    """
    import geopandas

    if not path.exists():
        raise InputError("no such vector file", where=path, remedy="check the path")
    try:
        frame = geopandas.read_parquet(path) if path.suffix == ".parquet" else geopandas.read_file(path)
    except Exception as error:  # pyogrio, fiona and pyarrow raise their own types
        raise InputError("cannot read this vector file", where=path, found=error) from None
    if frame.crs is None:
        raise InputError("this vector file names no CRS", where=path, remedy="write the file with its CRS")
    return frame


def _checked(geometry: BaseGeometry, where: str) -> BaseGeometry:
    from shapely import make_valid

    geometry = make_valid(geometry)
    if geometry.is_empty or geometry.area == 0:
        raise InputError("this region has no area", where=where, expected="polygons", found=geometry.geom_type)
    return geometry


def parse_period(text: str) -> Period:
    """``2018``, ``2018-07`` or ``2018-05-01/2018-09-30`` (either side may be short) as a :class:`Period`."""
    first, _, last = text.strip().partition("/")
    try:
        period = Period(_day(first, at_end=False), _day(last or first, at_end=True))
    except ValueError:
        raise InputError(
            "not a period", where="--period", expected="2018, 2018-07 or 2018-05-01/2018-09-30", found=text
        ) from None
    if period.end < period.start:
        raise InputError("this period ends before it starts", where="--period", found=text)
    return period


def _day(text: str, at_end: bool) -> date:
    parts = [int(part) for part in text.strip().split("-")]
    if not 1 <= len(parts) <= 3:
        raise ValueError(text)
    year = parts[0]
    month = parts[1] if len(parts) > 1 else (12 if at_end else 1)
    if len(parts) > 2:
        return date(year, month, parts[2])
    return date(year, month, calendar.monthrange(year, month)[1] if at_end else 1)


def parse_months(text: str) -> tuple[int, ...]:
    """``5-9``, ``11-2`` (over the turn of the year) or ``4,6,8`` as month numbers in calendar order of the text."""
    months: list[int] = []
    try:
        for part in text.split(","):
            first, _, last = part.strip().partition("-")
            start, end = int(first), int(last or first)
            if not (1 <= start <= 12 and 1 <= end <= 12):
                raise ValueError(part)
            count = (end - start) % 12 + 1
            months.extend((start - 1 + step) % 12 + 1 for step in range(count))
    except ValueError:
        raise InputError("not months", where="--months", expected="5-9 or 4,6,8", found=text) from None
    return tuple(dict.fromkeys(months))
