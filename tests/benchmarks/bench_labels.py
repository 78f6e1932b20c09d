"""Wrong labels put into eurosat_ms: how many the check finds, with an untrained encoder and band statistics."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from geossl.encoders.saved import random_encoder
from geossl.labels.quality import KEEP, REMOVE, judge
from geossl.tasks.chip_rows import chip_features
from geossl.tasks.examples import ChipExamples
from geossl.tasks.heads import ChipNet
from geossl.tasks.linear import Scaling
from geossl.tasks.sources import open_source
from geossl.tasks.spec import load_task

ROOT = Path(os.environ.get("GEOSSL_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))
DRAWS = 5


def main() -> None:
    source = open_source(load_task("land-cover"), None, None, ROOT / "eurosat_ms", None, None, None)
    chips, classes = source.chips, source.spec.outputs
    pixels = chips.encoding.decode(chips.load(np.arange(40))[0])
    mean, std = pixels.mean((0, 2, 3)).tolist(), pixels.std((0, 2, 3)).tolist()
    net = ChipNet(random_encoder("resnet18", chips.bands, mean, std, seed=1), classes).eval()
    examples = source.examples({}, 0)[0]
    assert isinstance(examples, ChipExamples)
    raw = chip_features(net, examples)
    features, count = Scaling.of(raw, net.widths)(raw), len(raw)
    figures = []
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        values, wrong = examples.target.copy(), np.zeros(count, dtype=bool)
        wrong[rng.choice(count, count // 10, replace=False)] = True
        values[wrong] = (values[wrong] + rng.integers(1, classes, wrong.sum())) % classes
        found = judge(features, values, examples.data.block)
        assert found is not None
        chosen = (found.verdict == REMOVE, found.verdict != KEEP)
        figures.append(
            [[s.sum(), (s & wrong).sum() / max(s.sum(), 1), (s & wrong).sum() / wrong.sum()] for s in chosen]
        )
    means = np.mean(figures, axis=0)
    print(f"## Wrong labels found ({count} chips, 10 % wrong, mean of {DRAWS} draws)\n")
    print("| chosen | labels | precision | recall |\n|---|---|---|---|")
    for name, row in zip(("remove", "remove or look at"), means, strict=True):
        print(f"| {name} | {row[0]:.0f} | {row[1]:.2f} | {row[2]:.2f} |")
    print(json.dumps({"remove": means[0].tolist(), "remove_or_look": means[1].tolist()}))


if __name__ == "__main__":
    main()
