"""The sets of the learning table: chips, one answer a chip, and blocks that are never split."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import from_bounds

from geossl.artefacts import is_complete
from geossl.chips.build import build_tiles
from geossl.chips.chipset import ChipSet
from geossl.chips.open import open_chips
from geossl.chips.ready import ReadyChips, open_ready
from geossl.chips.splits import split_blocks
from geossl.evaluation.probes import Kind
from geossl.sandbox.classes import Cover
from geossl.sandbox.create import create_sandbox
from geossl.training.data import fill_bands, split_chips

DATA = Path(os.environ.get("GEOSSL_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))
SEED = 0
"""Of the split into blocks; that of the runs is given."""
SANDBOX_PERIOD = "2018"
_SHARE = 0.1  # of a chip, from which a land cover counts as present
_PROBE_VAL = 0.25  # of the training blocks, on which the strength of the linear probe is chosen


@dataclass(frozen=True)
class Study:
    """A set with labels (N,) classes or (N, L) 0/1, and its rows: ``train`` (of pretraining and probes; ``fit`` and
    ``tune`` are the parts of it that fit the linear probe and choose its strength) and ``test`` (held-out blocks)."""

    name: str
    path: Path
    chips: ChipSet
    kind: Kind
    labels: np.ndarray
    means: str
    """What a label is, for people."""
    train: np.ndarray
    fit: np.ndarray
    tune: np.ndarray
    test: np.ndarray

    @property
    def metric(self) -> str:
        """Name of the figure."""
        return "macro average precision" if self.kind == "multilabel" else "accuracy"

    @property
    def test_blocks(self) -> np.ndarray:
        """Block of each test chip."""
        return self.chips.table["block"].astype(str).to_numpy()[self.test]

    @cached_property
    def pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """Reflectance (N, band, y, x) float32, gaps filled with the chip's band mean, and clear (N, y, x) bool."""
        stored, flags = self.chips.load(np.arange(len(self.chips.table)))
        values = self.chips.encoding.decode(stored)
        clear = (flags == 0) & ~np.isnan(values).any(axis=1)
        values[np.broadcast_to(~clear[:, None], values.shape)] = np.nan
        return fill_bands(values), clear

    def describe(self) -> str:
        """A line for people."""
        table = self.chips.table
        size = f"{len(self.chips.bands)} bands of {self.chips.shape[0]} px"
        return (
            f"{len(table)} chips, {size}; {len(self.train)} train, {len(self.test)} test from "
            f"{len(np.unique(self.test_blocks))} held-out blocks; {self.means}; {self.metric}"
        )


def make_study(name: str, path: Path, chips: ChipSet, kind: Kind, labels: np.ndarray, means: str) -> Study:
    """Rows by block: the blocks that ``geossl pretrain`` trains on, and all others for testing."""
    split = split_chips(chips, SEED, all_blocks=False)
    block = chips.table["block"].astype(str).to_numpy()
    inner = split_blocks(block[split.train], SEED + 1, val=_PROBE_VAL, test=0.0)
    tuned = np.array([inner[one] == "val" for one in block[split.train]])
    held = np.isin(block, split.blocks["val"] + split.blocks["test"]) & (chips.table["clear"].to_numpy() >= 0.5)
    return Study(
        name, path, chips, kind, labels, means, split.train, split.train[~tuned], split.train[tuned],
        np.flatnonzero(held),
    )  # fmt: skip


def labelled(path: Path) -> Study:
    """A ready set whose index holds a class or several labels a chip."""
    chips = open_ready(path)
    labels = chips.labels(np.arange(len(chips.table)))
    kind: Kind = "multilabel" if chips.label_kind == "multilabel" else "multiclass"
    return make_study(path.name, path, chips, kind, labels, f"{len(chips.label_names)} labels of the index")


def mask_share(path: Path, label: str, limits: tuple[float, float], means: str) -> Study:
    """A ready set of masks in three classes by the share of a label in the labelled pixels of each chip."""
    chips = open_ready(path)
    assert isinstance(chips, ReadyChips)
    masks = chips.labels(np.arange(len(chips.table)))
    known = masks != 255
    share = (masks == chips.label_names.index(label)).sum(axis=(1, 2)) / np.maximum(known.sum(axis=(1, 2)), 1)
    return make_study(path.name, path, chips, "multiclass", np.digitize(share, limits), means)


def sandbox(work: Path, size_km: float | None) -> Study:
    """Simulated Mälardalen, one year of dates, made in ``work``: the land covers on at least a tenth of each chip."""
    root, store = work / "sandbox", work / "chips"
    os.environ["GEOSSL_HOME"] = str(work / "home")  # an embedded cube of its own
    if not is_complete(store):
        create_sandbox("malardalen", out=root, size_km=size_km)
        build_tiles("malardalen", period=SANDBOX_PERIOD, out=store)
    chips = open_chips(store)
    codes = [int(cover) for cover in Cover]
    shares = _cover_shares(root / "truth" / "landcover.tif", chips, codes)
    labels = (shares >= _SHARE).astype(np.uint8)
    used = labels.any(axis=0)
    means = f"land covers on at least a tenth of the chip ({used.sum()} occur)"
    return make_study("sandbox", store, chips, "multilabel", labels[:, used], means)


def tree_dates(work: Path) -> Study:
    """Dates of one place in Romania, cut into chips in ``work``: little, some or mostly dense trees."""
    from tests.benchmarks.budgets_sets import romania  # which takes DATA from here

    return mask_share(romania(work), "dense", (0.33, 0.67), "share of dense trees: little, some, mostly")


def _cover_shares(truth: Path, chips: ChipSet, codes: list[int]) -> np.ndarray:
    """(N, code) share of each class of the true land cover in each chip."""
    side = chips.shape[0] * chips.resolution_m
    shares: dict[tuple[float, float], list[float]] = {}
    places = list(zip(chips.table["left"], chips.table["top"], strict=True))
    with rasterio.open(truth) as source:
        for left, top in set(places):
            window = from_bounds(left, top - side, left + side, top, source.transform)
            cover = source.read(1, window=window, boundless=True, fill_value=0)
            shares[left, top] = [float((cover == code).mean()) for code in codes]
    return np.array([shares[place] for place in places])


SETS: dict[str, Callable[[Path, float | None], Study]] = {
    "bigearthnet-finland": lambda work, size_km: labelled(DATA / "bigearthnet-finland"),
    "eurosat_ms": lambda work, size_km: labelled(DATA / "eurosat_ms"),
    "dfc24-water": lambda work, size_km: mask_share(
        DATA / "dfc24-water", "water", (0.01, 0.5), "share of water: none, some, mostly"
    ),
    "sandbox": sandbox,
}
DATED: dict[str, Callable[[Path, float | None], Study]] = {
    "s2-romania-series": lambda work, size_km: tree_dates(work),
}
"""Sets with several dates of each place, on which only the switches are measured."""


@cache
def open_study(name: str, work: Path, size_km: float | None) -> Study:
    """A set of the table by name, or ready chips of one's own by path."""
    known = SETS | DATED
    return known[name](work, size_km) if name in known else labelled(Path(name))
