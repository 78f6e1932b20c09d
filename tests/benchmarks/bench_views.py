"""How fast views are made, against torchgeo's SimCLR augmentations and the plain Kornia pipeline, and their share of a
pretraining step. ``python tests/benchmarks/bench_views.py`` prints Markdown and, last, one JSON line.

One thread, because on a busy machine every parallel region of a many-operation pipeline waits for the scheduler. Ways
take turns inside each round, so that a busy moment hits all of them; ratios are medians over rounds of ratios.
"""

from __future__ import annotations

import json
import statistics
import time
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torchgeo.trainers.simclr import simclr_augmentations

from geossl.encoders.build import seeded_encoder
from geossl.methods.parts import nt_xent
from geossl.views.fused import make_views
from geossl.views.recipe import load_recipe

ROUNDS = 9
BANDS = 12
GOAL_SHARE, GOAL_RATIO = 0.10, 3.3


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def chips(n: int, side: int, cloudy: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Made-up reflectance (n, BANDS, side, side), bands last in memory, and validity with round holes."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((n, BANDS, 8, 8), generator=generator) * 0.4
    values = F.interpolate(coarse, size=(side, side), mode="bilinear").contiguous(memory_format=torch.channels_last)
    holes = F.interpolate(torch.rand((n, 1, 8, 8), generator=generator), size=(side, side), mode="bilinear")
    threshold = holes.flatten().kthvalue(max(1, int(cloudy * holes.numel()))).values
    clear = holes[:, 0] > threshold if cloudy else torch.ones((n, side, side), dtype=torch.bool)
    return values, clear


def compare(n: int, side: int) -> dict[str, list[float]]:
    """Views a second of each way, one figure a round."""
    values, clear = chips(n, side, 0.0)
    _, holes = chips(n, side, 0.15)
    plain = values.contiguous()
    generator = torch.Generator().manual_seed(1)
    fused = load_recipe("simclr", size=side)
    kornia = load_recipe("simclr", size=side, pipeline="kornia")
    more = load_recipe("simclr", size=side, rotation_deg=10, haze=0.3, cloud=0.1, gsd=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = simclr_augmentations(side, torch.ones(BANDS) / BANDS)
    ways: dict[str, tuple[int, Callable[[], object]]] = {
        "torchgeo SimCLR augmentations": (1, lambda: peer(plain)),
        "geossl, Kornia pipeline": (1, lambda: make_views(values, clear, kornia, generator, 1)),
        "geossl, fused, 15 % of pixels invalid": (2, lambda: make_views(values, holes, fused, generator, 2)),
        "geossl, fused, also rotation, haze, clouds, GSD": (2, lambda: make_views(values, clear, more, generator, 2)),
        "geossl, fused": (2, lambda: make_views(values, clear, fused, generator, 2)),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _, work in ways.values():
        work()
    for _ in range(ROUNDS):
        for name, (views, work) in ways.items():
            rates[name].append(views * n / seconds(work))
    return rates


def step_share(n: int, side: int) -> tuple[float, float]:
    """Seconds of making a pair of views, and of forward and backward of a ResNet-18 on it; medians."""
    values, clear = chips(n, side, 0.15)
    recipe = load_recipe("simclr", size=side)
    generator = torch.Generator().manual_seed(1)
    network = seeded_encoder("resnet18", [f"band{i}" for i in range(BANDS)], 0).to(memory_format=torch.channels_last)
    pair = make_views(values, clear, recipe, generator)

    def train() -> None:
        network.zero_grad(set_to_none=True)
        first, second = network(torch.cat(pair)).chunk(2)
        nt_xent(first, second, 0.2).backward()

    train()
    views, step = [], []
    for _ in range(3):
        views += [seconds(lambda: make_views(values, clear, recipe, generator)) for _ in range(3)]
        step.append(seconds(train))
    return statistics.median(views), statistics.median(step)


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    figures: dict[str, float] = {}
    print("## Views\n")
    print(f"One thread, {BANDS} bands, full recipe with blur and noise; views/s, median (best) of {ROUNDS} rounds;")
    print("× is the median over rounds against torchgeo.\n")
    for n, side in ((64, 64), (32, 128)):
        rates = compare(n, side)
        peer = rates["torchgeo SimCLR augmentations"]
        print(f"| {n} × {BANDS} × {side} × {side} | views/s | × |\n|---|---|---|")
        for name, rate in rates.items():
            ratio = statistics.median(mine / theirs for mine, theirs in zip(rate, peer, strict=True))
            print(f"| {name} | {statistics.median(rate):.0f} ({max(rate):.0f}) | {ratio:.1f} |")
            figures[f"{name} at {side} px"] = round(ratio, 2)
        print()
    views, step = step_share(64, 64)
    share = views / (views + step)
    print(
        f"A pair of views of 64 chips of 64 px, 15 % invalid: {views * 1e3:.0f} ms; forward and backward of a ResNet-18"
    )
    print(f"on it: {step * 1e3:.0f} ms, so views are **{share:.1%}** of the two (goal: below {GOAL_SHARE:.0%}).")
    ratios = " and ".join(f"**{figures[f'geossl, fused at {side} px']:.1f}×** at {side} px" for side in (64, 128))
    print(f"Fused against torchgeo: {ratios} (goal: {GOAL_RATIO}×), without a compiler.")
    print(json.dumps({"views_share_of_step": round(share, 4), **figures}))


if __name__ == "__main__":
    main()
