"""Where the time of a pretraining step goes: ResNet-18, 12 bands, 64 px, batch 64, SimCLR, as ``geossl pretrain`` does.

Shares are taken inside each step, so a busy machine changes them little. Goal: feed and views below 10 % of the step.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from geossl.chips.sampler import ResidentSampler
from geossl.encoders.build import seeded_encoder
from geossl.methods.protocol import build_method
from geossl.products import S2_ENCODING, Encoding
from geossl.training.compute import choose_compute
from geossl.training.data import Batches
from geossl.training.optim import make_optimizer
from geossl.views.recipe import load_recipe

BATCH, SIDE, CHIPS, WARM, STEPS = 64, 80, 512, 3, 12
BANDS = (
    "coastal", "blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "nir09",
    "swir16", "swir22",
)  # fmt: skip


@dataclass(frozen=True)
class MadeChips:
    """Random chips in memory: what they show does not change the time a step takes."""

    name: str = "made"
    path: Path = Path("made")
    id: str = "made"
    bands: tuple[str, ...] = BANDS
    encoding: Encoding = S2_ENCODING
    resolution_m: float = 10.0
    shape: tuple[int, int] = (SIDE, SIDE)

    @property
    def table(self) -> pd.DataFrame:
        names = [f"c{i}" for i in range(CHIPS)]
        when = pd.to_datetime(["2018-07-01"] * CHIPS, utc=True)
        return pd.DataFrame({"chip": names, "tile": names, "block": "b", "datetime": when, "clear": 1.0})

    def load(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(0)
        size = (len(rows), len(self.bands), *self.shape)
        return generator.integers(1000, 5000, size, dtype=np.uint16), np.zeros((len(rows), *self.shape), np.uint8)


def main() -> None:
    compute = choose_compute()
    sampler = ResidentSampler(MadeChips(), np.arange(CHIPS), compute.device, 0)
    method = build_method("simclr", seeded_encoder("resnet18", BANDS, 0))
    method.prepare(BATCH, CHIPS)
    method.to(compute.device, memory_format=torch.channels_last)
    optimizer = make_optimizer(method, BATCH)
    ones = torch.ones(len(BANDS))
    batches = Batches(sampler, load_recipe("simclr"), 0.2 * ones, 0.1 * ones, BATCH, 2, 0, None)
    parts: dict[str, list[float]] = {"feed and views": [], "forward, loss, backward": [], "optimiser, after step": []}

    def clock() -> float:
        if compute.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    for step in range(WARM + STEPS):
        marks = [clock()]
        views = batches.views(step)
        marks.append(clock())
        optimizer.zero_grad()
        with torch.autocast(compute.device.type, torch.bfloat16, enabled=compute.mixed):
            loss = method.step(views, 0.0).loss
        loss.backward()
        marks.append(clock())
        optimizer.step()
        method.after_step(0.0)
        marks.append(clock())
        if step >= WARM:
            for name, duration in zip(parts, np.diff(marks), strict=True):
                parts[name].append(float(duration))
    report(parts, str(compute))


def report(parts: dict[str, list[float]], where: str) -> None:
    whole = np.sum(list(parts.values()), axis=0)
    shares = {name: float(np.median(np.array(times) / whole)) for name, times in parts.items()}
    print(f"## Pretraining step: ResNet-18, batch {BATCH} x {len(BANDS)} x 64 x 64, {where}\n")
    print(f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}; {STEPS} steps after {WARM} warm ones.\n")
    print("| part | median ms | share of the step |\n|---|---|---|")
    for name, times in parts.items():
        print(f"| {name} | {1000 * np.median(times):.1f} | {shares[name]:.1%} |")
    rate = BATCH / float(np.median(whole))
    print(f"| whole step | {1000 * np.median(whole):.1f} | {rate:.0f} samples/s |\n")
    share = shares["feed and views"]
    print(f"Goal, feed and views below 10 %: **{share:.1%}**.")
    print(json.dumps({"share_feed_views": share, "samples_per_s": rate, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
