"""A small world for heads: chips with a left half of one kind and a right half of another, and an untrained encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from shapely.geometry import box

from geossl.encoders.saved import Encoder, random_encoder
from geossl.products import S2_ENCODING

BANDS = ("green", "red", "nir", "swir16")
DARK, BRIGHT = (0.06, 0.04, 0.02, 0.01), (0.08, 0.10, 0.30, 0.22)


class FakeStore:
    """A chip store in memory: tiles in a row, several dates; ``wet`` pixels are water, the others vegetation."""

    name, encoding, resolution_m, bands = "fake/product", S2_ENCODING, 10.0, BANDS

    def __init__(self, tiles: int = 8, dates: Sequence[str] = ("2018-06-01",), size: int = 32, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.path, self.id, self.shape = Path("fake-store"), f"id{seed}{tiles}{len(dates)}", (size, size)
        rows = [(tile, date) for tile in range(tiles) for date in dates]
        self.wet = np.zeros((len(rows), size, size), bool)
        self.wet[:, :, : size // 2] = True
        reflectance = np.where(self.wet[:, None], np.reshape(DARK, (4, 1, 1)), np.reshape(BRIGHT, (4, 1, 1)))
        reflectance = reflectance + rng.normal(0, 0.01, reflectance.shape)
        self.stored = np.round(10_000 * reflectance + 1000).astype(np.uint16)
        self.flags = np.zeros((len(rows), size, size), np.uint8)
        self.table = pd.DataFrame(
            {
                "chip": [f"t{tile}-{date}" for tile, date in rows],
                "tile": [f"t{tile}" for tile, _ in rows],
                "block": [f"b{tile}" for tile, _ in rows],
                "datetime": pd.to_datetime([date for _, date in rows], utc=True),
                "clear": 1.0,
                "geometry": None,
                "crs": "EPSG:32633",
                "left": [500_000.0 + tile * size * 10 for tile, _ in rows],
                "top": 6_540_000.0,
            }
        )

    def load(self, rows: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = np.asarray(rows)
        return self.stored[rows], self.flags[rows]

    def tile_box(self, tile: int, y0: int, y1: int, x0: int, x1: int):  # type: ignore[no-untyped-def]
        """The polygon over some pixels of a tile."""
        left = 500_000 + tile * self.shape[1] * 10
        return box(left + x0 * 10, 6_540_000 - y1 * 10, left + x1 * 10, 6_540_000 - y0 * 10)


@pytest.fixture(scope="session")
def make_store() -> type[FakeStore]:
    return FakeStore


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    return random_encoder("resnet18", BANDS, [0.07, 0.07, 0.16, 0.12], [0.02, 0.03, 0.14, 0.10], seed=1)


@pytest.fixture
def quick_scratch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Supervised from scratch in a moment: it is there, but nobody waits for it to learn."""
    from geossl.tasks import scratch

    monkeypatch.setattr(scratch, "RATES", (1e-3,))
    monkeypatch.setattr(scratch, "TRIAL_STEPS", 1)
    monkeypatch.setattr(scratch, "STEPS", 2)
    monkeypatch.setattr(scratch, "BATCH", 4)


@pytest.fixture
def ready_set() -> Callable[[FakeStore, Path, str], Path]:
    """Writes a store's chips as ready chips with labels of one kind."""

    def write(store: FakeStore, folder: Path, kind: str) -> Path:
        """The store's chips as files with an index; class, labels, number and shares follow the brightness of the
        chip."""
        folder.mkdir()
        rng = np.random.default_rng(0)
        lines, repeats = [], 4
        for number in range(len(store.table) * repeats):
            tile, bright = number // repeats, number % 2
            data = store.stored[tile].astype(np.int32) + bright * 1500 + rng.integers(0, 50, store.stored[tile].shape)
            name = f"c{number}.tif"
            with rasterio.open(
                folder / name, "w", driver="GTiff", dtype="uint16", count=4, height=32, width=32, crs="EPSG:32633",
                transform=rasterio.transform.from_origin(500_000 + number * 320, 6_540_000, 10, 10),
            ) as out:  # fmt: skip
                out.write(data.astype(np.uint16))
                out.descriptions = store.bands
            said = ("bright", "land|bright", 3.5, 0.1, 0.9) if bright else ("dark", "land|dark", 1.5, 0.7, 0.3)
            lines.append((name, f"b{tile}", *said))
        columns = ["file", "block", "class", "labels", "height", "dark", "bright"]
        pd.DataFrame(lines, columns=columns).to_csv(folder / "index.csv", index=False)
        column = {"class": "class", "multilabel": "labels", "number": "height"}.get(kind)
        where = f"column: {column}" if column else "keep: [dark, bright]"
        bands = "".join(f"  {band}: {band}\n" for band in store.bands)
        (folder / "chipset.yaml").write_text(
            f"bands:\n{bands}encoding: {{dtype: uint16, scale: 0.0001, offset: -0.1, nodata: 0}}\nresolution_m: 10\n"
            f"block: block\nlabels: {{kind: {kind}, {where}}}\n"
        )
        return folder

    return write
