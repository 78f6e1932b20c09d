"""Wrong labels put among right ones: how many ``geossl labels check`` finds, and how many of those it names are wrong.

Three sets, 10 % of the labels made wrong, untrained encoder beside band statistics: the land cover labels of simulated
Mälardalen (points and polygons, every one true before), eurosat_ms (a class a chip), and bigearthnet-finland (one of
several labels a chip turned over). ``python tests/benchmarks/bench_labels.py [--encoder DIR] [--work DIR] [--size-km S]
[--sets NAME …]``; without ``--work`` the sandbox is made anew in a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from made import encoder_for
from methods_sets import DATA, open_study

from geossl.chips.chipset import ChipSet
from geossl.encoders.saved import Encoder
from geossl.labels.quality import KEEP, REMOVE, Verdicts, judge, judge_several
from geossl.tasks.chip_rows import chip_features
from geossl.tasks.examples import ChipExamples
from geossl.tasks.heads import ChipNet
from geossl.tasks.labels_table import file_table, label_features
from geossl.tasks.linear import Scaling
from geossl.tasks.sources import open_source
from geossl.tasks.spec import load_task

DRAWS, SHARE = 5, 0.1
SIZE_KM = 6.4


def chip_labels(name: str, folder: str | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scaled features, classes (n,) or labels (n, K), and blocks of a ready set."""
    source = open_source(load_task("land-cover"), None, None, DATA / name, None, None, None)
    examples = source.examples({}, 0)[0]
    assert isinstance(examples, ChipExamples)
    net = ChipNet(encoder_for(folder, source.chips), source.spec.outputs).eval()
    raw = chip_features(net, examples)
    return Scaling.of(raw, net.widths)(raw), examples.target, examples.data.block


def sandbox_labels(chips: ChipSet, file: Path, encoder: Encoder) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same of the labels of a file that finetune would use."""
    source = open_source(load_task("land-cover"), file, None, chips, None, None, None)
    examples = source.examples({}, 0)[0]
    table, _ = file_table(source, file, examples)
    rows, raw, widths = label_features(source, encoder, examples, table, 0)
    return Scaling.of(raw, widths)(raw), table["value"].to_numpy()[rows], table["block"].to_numpy(str)[rows]


def figures(
    features: np.ndarray, values: np.ndarray, blocks: np.ndarray, spoil: Callable[..., np.ndarray]
) -> np.ndarray:
    """(2, 3): labels named, precision, recall of *remove* and of *remove or look at*, mean over the draws."""
    found = []
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        wrong = np.zeros(len(values), dtype=bool)
        wrong[rng.choice(len(values), round(SHARE * len(values)), replace=False)] = True
        said = spoil(values, wrong, rng)
        verdicts: Verdicts | None = (judge if values.ndim == 1 else judge_several)(features, said, blocks)
        assert verdicts is not None
        named = (verdicts.verdict == REMOVE, verdicts.verdict != KEEP)
        found.append([[s.sum(), (s & wrong).sum() / max(s.sum(), 1), (s & wrong).sum() / wrong.sum()] for s in named])
    mean: np.ndarray = np.mean(found, axis=0)
    return mean


def another_class(values: np.ndarray, wrong: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each wrong label becomes any other class that there is."""
    classes, codes = np.unique(values, return_inverse=True)
    codes[wrong] = (codes[wrong] + rng.integers(1, len(classes), wrong.sum())) % len(classes)
    return classes[codes]


def one_turned(values: np.ndarray, wrong: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Of each wrong chip one label that it has is taken away, and one that it has not is added."""
    said = values.copy()
    for chip in np.flatnonzero(wrong):
        for present in (1, 0):
            among = np.flatnonzero(values[chip] == present)
            if len(among):
                said[chip, rng.choice(among)] = 1 - present
    return said


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--encoder")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--size-km", type=float, default=SIZE_KM)
    parser.add_argument("--sets", nargs="+", default=["sandbox", "eurosat_ms", "bigearthnet-finland"])
    asked = parser.parse_args(arguments)
    print(f"## Wrong labels found (10 % wrong, mean of {DRAWS} draws, encoder {asked.encoder or 'untrained'})\n")
    print("| set | labels | named | how many | precision | recall |\n|---|---|---|---|---|---|")
    kept: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as made:
        for name in asked.sets:
            if name == "sandbox":
                work = (asked.work or Path(made)).absolute()
                chips = open_study(name, work, asked.size_km).chips
                file = work / "sandbox" / "labels" / "landcover.gpkg"
                data = sandbox_labels(chips, file, encoder_for(asked.encoder, chips))
            else:
                data = chip_labels(name, asked.encoder)
            means = figures(*data, another_class if data[1].ndim == 1 else one_turned)
            for what, row in zip(("remove", "remove or look at"), means, strict=True):
                print(f"| {name} | {len(data[1])} | {what} | {row[0]:.0f} | {row[1]:.2f} | {row[2]:.2f} |")
            kept[name] = {"remove": means[0].tolist(), "remove_or_look": means[1].tolist()}
    print(json.dumps(kept))


if __name__ == "__main__":
    main()
