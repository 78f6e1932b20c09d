"""The comparison for tasks of whole chips: one linear head on several kinds of chip features, cached once each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from geossl.encoders.saved import Encoder
from geossl.evaluation.controls import RandomConvolutions, image_statistics, rich_statistics
from geossl.evaluation.probes import few_label_subsets
from geossl.progress import track
from geossl.tasks import scratch
from geossl.tasks.compare import Comparison, Judge, Row, draw_seeds, possible_budgets, quick_score
from geossl.tasks.examples import ChipExamples
from geossl.tasks.heads import ChipNet
from geossl.tasks.linear import Linear, LinearKind, Scaling, fit_linear, settled
from geossl.tasks.spec import TaskSpec

OURS, RANDOM = "this head (encoder + statistics)", "same head, random encoder"
ENCODER_ONLY, RANDOM_ONLY = "encoder alone", "random encoder alone"
STATISTICS, RICH = "band statistics", "statistics, indices, texture"
CONVOLUTIONS, SCRATCH, CONSTANT = "random convolutions + statistics", "supervised from scratch", "constant answer"
_AT_ONCE = 64
Features = list[np.ndarray]


def compare_chips(
    spec: TaskSpec, encoder: Encoder, control: Encoder, examples: ChipExamples, seed: int, labels_per_class: int | None
) -> tuple[Comparison, ChipNet]:
    """All rows, and our network with the weights of the head.

    The head is fitted to all training labels, or to the first draw of ``labels_per_class`` where that is given.
    """
    train, val, test = (examples.part(side) for side in ("train", "val", "test"))
    judge = Judge(spec, examples.target[test], examples.data.block[test], seed)
    budgets = possible_budgets(labels_per_class, _chips_of_usual(spec, examples.target[train]))
    main = budgets[0] if labels_per_class is not None else None
    subsets = {budget: _draws(examples, train, budget, seed) for budget in budgets}
    net = ChipNet(encoder, spec.outputs).eval()
    features = _all_features(net, ChipNet(control, spec.outputs).eval(), examples, train, seed)
    rows: list[Row] = []
    with track("heads", len(features) * sum(len(draws) for draws in subsets.values()), "fits") as bar:
        for name, kinds in features.items():
            joined, widths = np.concatenate(kinds, axis=1), [one.shape[1] for one in kinds]
            scaling = Scaling.of(joined[train], widths)
            for budget, draws in subsets.items():
                last = widths[-1] if len(widths) > 1 else None
                models = [_fit(spec, joined, examples, chips, val, scaling, last) for chips in draws]
                figures = judge.figures([_said(spec, model, joined[test]) for model in models])
                rows.append(Row(name, budget, figures, len(draws), settled(models)))
                if name == OURS and budget == main:
                    net.set_weights(models[0])
                bar.advance(len(draws), note=name)
    trained = scratch.train_chips(spec, encoder, examples, subsets[main][0], seed)
    said = scratch.predict_chips(spec, trained.net, examples, test)
    rows.append(Row(SCRATCH, main, judge.figures([said]), note=trained.note))
    rows.append(Row(CONSTANT, None, judge.figures([_constant(spec, examples.target[train], len(test))])))
    return Comparison(rows, OURS, spec.headline, {}), net


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


def _all_features(
    net: ChipNet, control: ChipNet, examples: ChipExamples, train: np.ndarray, seed: int
) -> dict[str, Features]:
    """Kinds of features of each row, of all chips."""
    split = net.widths[0]
    ours, random = chip_features(net, examples), chip_features(control, examples)
    bands = net.encoder.select(examples.data.chips.bands)
    values, clear = (one.numpy() for one in examples.data.load(np.arange(len(examples.data.rows)), bands))
    statistics = image_statistics(values, clear)
    rich = rich_statistics(values, clear, net.encoder.bands)
    convolutions = RandomConvolutions(values[train], clear[train], seed).features(values, clear)
    return {
        OURS: [ours[:, :split], ours[:, split:]],
        ENCODER_ONLY: [ours[:, :split]],
        RANDOM: [random[:, :split], random[:, split:]],
        RANDOM_ONLY: [random[:, :split]],
        STATISTICS: [statistics],
        RICH: [rich],
        CONVOLUTIONS: [convolutions, rich],
    }


def _fit(
    spec: TaskSpec,
    features: np.ndarray,
    examples: ChipExamples,
    chips: np.ndarray,
    val: np.ndarray,
    scaling: Scaling,
    last: int | None,
) -> Linear:
    kind: LinearKind = "multilabel" if spec.kind == "multilabel" else "multinomial"
    truth = examples.target[val]

    def score(model: Linear) -> float:
        return quick_score(spec, truth, _said(spec, model, features[val]))

    return fit_linear(
        kind,
        features[chips],
        examples.target[chips],
        spec.outputs,
        scaling,
        balanced=spec.balanced,
        judge=score if len(val) else None,
        last=last,
    )


def _said(spec: TaskSpec, model: Linear, features: np.ndarray) -> np.ndarray:
    """Class indices, or label logits (which rank as the probabilities do, without saturating)."""
    return model.scores(features) if spec.kind == "multilabel" else model.predict(features)


def _constant(spec: TaskSpec, target: np.ndarray, count: int) -> np.ndarray:
    if spec.kind == "multilabel":
        return np.zeros((count, spec.outputs))  # all chips tie: average precision is the share of positives
    return np.full(count, np.bincount(target, minlength=spec.outputs).argmax())


def _chips_of_usual(spec: TaskSpec, target: np.ndarray) -> int:
    """Training chips of the class or label in the middle of the ranking by frequency."""
    counts = target.sum(axis=0) if target.ndim == 2 else np.bincount(target, minlength=spec.outputs)
    return int(np.median(counts[counts > 0]))


def _draws(examples: ChipExamples, train: np.ndarray, budget: int | None, seed: int) -> Sequence[np.ndarray]:
    """Training chips of each draw: at least ``budget`` chips of every class or label (all of rarer ones), or all."""
    if budget is None:
        return [train]
    return [train[few_label_subsets(examples.target[train], [budget], one)[budget]] for one in draw_seeds(seed, budget)]
