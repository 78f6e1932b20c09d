"""How fast a map is against its model alone, and how its memory grows: ``python tests/benchmarks/bench_map.py``.

Every measurement runs in a process of its own. ``map`` is the whole verb on simulated scenes held in memory: reader
thread, prediction, blending, windowed writing, COGs, style, picture and catalogue. ``model`` is the same network on
the same windows in the same batches, ready as tensors. Both are given in million network pixels a second, so that
their ratio says what the map costs beyond the network. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

BANDS = tuple(f"band{index}" for index in range(12))
CLASSES = ("water", "field", "forest")
GOAL_RATIO, GOAL_GROWTH_MIB = 0.85, 150


class UNetHead:
    """A segmentation head as the map meets it: smp's U-Net with a ResNet-18, 12 bands, 3 classes, channels last."""

    id = "bench"

    def __init__(self) -> None:
        import segmentation_models_pytorch as smp
        import torch

        torch.manual_seed(0)
        net = smp.Unet("resnet18", encoder_weights=None, in_channels=len(BANDS), classes=len(CLASSES))
        self.net = net.eval().to(memory_format=torch.channels_last)
        entries = [SimpleNamespace(name=name, colour=None) for name in CLASSES]
        self.bands = BANDS
        self.task = SimpleNamespace(
            name="bench", title="Benchmark", kind="segmentation", classes=entries, temporal="date", unit=""
        )

    def predict(self, values: Any, clear: Any) -> Any:
        import torch

        return torch.softmax(self.net(values.flatten(0, 1)), 1)


class ScenePixels:
    """A scene of integers, made window by window from a pattern; nothing of the map's size is held."""

    bands, origin, scene_ids, reads_per_window = BANDS, "bench", ("bench",), len(BANDS)
    days = (date(2018, 7, 1),)

    def __init__(self, side: int) -> None:
        from affine import Affine
        from odc.geo.geobox import GeoBox

        self.geobox = GeoBox((side, side), Affine(10, 0, 600_000, 0, -10, 6_600_000), "EPSG:32633")
        self._pattern = np.random.default_rng(0).integers(1000, 6000, (len(BANDS), 1024, 1024), np.uint16)

    def footprint(self) -> Any:
        from shapely.geometry import box

        return box(*self.geobox.boundingbox.bbox)

    def read(self, window: Any, days: Any) -> Any:
        from geossl.maps.sources import WindowRead, decoded
        from geossl.products import S2_ENCODING

        rows, columns = (np.arange(start, start + size) % 1024 for start, size in
                         ((window.y, window.height), (window.x, window.width)))  # fmt: skip
        stored = self._pattern[:, rows[:, None], columns[None, :]]
        values, clear = decoded(stored, np.zeros(stored.shape[1:], np.uint8), S2_ENCODING)
        return WindowRead(values[None], clear[None], np.ones(clear.shape, bool), tuple(days), len(BANDS))


def measure(side: int, repeats: int) -> dict[str, float]:
    """One process: the model alone and the map, interleaved; and the peak memory after the map."""
    import torch

    from geossl.maps import make, plan
    from geossl.maps.predictors import make_predictor
    from geossl.maps.stream import BATCH_PIXELS, make_layout
    from geossl.maps.windows import Window

    source = ScenePixels(side)
    head = UNetHead()
    predictor = make_predictor(head, len(CLASSES), "segmentation", "date", None)
    layout = make_layout((side, side), predictor.sizes)
    size, columns = layout.rows.size, len(layout.columns.starts)
    pixels = layout.count * size * size
    batch = -(-BATCH_PIXELS // (size * size))
    read = source.read(Window(0, 0, 0, 0, size, size), (0,))
    ready = [torch.from_numpy(np.stack([read.values] * n)) for n in {batch, columns % batch} if n]
    by_count = {len(values): values for values in ready}

    def model() -> float:
        started = time.perf_counter()
        with torch.inference_mode():
            for _ in layout.rows.starts:
                left = columns
                while left:
                    n = min(batch, left)
                    predictor.predict(by_count[n], torch.ones(n, 1, size, size, dtype=torch.bool))
                    left -= n
        return time.perf_counter() - started

    def whole() -> float:
        with tempfile.TemporaryDirectory() as folder:
            original = plan._from_chips
            plan._from_chips = lambda *given: (source, "scene")  # type: ignore[assignment]
            try:
                started = time.perf_counter()
                make.make_map(head, chips="bench", block="bench", out=Path(folder) / "map")
                return time.perf_counter() - started
            finally:
                plan._from_chips = original

    with torch.inference_mode():
        predictor.predict(by_count[batch], torch.ones(batch, 1, size, size, dtype=torch.bool))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    times = [(model(), whole()) for _ in range(repeats)]
    best_alone, best_whole = (min(column) for column in zip(*times, strict=True))
    return {
        "side": side,
        "window": size,
        "windows": layout.count,
        "model": pixels / best_alone / 1e6,
        "map": pixels / best_whole / 1e6,
        "output": side * side / best_whole / 1e6,
        "ratio": float(np.median([alone / total for alone, total in times])),
        "before": before,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=[2048, 4096])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of the network; 1 is steadier on a busy machine")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        import torch

        torch.set_num_threads(given.threads)
        print(json.dumps(measure(given.one, given.repeats)))
        return
    rows = []
    for side in given.sides:
        command = [
            sys.executable,
            __file__,
            "--one",
            str(side),
            "--repeats",
            str(given.repeats),
            "--threads",
            str(given.threads),
        ]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    print("## Map: the whole verb against the model alone\n")
    print(f"U-Net ResNet-18, {len(BANDS)} bands, {len(CLASSES)} classes, {given.threads} thread(s), float32\n")
    print("| map | windows | model alone, Mpx/s | map, Mpx/s | output, Mpx/s | map / model | peak RSS, MiB |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['side']}² | {row['windows']} of {row['window']} px | {row['model']:.2f} | {row['map']:.2f} | "
            f"{row['output']:.2f} | {row['ratio']:.2f} | {row['peak']:.0f} |"
        )
    growth = rows[-1]["peak"] - rows[0]["peak"]
    print(f"\nGoal: map / model ≥ {GOAL_RATIO}: {'met' if rows[0]['ratio'] >= GOAL_RATIO else 'missed'} "
          f"({rows[0]['ratio']:.2f}).")  # fmt: skip
    print(f"Goal: peak grows by less than {GOAL_GROWTH_MIB} MiB from {rows[0]['side']}² to {rows[-1]['side']}²: "
          f"{'met' if growth < GOAL_GROWTH_MIB else 'missed'} ({growth:+.0f} MiB).")  # fmt: skip
    print(json.dumps({"rows": rows, "growth_mib": growth}))


if __name__ == "__main__":
    main()
