"""Labelled examples: pixels of chips, or whole chips, each in the training, validation or test part of the blocks.

Pixels come as a flat list (which chip, row, column, value, place), whether their labels were points, polygons or whole
masks. A *place* is what a person labels at once: a point, a polygon, one pixel of a mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from affine import Affine
from torch import Tensor

from geossl.chips.chipset import IGNORE, ChipSet
from geossl.chips.ready import ReadyChips
from geossl.errors import InputError
from geossl.labels.rasterise import burn, touching
from geossl.labels.read import Labels
from geossl.progress import say, warn
from geossl.regions import Period
from geossl.tasks.anomaly import anomaly_planes, index_stack, same_season
from geossl.tasks.deep_water import DeepSignal, deep_signal
from geossl.tasks.spec import TaskSpec, class_order
from geossl.tasks.splits import LabelSplit

MAX_PIXELS = {"train": 10_000, "val": 8_000, "test": 30_000}
"""Most labelled pixels of each part; drawn evenly over chips (and classes, but for testing)."""
MIN_CLEAR = 0.1
MAX_CHIPS = 3000
_BATCH = 16


@dataclass(frozen=True)
class ChipData:
    """Chosen rows of a chip set with the part of each; ``bands`` are positions of the bands wanted, in order.

    With ``references`` (indices) the anomaly planes of :mod:`geossl.tasks.anomaly` follow the bands: each chip against
    the chips of its tile in the same season of other years.
    """

    chips: ChipSet
    rows: np.ndarray
    block: np.ndarray
    side: np.ndarray
    references: tuple[str, ...] = ()
    season_days: int = 20
    _planes: dict[int, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    def load(self, positions: np.ndarray, bands: list[int] | None = None) -> tuple[Tensor, Tensor]:
        """Reflectance (n, C, H, W) float32, finite everywhere, and clear (n, H, W) bool, of positions in ``rows``."""
        stored, flags = self.chips.load(self.rows[positions])
        values = self.chips.encoding.decode(stored if bands is None else stored[:, bands])
        clear = (flags == 0) & np.isfinite(values).all(axis=1)
        values = np.nan_to_num(values)
        if self.references:
            values = np.concatenate([values, np.stack([self._anomalies(int(one)) for one in positions])], axis=1)
        return torch.from_numpy(values), torch.from_numpy(clear)

    def _anomalies(self, position: int) -> np.ndarray:
        """Anomaly planes (P, H, W) of one chip; kept, since training asks for a chip many times."""
        if position not in self._planes:
            row, table = int(self.rows[position]), self.chips.table
            same = np.flatnonzero((table["tile"] == table["tile"].iloc[row]).to_numpy())
            day, days = table["datetime"].iloc[row].date(), [when.date() for when in table["datetime"].iloc[same]]
            rows = np.array([row, *same[same_season(day, days, self.season_days)]])
            stored, flags = self.chips.load(rows)
            values = self.chips.encoding.decode(stored)
            clear = (flags == 0) & np.isfinite(values).all(axis=1)
            index = index_stack(np.nan_to_num(values), clear, self.chips.bands, self.references)
            self._planes[position] = anomaly_planes(index[0], index[1:])
        return self._planes[position]

    def batches(self, positions: np.ndarray, bands: list[int] | None) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
        """Positions in small batches with their values and clear masks."""
        for start in range(0, len(positions), _BATCH):
            some = positions[start : start + _BATCH]
            yield some, *self.load(some, bands)


@dataclass(frozen=True)
class PixelExamples:
    """Labelled pixels: ``chip`` (N,) position in ``data.rows``, ``y``, ``x``, ``value`` (class index or number),
    ``place`` (N,) which label it comes from.
    """

    data: ChipData
    chip: np.ndarray
    y: np.ndarray
    x: np.ndarray
    value: np.ndarray
    place: np.ndarray

    def part(self, side: str) -> np.ndarray:
        """Pixels (indices) of one part."""
        return np.flatnonzero(self.data.side[self.chip] == side)

    def blocks(self, pixels: np.ndarray) -> np.ndarray:
        """Block of each of these pixels."""
        return self.data.block[self.chip[pixels]]

    def mask(self, pixels: np.ndarray, position: int) -> np.ndarray:
        """One chip's mask of these pixels: (y, x) int64 with 255 where unlabelled, or float32 with NaN."""
        inside = pixels[self.chip[pixels] == position]
        numbers = self.value.dtype.kind == "f"
        mask = np.full(self.data.chips.shape, np.nan if numbers else IGNORE, dtype=np.float32 if numbers else np.int64)
        mask[self.y[inside], self.x[inside]] = self.value[inside]
        return mask


@dataclass(frozen=True)
class ChipExamples:
    """Labelled chips: ``target`` (n,) class indices or (n, K) 0/1."""

    data: ChipData
    target: np.ndarray

    def part(self, side: str) -> np.ndarray:
        """Chips (positions) of one part."""
        return np.flatnonzero(self.data.side == side)


def labelled_blocks(chips: ReadyChips) -> list[str]:
    """Block of each chip of a ready set."""
    return [str(block) for block in chips.table["block"]]


def ready_chips(chips: ReadyChips, split: LabelSplit) -> ChipExamples:
    """Whole chips with the labels of their index."""
    rows = np.arange(len(chips.table))
    return ChipExamples(_data(chips, rows, split), chips.labels(rows))


def ready_masks(chips: ReadyChips, spec: TaskSpec, split: LabelSplit, seed: int) -> PixelExamples:
    """A sample of the labelled pixels of chips with masks; each pixel is a place of its own."""
    rows = np.arange(len(chips.table))
    order = np.array([*class_order(spec, chips.label_names, chips.path)])
    data = _data(chips, rows, split)
    rng = np.random.default_rng(seed)
    parts = []
    for position in range(len(rows)):
        mask = chips.labels(rows[position : position + 1])[0]
        _, clear = data.load(np.array([position]))
        values = np.where((mask != IGNORE) & clear[0].numpy(), order[np.minimum(mask, len(order) - 1)], IGNORE)
        parts.append(_pixels(position, values, None))
    examples = _thinned(_joined(data, parts, np.int64), rng)
    return PixelExamples(data, examples.chip, examples.y, examples.x, examples.value, np.arange(len(examples.chip)))


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


def store_pixels(
    chips: ChipSet, labels: Labels, matched: Matched, spec: TaskSpec, split: LabelSplit, seed: int
) -> PixelExamples:
    """Labels burnt onto the chips they hold on; pixels that are not clear carry none."""
    data = replace(_data(chips, matched.rows, split), references=spec.references, season_days=spec.season_days)
    table = chips.table.iloc[matched.rows]
    side = chips.resolution_m
    parts, clashes, unseen = [], 0, 0
    signals: dict[Any, DeepSignal | None] = {}
    for position, held in enumerate(matched.labels):
        corner = table.iloc[position]
        transform = Affine(side, 0, float(corner["left"]), 0, -side, float(corner["top"]))
        burned = burn(labels.frame.iloc[held], chips.shape, transform, bool(labels.classes))
        clashes += burned.conflicts
        _, flags = chips.load(matched.rows[position : position + 1])
        values = burned.values.copy()
        values[flags[0] != 0] = IGNORE if labels.classes else np.nan
        if spec.not_seen is not None:
            hidden = _bed_hidden(chips, int(matched.rows[position]), spec.not_seen.sigmas, signals)
            unseen += int((hidden & (burned.places >= 0) & (flags[0] == 0)).sum())
            values[hidden] = IGNORE if labels.classes else np.nan
        parts.append(_pixels(position, values, np.where(burned.places >= 0, held[np.maximum(burned.places, 0)], -1)))
    if unseen:
        say(f"{unseen} clear labelled pixels lie in water whose bed is not seen on that date; they carry no label")
    if clashes:
        warn(f"{clashes} pixels lie in labels of different classes; they are used for none")
    examples = _joined(data, parts, np.int64 if labels.classes else np.float32)
    if not len(examples.chip):
        raise InputError(
            "no labelled pixel is clear",
            where=labels.path,
            found=f"{len(matched.rows)} chips with labels, all cloudy there",
        )
    return _thinned(examples, np.random.default_rng(seed))


_SIGNAL_CHIPS = 32
"""Chips of a date from which its deep water is estimated at most."""


def _bed_hidden(chips: ChipSet, row: int, sigmas: float, signals: dict[Any, DeepSignal | None]) -> np.ndarray:
    """(y, x) bool, where the bed is not seen on the date of a chip; ``signals`` keeps what was estimated for dates."""
    when = chips.table["datetime"]
    date = when.iloc[row].date()
    if date not in signals:
        same = np.flatnonzero((when.dt.date == date).to_numpy())
        some = same[np.unique(np.linspace(0, len(same) - 1, _SIGNAL_CHIPS).astype(int))]
        signals[date] = deep_signal(*_decoded(chips, some), chips.bands)
    signal = signals[date]
    values, clear = _decoded(chips, np.array([row]))
    if signal is None:
        return np.zeros(clear.shape[1:], dtype=bool)
    return signal.hides(values[0], chips.bands, sigmas)


def _decoded(chips: ChipSet, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    stored, flags = chips.load(rows)
    values = chips.encoding.decode(stored)
    return np.nan_to_num(values), (flags == 0) & np.isfinite(values).all(axis=1)


def _data(chips: ChipSet, rows: np.ndarray, split: LabelSplit) -> ChipData:
    block = chips.table["block"].astype(str).to_numpy()[rows]
    return ChipData(chips, rows, block, np.array([split.sides[name] for name in block]))


_Part = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _pixels(position: int, values: np.ndarray, places: np.ndarray | None) -> _Part:
    labelled = np.isfinite(values) if values.dtype.kind == "f" else values != IGNORE
    y, x = np.nonzero(labelled)
    place = np.zeros(len(y), dtype=np.int64) if places is None else places[y, x]
    return np.full(len(y), position), y, x, values[y, x], place


def _joined(data: ChipData, parts: list[_Part], dtype: type) -> PixelExamples:
    chip, y, x, value, place = (np.concatenate(one) for one in zip(*parts, strict=True))
    return PixelExamples(data, chip, y, x, value.astype(dtype), place)


def _thinned(examples: PixelExamples, rng: np.random.Generator) -> PixelExamples:
    """At most :data:`MAX_PIXELS` of each part, evenly over groups: chips, and classes within them in training."""
    kept = []
    for side, most in MAX_PIXELS.items():
        pixels = examples.part(side)
        if len(pixels) > most:
            group = examples.chip[pixels].astype(np.int64)
            if side != "test" and examples.value.dtype.kind != "f":
                group = group * 256 + examples.value[pixels]
            pixels = pixels[_evenly(group, most, rng)]
        kept.append(pixels)
    chosen = np.sort(np.concatenate(kept))
    return PixelExamples(
        examples.data, *(one[chosen] for one in (examples.chip, examples.y, examples.x, examples.value, examples.place))
    )


def _evenly(group: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of about ``most`` items, the same number of each group where it has so many."""
    order = rng.permutation(len(group))
    order = order[np.argsort(group[order], kind="stable")]
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    return np.sort(order[np.argsort(rank, kind="stable")[:most]])


def thin_places(examples: PixelExamples, pixels: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Of these pixels at most ``most`` of each place."""
    order = pixels[rng.permutation(len(pixels))]
    counts = pd.Series(examples.place[order]).groupby(examples.place[order]).cumcount().to_numpy()
    return np.sort(order[counts < most])
