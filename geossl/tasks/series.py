"""Chips of several dates as one: a view of a chip store in which a chip is a tile with all its dates.

Read as a chip it is the median composite of its clear dates, so that everything that takes chips takes it; networks of
series read the dates themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from geossl.chips.chipset import ChipSet, Rows
from geossl.labels.read import Labels
from geossl.products import Encoding, Flag
from geossl.regions import Period
from geossl.tasks.examples import ChipData, in_period
from geossl.tasks.spec import TaskSpec
from geossl.tasks.temporal import median_composite

_KEPT_BYTES = 1 << 30
"""Composites and series that are kept in memory, since training asks for a chip many times."""


@dataclass(frozen=True)
class SeriesChips:
    """A chip set (:class:`geossl.chips.chipset.ChipSet`) of tiles with several dates each.

    ``members[i]`` are the rows of ``chips`` that row i of ``table`` joins, in order of time. Name, id and blocks are
    those of ``chips``: it is the same ground.
    """

    chips: ChipSet
    table: pd.DataFrame
    members: tuple[np.ndarray, ...]
    _kept: dict[tuple[int, bool], tuple[np.ndarray, np.ndarray]] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """Of the chips."""
        return self.chips.name

    @property
    def path(self) -> Path:
        """Of the chips."""
        return self.chips.path

    @property
    def id(self) -> str:
        """Of the chips."""
        return self.chips.id

    @property
    def bands(self) -> tuple[str, ...]:
        """Of the chips."""
        return self.chips.bands

    @property
    def encoding(self) -> Encoding:
        """Of the chips."""
        return self.chips.encoding

    @property
    def resolution_m(self) -> float:
        """Of the chips."""
        return self.chips.resolution_m

    @property
    def shape(self) -> tuple[int, int]:
        """Of the chips."""
        return self.chips.shape

    def load(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Median composites: stored pixels (n, band, y, x), and flags (n, y, x) that are 0 where any date is clear."""
        made = [self._composite(int(row)) for row in rows]
        return np.stack([stored for stored, _ in made]), np.stack([flags for _, flags in made])

    def dates(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """All dates of one row: stored pixels (T, band, y, x) and flags (T, y, x), nodata flagged."""
        if (row, True) not in self._kept:
            stored, flags = self.chips.load(self.members[row])
            finite = np.isfinite(self.encoding.decode(stored)).all(axis=1)
            self._keep((row, True), (stored, np.where(finite, flags, flags | Flag.NODATA).astype(np.uint8)))
            return stored, np.where(finite, flags, flags | Flag.NODATA).astype(np.uint8)
        return self._kept[row, True]

    def days(self, row: int) -> np.ndarray:
        """Day of the year of each date of a row; 0 where a chip has no date."""
        return self.chips.table["datetime"].iloc[self.members[row]].dt.dayofyear.fillna(0).to_numpy(dtype=np.float32)

    def _composite(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        if (row, False) in self._kept:
            return self._kept[row, False]
        stored, flags = self.dates(row)
        numbers = torch.from_numpy(stored.astype(np.float32))[None]
        median, _ = median_composite(numbers, torch.from_numpy(flags == 0)[None])
        made = median[0].numpy().astype(stored.dtype), np.where((flags == 0).any(axis=0), 0, flags[0]).astype(np.uint8)
        self._keep((row, False), made)
        return made

    def _keep(self, key: tuple[int, bool], made: tuple[np.ndarray, np.ndarray]) -> None:
        size = made[0].nbytes + made[1].nbytes
        if sum(one.nbytes for pair in self._kept.values() for one in pair) + size <= _KEPT_BYTES:
            self._kept[key] = made


def series_chips(
    chips: ChipSet, labels: Labels, spec: TaskSpec, period: Period | None, months: tuple[int, ...] | None
) -> SeriesChips:
    """One row a tile and window of time: the dates within the task's tolerance of each label date, and all dates of
    the period where labels have none. Dates that are cloudy in part count; those without a clear pixel are left out.
    """
    table = chips.table
    usable = (table["clear"].to_numpy(dtype=float) > 0) & in_period(table["datetime"], period, months)
    lines, members = [], []
    for begin, rows in _windows(table.loc[usable], labels, spec):
        ordered = rows[np.argsort(table["datetime"].to_numpy()[rows], kind="stable")]
        clearest = table.iloc[int(ordered[np.argmax(table["clear"].to_numpy(dtype=float)[ordered])])].copy()
        clearest["clear"] = min(1.0, float(table["clear"].to_numpy(dtype=float)[ordered].sum()))
        if begin is not None:
            clearest["datetime"] = begin
        lines.append(clearest)
        members.append(ordered)
    frame = pd.DataFrame(lines).reset_index(drop=True).astype(table.dtypes) if lines else table.iloc[:0]
    return SeriesChips(chips, frame, tuple(members))


def _windows(table: pd.DataFrame, labels: Labels, spec: TaskSpec) -> Iterator[tuple[pd.Timestamp | None, np.ndarray]]:
    """(first day of the label, rows) of every tile and window; rows are the index of ``table``."""
    dates = labels.frame["date"]
    until = labels.frame.get("until", dates)
    tolerance = pd.Timedelta(days=spec.time_tolerance_days)
    day = table["datetime"].dt.tz_localize(None).dt.normalize()
    spans = pd.DataFrame({"first": dates.dt.normalize(), "last": until.dt.normalize().fillna(dates.dt.normalize())})
    for begin, end in spans[dates.notna()].drop_duplicates().itertuples(index=False):
        inside = table[(day >= begin - tolerance) & (day <= end + tolerance)]
        for rows in inside.groupby("tile", sort=True).groups.values():
            yield pd.Timestamp(begin).tz_localize("UTC"), np.asarray(rows, dtype=np.int64)
    if dates.isna().any():
        for rows in table.groupby("tile", sort=True).groups.values():
            yield None, np.asarray(rows, dtype=np.int64)


def load_series(
    data: ChipData,
    positions: np.ndarray,
    bands: list[int],
    needs_days: bool,
    most: int | None = None,
    rng: np.random.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Reflectance (n, T, C, H, W) float32, finite everywhere, and clear (n, T, H, W) bool; shorter series end in dates
    that are nowhere clear. A chip of a single date is a series of one.

    Args:
        data: the chips.
        positions: which of them.
        bands: which bands, in order.
        needs_days: the day of the year follows the bands as one more channel.
        most: of longer series so many dates, drawn by ``rng``.
    """
    parts = [_one(data, int(position), bands, needs_days, most, rng) for position in positions]
    longest = max(len(values) for values, _ in parts)
    values = torch.zeros(len(parts), longest, *parts[0][0].shape[1:])
    clear = torch.zeros(len(parts), longest, *parts[0][1].shape[1:], dtype=torch.bool)
    for number, (one, seen) in enumerate(parts):
        values[number, : len(one)], clear[number, : len(one)] = one, seen
    return values, clear


def _one(
    data: ChipData, position: int, bands: list[int], needs_days: bool, most: int | None, rng: np.random.Generator | None
) -> tuple[Tensor, Tensor]:
    row = int(data.rows[position])
    if isinstance(data.chips, SeriesChips):
        (stored, flags), days = data.chips.dates(row), data.chips.days(row)
        if most is not None and rng is not None and len(stored) > most:
            some = np.sort(rng.choice(len(stored), most, replace=False))
            stored, flags, days = stored[some], flags[some], days[some]
        values, clear = data.chips.encoding.decode(stored[:, bands]), flags == 0
    else:
        (stored, flags), when = data.chips.load([row]), data.chips.table["datetime"].iloc[row]
        days = np.array([0.0 if pd.isna(when) else when.dayofyear], dtype=np.float32)
        values = data.chips.encoding.decode(stored[:, bands])
        clear = (flags == 0) & np.isfinite(values).all(axis=1)
    seen = torch.from_numpy(np.nan_to_num(values))
    if needs_days:
        plane = torch.from_numpy(days)[:, None, None, None].expand(-1, 1, *seen.shape[-2:])
        seen = torch.cat([seen, plane], 1)
    return seen, torch.from_numpy(clear)
