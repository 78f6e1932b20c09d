"""What becomes of each label of a file: used in which part, or left out and why, just as finetune does it."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
from affine import Affine

from geossl.errors import InputError
from geossl.labels.rasterise import burn, touching
from geossl.labels.read import Labels
from geossl.tasks.examples import ChipExamples, PixelExamples
from geossl.tasks.labels_match import match_labels
from geossl.tasks.sources import Source

USED = "used"
LOW, OUTSIDE = "confidence below the task's limit", "outside the region"
OFF_CHIPS, NO_DATE = "on no tile of the chips", "no clear chip in the period near its date"
CLOUDY, CONTRADICTED = "cloudy on all its chips", "every pixel contradicted by another label"
COVERED = "under another label of the same value"
NOT_DRAWN, REFUSED = "more labels than are needed: not drawn", "the labels as a whole are refused"


def fates(
    source: Source, whole: Labels, examples: PixelExamples | ChipExamples | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each label of the whole file (in the chips' CRS): its fate, its part and its block, text (n,) each.

    ``examples`` are finetune's own of the source, None where it refused them.
    """
    assert source.labels is not None
    count, rows = len(whole), whole.frame["row"].to_numpy()
    fate = np.full(count, OFF_CHIPS, dtype=object)
    part, block = np.full(count, "", dtype=object), np.full(count, "", dtype=object)
    table = source.chips.table
    height, width = source.chips.shape
    side = source.chips.resolution_m
    tiles = table.groupby("tile", sort=True).first()
    touched = touching(whole, tiles["left"].to_numpy(float), tiles["top"].to_numpy(float), width * side, height * side)
    on_tile = np.zeros(count, dtype=bool)
    for some in touched:
        on_tile[some] = True
    fate[on_tile] = NO_DATE
    kept = np.searchsorted(rows, source.labels.frame["row"].to_numpy())
    left_out = np.ones(count, dtype=bool)
    left_out[kept] = False
    low = whole.frame["confidence"].to_numpy() < source.spec.min_confidence
    fate[left_out] = np.where(low[left_out], LOW, OUTSIDE)
    try:
        matched = match_labels(source.chips, source.labels, source.spec, source.period, source.months)
    except InputError:  # none met a chip: what is said above holds for all
        return fate, part, block
    held = np.unique(np.concatenate(matched.labels))
    fate[kept[held]] = REFUSED
    blocks = table["block"].astype(str).to_numpy()[matched.rows]
    for name, positions in zip(blocks, matched.labels, strict=True):
        block[kept[positions]] = name
    used = np.empty(0, dtype=np.int64)
    if isinstance(examples, PixelExamples):
        used, first = np.unique(examples.place, return_index=True)
        fate[kept[used]] = USED
        part[kept[used]] = examples.data.side[examples.chip[first]]
    missing = np.setdiff1d(held, used)
    if examples is None:
        missing = held
    seen = np.zeros(len(source.labels), dtype=np.int8)  # 1: cloudy, 2: contradicted, 3: covered, 4: a pixel of its own
    classes = bool(source.labels.classes)
    for row, positions in zip(matched.rows, matched.labels, strict=True):
        some = np.intersect1d(positions, missing)
        if not len(some):
            continue
        transform = Affine(side, 0, float(table["left"].iloc[row]), 0, -side, float(table["top"].iloc[row]))
        clear = source.chips.load(np.array([row]))[1][0] == 0
        frame = source.labels.frame
        together = burn(frame.iloc[positions], (height, width), transform, classes)
        places = np.where(together.places >= 0, positions[np.maximum(together.places, 0)], -1)
        on_top = np.unique(places[clear])
        seen[np.intersect1d(some, on_top)] = 4
        for label in some[(seen[some] < 4)]:
            seen[label] = max(seen[label], _alone(frame.iloc[[label]], places, clear, transform, classes))
    texts = np.array(["", CLOUDY, CONTRADICTED, COVERED, REFUSED if examples is None else NOT_DRAWN], dtype=object)
    fate[kept[missing]] = texts[seen[missing]]
    return fate, part, block


def _alone(label: gpd.GeoDataFrame, places: np.ndarray, clear: np.ndarray, transform: Affine, classes: bool) -> int:
    """Why a label has no pixel of its own: 1 cloudy, 2 contradicted, 3 covered; looking at its own window only."""
    left, bottom, right, top = label.total_bounds
    inverse = ~transform
    x0, y0 = inverse @ (left, top)
    x1, y1 = inverse @ (right, bottom)
    (y0, y1), (x0, x1) = (
        (int(np.clip(np.floor(low) - 1, 0, size - 1)), int(np.clip(np.ceil(high) + 1, 1, size)))
        for low, high, size in ((y0, y1, clear.shape[0]), (x0, x1, clear.shape[1]))
    )
    window = (slice(y0, max(y1, y0 + 1)), slice(x0, max(x1, x0 + 1)))
    alone = burn(label, clear[window].shape, transform @ Affine.translation(x0, y0), classes)
    free = (alone.places >= 0) & clear[window]
    return 1 if not free.any() else 3 if (places[window][free] >= 0).any() else 2
