"""Which labels hold on which chips of a store: in place, and in time within the task's tolerance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from geossl.chips.chipset import ChipSet
from geossl.errors import InputError
from geossl.labels.rasterise import touching
from geossl.labels.read import Labels
from geossl.progress import warn
from geossl.regions import Period
from geossl.tasks.spec import TaskSpec

MIN_CLEAR = 0.1
MAX_CHIPS = 3000


@dataclass(frozen=True)
class Matched:
    """Chips of a store and the labels (positions in the frame) that hold on each; ``unmatched`` labels found none."""

    rows: np.ndarray
    labels: list[np.ndarray]
    unmatched: int


def match_labels(
    chips: ChipSet, labels: Labels, spec: TaskSpec, period: Period | None, months: tuple[int, ...] | None
) -> Matched:
    """The chips that labels touch, in space and time.

    A dated label holds on the ``dates_per_label`` nearest chips within the task's tolerance; one without a date on the
    clearest chips of the period.

    Raises:
        InputError: no label meets a chip; the message says whether place or time is the cause.
    """
    table = chips.table
    usable = (table["clear"].to_numpy(dtype=float) >= MIN_CLEAR) & in_period(table["datetime"], period, months)
    height, width = chips.shape
    tiles = table.loc[usable].groupby("tile", sort=True)
    firsts = table.loc[[group[0] for group in tiles.groups.values()]] if len(tiles.groups) else table.iloc[:0]
    touched = touching(
        labels,
        firsts["left"].to_numpy(dtype=float),
        firsts["top"].to_numpy(dtype=float),
        width * chips.resolution_m,
        height * chips.resolution_m,
    ) if len(firsts) else []  # fmt: skip
    chosen: dict[int, list[np.ndarray]] = {}
    dates = labels.frame["date"]
    until = labels.frame.get("until", dates)
    for positions, group in zip(touched, tiles.groups.values(), strict=True):
        if not len(positions):
            continue
        for row, held in _in_tile(table.loc[group], dates.iloc[positions], until.iloc[positions], positions, spec):
            chosen.setdefault(row, []).append(held)
    rows = np.array(sorted(chosen), dtype=np.int64)
    if not len(rows):
        raise _nothing_met(chips, labels, spec, touched)
    if len(rows) > MAX_CHIPS:
        warn(f"labels touch {len(rows)} chips; {MAX_CHIPS} of them, evenly over the table, are used")
        rows = rows[np.linspace(0, len(rows) - 1, MAX_CHIPS).astype(int)]
    held_on = [np.unique(np.concatenate(chosen[int(row)])) for row in rows]
    met = np.unique(np.concatenate(held_on))
    return Matched(rows, held_on, len(labels) - len(met))


def _in_tile(
    table: pd.DataFrame, dates: pd.Series, until: pd.Series, positions: np.ndarray, spec: TaskSpec
) -> Iterator[tuple[int, np.ndarray]]:
    """(row, label positions) pairs of one tile."""
    when, clear = table["datetime"], table["clear"].to_numpy(dtype=float)
    undated = dates.isna().to_numpy()
    if undated.any():
        for row in table.index[np.argsort(-clear, kind="stable")[: spec.dates_per_label]]:
            yield int(row), positions[undated]
    first = dates.dt.normalize()
    last = until.dt.normalize().fillna(first)
    day, none = when.dt.tz_localize(None).dt.normalize(), pd.Timedelta(0)
    for begin, end in pd.DataFrame({"first": first, "last": last})[~undated].drop_duplicates().itertuples(index=False):
        apart = (begin - day).clip(lower=none) + (day - end).clip(lower=none)
        near = (apart <= pd.Timedelta(days=spec.time_tolerance_days)).to_numpy()
        order = np.lexsort((-clear, apart.dt.days.fillna(10**6).to_numpy()))
        same = positions[((first == begin) & (last == end)).to_numpy()]
        for place in [one for one in order if near[one]][: spec.dates_per_label]:
            yield int(table.index[place]), same


def in_period(when: pd.Series, period: Period | None, months: tuple[int, ...] | None) -> np.ndarray:
    """(n,) bool, which dates lie in a period and in these months (None: any)."""
    inside = np.ones(len(when), dtype=bool)
    if period is not None:
        inside &= ((when.dt.date >= period.start) & (when.dt.date <= period.end)).to_numpy()
    if months is not None:
        inside &= when.dt.month.isin(months).to_numpy()
    return inside


def _nothing_met(chips: ChipSet, labels: Labels, spec: TaskSpec, touched: list[np.ndarray]) -> InputError:
    in_place = len(np.unique(np.concatenate(touched))) if any(len(one) for one in touched) else 0
    when = chips.table["datetime"].dropna()
    dates = labels.frame["date"].dropna()
    if in_place:
        return InputError(
            "no label meets a chip in time",
            where=labels.path,
            expected=f"label dates within {spec.time_tolerance_days:g} days of a clear chip"
            f" ({len(chips.table)} chips from {when.min():%Y-%m-%d} to {when.max():%Y-%m-%d})",
            found=f"label dates from {dates.min():%Y-%m-%d} to {dates.max():%Y-%m-%d}" if len(dates) else "no dates",
            remedy="build tiles of those dates, or raise time_tolerance_days in the task's YAML",
        )
    return InputError(
        "no label lies on a chip",
        where=labels.path,
        expected=f"labels on the {chips.table['tile'].nunique()} tiles of {chips.path}",
        found=f"{len(labels)} labels, none of them on a tile with a clear chip in the period",
        remedy="check --period and --months, or build the tiles where the labels lie",
    )
