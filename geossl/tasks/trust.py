"""How far a head can be trusted, stored with it: temperature, conformal limits, an outlier score, and their figures.

All of it rests on validation blocks and is judged on test blocks, which it never sees. ``trust.safetensors`` holds the
numbers, ``trust`` in the head's manifest the figures; maps read both (``geossl map --trust``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from geossl.artefacts import atomic_file, hash_file
from geossl.errors import InputError
from geossl.tasks.asked import Asked, ask
from geossl.tasks.calibration import fit_temperature, probabilities, reliability
from geossl.tasks.conformal import (
    SHOWN,
    ClassSets,
    ValueRanges,
    class_sets,
    interval_coverage,
    set_coverage,
    value_ranges,
)
from geossl.tasks.metrics import Resamples
from geossl.tasks.outliers import STAGE, Outliers, cell_features, fit_outliers, nearest_cell
from geossl.tasks.spec import TaskSpec

if TYPE_CHECKING:
    from geossl.encoders.saved import Encoder
    from geossl.tasks.examples import ChipExamples, PixelExamples
    from geossl.tasks.heads import Head

FILE = "trust.safetensors"


@dataclass(frozen=True)
class Trust:
    """What belongs to one head. ``facts`` are the figures as they stand in the manifest.

    Attributes:
        kind: of the task.
        temperature: logits are divided by it.
        sets: limits of classes; None for a quantity, or where validation labels are too few.
        ranges: half widths of a quantity; likewise.
        outliers: None where training labels are too few.
        facts: see :func:`make_trust`.
    """

    kind: str
    temperature: float = 1.0
    sets: ClassSets | None = None
    ranges: ValueRanges | None = None
    outliers: Outliers | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def level(self) -> float | None:
        """The level that maps show: 90 %, else the highest there is; None where there is none."""
        return _shown(_levels(self.sets, self.ranges))

    @property
    def planes(self) -> tuple[str, ...]:
        """Names of the planes of :meth:`judge`, in order."""
        names = [] if self.kind == "regression" else ["confidence"]
        if self.level is not None:
            names.append(f"{'half_width' if self.kind == 'regression' else 'set_size'}_{100 * self.level:g}")
        return (*names, "unlike") if self.outliers is not None else tuple(names)

    @torch.inference_mode()
    def judge(self, encoder: Encoder, said: Tensor, values: Tensor, clear: Tensor) -> Tensor:
        """Planes (B, P, H, W) beside what a head said: confidence (0 to 1), classes in the set (or half width of the
        interval, in the task's unit), and how unlike the place is to what was taught (above 1: unlike).

        Args:
            encoder: the head's.
            said: (B, K, H, W) probabilities, or (B, 1, H, W) values.
            values: (B, T, C, H, W) reflectance as the head takes it.
            clear: (B, T, H, W) bool; several dates count as often as they are clear.
        """
        planes = [] if self.kind == "regression" else [_confidence(said, self.kind)]
        if self.level is not None and self.sets is not None:
            limits = torch.from_numpy(self.sets.limits[self.sets.levels.index(self.level)]).to(said)
            planes.append((said >= limits[:, None, None]).sum(1, keepdim=True).to(said.dtype))
        elif self.level is not None and self.ranges is not None:
            widths = self.ranges.half_widths[self.ranges.levels.index(self.level)]
            place = torch.bucketize(said.contiguous(), torch.from_numpy(self.ranges.edges).to(said))
            planes.append(torch.from_numpy(widths).to(said)[place])
        if self.outliers is not None:
            planes.append(self._unlike(encoder, values, clear))
        return torch.cat(planes, 1) if planes else said[:, :0]

    def _unlike(self, encoder: Encoder, values: Tensor, clear: Tensor) -> Tensor:
        """(B, 1, H, W): the score of the cell each pixel lies in (pixels), or of the whole chip."""
        assert self.outliers is not None
        height, width = clear.shape[-2:]
        maps = cell_features(encoder, torch.nan_to_num(values), clear)
        if self.facts.get("whole_chips"):
            maps = maps.mean((2, 3), keepdim=True)
        scores = self.outliers.scores(maps.flatten(2).transpose(1, 2).flatten(0, 1)).to(maps)
        grid = scores.view(-1, 1, *maps.shape[-2:])
        if self.facts.get("whole_chips"):
            return grid.expand(-1, -1, height, width)
        rows, columns = (
            nearest_cell(torch.arange(side, device=maps.device), encoder.strides[STAGE], count)
            for side, count in zip((height, width), grid.shape[-2:], strict=True)
        )
        return grid[..., rows, :][..., columns]


def _levels(sets: ClassSets | None, ranges: ValueRanges | None) -> tuple[float, ...]:
    return sets.levels if sets is not None else ranges.levels if ranges is not None else ()


def _shown(levels: tuple[float, ...]) -> float | None:
    return (SHOWN if SHOWN in levels else levels[-1]) if levels else None


def _confidence(said: Tensor, kind: str) -> Tensor:
    """How sure: the probability of the most probable class; for labels, that of the least settled label's answer."""
    if kind == "multilabel":
        return torch.maximum(said, 1 - said).amin(1, keepdim=True)
    return said.amax(1, keepdim=True)


def make_trust(spec: TaskSpec, head: Head, examples: PixelExamples | ChipExamples, seed: int) -> Trust:
    """Fit on validation blocks, judge on test blocks.

    ``facts`` of the result: ``calibration`` (temperature, sentence, ``before`` and ``after`` with ECE, interval and
    bins), ``conformal`` (sentence, ``levels`` with coverage on test blocks), ``outliers`` (sentence, shares),
    ``tested`` (items and blocks), ``fails`` (:func:`failures`), ``whole_chips``.

    A network of series is not asked about single examples: its trust is empty, and the facts say so.
    """
    if head.net.takes_dates:
        return Trust(spec.kind, facts={"sentence": "A head of whole series is not calibrated."})
    train = ask(head, examples, examples.part("train"), features_only=True)
    val, test = (ask(head, examples, examples.part(side)) for side in ("val", "test"))
    temperature = 1.0
    calibration: dict[str, Any] = {}
    sets: ClassSets | None = None
    ranges: ValueRanges | None = None
    if spec.kind == "regression":
        ranges = value_ranges(val.logits[:, 0].astype(np.float64), val.truth.astype(np.float64), val.block)
    else:
        fitted = fit_temperature(val.logits, val.truth, val.block)
        temperature = fitted.value
        calibration = {"temperature": round(temperature, 6), "fitted": fitted.fitted, "sentence": fitted.sentence}
        chances = probabilities(val.logits, temperature, spec.kind == "multilabel")
        sets = class_sets(chances, val.truth, val.block) if len(val) else None
    outliers = fit_outliers(train.features, train.cell_block, val.features, val.cell_block, seed)
    levels = _levels(sets, ranges)
    blocks = len(np.unique(val.block))
    facts: dict[str, Any] = {
        "whole_chips": not spec.per_pixel,
        "calibration": calibration,
        "conformal": {"sentence": _levels_sentence(levels, len(val), blocks)},
        "outliers": {
            "sentence": "Too few training labels to say what is unlike them."
            if outliers is None
            else f"Distance to the nearest of {len(outliers.references)} training cells in the encoder's features; "
            "1 is what 95 % of labelled cells of other blocks lie within.",
        },
    }
    made = Trust(spec.kind, temperature, sets, ranges, outliers, facts)
    for part, figures in judge_on(spec, made, test, seed).items():
        facts[part] = {**facts.get(part, {}), **figures}
    return made


def _levels_sentence(levels: tuple[float, ...], items: int, blocks: int) -> str:
    basis = f"{items} validation labels in {blocks} blocks"
    if not levels:
        return f"No sets or intervals: {basis} are too few."
    return f"Levels {', '.join(f'{100 * one:g} %' for one in levels)}, from {basis}."


def judge_on(spec: TaskSpec, trust: Trust, asked: Asked, seed: int) -> dict[str, dict[str, Any]]:
    """Figures of a head's trust on items it has not learnt from: parts of the facts of :func:`make_trust`."""
    if not len(asked):
        return {"tested": {"items": 0, "blocks": 0}}
    again = Resamples(asked.block, seed)
    multilabel = spec.kind == "multilabel"
    found: dict[str, dict[str, Any]] = {"tested": {"items": len(asked), "blocks": again.blocks}}
    if spec.kind == "regression":
        predicted, truth = asked.logits[:, 0].astype(np.float64), asked.truth.astype(np.float64)
        wrong = np.abs(predicted - truth)
        levels = [] if trust.ranges is None else interval_coverage(trust.ranges, predicted, truth, again)
    else:
        before, after = (probabilities(asked.logits, one, multilabel) for one in (1.0, trust.temperature))
        found["calibration"] = {
            "before": reliability(before, asked.truth, again).as_dict(),
            "after": reliability(after, asked.truth, again).as_dict(),
        }
        levels = [] if trust.sets is None else set_coverage(trust.sets, after, asked.truth, again)
        wrong = mistakes(spec, asked)
    found["conformal"] = {"levels": [one.as_dict() for one in levels]}
    if trust.outliers is not None:
        unlike = trust.outliers.scores(torch.from_numpy(asked.features)).numpy()[asked.cell] > 1
        found["outliers"] = {
            "share": round(float(unlike.mean()), 5),
            "error_unlike": _mean(wrong[unlike]),
            "error_alike": _mean(wrong[~unlike]),
        }
    found["fails"] = failures(spec, asked, wrong)
    return found


def mistakes(spec: TaskSpec, asked: Asked) -> np.ndarray:
    """Of each item 1 where the class is wrong, else 0; the share of wrong labels; or the size of the error."""
    if spec.kind == "regression":
        return np.abs(asked.logits[:, 0] - asked.truth).astype(np.float64)
    if spec.kind == "multilabel":
        return ((asked.logits > 0) != (asked.truth > 0)).mean(axis=1)
    wrong: np.ndarray = (asked.logits.argmax(axis=1) != asked.truth).astype(np.float64)
    return wrong


_WORST, _PLACES = 8, 400


def failures(spec: TaskSpec, asked: Asked, wrong: np.ndarray) -> dict[str, Any]:
    """Where a head fails: ``blocks`` (most of the error first), ``months``, ``years``, ``places`` (left, top and error
    of chips' places, worst first) and the classes ``confused``.
    """
    blocks = sorted(_grouped(asked.block, wrong), key=lambda row: (-(row["error"] or 0) * row["items"], row["of"]))
    found: dict[str, Any] = {
        "error": _mean(wrong),
        "blocks": blocks[:_WORST],
        "months": _grouped(asked.month, wrong) if asked.month.any() else [],
        "years": _grouped(asked.year, wrong) if asked.year.any() else [],
        "places": _places(asked, wrong),
    }
    if spec.kind in ("segmentation", "classification"):
        said, names = asked.logits.argmax(axis=1), spec.class_names
        cells = np.zeros((spec.outputs, spec.outputs))
        np.add.at(cells, (asked.truth, said), 1)
        share = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
        np.fill_diagonal(share, 0)
        pairs = [divmod(int(place), spec.outputs) for place in np.argsort(-share, axis=None, kind="stable")[:_WORST]]
        found["confused"] = [
            {"truth": names[a], "said": names[b], "share": round(float(share[a, b]), 4), "items": int(cells[a, b])}
            for a, b in pairs
            if share[a, b] > 0
        ]
    return found


def _places(asked: Asked, wrong: np.ndarray) -> list[list[float]]:
    known = np.isfinite(asked.corner).all(axis=1)
    corners, place = np.unique(asked.corner[known], axis=0, return_inverse=True)
    place = place.reshape(-1)
    error = np.bincount(place, wrong[known], len(corners)) / np.maximum(np.bincount(place, minlength=len(corners)), 1)
    order = np.argsort(-error, kind="stable")[:_PLACES]
    return [[*corners[one].tolist(), round(float(error[one]), 5)] for one in order]


def _grouped(group: np.ndarray, wrong: np.ndarray) -> list[dict[str, Any]]:
    """Items and mean error of each group."""
    names, place = np.unique(group, return_inverse=True)
    count, total = np.bincount(place), np.bincount(place, wrong)
    return [
        {"of": name, "items": int(n), "error": round(float(part / n), 5)}
        for name, n, part in zip(names.tolist(), count, total, strict=True)
    ]


def _mean(values: np.ndarray) -> float | None:
    return round(float(values.mean()), 5) if len(values) else None


def save_trust(trust: Trust, folder: Path) -> dict[str, Any]:
    """Write ``trust.safetensors``; gives what the manifest's ``trust`` says."""
    state: dict[str, Tensor] = {"temperature": torch.tensor(trust.temperature, dtype=torch.float64)}
    if trust.sets is not None:
        state |= {"levels": _tensor(trust.sets.levels), "limits": _tensor(trust.sets.limits)}
        state["own"] = torch.from_numpy(trust.sets.own)
    if trust.ranges is not None:
        state |= {"levels": _tensor(trust.ranges.levels), "edges": _tensor(trust.ranges.edges)}
        state["half_widths"] = _tensor(trust.ranges.half_widths)
    if trust.outliers is not None:
        one = trust.outliers
        state |= {"mean": one.mean, "axes": one.axes.contiguous(), "references": one.references.contiguous()}
        state["limit"] = torch.tensor(one.limit, dtype=torch.float64)
    with atomic_file(folder / FILE) as temporary:
        save_file(state, str(temporary))
    return {"file": FILE, "hash": hash_file(folder / FILE), "planes": list(trust.planes), **trust.facts}


def _tensor(values: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64))


def load_trust(folder: Path, manifest: Mapping[str, Any]) -> Trust | None:
    """The trust of a head's directory; None where the head was made without it.

    Raises:
        InputError: the file that the manifest names is missing or damaged.
    """
    told = manifest.get("trust")
    if told is None:
        return None
    path = folder / told["file"]
    remedy = "copy the whole head directory again, or run the same geossl finetune again"
    if not path.is_file() or hash_file(path) != told["hash"]:
        raise InputError("the head's trust file is missing or damaged", where=path, remedy=remedy)
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise InputError("the head's trust file cannot be read", where=path, found=error, remedy=remedy) from None
    levels = tuple(state["levels"].tolist()) if "levels" in state else ()
    return Trust(
        kind=str(manifest["task"]["kind"]),
        temperature=float(state["temperature"]),
        sets=ClassSets(levels, state["limits"].numpy(), state["own"].numpy()) if "limits" in state else None,
        ranges=ValueRanges(levels, state["edges"].numpy(), state["half_widths"].numpy())
        if "half_widths" in state
        else None,
        outliers=Outliers(state["mean"], state["axes"], state["references"], float(state["limit"]))
        if "references" in state
        else None,
        facts={name: value for name, value in told.items() if name not in ("file", "hash", "planes")},
    )
