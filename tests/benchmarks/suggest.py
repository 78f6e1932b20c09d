"""A simulated campaign: labels where ``geossl labels suggest`` would have them against labels at random places.

``python -m tests.benchmarks.suggest [--encoder DIR] [--seeds N] [--sets NAME …] [--work DIR] [--size-km S]`` prints
Markdown and, last, JSON.
Sets: ``sandbox`` (land cover of single pixels of simulated Mälardalen, its truth answering each question; macro F1) and
``bigearthnet-finland`` (several labels a chip; macro average precision). Without ``--encoder`` features are those of an
untrained ResNet-18 beside spectral statistics. The pool lies in training blocks, the test places in others and at
random. Both ways begin with the same labels at random; a logistic model is refitted after each round.
"""

from __future__ import annotations

import argparse
import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score

from geossl.chips.chipset import ChipSet
from geossl.chips.ready import ReadyChips
from geossl.chips.splits import split_blocks
from geossl.encoders.saved import Encoder
from geossl.labels.choose import choose, learned_doubt
from geossl.tasks.chip_rows import chip_features
from geossl.tasks.examples import ChipData, ChipExamples, PixelExamples
from geossl.tasks.heads import ChipNet, PixelNet
from geossl.tasks.linear import Scaling
from geossl.tasks.pixel_rows import pixel_features
from tests.benchmarks.made import encoder_for
from tests.benchmarks.methods_sets import open_study

START, STEP, ROUNDS = 10, 10, 8
_CHIPS, _PIXELS = 250, 40


@dataclass(frozen=True)
class Campaign:
    """Scaled features (n, d), truth ((n,) classes or (n, K) 0/1) and block of the pool's places; the same of test
    places."""

    features: np.ndarray
    truth: np.ndarray
    block: np.ndarray
    test: np.ndarray
    test_truth: np.ndarray


def curve(campaign: Campaign, way: str, seed: int, start: int, step: int, rounds: int) -> list[float]:
    """The score on test places after the first labels (``start``, at random) and after each round of ``step`` more.

    ``way``: ``suggest``, or ``random``.
    """
    rng = np.random.default_rng(seed)
    labelled = rng.choice(len(campaign.truth), start, replace=False)
    scores = [score(campaign, labelled)]
    for turn in range(rounds):
        free = np.setdiff1d(np.arange(len(campaign.truth)), labelled)
        if way == "random":
            new = rng.choice(free, step, replace=False)
        else:
            known, values = campaign.features[labelled], campaign.truth[labelled]
            doubt = learned_doubt(known, values, campaign.features[free], seed)
            doubt = np.zeros(len(free)) if doubt is None else doubt
            new = free[choose(campaign.features[free], doubt, campaign.block[free], step, seed + turn, known)]
        labelled = np.concatenate([labelled, new])
        scores.append(score(campaign, labelled))
    return scores


def score(campaign: Campaign, labelled: np.ndarray) -> float:
    """Macro F1 (classes), or macro average precision (several labels), of a logistic model of these labels."""
    known, values = campaign.features[labelled], campaign.truth[labelled]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if values.ndim == 1:
            if len(np.unique(values)) < 2:
                said = np.full(len(campaign.test), values[0])
            else:
                said = _model().fit(known, values).predict(campaign.test)
            present = np.unique(campaign.test_truth)
            return float(f1_score(campaign.test_truth, said, labels=present, average="macro", zero_division=0))
        precision = []
        for one, truth in zip(values.T, campaign.test_truth.T, strict=True):
            if truth.any():
                learnt = 0 < one.sum() < len(one)
                rank = _model().fit(known, one).decision_function(campaign.test) if learnt else np.zeros(len(truth))
                precision.append(average_precision_score(truth, rank))
        return float(np.mean(precision))


def _model() -> LogisticRegression:
    return LogisticRegression(C=10.0, class_weight="balanced", max_iter=300)


def pixel_campaign(chips: ChipSet, truth: Path, encoder: Encoder) -> Campaign:
    """Clear pixels of chips of a sandbox and the land cover they truly have."""
    rng = np.random.default_rng(0)
    table = chips.table
    clear = np.flatnonzero(table["clear"].to_numpy(dtype=float) >= 0.5)
    rows = np.sort(rng.choice(clear, min(_CHIPS, len(clear)), replace=False))
    block = table["block"].astype(str).to_numpy()[rows]
    data = ChipData(chips, rows, block, np.full(len(rows), "train"))
    chip, y, x, value = [], [], [], []
    side = chips.resolution_m
    with rasterio.open(truth) as source:
        cover, place = source.read(1), ~source.transform
    for position, row in enumerate(rows):
        seen = np.flatnonzero(chips.load(np.array([row]))[1][0] == 0)
        at = rng.choice(seen, min(_PIXELS, len(seen)), replace=False)
        ys, xs = np.divmod(at, chips.shape[1])
        columns, lines = place @ (
            table["left"].iloc[row] + (xs + 0.5) * side,
            table["top"].iloc[row] - (ys + 0.5) * side,
        )
        columns, lines = columns.astype(int), lines.astype(int)
        known = (lines >= 0) & (columns >= 0) & (lines < cover.shape[0]) & (columns < cover.shape[1])
        codes = np.where(known, cover[np.clip(lines, 0, len(cover) - 1), np.clip(columns, 0, cover.shape[1] - 1)], 0)
        kept = codes > 0
        for parts, one in ((chip, np.full(len(at), position)), (y, ys), (x, xs), (value, codes)):
            parts.append(one[kept])
    where, ys, xs, codes = (np.concatenate(one).astype(np.int64) for one in (chip, y, x, value))
    examples = PixelExamples(data, where, ys, xs, codes, np.arange(len(where)))
    net = PixelNet(encoder, 2).eval()
    return _split(pixel_features(net, examples, np.arange(len(where))), net.widths, codes, block[where])


def chip_campaign(chips: ReadyChips, encoder: Encoder) -> Campaign:
    """Chips with several labels each."""
    rows = np.arange(len(chips.table))
    block = chips.table["block"].astype(str).to_numpy()
    truth = chips.labels(rows)
    net = ChipNet(encoder, 2).eval()
    examples = ChipExamples(ChipData(chips, rows, block, np.full(len(rows), "train")), truth)
    return _split(chip_features(net, examples), net.widths, truth, block)


def _split(raw: np.ndarray, widths: tuple[int, ...], truth: np.ndarray, block: np.ndarray) -> Campaign:
    sides = split_blocks(block, 0, val=0.0, test=0.3)
    test = np.array([sides[one] == "test" for one in block])
    features = Scaling.of(raw[~test], widths)(raw)
    return Campaign(features[~test], truth[~test], block[~test], features[test], truth[test])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--encoder")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--sets", nargs="+", default=["bigearthnet-finland", "sandbox"])
    parser.add_argument("--work", type=Path, default=Path("build/suggest"))
    parser.add_argument("--size-km", type=float)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args(arguments)
    figures = {}
    for name in asked.sets:
        study = open_study(name, asked.work.absolute(), asked.size_km)
        encoder = encoder_for(asked.encoder, study.chips)
        if name == "sandbox":
            campaign = pixel_campaign(study.chips, asked.work / "sandbox" / "truth" / "landcover.tif", encoder)
        else:
            assert isinstance(study.chips, ReadyChips)
            campaign = chip_campaign(study.chips, encoder)
        curves = {
            way: np.array([curve(campaign, way, seed, START, STEP, asked.rounds) for seed in range(asked.seeds)])
            for way in ("suggest", "random")
        }
        figures[name] = {way: one.mean(axis=0).round(4).tolist() for way, one in curves.items()}
        _print(name, campaign, curves, asked.encoder or "untrained")
    print(json.dumps(figures))


def _print(name: str, campaign: Campaign, curves: dict[str, np.ndarray], encoder: str) -> None:
    figure = "macro F1" if campaign.truth.ndim == 1 else "macro average precision"
    seeds, points = curves["random"].shape
    difference = curves["suggest"] - curves["random"]
    print(f"## {name}: {figure}, mean of {seeds} draws of the first labels, encoder {Path(encoder).name}\n")
    print(f"{len(campaign.truth)} places to choose from, {len(campaign.test)} to test on, in other blocks.\n")
    print("| labels | suggested | random | difference | 95 % of the mean |\n|---|---|---|---|---|")
    for point in range(points):
        wide = 1.96 * difference[:, point].std(ddof=1) / np.sqrt(seeds) if seeds > 1 else float("nan")
        ours, other, mean = (one[:, point].mean() for one in (curves["suggest"], curves["random"], difference))
        print(
            f"| {START + point * STEP} | {ours:.3f} | {other:.3f} | {mean:+.3f} "
            f"| {mean - wide:+.3f} to {mean + wide:+.3f} |"
        )
    print()


if __name__ == "__main__":
    main()
