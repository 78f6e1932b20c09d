"""The comparison for tasks of pixels: one linear head on several kinds of features, and the baselines beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from geossl.encoders.saved import Encoder
from geossl.errors import InputError
from geossl.progress import track
from geossl.tasks import scratch
from geossl.tasks.baselines import baseline_titles, index_baseline, majority
from geossl.tasks.choosing import Labelled, fit_head
from geossl.tasks.compare import Comparison, Judge, Row, draw_seeds, possible_budgets
from geossl.tasks.convolutions import PIXEL_PATCHES, draw_convolutions
from geossl.tasks.examples import PixelExamples, thin_places
from geossl.tasks.heads import PixelNet
from geossl.tasks.linear import Linear, Scaling, settled
from geossl.tasks.spec import TaskSpec
from geossl.tasks.spectral import plane_names

OURS, RANDOM, LOCAL = (
    "this head (encoder + spectral + convolutions)",
    "same head, random encoder",
    "spectral and local alone",
)
CONVOLUTIONS = "random convolutions + spectral"
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


@dataclass(frozen=True)
class Features:
    """Features (n, F) float32 of the pixels of each part."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Part:
    """Some of a network's features: which ``columns``, the ``widths`` of what is scaled alike, and the ``kinds`` that
    are weighed against each other.
    """

    columns: np.ndarray
    widths: tuple[int, ...]
    kinds: dict[str, int]


def compare_pixels(
    spec: TaskSpec, encoder: Encoder, control: Encoder, examples: PixelExamples, seed: int, labels_per_class: int | None
) -> tuple[Comparison, PixelNet]:
    """All rows, and our network with the weights of the head.

    The head is fitted to all training labels, or to the first draw of ``labels_per_class`` where that is given. Soft
    labels are learnt as proportions; figures count each as its largest class.
    """
    sides = Sides(*(examples.part(side) for side in ("train", "val", "test")))
    judge = Judge(spec, examples.value[sides.test], examples.blocks(sides.test), seed)
    budgets = possible_budgets(labels_per_class, _places_of_rarest(spec, examples, sides.train))
    subsets = {budget: draw_pixels(spec, examples, sides.train, budget, seed) for budget in budgets}
    main = budgets[0] if labels_per_class is not None else None
    net = head_net(spec, encoder, examples, sides.train, seed)
    features = _features(net, examples, sides)
    plain = {
        LOCAL: part_of(net, *PLANES),
        CONVOLUTIONS: part_of(net, *PLANES, "convolutions"),
        INDICES_ONLY: of_the_pixel(net),
    }
    if spec.references:
        plain[DEPARTURES] = part_of(net, "anomalies")
    made = {
        name: _fitted(spec, name, features, part, examples, sides, subsets, judge)
        for name, part in {OURS: part_of(net, *net.kinds), **plain}.items()
    }
    net.set_weights(made[OURS][1][main])
    untaught = _features(PixelNet(control, spec.outputs).eval(), examples, sides)
    count = net.kinds["encoder"]
    for ours, random in (
        (features.train, untaught.train),
        (features.val, untaught.val),
        (features.test, untaught.test),
    ):
        ours[:, :count] = random[:, :count]
    made[RANDOM] = _fitted(spec, RANDOM, features, part_of(net, *net.kinds), examples, sides, subsets, judge)
    rows = [row for name in (OURS, RANDOM, *plain) for row in made[name][0]]
    left_out: dict[str, str] = {}
    chosen = subsets[main][0]
    trained = scratch.train_pixels(spec, encoder, examples, chosen, seed)
    predicted = scratch.predict_pixels(spec, trained.net, examples, sides.test)
    rows.append(Row(SCRATCH, main, judge.figures([predicted]), note=trained.note))
    rows += _baselines(spec, examples, sides, judge, left_out)
    return Comparison(rows, OURS, spec.headline, left_out), net


def head_net(spec: TaskSpec, encoder: Encoder, examples: PixelExamples, train: np.ndarray, seed: int) -> PixelNet:
    """The network of a head, not fitted yet, with random convolutions drawn from the chips of these pixels."""
    convolutions = draw_convolutions(encoder, examples.data, examples.chip[train], PIXEL_PATCHES, seed)
    return PixelNet(encoder, spec.outputs, spec.references, convolutions).eval()


def pixel_features(net: PixelNet, examples: PixelExamples, pixels: np.ndarray) -> np.ndarray:
    """Features (N, sum of the net's widths) of labelled pixels, float32."""
    bands = net.encoder.select(examples.data.chips.bands)
    found = np.empty((len(pixels), sum(net.widths)), dtype=np.float32)
    order = np.argsort(examples.chip[pixels], kind="stable")
    chip = examples.chip[pixels][order]
    with torch.inference_mode(), track("features", len(np.unique(chip)), "chips") as bar:
        for some, values, clear in examples.data.batches(np.unique(chip), bands):
            maps = net.maps(values, clear)
            for number, position in enumerate(some):
                here = order[np.searchsorted(chip, position) : np.searchsorted(chip, position, side="right")]
                y, x = (torch.from_numpy(one[pixels[here]]) for one in (examples.y, examples.x))
                image = slice(number, number + 1)
                planes = net.spectral(values[image], clear[image])  # one by one: they are many and of full size
                found[here] = net.read_at([part[image] for part in maps], planes, y, x).numpy()
            bar.advance(len(some))
    return found


def labelled(examples: PixelExamples, pixels: np.ndarray, features: np.ndarray) -> Labelled:
    """These pixels, whose features (N, F) are given, as a linear head takes them."""
    soft = None if examples.soft is None else examples.soft[pixels]
    return Labelled(features, examples.value[pixels], examples.blocks(pixels), soft)


PLANES = ("spectral", "anomalies")
"""Kinds of features that need no learning, of the pixel and its neighbourhood."""


def part_of(net: PixelNet, *kinds: str) -> Part:
    """The features of these kinds, as far as the network has them."""
    starts = dict(zip(net.kinds, np.cumsum([0, *net.kinds.values()]).tolist(), strict=False))
    chosen = {name: width for name, width in net.kinds.items() if name in kinds}
    columns = np.concatenate([np.arange(starts[name], starts[name] + width) for name, width in chosen.items()])
    widths = [net.encoder.channels if name == "encoder" else (width,) for name, width in chosen.items()]
    return Part(columns, tuple(one for part in widths for one in part), chosen)


def of_the_pixel(net: PixelNet) -> Part:
    """Bands and indices of the pixel itself, without its neighbourhood."""
    count = len(plane_names(net.encoder.bands, local=False))
    return Part(net.kinds["encoder"] + np.arange(count), (count,), {"spectral": count})


def _features(net: PixelNet, examples: PixelExamples, sides: Sides) -> Features:
    return Features(*(pixel_features(net, examples, part) for part in (sides.train, sides.val, sides.test)))


def _fitted(
    spec: TaskSpec,
    name: str,
    features: Features,
    part: Part,
    examples: PixelExamples,
    sides: Sides,
    subsets: dict[int | None, list[np.ndarray]],
    judge: Judge,
) -> tuple[list[Row], dict[int | None, Linear]]:
    """Rows of the linear head on some of the features, one a budget, and the fit of the first draw of each."""
    train, val, test = (one[:, part.columns] for one in (features.train, features.val, features.test))
    scaling = Scaling.of(train, part.widths)
    choosing = labelled(examples, sides.val, val)
    rows: list[Row] = []
    first: dict[int | None, Linear] = {}
    for budget, draws in subsets.items():
        models = [
            fit_head(
                spec,
                labelled(examples, pixels, train[np.searchsorted(sides.train, pixels)]),
                choosing,
                scaling,
                part.kinds,
            )
            for pixels in draws
        ]
        figures = judge.figures([model.predict(test) for model in models])
        rows.append(Row(name, budget, figures, len(draws), settled(models)))
        first[budget] = models[0]
    return rows, first


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
    if spec.kind == "regression":
        mean = np.full(len(sides.test), examples.value[sides.train].mean())
        return [*rows, Row("mean of the training labels", None, judge.figures([mean]))]
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


def draw_pixels(
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
