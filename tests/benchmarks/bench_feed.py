"""How fast chips are fed: from memory against torchgeo's best loader setting on single-band COGs, and a store larger
than memory by whole shards against ``zarr.oindex``. ``python tests/benchmarks/bench_feed.py`` prints Markdown and,
last, one JSON line.

One thread of torch and a warm page cache for all. What every way delivers is a batch of float32 chips of 64 px and
twelve bands. The COGs are four scenes of twelve single-band files (tiles of 512, deflate), drawn at random places.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import rasterio
import torch
import zarr
from made import BANDS, MadeChips, in_turns, made_pixels, paired, write_store
from rasterio.transform import from_origin
from torch.utils.data import DataLoader
from torchgeo.datasets import RasterDataset, stack_samples
from torchgeo.samplers import RandomBatchGeoSampler, RandomGeoSampler

from geossl.chips.sampler import ResidentSampler, Sampler
from geossl.chips.store import SHARD, open_store
from geossl.chips.streamed import StreamedSampler, chip_bytes

SIDE, BATCH = 64, 64
GOAL_RESIDENT, GOAL_STREAMED = 200, 10


class Scenes(RasterDataset):
    """Twelve single-band files a scene, as torchgeo reads them."""

    filename_glob = "*_B01.tif"
    filename_regex = r"s(?P<date>\d{8})_(?P<band>B\d{2})\.tif"
    date_format = "%Y%m%d"
    separate_files = True
    all_bands: ClassVar[tuple[str, ...]] = tuple(f"B{number + 1:02d}" for number in range(len(BANDS)))


def write_scenes(folder: Path, scenes: int, side: int) -> None:
    """Scenes of ``side`` px beside each other, one tiled, compressed file a band."""
    tile = min(512, side)
    for scene in range(scenes):
        profile = {
            "driver": "GTiff", "count": 1, "width": side, "height": side, "dtype": "uint16", "crs": "EPSG:32633",
            "transform": from_origin(500_000 + scene * side * 10, 6_600_000, 10, 10), "tiled": True,
            "blockxsize": tile, "blockysize": tile, "compress": "deflate", "nodata": 0,
        }  # fmt: skip
        pixels = made_pixels(1, side, scene)[0]
        for number in range(len(BANDS)):
            with rasterio.open(folder / f"s2018070{scene + 1}_B{number + 1:02d}.tif", "w", **profile) as target:
                target.write(pixels[number], 1)


def torchgeo_ways(folder: Path, length: int) -> dict[str, Callable[[], float]]:
    """One pass over ``length`` random chips in every setting; samples a second."""
    dataset = Scenes(str(folder))

    def loader(sampler: str, workers: int) -> Callable[[], float]:
        settings: dict[str, Any] = {"num_workers": workers, "collate_fn": stack_samples}
        settings |= {"persistent_workers": True, "multiprocessing_context": "fork"} if workers else {}
        if sampler == "batch":
            batches = RandomBatchGeoSampler(dataset, SIDE, BATCH, length)
            ready = DataLoader(dataset, batch_sampler=batches, **settings)
        else:
            ready = DataLoader(dataset, sampler=RandomGeoSampler(dataset, SIDE, length), batch_size=BATCH, **settings)

        def one_pass() -> float:
            began, count = time.perf_counter(), 0
            for batch in ready:
                count += len(batch["image"])
            return count / (time.perf_counter() - began)

        return one_pass

    return {
        f"torchgeo, {name}, {workers} workers": loader(sampler, workers)
        for sampler, name in (("random", "RandomGeoSampler"), ("batch", "RandomBatchGeoSampler"))
        for workers in (0, 2)
    }


def batches_of(sampler: Sampler, epochs: Iterator[int], batches: int | None = None) -> Callable[[], float]:
    """Float-ready batches of one epoch (or the first of them) in its order; samples a second."""

    def one_pass() -> float:
        began = time.perf_counter()
        order = sampler.epoch_rows(next(epochs))
        count = len(order) // BATCH if batches is None else batches
        for start in range(0, count * BATCH, BATCH):
            stored, _, _ = sampler.take(order[start : start + BATCH])
            sampler.decode(stored)
        return count * BATCH / (time.perf_counter() - began)

    return one_pass


def oindex(path: Path, batches: int) -> Callable[[], float]:
    """Random chips from the same store by zarr's own orthogonal indexing; samples a second."""
    array = zarr.open_array(path / "data", mode="r")
    generator = np.random.default_rng(0)

    def one_pass() -> float:
        began = time.perf_counter()
        for _ in range(batches):
            chosen = np.sort(generator.choice(array.shape[0], BATCH, replace=False))
            torch.from_numpy(array.oindex[chosen].astype(np.float32)).mul_(1e-4).add_(-0.1)
        return batches * BATCH / (time.perf_counter() - began)

    return one_pass


def endless() -> Iterator[int]:
    """0, 1, 2, …"""
    number = 0
    while True:
        yield number
        number += 1


def table(figures: dict[str, list[float]], base: str) -> None:
    """Median, best and the paired ratio to ``base``."""
    print(f"| way | samples/s, median (best) | × {base} |\n|---|---|---|")
    for name, rates in figures.items():
        ratio = paired(rates, figures[base])
        print(f"| {name} | {statistics.median(rates):,.0f} ({max(rates):,.0f}) | {ratio:,.1f} |")
    print()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scene-px", type=int, default=2048)
    parser.add_argument("--scenes", type=int, default=4)
    parser.add_argument("--samples", type=int, default=1024, help="chips a pass of the torchgeo loaders")
    parser.add_argument("--shards", type=int, default=24, help=f"of {SHARD} chips, of the store that is streamed")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scenes, store_path = Path(folder) / "scenes", Path(folder) / "store"
        scenes.mkdir()
        write_scenes(scenes, given.scenes, given.scene_px)
        write_store(store_path, given.shards, SIDE)
        figures, best = resident(scenes, given.samples, given.rounds)
        store = open_store(store_path)
        memory = len(store.table) * chip_bytes(store) // 2  # half of the store: two windows of a quarter
        streamed_figures = streamed(store_path, memory, given.rounds)
    print("## Feeding\n")
    print(
        f"Batches of {BATCH} chips {len(BANDS)} × {SIDE} × {SIDE}, float32; one thread, page cache warm, {given.rounds}"
    )
    print(f"interleaved rounds, load {os.getloadavg()[0]:.1f}; × is the median over rounds.\n")
    table(figures, best)
    table(streamed_figures, "zarr oindex")
    print(
        f"The streamed store has {given.shards * SHARD} chips, memory for half of them; every epoch reads all shards."
    )
    mine, theirs = figures["geossl, resident"], figures[best]
    ratio, minima = paired(mine, theirs), max(mine) / max(theirs)
    shards, oindexed = streamed_figures["geossl, whole shards"], streamed_figures["zarr oindex"]
    streamed_ratio, streamed_minima = paired(shards, oindexed), max(shards) / max(oindexed)
    print(f"Goal, resident against torchgeo's best (≥ {GOAL_RESIDENT}): **{ratio:,.0f}×**, of the best {minima:,.0f}×.")
    print(f"Goal, shards against oindex (≥ {GOAL_STREAMED}): **{streamed_ratio:.1f}×**,", end=" ")
    print(f"of the best {streamed_minima:.1f}×.")
    print(
        json.dumps(
            {
                "resident_ratio": ratio,
                "resident_ratio_of_best": minima,
                "torchgeo_best": best,
                "streamed_ratio": streamed_ratio,
                "streamed_ratio_of_best": streamed_minima,
                "samples_per_s": {n: statistics.median(r) for n, r in (figures | streamed_figures).items()},
            }
        )
    )


def resident(scenes: Path, samples: int, rounds: int) -> tuple[dict[str, list[float]], str]:
    """The resident store and torchgeo's settings in turns, and the name of torchgeo's best setting."""
    sampler = ResidentSampler(MadeChips(4096, SIDE), np.arange(4096), "cpu", 0)
    ways = {"geossl, resident": batches_of(sampler, endless()), **torchgeo_ways(scenes, samples)}
    for way in ways.values():
        way()
    figures = in_turns(ways, rounds)
    peers = [name for name in figures if name.startswith("torchgeo")]
    return figures, max(peers, key=lambda name: statistics.median(figures[name]))


def streamed(path: Path, memory: int, rounds: int) -> dict[str, list[float]]:
    """Whole shards by the streamed sampler and random chips by zarr, in turns, each with the machine for itself."""
    store = open_store(path)
    sampler = StreamedSampler(store, np.arange(len(store.table)), "cpu", 0, memory)
    ways = {"geossl, whole shards": batches_of(sampler, endless()), "zarr oindex": oindex(path, 4)}
    ways["geossl, whole shards"]()
    ways["zarr oindex"]()

    def settled(way: Callable[[], float]) -> Callable[[], float]:
        def after_a_pause() -> float:
            time.sleep(1.0)  # reading ahead for the next epoch must not take time from the other way
            return way()

        return after_a_pause

    return in_turns({name: settled(way) for name, way in ways.items()}, rounds)


if __name__ == "__main__":
    main()
