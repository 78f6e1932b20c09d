"""Unlabelled places among which the next labels are chosen: pixels of clear chips, or chips, with their doubt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from affine import Affine
from scipy.ndimage import binary_dilation

from geossl.chips.chipset import ChipSet
from geossl.chips.ready import ReadyChips
from geossl.encoders.saved import Encoder
from geossl.errors import InputError
from geossl.labels.choose import entropy, learned_doubt
from geossl.labels.files import open_vector
from geossl.labels.rasterise import burn, touching
from geossl.labels.read import Labels
from geossl.progress import track, warn
from geossl.regions import Period
from geossl.tasks.chip_rows import chip_features
from geossl.tasks.examples import ChipData, ChipExamples, PixelExamples, store_pixels, thin_places
from geossl.tasks.heads import ChipNet, Head, PixelNet
from geossl.tasks.labels_match import in_period, match_labels
from geossl.tasks.linear import Scaling
from geossl.tasks.pixel_rows import pixel_features
from geossl.tasks.spec import TaskSpec
from geossl.tasks.splits import LabelSplit

_MOST_CHIPS = 300
_PIXELS_A_CHIP = 48
_CLEAREST = 0.3
"""Clear share from which a chip is worth looking at."""
_APART = 5
"""Pixels around a label in which nothing new is learnt."""
_PIXELS_A_LABEL = 5
_NO_DOUBT = "none: there is no head and there are no labels to learn from, so places are only unlike each other"


@dataclass(frozen=True)
class Candidates:
    """Places: ``row`` (n,) in the chips' table, ``y``, ``x`` (n,) of the pixel (the middle for whole chips), ``block``
    (n,) text, ``features`` (n, d) scaled, ``doubt`` (n,) at least 0, ``says`` (n,) what the head says there (text);
    ``known`` (m, d) features of what is labelled.
    """

    row: np.ndarray
    y: np.ndarray
    x: np.ndarray
    block: np.ndarray
    features: np.ndarray
    doubt: np.ndarray
    says: np.ndarray
    doubt_from: str
    known: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.row)


def pixel_candidates(
    spec: TaskSpec,
    chips: ChipSet,
    encoder: Encoder,
    head: Head | None,
    known: Labels | None,
    closed: set[str],
    period: Period | None,
    months: tuple[int, ...] | None,
    seed: int,
) -> Candidates:
    """A few clear, unlabelled pixels of each of at most 300 chips, evenly over blocks, tiles and dates."""
    rng = np.random.default_rng(seed)
    rows = _open_rows(chips, closed, period, months, rng)
    data = _data(chips, rows, spec)
    chip, y, x = np.empty((3, 0), dtype=np.int64)
    marks = _labelled(chips, known)
    for position, row in enumerate(rows):
        flags = chips.load(np.array([row]))[1][0]
        free = (flags == 0) & ~marks.get(str(chips.table["tile"].iloc[row]), np.zeros(chips.shape, dtype=bool))
        places = np.flatnonzero(free)
        drawn = np.sort(rng.choice(places, min(_PIXELS_A_CHIP, len(places)), replace=False))
        lines, columns = np.divmod(drawn, chips.shape[1])
        chip = np.append(chip, np.full(len(drawn), position))
        y, x = np.append(y, lines), np.append(x, columns)
    examples = PixelExamples(data, chip, y, x, np.zeros(len(chip), dtype=np.int64), np.arange(len(chip)))
    net = PixelNet(encoder, spec.outputs, spec.references).eval()
    everything = np.arange(len(chip))
    raw = pixel_features(net, examples, everything) if len(chip) else np.empty((0, sum(net.widths)), dtype=np.float32)
    scaling = Scaling.of(raw, net.widths) if len(raw) else None
    features = scaling(raw) if scaling is not None else raw
    said = _said(head, data, chip, y, x) if head is not None and len(chip) else None
    doubt, says, source = _of_head(spec, said, len(chip))
    there: np.ndarray | None = None
    if known is not None and scaling is not None:
        raw, values = _labelled_pixels(spec, chips, net, known, period, months, seed)
        there = scaling(raw)
        if doubt is None:
            doubt = learned_doubt(there, values, features, seed)
            source = "a quick model of the labels" if doubt is not None else "none: the labels show one class only"
    return Candidates(rows[chip], y, x, data.block[chip], features, *_filled(doubt, says, len(chip)), source, there)


def chip_candidates(
    spec: TaskSpec,
    chips: ChipSet,
    encoder: Encoder,
    head: Head | None,
    known: Labels | None,
    closed: set[str],
    period: Period | None,
    months: tuple[int, ...] | None,
    seed: int,
    file: str | Path | None,
) -> Candidates:
    """Chips that carry no label."""
    if isinstance(chips, ReadyChips) and chips.label_kind is not None:
        raise InputError(
            "every chip of this set carries a label already",
            where=chips.path,
            remedy="give chips without labels: an index without 'labels' in its chipset.yaml",
        )
    rows = _open_rows(chips, closed, period, months, np.random.default_rng(seed))
    rows = rows[~np.isin(rows, _labelled_chips(chips, known, file))]
    data = _data(chips, rows, spec)
    net = ChipNet(encoder, spec.outputs).eval()
    if not len(rows):
        raw = np.empty((0, sum(net.widths)), dtype=np.float32)
    else:
        raw = chip_features(net, ChipExamples(data, np.zeros(len(rows), dtype=np.int64)))
    features = Scaling.of(raw, net.widths)(raw) if len(raw) else raw
    middle = [np.full(len(rows), side // 2) for side in chips.shape]
    everything = np.arange(len(rows))
    said = _said(head, data, everything, *middle) if head is not None and len(rows) else None
    doubt, says, source = _of_head(spec, said, len(rows))
    return Candidates(rows, middle[0], middle[1], data.block, features, *_filled(doubt, says, len(rows)), source)


def _open_rows(
    chips: ChipSet, closed: set[str], period: Period | None, months: tuple[int, ...] | None, rng: np.random.Generator
) -> np.ndarray:
    """Rows of clear chips of open blocks: a tile of each block, then another, and each tile once before any twice."""
    table = chips.table
    usable = (table["clear"].to_numpy(dtype=float) >= _CLEAREST) & ~table["block"].astype(str).isin(closed).to_numpy()
    usable &= in_period(table["datetime"], period, months)
    order = rng.permutation(np.flatnonzero(usable))
    drawn = table.iloc[order][["block", "tile"]].reset_index(drop=True)
    drawn["date"] = drawn.groupby("tile").cumcount()
    drawn = drawn.sort_values("date", kind="stable")
    drawn["turn"] = drawn.groupby("block").cumcount()
    chosen = drawn.sort_values("turn", kind="stable").index.to_numpy()[:_MOST_CHIPS]
    return np.sort(order[chosen])


def _data(chips: ChipSet, rows: np.ndarray, spec: TaskSpec) -> ChipData:
    block = chips.table["block"].astype(str).to_numpy()[rows]
    return ChipData(chips, rows, block, np.full(len(rows), "train"), spec.references, spec.season_days)


def _labelled(chips: ChipSet, known: Labels | None) -> dict[str, np.ndarray]:
    """Of each tile with labels: (y, x) bool, labelled on any date, or beside a label."""
    if known is None:
        return {}
    tiles = chips.table.groupby("tile", sort=True).first()
    side, (height, width) = chips.resolution_m, chips.shape
    left, top = tiles["left"].to_numpy(float), tiles["top"].to_numpy(float)
    found = {}
    for number, some in enumerate(touching(known, left, top, width * side, height * side)):
        if len(some):
            transform = Affine(side, 0, left[number], 0, -side, top[number])
            one = known.frame.iloc[some].assign(value=0)  # contradictory labels are labels too
            here = burn(one, chips.shape, transform, classes=True).places >= 0
            found[str(tiles.index[number])] = binary_dilation(here, np.ones((3, 3)), iterations=_APART)
    return found


def _labelled_chips(chips: ChipSet, known: Labels | None, file: str | Path | None) -> np.ndarray:
    """Rows of chips that a file names in its column ``chip``, or on whose tile it has a label."""
    if known is None or file is None:
        return np.empty(0, dtype=np.int64)
    vector = open_vector(Path(file))
    if "chip" in vector.columns:
        names = vector.column("chip").loc[known.rows].astype(str)
        return np.flatnonzero(chips.table["chip"].astype(str).isin(set(names)).to_numpy())
    tiles = set(_labelled(chips, known))
    return np.flatnonzero(chips.table["tile"].astype(str).isin(tiles).to_numpy())


def _said(head: Head, data: ChipData, chip: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(n, K) what a head says of pixels, float32."""
    bands = head.select(data.chips.bands)
    found = np.empty((len(chip), head.task.outputs), dtype=np.float32)
    positions = np.unique(chip)
    with track("doubt", len(positions), "chips") as bar, torch.inference_mode():
        for some, values, clear in data.batches(positions, bands):
            said = head.predict(values[:, None], clear[:, None]).numpy()
            for number, position in enumerate(some):
                here = np.flatnonzero(chip == position)
                found[here] = said[number][:, y[here], x[here]].T
            bar.advance(len(some))
    return found


def _of_head(spec: TaskSpec, said: np.ndarray | None, count: int) -> tuple[np.ndarray | None, np.ndarray | None, str]:
    """Doubt, what the head says as text, and whence the doubt comes."""
    if said is None:
        return None, None, _NO_DOUBT
    if spec.kind == "regression":
        warn("a head of numbers has no doubt of its own: it is taken from the labels, where they are given")
        says = np.array([f"{one:.4g}" for one in said[:, 0]], dtype=object)
        return None, says, "none: a head of numbers has no doubt of its own, and there are no labels to learn from"
    names = np.array(spec.class_names, dtype=object)
    if spec.kind == "multilabel":
        says = np.array([", ".join(names[one > 0.5]) for one in said], dtype=object)
        return entropy(said, several=True), says, "the head: mean entropy of its labels"
    return entropy(said), names[said.argmax(axis=1)], "the head: entropy of its classes"


def _labelled_pixels(
    spec: TaskSpec,
    chips: ChipSet,
    net: PixelNet,
    known: Labels,
    period: Period | None,
    months: tuple[int, ...] | None,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Raw features (m, d) and values (m,) of a few pixels of each label; of any block, since nothing is measured."""
    matched = match_labels(chips, known, spec, period, months)
    blocks = chips.table["block"].astype(str).to_numpy()[matched.rows]
    split = LabelSplit(dict.fromkeys(blocks, "train"), "")
    pixels = store_pixels(chips, known, matched, spec, split, seed)
    some = thin_places(pixels, np.arange(len(pixels.chip)), _PIXELS_A_LABEL, np.random.default_rng(seed))
    return pixel_features(net, pixels, some), pixels.value[some]


def _filled(doubt: np.ndarray | None, says: np.ndarray | None, count: int) -> tuple[np.ndarray, np.ndarray]:
    empty = pd.Series([""] * count, dtype="object").to_numpy()
    return np.zeros(count) if doubt is None else doubt, empty if says is None else says
