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
from geossl.labels.rasterise import burn
from geossl.labels.read import Labels, row_numbers
from geossl.progress import say, warn
from geossl.tasks.anomaly import anomaly_planes, index_stack, same_season
from geossl.tasks.deep_water import DeepSignal, deep_signal
from geossl.tasks.labels_match import MIN_CLEAR as MIN_CLEAR
from geossl.tasks.labels_match import Matched
from geossl.tasks.labels_match import in_period as in_period
from geossl.tasks.labels_match import match_labels as match_labels
from geossl.tasks.spec import TaskSpec, class_order
from geossl.tasks.splits import LabelSplit

MAX_PIXELS = {"train": 10_000, "val": 8_000, "test": 30_000}
"""Most labelled pixels of each part; drawn evenly over chips (and classes, for training)."""
_BATCH = 16
_MOST_HELD = 4_000_000
"""Labelled pixels that are held at once while chips are gone through (about 200 MB)."""


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
class BedSight:
    """Whether the bed was seen under clear labelled pixels of test chips: (L,) int64 pixels of each label, by its
    position in the labels' frame. Counted before pixels are thinned, so that both belong to the same ground.
    """

    seen: np.ndarray
    hidden: np.ndarray

    @classmethod
    def none_yet(cls, labels: int) -> BedSight:
        """No pixel of any of ``labels`` labels."""
        return cls(np.zeros(labels, dtype=np.int64), np.zeros(labels, dtype=np.int64))

    def add(self, places: np.ndarray, hidden: np.ndarray) -> None:
        """Count pixels (n,): the label of each, and whether its bed is hidden."""
        np.add.at(self.seen, places[~hidden], 1)
        np.add.at(self.hidden, places[hidden], 1)


@dataclass(frozen=True)
class PixelExamples:
    """Labelled pixels: ``chip`` (N,) position in ``data.rows``, ``y``, ``x``, ``value`` (class index or number),
    ``place`` (N,) which label it comes from.

    ``soft`` (N, K) float32 are class proportions, rows summing to 1, where the labels give them (``value`` is then the
    largest class); None where each label is one class, or a number. ``sight`` counts the test pixels that are missing
    here because their bed is not seen; None where the task leaves out nothing for that (``not_seen``).
    """

    data: ChipData
    chip: np.ndarray
    y: np.ndarray
    x: np.ndarray
    value: np.ndarray
    place: np.ndarray
    soft: np.ndarray | None = None
    sight: BedSight | None = None

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

    def soft_mask(self, pixels: np.ndarray, position: int) -> np.ndarray:
        """One chip's proportions of these pixels: (K, y, x) float32, 0 in every class where unlabelled; needs
        ``soft``.
        """
        assert self.soft is not None
        inside = pixels[self.chip[pixels] == position]
        mask = np.zeros((self.soft.shape[1], *self.data.chips.shape), dtype=np.float32)
        mask[:, self.y[inside], self.x[inside]] = self.soft[inside].T
        return mask


@dataclass(frozen=True)
class ChipExamples:
    """Labelled chips: ``target`` (n,) class indices, (n,) float32 numbers, or (n, K) 0/1. ``soft`` (n, K) float32 are
    class proportions where the labels give them, ``target`` then the largest class.
    """

    data: ChipData
    target: np.ndarray
    soft: np.ndarray | None = None

    def part(self, side: str) -> np.ndarray:
        """Chips (positions) of one part."""
        return np.flatnonzero(self.data.side == side)


def labelled_blocks(chips: ReadyChips) -> list[str]:
    """Block of each chip of a ready set."""
    return [str(block) for block in chips.table["block"]]


def ready_chips(chips: ReadyChips, split: LabelSplit) -> ChipExamples:
    """Whole chips with the labels of their index."""
    rows = np.arange(len(chips.table))
    labels = chips.labels(rows)
    if chips.label_kind == "shares":
        return ChipExamples(_data(chips, rows, split), labels.argmax(axis=1), labels)
    return ChipExamples(_data(chips, rows, split), labels)


def ready_masks(chips: ReadyChips, spec: TaskSpec, split: LabelSplit, seed: int) -> PixelExamples:
    """A sample of the labelled pixels of chips with masks; each pixel is a place of its own."""
    rows = np.arange(len(chips.table))
    order = np.array([*class_order(spec, chips.label_names, chips.path)])
    data = _data(chips, rows, split)
    rng = np.random.default_rng(seed)
    parts: list[_Part] = []
    for position in range(len(rows)):
        mask = chips.labels(rows[position : position + 1])[0]
        _, clear = data.load(np.array([position]))
        values = np.where((mask != IGNORE) & clear[0].numpy(), order[np.minimum(mask, len(order) - 1)], IGNORE)
        parts = _held(data, [*parts, _pixels(position, values, None)], seed)
    examples = _thinned(_joined(data, parts, np.int64), rng)
    return PixelExamples(data, examples.chip, examples.y, examples.x, examples.value, np.arange(len(examples.chip)))


def store_pixels(
    chips: ChipSet, labels: Labels, matched: Matched, spec: TaskSpec, split: LabelSplit, seed: int
) -> PixelExamples:
    """Labels burnt onto the chips they hold on; pixels that are not clear carry none."""
    data = replace(_data(chips, matched.rows, split), references=spec.references, season_days=spec.season_days)
    table = chips.table.iloc[matched.rows]
    side = chips.resolution_m
    parts: list[_Part] = []
    clashes, unseen, contradicted = 0, 0, set[int]()
    signals: dict[Any, DeepSignal | None] = {}
    sight = BedSight.none_yet(len(labels)) if spec.not_seen is not None else None
    for position, held in enumerate(matched.labels):
        corner = table.iloc[position]
        transform = Affine(side, 0, float(corner["left"]), 0, -side, float(corner["top"]))
        burned = burn(labels.frame.iloc[held], chips.shape, transform, bool(labels.classes))
        clashes += burned.conflicts
        contradicted |= set(held[burned.contradicted].tolist())
        _, flags = chips.load(matched.rows[position : position + 1])
        values = burned.values.copy()
        values[flags[0] != 0] = IGNORE if labels.classes else np.nan
        places = np.where(burned.places >= 0, held[np.maximum(burned.places, 0)], -1)
        if spec.not_seen is not None and sight is not None:
            hidden = _bed_hidden(chips, int(matched.rows[position]), spec.not_seen.sigmas, signals)
            labelled = (places >= 0) & (flags[0] == 0)
            unseen += int((hidden & labelled).sum())
            if data.side[position] == "test":
                sight.add(places[labelled], hidden[labelled])
            values[hidden] = IGNORE if labels.classes else np.nan
        parts = _held(data, [*parts, _pixels(position, values, places)], seed)
    if unseen:
        say(f"{unseen} clear labelled pixels lie in water whose bed is not seen on that date; they carry no label")
    if clashes:
        rows = row_numbers(labels.rows[sorted(contradicted)])
        warn(f"{clashes} pixels lie in labels of different classes; they are used for none: {rows}")
    examples = _joined(data, parts, np.int64 if labels.classes else np.float32)
    if not len(examples.chip):
        raise InputError(
            "no labelled pixel is clear",
            where=labels.path,
            found=f"{len(matched.rows)} chips with labels, all cloudy there",
        )
    thinned = _thinned(examples, np.random.default_rng(seed))
    shares = labels.shares
    soft = None if shares is None else shares[thinned.place].astype(np.float32)
    return replace(thinned, soft=soft, sight=sight)


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


def _held(data: ChipData, parts: list[_Part], seed: int) -> list[_Part]:
    """The parts as they are, or thinned to ten times what is kept in the end where they would fill the memory."""
    if sum(len(part[0]) for part in parts) <= _MOST_HELD:
        return parts
    some = _thinned(_joined(data, parts, parts[0][3].dtype.type), np.random.default_rng(seed + 1), times=10)
    return [(some.chip, some.y, some.x, some.value, some.place)]


def _thinned(examples: PixelExamples, rng: np.random.Generator, times: int = 1) -> PixelExamples:
    """At most :data:`MAX_PIXELS` of each part, evenly over groups: chips, and classes within them in training."""
    kept = []
    for side, most in ((side, times * most) for side, most in MAX_PIXELS.items()):
        pixels = examples.part(side)
        if len(pixels) > most:
            group = examples.chip[pixels].astype(np.int64)
            if side == "train" and examples.value.dtype.kind != "f":  # others keep the shares of the classes
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
