"""How a head comes about beyond the frozen linear one: decoders, fine-tuning, pseudo-labels, weights from elsewhere.

Each adds its rows to the comparison, on the same labels, blocks and resamples, so that the report shows what the effort
was worth: the frozen head, the head of the strategy, and supervised from scratch stand beside each other.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from geossl.encoders.saved import Encoder
from geossl.encoders.weights import transfer_encoder
from geossl.tasks import chip_rows, pixel_rows, scratch
from geossl.tasks.choosing import Labelled, fit_head, validation_judge
from geossl.tasks.compare import Comparison, Judge, Row, draw_seeds
from geossl.tasks.decoders import DeepNet
from geossl.tasks.examples import ChipExamples, PixelExamples
from geossl.tasks.heads import ChipNet, PixelNet, TaskNet
from geossl.tasks.linear import Linear, Scaling
from geossl.tasks.pseudo import refit, unlabelled_pixels
from geossl.tasks.scratch import Manner, Trained
from geossl.tasks.spec import TaskSpec

FROZEN, FINE_TUNED, PSEUDO = "frozen encoder, read linearly", "fine-tuned", "pseudo-labels"
TRANSFER = "transfer"


def decoding() -> Manner:
    """What reads a frozen encoder learns, from the linear head: the rates of supervised from scratch."""
    return Manner("decoder on the frozen encoder", scratch.RATES, "decoder", taught=True)


def fine_tuning() -> Manner:
    """The encoder learns on, from the frozen head: as many rates as supervised from scratch has, a thirtieth as large.

    Beginning at a fitted head keeps the first steps from spoiling the features (Kumar et al. 2022, arXiv:2202.10054).
    Of rates a third as large validation chose the smallest in nine of twelve runs on bigearthnet-finland.
    """
    return Manner("fine-tuning", tuple(rate / 30 for rate in scratch.RATES), "layers", taught=True)


def open_transfer(weights: str | Path, file_bands: str | None, like: Encoder) -> Encoder:
    """An encoder with weights from elsewhere for the bands of ``like``, whose architecture plain files must have and
    whose normalisation it takes where the weights' own is not known.

    Raises:
        InputError: as :func:`geossl.encoders.weights.transfer_encoder`.
    """
    return transfer_encoder(
        weights,
        like.bands,
        architecture=None if Path(weights).is_dir() else like.backbone.name,
        file_bands=file_bands,
        mean=like.mean.tolist(),
        std=like.std.tolist(),
    )


def follow(
    spec: TaskSpec,
    encoder: Encoder,
    examples: PixelExamples | ChipExamples,
    comparison: Comparison,
    net: PixelNet | ChipNet,
    seed: int,
    other: Encoder | None = None,
) -> tuple[Comparison, TaskNet]:
    """The comparison with the rows of the task's strategy and decoder, and the head they make.

    ``comparison`` and ``net`` are those of the frozen linear head. ``other``: an encoder of other weights, to which the
    same is done in a row of its own.
    """
    if spec.strategy == "frozen" and not spec.is_deep and other is None:
        return comparison, net
    budget = next(row.budget for row in comparison.rows if row.name == pixel_rows.SCRATCH)
    ground = _Ground.of(spec, examples, seed, budget)
    rows: list[Row] = []
    head: TaskNet = net
    ours = comparison.ours
    if spec.strategy != "frozen" or spec.is_deep:
        for title, made, note in ground.made(encoder, net):
            ours, head = title, made
            rows.append(ground.row(title, made, note))
        rows[-1] = replace(rows[-1], name=f"this head ({ours})")
        ours = rows[-1].name
    if other is not None:
        *_, (title, made, note) = ground.made(other, ground.linear(other))
        rows.append(ground.row(f"{TRANSFER}: {title}", made, note))
    named = [
        replace(row, name=FROZEN) if row.name == comparison.ours and ours != comparison.ours else row
        for row in comparison.rows
    ]
    place = next(number for number, row in enumerate(named) if row.name == pixel_rows.SCRATCH)
    return replace(comparison, rows=[*named[:place], *rows, *named[place:]], ours=ours), head


@dataclass(frozen=True)
class _Ground:
    """What every way of teaching shares: the task, labels (``chosen`` of the training part), judge and seed."""

    spec: TaskSpec
    examples: PixelExamples | ChipExamples
    chosen: np.ndarray
    judge: Judge
    seed: int
    budget: int | None

    @classmethod
    def of(cls, spec: TaskSpec, examples: PixelExamples | ChipExamples, seed: int, budget: int | None) -> _Ground:
        """With the labels of the head: all, or the first draw of the budget."""
        train, test = examples.part("train"), examples.part("test")
        if isinstance(examples, PixelExamples):
            chosen = pixel_rows.draw_pixels(spec, examples, train, budget, seed)[0]
            judge = Judge(spec, examples.value[test], examples.blocks(test), seed)
        else:
            chosen = chip_rows.draw_chips(spec, examples, train, budget, draw_seeds(seed, budget))[0]
            judge = Judge(spec, examples.target[test], examples.data.block[test], seed)
        return cls(spec, examples, chosen, judge, seed, budget)

    def made(self, encoder: Encoder, linear: PixelNet | ChipNet) -> list[tuple[str, TaskNet, str]]:
        """Name, network and note of what the strategy makes of an encoder, the head last."""
        spec = self.spec
        found: list[tuple[str, TaskNet, str]] = [(FROZEN, linear, "")]
        if spec.is_deep:
            trained = self._learn(self._deep(encoder), decoding())
            found = [(f"frozen encoder, {_what(spec)}", trained.net, trained.note)]
        if spec.strategy == "finetune":
            trained = self._learn(found[-1][1], fine_tuning())
            note = f"from the frozen head: {trained.note}"
            found = [*found, (FINE_TUNED + (f", {_what(spec)}" if spec.is_deep else ""), trained.net, note)]
        if spec.strategy == "pseudo":
            again, note = self._pseudo(linear)
            found.append((PSEUDO, again, note))
        return found if found[0][0] != FROZEN or len(found) == 1 else found[1:]

    def row(self, name: str, net: TaskNet, note: str) -> Row:
        """Figures on test blocks."""
        test = self.examples.part("test")
        if isinstance(self.examples, PixelExamples):
            said = scratch.predict_pixels(self.spec, net, self.examples, test)
        else:
            said = scratch.predict_chips(self.spec, net, self.examples, test)
        return Row(name, self.budget, self.judge.figures([said]), note=note)

    def linear(self, encoder: Encoder) -> PixelNet | ChipNet:
        """The frozen linear head around another encoder, fitted to the same labels."""
        train = self.examples.part("train")
        if isinstance(self.examples, PixelExamples):
            net: PixelNet | ChipNet = pixel_rows.head_net(self.spec, encoder, self.examples, train, self.seed)
        else:
            net = chip_rows.chip_head(self.spec, encoder, self.examples, train, self.seed)
        fit = _Fit.of(self, net)
        net.set_weights(fit.head())
        return net

    def _deep(self, encoder: Encoder) -> DeepNet:
        """The network of a decoder or a series, which begins at a linear head (of composites, where it is a series)."""
        net = scratch.first_net(self.spec, encoder, self.seed)
        assert isinstance(net, DeepNet)
        fit = _Fit.of(self, PixelNet(encoder, self.spec.outputs, self.spec.references).eval())
        net.set_weights(fit.head())
        return net

    def _learn(self, start: TaskNet, manner: Manner) -> Trained:
        if isinstance(self.examples, PixelExamples):
            return scratch.train_pixels(self.spec, start.encoder, self.examples, self.chosen, self.seed, start, manner)
        return scratch.train_chips(self.spec, start.encoder, self.examples, self.chosen, self.seed, start, manner)

    def _pseudo(self, linear: PixelNet | ChipNet) -> tuple[TaskNet, str]:
        """A head like ``linear``, taught by pseudo-labels too."""
        fit = _Fit.of(self, linear)
        if isinstance(self.examples, PixelExamples):
            assert isinstance(linear, PixelNet)
            pool = unlabelled_pixels(self.examples, self.chosen, self.seed)
            unlabelled = pixel_rows.pixel_features(linear, pool, np.arange(len(pool.chip)))
        else:
            unlabelled = fit.others
        again, note = refit(fit.head(), fit.chosen.features, fit.chosen.targets, unlabelled, fit.on, fit.score)
        head = copy.deepcopy(linear)
        head.set_weights(again)
        return head.eval(), note


@dataclass(frozen=True)
class _Fit:
    """Linear heads on one network's features: of the ``chosen`` labels, with those of ``val`` beside them, and the
    features of the ``others``, training chips whose labels are not used."""

    spec: TaskSpec
    chosen: Labelled
    val: Labelled
    others: np.ndarray
    scaling: Scaling
    kinds: dict[str, int]

    @classmethod
    def of(cls, ground: _Ground, net: PixelNet | ChipNet) -> _Fit:
        examples, spec, chosen = ground.examples, ground.spec, ground.chosen
        train, val = examples.part("train"), examples.part("val")
        if isinstance(examples, PixelExamples):
            assert isinstance(net, PixelNet)
            pool, seen = (pixel_rows.pixel_features(net, examples, part) for part in (train, val))
            learnt = pixel_rows.labelled(examples, chosen, pool[np.searchsorted(train, chosen)])
            judged = pixel_rows.labelled(examples, val, seen)
            return cls(spec, learnt, judged, pool[:0], Scaling.of(pool, net.widths), net.kinds)
        assert isinstance(net, ChipNet)
        features = chip_rows.chip_features(net, examples)
        learnt, judged = (chip_rows.labelled(examples, some, features[some]) for some in (chosen, val))
        others = features[np.setdiff1d(train, chosen)]
        return cls(spec, learnt, judged, others, Scaling.of(features[train], net.widths), net.kinds)

    def head(self) -> Linear:
        """The fit to the labels."""
        return fit_head(self.spec, self.chosen, self.val, self.scaling, self.kinds)

    def on(self, features: np.ndarray, targets: np.ndarray) -> Linear:
        """The fit to these, whatever blocks they lie in."""
        train = Labelled(features, targets, soft=None if self.chosen.soft is None else targets)
        return fit_head(self.spec, train, self.val, self.scaling, self.kinds)

    @property
    def score(self) -> Callable[[Linear], float] | None:
        """What validation labels say of a fit, None where there are none."""
        return validation_judge(self.spec, self.val)


def _what(spec: TaskSpec) -> str:
    """Decoder and pooling in words."""
    decoder = {"linear": "read linearly", "fpn": "FPN", "unet": "U-Net"}[spec.decoder]
    return f"{decoder}, {spec.pooling} over dates" if spec.temporal == "series" else decoder
