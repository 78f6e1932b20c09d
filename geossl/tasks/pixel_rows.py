"""The comparison for tasks of pixels: one linear head on several kinds of features, and the baselines beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from geossl.encoders.saved import Encoder
from geossl.errors import InputError
from geossl.progress import track
from geossl.tasks import scratch
from geossl.tasks.baselines import baseline_titles, index_baseline, majority
from geossl.tasks.compare import Comparison, Judge, Row, draw_seeds, possible_budgets, quick_score
from geossl.tasks.examples import PixelExamples, thin_places
from geossl.tasks.heads import PixelNet
from geossl.tasks.linear import Linear, LinearKind, Scaling, fit_linear, settled
from geossl.tasks.spec import TaskSpec
from geossl.tasks.spectral import plane_names

OURS, RANDOM, LOCAL = "this head (encoder + spectral)", "same head, random encoder", "spectral and local alone"
INDICES_ONLY, SCRATCH, MAJORITY = "bands and indices of the pixel", "supervised from scratch", "commonest class"
DEPARTURES = "departures from other years alone"
PIXELS_A_PLACE = 20
"""Of each drawn place at few labels: enough to show its spread."""


@dataclass(frozen=True)
class Sides:
    """Labelled pixels of each part."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def compare_pixels(
    spec: TaskSpec, encoder: Encoder, control: Encoder, examples: PixelExamples, seed: int, labels_per_class: int | None
) -> tuple[Comparison, PixelNet]:
    """All rows, and our network with the weights of the head.

    The head is fitted to all training labels, or to the first draw of ``labels_per_class`` where that is given.
    """
    sides = Sides(*(examples.part(side) for side in ("train", "val", "test")))
    judge = Judge(spec, examples.value[sides.test], examples.blocks(sides.test), seed)
    budgets = possible_budgets(labels_per_class, _places_of_rarest(spec, examples, sides.train))
    subsets = {budget: _draws(spec, examples, sides.train, budget, seed) for budget in budgets}
    main = budgets[0] if labels_per_class is not None else None
    net = PixelNet(encoder, spec.outputs, spec.references).eval()
    rows, head = _fitted(spec, net, examples, sides, subsets, judge, {OURS: _everything}, main)
    net.set_weights(head)
    kinds = {RANDOM: _everything, LOCAL: _planes, INDICES_ONLY: _no_neighbours}
    if spec.references:
        kinds[DEPARTURES] = _departures
    rows += _fitted(
        spec, PixelNet(control, spec.outputs, spec.references).eval(), examples, sides, subsets, judge, kinds, main
    )[0]
    left_out: dict[str, str] = {}
    chosen = subsets[main][0]
    trained = scratch.train_pixels(spec, encoder, examples, chosen, seed)
    predicted = scratch.predict_pixels(spec, trained.net, examples, sides.test)
    rows.append(Row(SCRATCH, main, judge.figures([predicted]), note=trained.note))
    if spec.kind == "segmentation":
        rows += _baselines(spec, examples, sides, judge, left_out)
    else:
        mean = np.full(len(sides.test), examples.value[sides.train].mean())
        rows.append(Row("mean of the training labels", None, judge.figures([mean])))
    return Comparison(rows, OURS, spec.headline, left_out), net


def pixel_features(net: PixelNet, examples: PixelExamples, pixels: np.ndarray) -> np.ndarray:
    """Features (N, sum of the net's widths) of labelled pixels, float32."""
    bands = net.encoder.select(examples.data.chips.bands)
    found = np.empty((len(pixels), sum(net.widths)), dtype=np.float32)
    order = np.argsort(examples.chip[pixels], kind="stable")
    chip = examples.chip[pixels][order]
    with torch.inference_mode(), track("features", len(np.unique(chip)), "chips") as bar:
        for some, values, clear in examples.data.batches(np.unique(chip), bands):
            maps, planes = net.maps(values, clear), net.spectral(values, clear)
            for number, position in enumerate(some):
                here = order[np.searchsorted(chip, position) : np.searchsorted(chip, position, side="right")]
                y, x = (torch.from_numpy(one[pixels[here]]) for one in (examples.y, examples.x))
                one = [part[number : number + 1] for part in maps]
                found[here] = net.read_at(one, planes[number : number + 1], y, x).numpy()
            bar.advance(len(some))
    return found


Columns = Callable[[PixelNet], tuple[np.ndarray, tuple[int, ...]]]


def _everything(net: PixelNet) -> tuple[np.ndarray, tuple[int, ...]]:
    return np.arange(sum(net.widths)), net.widths


def _planes(net: PixelNet) -> tuple[np.ndarray, tuple[int, ...]]:
    first = sum(net.encoder.channels)
    return np.arange(first, sum(net.widths)), net.widths[len(net.encoder.channels) :]


def _no_neighbours(net: PixelNet) -> tuple[np.ndarray, tuple[int, ...]]:
    first, count = sum(net.encoder.channels), len(plane_names(net.encoder.bands, local=False))
    return np.arange(first, first + count), (count,)


def without_encoder(net: PixelNet, widths: tuple[int, ...]) -> int | None:
    """How many of the features come from no encoder, where others do: what the encoder is weighed against."""
    return sum(widths[len(net.encoder.channels) :]) if len(widths) == len(net.widths) else None


def _departures(net: PixelNet) -> tuple[np.ndarray, tuple[int, ...]]:
    count = sum(net.widths)
    return np.arange(count - net.extra, count), (net.extra,)


def _fitted(
    spec: TaskSpec,
    net: PixelNet,
    examples: PixelExamples,
    sides: Sides,
    subsets: dict[int | None, list[np.ndarray]],
    judge: Judge,
    kinds: Mapping[str, Columns],
    main: int | None,
) -> tuple[list[Row], Linear]:
    """Rows of the linear head on each kind of columns of one network's features, and the weights of the first kind at
    the ``main`` budget (its first draw).
    """
    train, val, test = (pixel_features(net, examples, part) for part in (sides.train, sides.val, sides.test))
    kind: LinearKind = "ridge" if spec.kind == "regression" else "multinomial"
    rows: list[Row] = []
    head: Linear | None = None
    for name, columns in kinds.items():
        chosen, widths = columns(net)
        scaling = Scaling.of(train[:, chosen], widths)
        seen, truth = val[:, chosen], examples.value[sides.val]

        def score(model: Linear, seen: np.ndarray = seen, truth: np.ndarray = truth) -> float:
            return quick_score(spec, truth, model.predict(seen))

        for budget, draws in subsets.items():
            models = []
            for pixels in draws:
                inside = np.searchsorted(sides.train, pixels)
                models.append(
                    fit_linear(
                        kind,
                        train[inside][:, chosen],
                        examples.value[pixels],
                        spec.outputs,
                        scaling,
                        balanced=spec.balanced,
                        judge=score if len(sides.val) else None,
                        last=without_encoder(net, widths),
                    )
                )
            figures = judge.figures([model.predict(test[:, chosen]) for model in models])
            rows.append(Row(name, budget, figures, len(draws), settled(models)))
            if budget == main and head is None:
                head = models[0]
    assert head is not None
    return rows, head


def _baselines(
    spec: TaskSpec, examples: PixelExamples, sides: Sides, judge: Judge, left_out: dict[str, str]
) -> list[Row]:
    rows = []
    for name in spec.baselines:
        title = baseline_titles()[name]
        try:
            rows.append(
                Row(title, None, judge.figures([index_baseline(name, spec, examples, sides.train, sides.test)]))
            )
        except InputError as error:
            left_out[title] = "; ".join(str(part) for part in (error.what, error.found) if part)
    commonest = majority(examples.value[sides.train], len(sides.test), spec.outputs)
    return [*rows, Row(MAJORITY, None, judge.figures([commonest]))]


def _places_of_rarest(spec: TaskSpec, examples: PixelExamples, pixels: np.ndarray) -> int:
    """Labelled places of the rarest class (of those with any) among these pixels."""
    counts = [len(np.unique(examples.place[pixels[part]])) for part in _by_class(spec, examples, pixels)]
    return min((count for count in counts if count), default=0)


def _by_class(spec: TaskSpec, examples: PixelExamples, pixels: np.ndarray) -> list[np.ndarray]:
    """Positions in ``pixels`` of each class; of all where there are no classes."""
    if spec.kind == "regression":
        return [np.arange(len(pixels))]
    return [np.flatnonzero(examples.value[pixels] == number) for number in range(spec.outputs)]


def _draws(
    spec: TaskSpec, examples: PixelExamples, pixels: np.ndarray, budget: int | None, seed: int
) -> list[np.ndarray]:
    """Training pixels of each draw: of ``budget`` places a class, or all."""
    if budget is None:
        return [pixels]
    draws = []
    for one in draw_seeds(seed, budget):
        rng = np.random.default_rng(one)
        kept = []
        for part in _by_class(spec, examples, pixels):
            places = np.unique(examples.place[pixels[part]])
            drawn = rng.choice(places, min(budget, len(places)), replace=False)
            kept.append(pixels[part][np.isin(examples.place[pixels[part]], drawn)])
        draws.append(thin_places(examples, np.concatenate(kept), PIXELS_A_PLACE, rng))
    return draws
