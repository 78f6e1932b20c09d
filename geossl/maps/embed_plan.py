"""What ``embed`` will do, before any pixel is read: the encoder, the chips, the picture they form, the place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geossl.artefacts import hash_file, hash_json
from geossl.chips.chipset import ChipSet
from geossl.chips.open import open_chips
from geossl.encoders.saved import WEIGHTS, Encoder, check_bands, load_encoder
from geossl.errors import InputError
from geossl.maps.layers import span_of
from geossl.maps.sources import ChipMosaicSource
from geossl.progress import say, warn
from geossl.regions import Period, Region, load_region, parse_months, parse_period

COMPONENTS = 16
"""Bands of the raster of cells: principal components of the encoder's maps."""
MIN_COVER = 0.01
"""Chips that cover a smaller part of the rectangle around them are not joined to one picture."""
NEIGHBOUR_CLEAR = 0.9
"""Clear share from which a chip counts as clear for the picture of neighbours."""


@dataclass(frozen=True)
class EmbedPlan:
    """What would be embedded; ``--dry-run`` prints it.

    Attributes:
        out: the folder of the result.
        name: region or chip set.
        encoder: path of the encoder.
        chips: chips to embed (of a region whose tiles are not built yet: chips of its plan).
        tiles: their tiles.
        to_build: chips that are to be read from the cube first.
        dimensions: length of an embedding.
        cells: rows and columns of the raster of cells; None where there will be none or it is not known yet.
        no_cells: why there will be no raster of cells.
    """

    out: Path
    name: str
    encoder: Path
    chips: int
    tiles: int
    to_build: int
    dimensions: int
    cells: tuple[int, int] | None
    no_cells: str | None


@dataclass(frozen=True)
class EmbedWork:
    """A plan with the objects that carry it out; ``rows``: the chips, ``query``: that at the point asked for."""

    plan: EmbedPlan
    encoder: Encoder
    chips: ChipSet
    rows: np.ndarray
    mosaic: ChipMosaicSource | None
    span: tuple[date, date] | None
    query: int | None
    inputs: dict[str, Any]

    @property
    def table(self) -> pd.DataFrame:
        """The chips' table rows, in the order of ``rows``."""
        return self.chips.table.iloc[self.rows].reset_index(drop=True)


def preview_region(
    encoder: str | Path,
    region: str | Region,
    out: str | Path,
    product: str | None,
    period: str | None,
    months: str | None,
) -> EmbedPlan:
    """The plan for a region whose tiles may not be there yet; nothing is read or written."""
    from geossl.chips.build import build_tiles

    opened = load_encoder(encoder)
    area = _checked_region(opened, region, product)
    tiles = build_tiles(area, product=product, period=period, months=months, dry_run=True)
    return EmbedPlan(
        Path(out).absolute(), area.name, Path(encoder).absolute(), tiles.new + tiles.skipped, tiles.tiles,
        tiles.new, opened.out_dim, None, None,
    )  # fmt: skip


def make_work(
    encoder: str | Path,
    *,
    region: str | Region | None,
    chips: str | Path | ChipSet | None,
    out: str | Path,
    product: str | None,
    period: str | None,
    months: str | None,
    point: tuple[float, float] | None,
) -> EmbedWork:
    """Check the input and say what will be done; tiles of a region are built where they are missing.

    Raises:
        InputError: no such encoder, bands missing, no chips in the period, the point lies on no chip or no clear one.
    """
    opened = load_encoder(encoder)
    when, in_months = parse_period(period) if period else None, parse_months(months) if months else None
    if region is not None:
        area = _checked_region(opened, region, product)
        when, in_months = when or area.period, in_months or area.months
        chip_set, name = _built(area, product, when, in_months), area.name
    else:
        assert chips is not None
        area, chip_set = None, open_chips(chips) if isinstance(chips, str | Path) else chips
        name = chip_set.name.replace("/", "-")
    check_bands(opened, chip_set.bands, chip_set.path)
    _warn_of_other_pixels(opened, chip_set)
    rows = _rows(chip_set, area, when, in_months)
    mosaic, span, no_cells = _mosaic(chip_set, rows, opened, when)
    plan = EmbedPlan(
        out=Path(out).absolute(),
        name=name,
        encoder=Path(encoder).absolute(),
        chips=len(rows),
        tiles=int(chip_set.table["tile"].iloc[rows].nunique()),
        to_build=0,
        dimensions=opened.out_dim,
        cells=None if mosaic is None else _cell_shape(mosaic, opened),
        no_cells=no_cells,
    )
    inputs = {
        "encoder": hash_file(Path(encoder) / WEIGHTS),
        "chips": chip_set.id,
        "rows": hash_json(chip_set.table["chip"].iloc[rows].tolist()),
        "components": COMPONENTS,
        "period": str(when) if when else None,
        "months": list(in_months) if in_months else None,
    }
    query = None if point is None else find_query(chip_set.table, rows, point)
    return EmbedWork(plan, opened, chip_set, rows, mosaic, span, query, inputs)


def _checked_region(encoder: Encoder, region: str | Region, product: str | None) -> Region:
    """The region, once its product is known to have the encoder's bands: before any tile is read."""
    from geossl.cube.connect import choose_product

    area = region if isinstance(region, Region) else load_region(region)
    cube, chosen = choose_product(area, product)
    with cube:
        check_bands(encoder, chosen.bands, f"product {chosen.name}")
    return area


def _built(area: Region, product: str | None, when: Period | None, months: Sequence[int] | None) -> ChipSet:
    from geossl.chips.build import build_tiles

    say(f"tiles of {area.name}: building what is missing")
    return open_chips(build_tiles(area, product=product, period=when, months=months).store)


def _rows(chips: ChipSet, area: Region | None, when: Period | None, months: Sequence[int] | None) -> np.ndarray:
    """Rows of the chips in the region, the period and the months. Chips without any date are taken as they are."""
    table = chips.table
    chosen = np.ones(len(table), bool)
    if area is not None:
        chosen &= np.array([area.geometry.intersects(outline) for outline in table["geometry"]], bool)
    days = pd.Series(table["datetime"])
    if (when is not None or months) and days.notna().any():
        on = [
            day == day and (when is None or when.contains(day)) and (not months or day.month in months)
            for day in days.dt.date
        ]
        chosen &= np.array(on, bool)
    chosen &= table["clear"].to_numpy(float) > 0
    if not chosen.any():
        known = days.dropna().dt.date
        raise InputError(
            "no chip with a clear pixel lies in what was asked for",
            where=chips.path,
            expected=f"chips in {when or 'any time'}{f', months {sorted(months)}' if months else ''}",
            found=f"{len(table)} chips" + (f" of {min(known)} to {max(known)}" if len(known) else ""),
            remedy="choose another --period or --months",
        )
    return np.flatnonzero(chosen)


def _warn_of_other_pixels(encoder: Encoder, chips: ChipSet) -> None:
    taught = encoder.meta.get("resolution_m")
    if taught and abs(float(taught) - chips.resolution_m) > 0.05 * float(taught):
        warn(f"the encoder was pretrained at {taught:g} m pixels, these chips have {chips.resolution_m:g} m")


def _mosaic(
    chips: ChipSet, rows: np.ndarray, encoder: Encoder, when: Period | None
) -> tuple[ChipMosaicSource | None, tuple[date, date] | None, str | None]:
    """The picture that the chips form, and the days it stands for; or why there is none."""
    try:
        mosaic = ChipMosaicSource(chips, rows.tolist(), encoder.bands, encoder.strides[0], max(encoder.strides))
        span = span_of(mosaic.days, when)
    except InputError as error:
        return None, None, f"{error.what}: {error.found or error.remedy}"
    height, width = mosaic.geobox.shape
    corners = chips.table.iloc[rows][["left", "top"]].drop_duplicates()
    cover = len(corners) * chips.shape[0] * chips.shape[1] / (height * width)
    if cover < MIN_COVER:
        return None, None, f"these chips lie too far apart to be one picture: they cover {100 * cover:.2g} % of it"
    return mosaic, span, None


def _cell_shape(mosaic: ChipMosaicSource, encoder: Encoder) -> tuple[int, int]:
    height, width = (int(side) // encoder.strides[0] for side in mosaic.geobox.shape)
    return height, width


def find_query(table: pd.DataFrame, rows: np.ndarray, point: tuple[float, float]) -> int:
    """The row (one of ``rows``) of the latest clear chip at a point (longitude, latitude in degrees).

    Raises:
        InputError: chips without coordinates, a point on no chip, or no clear chip there.
    """
    from shapely.geometry import Point

    place = f"--neighbours-of {point[0]:g},{point[1]:g}"
    outlines = table["geometry"].iloc[rows].to_numpy()
    if not any(outline is not None for outline in outlines):
        raise InputError("these chips have no coordinates", where=place, remedy="leave --neighbours-of out")
    at = Point(point)
    there = np.array([outline is not None and outline.intersects(at) for outline in outlines], bool)
    if not there.any():
        west, south, east, north = np.array([one.bounds for one in outlines if one is not None]).T
        raise InputError(
            "no chip lies at this point",
            where=place,
            expected=f"longitude {west.min():.4f} to {east.max():.4f}, latitude {south.min():.4f} to "
            f"{north.max():.4f}, on one of {len(rows)} chips",
            remedy="give longitude, latitude in degrees",
        )
    found = table.iloc[rows[there]].assign(row=rows[there])
    clear = found[found["clear"] >= NEIGHBOUR_CLEAR]
    if clear.empty:
        raise InputError(
            "nothing clear at this point",
            where=place,
            expected=f"a chip with at least {100 * NEIGHBOUR_CLEAR:g} % clear pixels",
            found=f"{len(found)} chips, the clearest with {100 * found['clear'].max():.0f} %",
            remedy="choose another point or a longer --period",
        )
    return int(clear.sort_values("datetime", kind="stable", na_position="first")["row"].iloc[-1])
