"""The comparison for tasks of whole chips: one linear head on several kinds of chip features, cached once each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from geossl.encoders.saved import Encoder
from geossl.evaluation.controls import image_statistics
from geossl.evaluation.probes import few_label_subsets
from geossl.progress import track
from geossl.tasks import scratch
from geossl.tasks.choosing import Labelled, fit_head
from geossl.tasks.compare import Comparison, Judge, Row, draw_seeds, possible_budgets
from geossl.tasks.convolutions import CHIP_PATCHES, draw_convolutions
from geossl.tasks.examples import ChipExamples
from geossl.tasks.heads import ChipNet
from geossl.tasks.linear import Linear, Scaling, settled
from geossl.tasks.spec import TaskSpec

OURS, RANDOM = "this head (encoder + statistics + convolutions)", "same head, random encoder"
ENCODER_ONLY, RANDOM_ONLY = "encoder alone", "random encoder alone"
STATISTICS, RICH = "band statistics", "statistics, indices, texture"
CONVOLUTIONS, SCRATCH, CONSTANT = "random convolutions + statistics", "supervised from scratch", "constant answer"


@dataclass(frozen=True)
class ChipFeatures:
    """Features (n, F) float32 of all chips, and the ``parts`` of each kind: how many that are scaled alike."""

    values: np.ndarray
    parts: dict[str, tuple[int, ...]]

    @property
    def kinds(self) -> dict[str, int]:
        """How many of each kind."""
        return {name: sum(widths) for name, widths in self.parts.items()}

    @property
    def widths(self) -> tuple[int, ...]:
        """All parts in their order."""
        return tuple(width for widths in self.parts.values() for width in widths)

    def of(self, *names: str) -> ChipFeatures:
        """Some of the kinds."""
        ends = dict(zip(self.kinds, np.cumsum(list(self.kinds.values())), strict=True))
        values = [self.values[:, ends[name] - self.kinds[name] : ends[name]] for name in names]
        return ChipFeatures(np.concatenate(values, 1), {name: self.parts[name] for name in names})


def compare_chips(
    spec: TaskSpec, encoder: Encoder, control: Encoder, examples: ChipExamples, seed: int, labels_per_class: int | None
) -> tuple[Comparison, ChipNet]:
    """All rows, and our network with the weights of the head.

    The head is fitted to all training labels, or to the first draw of ``labels_per_class`` where that is given. Soft
    labels are learnt as proportions; figures count each as its largest class.
    """
    train, test = examples.part("train"), examples.part("test")
    judge = Judge(spec, examples.target[test], examples.data.block[test], seed)
    budgets = possible_budgets(labels_per_class, _chips_of_usual(spec, examples.target[train]))
    main = budgets[0] if labels_per_class is not None else None
    subsets = {budget: draw_chips(spec, examples, train, budget, draw_seeds(seed, budget)) for budget in budgets}
    net = chip_head(spec, encoder, examples, train, seed)
    features = kinds_of_chips(net, control, examples)
    rows: list[Row] = []
    with track("heads", len(features) * sum(len(draws) for draws in subsets.values()), "fits") as bar:
        for name, some in features.items():
            scaling = Scaling.of(some.values[train], some.widths)
            for budget, draws in subsets.items():
                models = [fit_chips(spec, some, examples, chips, scaling) for chips in draws]
                figures = judge.figures([answers(spec, model, some.values[test]) for model in models])
                rows.append(Row(name, budget, figures, len(draws), settled(models)))
                if name == OURS and budget == main:
                    net.set_weights(models[0])
                bar.advance(len(draws), note=name)
    trained = scratch.train_chips(spec, encoder, examples, subsets[main][0], seed)
    said = scratch.predict_chips(spec, trained.net, examples, test)
    rows.append(Row(SCRATCH, main, judge.figures([said]), note=trained.note))
    rows.append(Row(CONSTANT, None, judge.figures([_constant(spec, examples.target[train], len(test))])))
    return Comparison(rows, OURS, spec.headline, {}), net


def chip_head(spec: TaskSpec, encoder: Encoder, examples: ChipExamples, train: np.ndarray, seed: int) -> ChipNet:
    """The network of a head, not fitted yet, with random convolutions drawn from these chips."""
    convolutions = draw_convolutions(encoder, examples.data, train, CHIP_PATCHES, seed)
    return ChipNet(encoder, spec.outputs, convolutions).eval()


def chip_features(net: ChipNet, examples: ChipExamples) -> np.ndarray:
    """The network's features (n, sum of its widths) of all chips, float32."""
    bands = net.encoder.select(examples.data.chips.bands)
    everything = np.arange(len(examples.data.rows))
    parts = []
    with torch.inference_mode(), track("features", len(everything), "chips") as bar:
        for some, values, clear in examples.data.batches(everything, bands):
            parts.append(net.features(values, clear).numpy())
            bar.advance(len(some))
    return np.concatenate(parts)


def kinds_of_chips(net: ChipNet, control: Encoder, examples: ChipExamples) -> dict[str, ChipFeatures]:
    """The kinds of features of each row, of all chips; ``control`` stands in for the net's encoder in some of them."""
    ours = ChipFeatures(chip_features(net, examples), net.parts)
    count = net.kinds["encoder"]
    untaught = chip_features(ChipNet(control, 1).eval(), examples)[:, :count]
    random = ChipFeatures(np.concatenate([untaught, ours.values[:, count:]], 1), ours.parts)
    bands = net.encoder.select(examples.data.chips.bands)
    values, clear = (one.numpy() for one in examples.data.load(np.arange(len(examples.data.rows)), bands))
    statistics = image_statistics(values, clear)
    return {
        OURS: ours,
        ENCODER_ONLY: ours.of("encoder"),
        RANDOM: random,
        RANDOM_ONLY: random.of("encoder"),
        STATISTICS: ChipFeatures(statistics, {"statistics": (statistics.shape[1],)}),
        RICH: ours.of("statistics"),
        CONVOLUTIONS: ours.of("statistics", "convolutions"),
    }


def labelled(examples: ChipExamples, chips: np.ndarray, features: np.ndarray) -> Labelled:
    """These chips, whose features (n, F) are given, as a linear head takes them."""
    soft = None if examples.soft is None else examples.soft[chips]
    return Labelled(features, examples.target[chips], examples.data.block[chips], soft)


def fit_chips(
    spec: TaskSpec, features: ChipFeatures, examples: ChipExamples, chips: np.ndarray, scaling: Scaling
) -> Linear:
    """The linear head of these labelled chips; C and the weights of kinds are chosen on validation chips."""
    train, val = (labelled(examples, some, features.values[some]) for some in (chips, examples.part("val")))
    return fit_head(spec, train, val, scaling, features.kinds)


def answers(spec: TaskSpec, model: Linear, features: np.ndarray) -> np.ndarray:
    """Class indices, numbers, or label logits (which rank as the probabilities do, without saturating)."""
    return model.scores(features) if spec.kind == "multilabel" else model.predict(features)


def _constant(spec: TaskSpec, target: np.ndarray, count: int) -> np.ndarray:
    if spec.kind == "multilabel":
        return np.zeros((count, spec.outputs))  # all chips tie: average precision is the share of positives
    if spec.kind == "regression":
        return np.full(count, target.mean())
    return np.full(count, np.bincount(target, minlength=spec.outputs).argmax())


def _chips_of_usual(spec: TaskSpec, target: np.ndarray) -> int:
    """Training chips of the class or label in the middle of the ranking by frequency; all without classes."""
    if spec.kind == "regression":
        return len(target)
    counts = target.sum(axis=0) if target.ndim == 2 else np.bincount(target, minlength=spec.outputs)
    return int(np.median(counts[counts > 0]))


def draw_chips(
    spec: TaskSpec, examples: ChipExamples, train: np.ndarray, budget: int | float | None, seeds: Sequence[int]
) -> list[np.ndarray]:
    """Training chips, a draw a seed: at least ``budget`` chips (or that share, up to 1) of every class or label (all of
    rarer ones), or all. Without classes, so many chips in all.
    """
    if budget is None:
        return [train]
    labels = np.zeros(len(train), dtype=np.int64) if spec.kind == "regression" else examples.target[train]
    return [train[few_label_subsets(labels, [budget], seed)[budget]] for seed in seeds]
