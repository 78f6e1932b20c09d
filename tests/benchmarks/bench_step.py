"""Where the time of a pretraining step goes, and what the whole step costs beside its limit and beside torchgeo:
``python tests/benchmarks/bench_step.py`` prints Markdown and, last, one JSON line.

ResNet-18 with timm's max-pool stem, 12 bands, 64 px, batch 64, SimCLR. *Limit* is forward, loss, backward and optimiser
on ready tensors. *torchgeo* is ``SimCLRTask`` under Lightning on its own loader of single-band COGs, with the same
batch and threads, in its better setting of 0 and 2 persistent workers. Ways take turns; ratios are medians over rounds.
On a GPU also ResNet-50 in bfloat16 with its memory, utilisation and host synchronisations (:mod:`step_gpu`).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from bench_feed import Scenes, write_scenes
from made import BANDS, MadeChips, in_turns, paired
from torch.utils.data import DataLoader
from torchgeo.datasets import stack_samples
from torchgeo.samplers import RandomGeoSampler
from torchgeo.trainers import SimCLRTask

from geossl.chips.sampler import ResidentSampler
from geossl.encoders.build import seeded_encoder
from geossl.methods.parts import frozen_copy, move_towards
from geossl.methods.protocol import build_method
from geossl.training.compute import choose_compute, cpu_flags
from geossl.training.data import Batches
from geossl.training.optim import make_optimizer
from geossl.views.recipe import load_recipe

BATCH, SIDE, CHIPS, SIZE = 64, 80, 512, 64
GOAL_SHARE, GOAL_LIMIT = 0.05, 0.93
GOALS_TORCHGEO = {"float32": 1.3, "bfloat16": 2.0}


class Step:
    """A step as :class:`geossl.training.module.PretrainModule` does it, without Lightning, and an average of the
    backbone beside it (which SimCLR would not need), so that its cost is in the share too."""

    def __init__(self, device: torch.device, mixed: bool, encoder: str = "resnet18", batch: int = BATCH,
                 size: int = SIZE, side: int = SIDE) -> None:  # fmt: skip
        self.device, self.mixed, self.batch = device, mixed, batch
        sampler = ResidentSampler(MadeChips(max(CHIPS, batch), side), np.arange(max(CHIPS, batch)), device, 0)
        self.method = build_method("simclr", seeded_encoder(encoder, BANDS, 0))
        self.method.prepare(batch, sampler.total)
        self.method.to(device, memory_format=torch.channels_last)
        self.average = frozen_copy(self.method.backbone)
        self.optimizer = make_optimizer(self.method, batch)
        ones = torch.ones(len(BANDS))
        self.batches = Batches(sampler, load_recipe("simclr", size=size), 0.2 * ones, 0.1 * ones, batch, 2, 0)
        self.ready = self.batches.views(0)
        self.number = 0

    def views(self) -> list[torch.Tensor]:
        """Feed and views of the next step."""
        self.number += 1
        return self.batches.views(self.number)

    def learn(self, views: list[torch.Tensor]) -> None:
        """Forward, loss, backward, optimiser."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            loss = self.method.step(views, 0.0, None).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def after(self) -> None:
        """What a method does after the optimiser, and an average of the backbone."""
        self.method.after_step(0.0)
        move_towards(self.average, self.method.backbone, 0.99)

    def clock(self) -> float:
        """The time at which everything asked for so far is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def shares(step: Step, warm: int, steps: int) -> dict[str, list[float]]:
    """Seconds of each part, a figure a step."""
    parts: dict[str, list[float]] = {"feed and views": [], "forward, loss, backward, optimiser": [], "EMA": []}
    for number in range(warm + steps):
        marks = [step.clock()]
        views = step.views()
        marks.append(step.clock())
        step.learn(views)
        marks.append(step.clock())
        step.after()
        marks.append(step.clock())
        if number >= warm:
            for name, duration in zip(parts, np.diff(marks), strict=True):
                parts[name].append(float(duration))
    return parts


def whole(step: Step, steps: int) -> Callable[[], float]:
    """Samples a second of whole steps."""

    def run() -> float:
        began = step.clock()
        for _ in range(steps):
            step.learn(step.views())
            step.after()
        return steps * step.batch / (step.clock() - began)

    return run


def limit(step: Step, steps: int) -> Callable[[], float]:
    """Samples a second of learning on ready tensors."""

    def run() -> float:
        began = step.clock()
        for _ in range(steps):
            step.learn(step.ready)
        return steps * step.batch / (step.clock() - began)

    return run


class Timer(pl.Callback):
    """Seconds from the end of the first step to the end of the last."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *given: object) -> None:
        """Mark the end of a step."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def torchgeo_way(folder: Path, workers: int, steps: int, encoder: str = "resnet18", batch: int = BATCH,
                 size: int = SIZE, precision: str = "32-true") -> Callable[[], float]:  # fmt: skip
    """Samples a second of ``SimCLRTask`` (version 1, two-layer head) under Lightning on its own loader."""
    dataset = Scenes(str(folder), transforms=_scaled)
    sampler = RandomGeoSampler(dataset, size, (steps + 1) * batch)
    held: dict[str, Any] = {"persistent_workers": True, "multiprocessing_context": "fork"} if workers else {}
    loader = DataLoader(dataset, batch, sampler=sampler, num_workers=workers, collate_fn=stack_samples, **held)
    task = SimCLRTask(encoder, in_channels=len(BANDS), version=1, layers=2, output_dim=128, lr=0.06, size=size,
                      memory_bank_size=0)  # fmt: skip

    def run() -> float:
        timer = Timer()
        trainer = pl.Trainer(
            max_epochs=1, precision=precision, callbacks=[timer], logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, accelerator="auto", devices=1,
        )  # fmt: skip
        trainer.fit(task, loader)
        return steps * batch / (timer.ends[-1] - timer.ends[0])

    return run


def _scaled(sample: dict[str, Any]) -> dict[str, Any]:
    return {**sample, "image": sample["image"] * 1e-4}


def compare(folder: Path, precision: str, rounds: int, steps: int) -> dict[str, list[float]]:
    """geossl, its limit and torchgeo with 0 and 2 workers, in turns; samples a second. The best torchgeo last."""
    device = choose_compute().device
    step = Step(device, precision == "bfloat16")
    peer = "bf16-mixed" if precision == "bfloat16" else "32-true"
    ways = {
        "geossl, whole step": whole(step, steps),
        "geossl, limit": limit(step, steps),
        **{f"torchgeo, {w} workers": torchgeo_way(folder, w, steps, precision=peer) for w in (0, 2)},
    }
    for way in ways.values():
        way()
    return in_turns(ways, rounds)


def native_bf16() -> bool:
    """Whether this machine multiplies bfloat16 itself."""
    return torch.cuda.is_available() or bool({"avx512_bf16", "amx_bf16"} & cpu_flags())


def report_comparison(figures: dict[str, list[float]], precision: str) -> dict[str, float]:
    """Print a table and its goals; the ratios."""
    peers = [name for name in figures if name.startswith("torchgeo")]
    best = max(peers, key=lambda name: statistics.median(figures[name]))
    mine, ready = figures["geossl, whole step"], figures["geossl, limit"]
    print(f"### {precision}\n\n| way | samples/s, median (best) | × {best} |\n|---|---|---|")
    for name, rates in figures.items():
        print(f"| {name} | {statistics.median(rates):.1f} ({max(rates):.1f}) | {paired(rates, figures[best]):.2f} |")
    found = {
        "whole_of_limit": paired(mine, ready),
        "whole_of_limit_best": max(mine) / max(ready),
        "against_torchgeo": paired(mine, figures[best]),
        "against_torchgeo_best": max(mine) / max(figures[best]),
        "samples_per_s": statistics.median(mine),
    }
    print(f"\nGoal, whole step of its limit (≥ {GOAL_LIMIT}): **{found['whole_of_limit']:.2f}**, of the best rounds "
          f"{found['whole_of_limit_best']:.2f}.")  # fmt: skip
    print(f"Goal, against torchgeo (≥ {GOALS_TORCHGEO[precision]}): **{found['against_torchgeo']:.2f}×**, of the best "
          f"rounds {found['against_torchgeo_best']:.2f}×.\n")  # fmt: skip
    return found


def report_shares(parts: dict[str, list[float]]) -> float:
    """Print where the time goes; the share of feed, views and EMA."""
    total = np.sum(list(parts.values()), axis=0)
    print("| part | median ms | share of the step |\n|---|---|---|")
    for name, times in parts.items():
        print(f"| {name} | {1000 * np.median(times):.1f} | {float(np.median(np.array(times) / total)):.1%} |")
    beside = np.array(parts["feed and views"]) + np.array(parts["EMA"])
    share = float(np.median(beside / total))
    least = float((beside / total).min())
    print(f"\nGoal, feed, views and EMA (≤ {GOAL_SHARE:.0%}): **{share:.1%}**, least {least:.1%}.\n")
    return share


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6, help="a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scene-px", type=int, default=1024)
    parser.add_argument("--scenes", type=int, default=2)
    given = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    compute = choose_compute()
    print(f"## Pretraining step: ResNet-18, batch {BATCH} x {len(BANDS)} x {SIZE} x {SIZE}\n")
    print(f"{compute}; {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f};")
    print(f"{given.rounds} interleaved rounds of {given.steps} steps. Shares are taken inside each fp32 step.\n")
    result: dict[str, Any] = {"threads": torch.get_num_threads()}
    result["share_feed_views_ema"] = report_shares(shares(Step(compute.device, False), 3, given.rounds * given.steps))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_scenes(Path(folder), given.scenes, given.scene_px)
        for precision in ("float32", *(["bfloat16"] if native_bf16() else [])):
            figures = compare(Path(folder), precision, given.rounds, given.steps)
            result[precision] = report_comparison(figures, precision)
        if not native_bf16():
            print("bfloat16 is not compared: this processor would emulate it.\n")
        if compute.device.type == "cuda":
            from step_gpu import measure_gpu

            result["gpu"] = measure_gpu(Path(folder), given.rounds, given.steps)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
