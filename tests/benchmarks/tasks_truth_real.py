"""What task rules are worth on real sets: a reservoir through time, water masks, depths of a reef flat."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import rasterio
import torch

from geossl.chips.open import open_chips
from geossl.evaluation.controls import spectral_index
from geossl.maps.areas import row_hectares
from geossl.maps.water_dates import SEASONS, seasons, water_planes
from geossl.tasks.metrics import Resamples, class_figures
from tests.benchmarks.real_sets.__main__ import markdown
from tests.benchmarks.real_sets.common import DATA
from tests.benchmarks.real_sets.scenes import CLEAR_BLUE, STACK_BANDS, bathymetry
from tests.benchmarks.tasks_truth_simulated import table


def reservoir(work: Path, size_km: float) -> str:
    """Seasons of the Boadella reservoir over its clear dates; there is no truth, so dates are compared with them."""
    wet, days, areas = [], [], []
    for path in sorted((DATA / "boadella-reservoir").glob("Boadella_*.tif")):
        with rasterio.open(path) as source:
            values = source.read().astype(np.float32) / 10_000
            hectares = row_hectares(source.crs, source.transform, rasterio.windows.Window(0, 0, 1, source.height))
        if float(np.median(values[1])) >= CLEAR_BLUE:
            continue
        wet.append(np.nan_to_num(spectral_index("mndwi", values, STACK_BANDS), nan=1.0) > 0)
        days.append(date.fromisoformat(path.stem.split("_")[1]))
        areas.append(float(wet[-1].sum(1) @ hectares))
    stack = torch.from_numpy(np.stack(wet))[None]
    found = seasons(water_planes(stack, torch.ones_like(stack), days, 5)[0].numpy())
    rows = [[name, float((found == value).sum(1) @ hectares)] for value, (name, _) in enumerate(SEASONS)]
    once = float(np.any(wet, axis=0).sum(1) @ hectares)
    return "\n\n".join([
        f"{len(days)} clear dates of a reservoir between flood and drawdown ({days[0]} to {days[-1]}); no mask came "
        "with the set, so nothing is scored.",
        table(["class of surface-water", "hectares"], rows),
        f"MNDWI above 0 covers {min(areas):.0f} to {max(areas):.0f} ha on single dates, and {once:.0f} ha on one date "
        "or more.",
    ])  # fmt: skip


def water_masks(work: Path, size_km: float) -> str:
    """The per-date rule of surface-water on masks of 150 chips at 30 m, by group."""
    chips = open_chips(DATA / "dfc24-water")
    truth, said, groups = [], {"mndwi": [], "ndwi": []}, []
    bands = ["nir" if band == "nir08" else band for band in chips.bands]
    for row in range(len(chips.table)):
        stored, flags = chips.load([row])
        values = np.nan_to_num(chips.encoding.decode(stored)[0])
        mask = chips.labels([row])[0]  # type: ignore[attr-defined]
        known = (flags[0] == 0) & (mask != 255)
        truth.append(mask[known])
        for name, parts in said.items():
            parts.append(np.nan_to_num(spectral_index(name, values, bands), nan=1.0)[known] > 0)
        groups.append(np.full(known.sum(), chips.table["block"].iloc[row]))
    water = list(chips.label_names).index("water")  # type: ignore[attr-defined]
    answer = (np.concatenate(truth) == water).astype(int)
    again = Resamples(np.concatenate(groups), seed=0, resamples=200)
    rows = []
    for name, parts in said.items():
        figures = class_figures(answer, [np.concatenate(parts).astype(int)], 2, again).per_class[1]
        rows.append([f"{name.upper()} > 0", float(figures["iou"]),
                     f"[{figures['iou_low']:.3f}, {figures['iou_high']:.3f}]"])  # fmt: skip
    return "\n\n".join([
        "What surface-water takes for water on one date, against the masks of 150 chips at 30 m; intervals resample "
        "groups. Heads on the same masks: real-sets.md.",
        table(["rule", "IoU of water", "95 %"], rows),
    ])  # fmt: skip


def depths(work: Path, size_km: float) -> str:
    """Depths of a reef flat: the table of the real sets."""
    return markdown(bathymetry()).split("\n", 2)[2]
