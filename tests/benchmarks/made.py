"""What several benchmarks need: made-up chips in memory and on disk, and ways that take turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from geossl.chips.chipset import ChipSet
from geossl.chips.grid import Grid
from geossl.chips.store import SHARD, empty_rows
from geossl.chips.writer import StoreWriter, prepare_store
from geossl.encoders.saved import Encoder, load_encoder, random_encoder
from geossl.products import S2_ENCODING, Encoding

BANDS = (
    "coastal", "blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "nir09",
    "swir16", "swir22",
)  # fmt: skip


@dataclass(frozen=True)
class MadeChips:
    """``count`` random chips of ``side`` px in memory: what they show does not change the time a step takes."""

    count: int
    side: int
    name: str = "made"
    path: Path = Path("made")
    id: str = "made"
    bands: tuple[str, ...] = BANDS
    encoding: Encoding = S2_ENCODING
    resolution_m: float = 10.0

    @property
    def shape(self) -> tuple[int, int]:
        return self.side, self.side

    @property
    def table(self) -> pd.DataFrame:
        names = [f"c{i}" for i in range(self.count)]
        when = pd.to_datetime(["2018-07-01"] * self.count, utc=True)
        return pd.DataFrame({"chip": names, "tile": names, "block": "b", "datetime": when, "clear": 1.0})

    def load(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return made_pixels(len(rows), self.side, 0), np.zeros((len(rows), *self.shape), np.uint8)


def made_pixels(n: int, side: int, seed: int) -> np.ndarray:
    """Stored reflectance (n, band, side, side) uint16 with the entropy of a real scene: smooth, and some noise."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(1200, 4000, (n, len(BANDS), -(-side // 16), -(-side // 16)))
    smooth = np.kron(coarse, np.ones((1, 1, 16, 16), dtype=np.int64))[..., :side, :side]
    return (smooth + generator.integers(0, 128, smooth.shape)).astype(np.uint16)


def write_store(path: Path, shards: int, side: int) -> None:
    """A chip store as ``geossl tiles build`` writes it, of so many full shards of chips of ``side`` px."""
    grid = Grid("EPSG:32633", (10.0, 10.0), (500_000.0, 6_600_000.0), side, 4)
    prepare_store(path, region="made", product="made", bands=BANDS, encoding=S2_ENCODING, grid=grid)
    writer = StoreWriter(path)
    for shard in range(shards):
        names = [f"c{shard}_{number}" for number in range(SHARD)]
        facts = {name: pd.Series(dtype.type() if dtype.kind in "if" else "", index=range(SHARD))
                 for name, dtype in empty_rows().drop(columns=["geometry", "datetime"]).dtypes.items()}  # fmt: skip
        facts |= {"chip": names, "tile": names, "block": "b", "status": "ok", "clear": np.float32(1)}
        facts["datetime"] = pd.Series(pd.Timestamp("2018-07-01", tz="UTC"), index=range(SHARD))
        facts["geometry"] = [shapely.box(0, 0, 1, 1)] * SHARD
        rows = gpd.GeoDataFrame(facts, geometry="geometry", crs="EPSG:4326")[list(empty_rows().columns)]
        writer.commit(rows, made_pixels(SHARD, side, shard), np.zeros((SHARD, side, side), np.uint8))


def in_turns(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Each way's figure in every round, one way after the other, so that a busy moment hits all of them."""
    figures: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            figures[name].append(way())
    return figures


def paired(mine: list[float], theirs: list[float]) -> float:
    """Median over rounds of the ratio of two rates."""
    return statistics.median(one / other for one, other in zip(mine, theirs, strict=True))


def encoder_for(folder: str | None, chips: ChipSet) -> Encoder:
    """The encoder of a directory, or an untrained ResNet-18 for these chips."""
    if folder is not None:
        return load_encoder(folder)
    some = np.linspace(0, len(chips.table) - 1, 32).astype(int)
    stored, flags = chips.load(some)
    values = np.where(flags[:, None] == 0, chips.encoding.decode(stored), np.nan)
    mean, std = (one(values, axis=(0, 2, 3)).tolist() for one in (np.nanmean, np.nanstd))
    return random_encoder("resnet18", chips.bands, mean, std, seed=1)
