"""The GPU part of ``bench_step.py``: ResNet-50 in bfloat16 beside torchgeo's ``SimCLRTask``."""

from __future__ import annotations

import statistics
import warnings
from pathlib import Path
from typing import Any

import torch
from bench_step import Step, shares, torchgeo_way, whole
from made import in_turns, paired
from torch.utils.flop_counter import FlopCounterMode

SIZES = {64: 512, 224: 128}
"""Side of a view to chips a step."""
GOAL_VIEWS = 0.10
_PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L4": 121e12, "L40S": 362e12}
"""Dense bfloat16 floating-point operations a second by name, from the makers' data sheets."""


def measure_gpu(folder: Path, rounds: int, steps: int) -> dict[str, Any]:
    """Measure both sizes and print a table; ``folder`` holds the COGs of torchgeo's loader."""
    name = torch.cuda.get_device_name()
    peak = next((value for key, value in _PEAK.items() if key in name), None)
    print(f"### ResNet-50, bfloat16, {name}\n")
    print("| view | batch | samples/s | × torchgeo | peak GiB | of bfloat16 peak | views' share | host syncs |")
    print("|---|---|---|---|---|---|---|---|")
    found: dict[str, Any] = {}
    for size, batch in SIZES.items():
        torch.cuda.reset_peak_memory_stats()
        step = Step(torch.device("cuda", 0), True, "resnet50", batch, size, size * 5 // 4)
        parts = shares(step, 5, rounds * steps)
        times = [sum(one) for one in zip(*parts.values(), strict=True)]
        share = statistics.median(v / t for v, t in zip(parts["feed and views"], times, strict=True))
        memory = torch.cuda.max_memory_allocated() / 2**30
        operations = flops(step)
        syncs = host_syncs(step)
        ways = {"geossl": whole(step, steps)}
        ways |= {f"torchgeo, {w} workers": torchgeo_way(folder, w, steps, "resnet50", batch, size, "bf16-mixed")
                 for w in (0, 2)}  # fmt: skip
        for way in ways.values():
            way()
        rates = in_turns(ways, rounds)
        best = max(list(ways)[1:], key=lambda way: statistics.median(rates[way]))
        rate, ratio = statistics.median(rates["geossl"]), paired(rates["geossl"], rates[best])
        used = None if peak is None else operations / batch * rate / peak
        shown = "unknown" if used is None else f"{used:.0%}"
        print(f"| {size} px | {batch} | {rate:,.0f} | {ratio:.1f} | {memory:.1f} | {shown} | {share:.1%} | {syncs} |")
        found[str(size)] = {
            "samples_per_s": rate, "against_torchgeo": ratio, "peak_gib": memory, "flop_utilisation": used,
            "views_share": share, "host_syncs": syncs,
        }  # fmt: skip
        del step
        torch.cuda.empty_cache()
    print(f"\nGoals: views below {GOAL_VIEWS:.0%} of the step, no host synchronisation inside it.\n")
    return found


def flops(step: Step) -> int:
    """Floating-point operations of forward and backward of one step's networks."""
    with FlopCounterMode(display=False) as counter:
        step.learn(step.ready)
    return counter.get_total_flops()


def host_syncs(step: Step) -> int:
    """How often one step makes the host wait for the device, as torch warns of it; the first batch of an epoch, whose
    order is copied to the device, is not the one that is looked at."""
    step.number = 0
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            step.learn(step.views())
            step.after()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(one.message) for one in seen)
