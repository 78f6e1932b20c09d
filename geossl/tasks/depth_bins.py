"""What a head of the sea bed is worth at each depth: light fades, and a mean over all depths hides where it fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from geossl.labels.read import Labels, label_column
from geossl.report.pages import Section, Table
from geossl.tasks.baselines import majority
from geossl.tasks.compare import quick_score
from geossl.tasks.examples import BedSight, PixelExamples
from geossl.tasks.heads import TaskNet
from geossl.tasks.scratch import predict_pixels
from geossl.tasks.spec import TaskSpec

_NUMBERS = ("rmse", "mae", "bias", "mean_rmse")
_CLASSES = ("macro_f1", "accuracy", "commonest_class")


def figures_by_depth(spec: TaskSpec, net: TaskNet, examples: PixelExamples, labels: Labels) -> list[dict[str, Any]]:
    """A row a bin of depth with test pixels: from_m, to_m (None: deeper), pixels, labels, macro_f1 (over the classes
    there), accuracy, and commonest_class, the accuracy of the commonest training class. For numbers instead: rmse,
    mae, bias, and mean_rmse, that of the mean of the training labels.

    Where the task leaves out pixels whose bed is not seen, ``not_seen`` is their share of the bin's clear labelled
    test pixels, before any thinning; no figure counts them. A bin where no bed at all is seen has 0 pixels and
    figures of None.

    Empty where the task names no depth column, or the label file has none.
    """
    column = label_column(labels, spec.depth_field) if spec.depth_field is not None else None
    if column is None:
        return []
    depth = pd.to_numeric(column, errors="coerce").to_numpy(float)
    test = examples.part("test")
    at = depth[examples.place[test]]
    said = predict_pixels(spec, net, examples, test)
    known = examples.value[examples.part("train")]
    limits = [-np.inf, *spec.depth_bins, np.inf]
    rows = []
    for low, high in pairwise(limits):
        here = (at >= low) & (at < high)
        hidden = _share_hidden(examples.sight, (depth >= low) & (depth < high))
        if not here.any() and not hidden:
            continue
        facts: dict[str, Any] = {
            "from_m": None if np.isinf(low) else low,
            "to_m": None if np.isinf(high) else high,
            "pixels": int(here.sum()),
            "labels": len(np.unique(examples.place[test[here]])),
        }
        facts |= {} if hidden is None else {"not_seen": hidden}
        rows.append(facts | _figures(spec, examples.value[test[here]], said[here], known))
    return rows


def _share_hidden(sight: BedSight | None, labels: np.ndarray) -> float | None:
    """Share of the test pixels of some labels (L,) bool whose bed is not seen; None where nothing was counted."""
    if sight is None:
        return None
    hidden, seen = int(sight.hidden[labels].sum()), int(sight.seen[labels].sum())
    return round(hidden / (hidden + seen), 4) if hidden + seen else None


def _figures(spec: TaskSpec, truth: np.ndarray, said: np.ndarray, known: np.ndarray) -> dict[str, float | None]:
    """Figures of one bin, None where it has no pixel; ``known`` are the training values."""
    if not len(truth):
        return dict.fromkeys(_NUMBERS if spec.kind == "regression" else _CLASSES)
    values: tuple[Any, ...]
    names: tuple[str, ...]
    if spec.kind == "regression":
        off = said - truth
        mean_off = known.mean() - truth
        values = (np.sqrt((off**2).mean()), np.abs(off).mean(), off.mean(), np.sqrt((mean_off**2).mean()))
        names = _NUMBERS
    else:
        common = majority(known, len(truth), spec.outputs)
        values = (quick_score(spec, truth, said), (truth == said).mean(), (truth == common).mean())
        names = _CLASSES
    return {name: round(float(value), 4) for name, value in zip(names, values, strict=True)}


def depth_sections(rows: Sequence[Mapping[str, Any]]) -> list[Section]:
    """The table of depths as one section; none without rows."""
    if not rows:
        return []
    columns = list(rows[0])
    text = "Test pixels by the depth their labels name. What lies deeper than light reaches cannot be told apart."
    if "not_seen" in columns:
        text += (
            " not_seen is the share of the clear labelled test pixels of that depth where the deep-water mask hides the"
            " bed, be it too deep or too dark; they are in no other column."
        )
    return [Section("Each depth", text, tables=[Table(columns, [[row[name] for name in columns] for row in rows])])]
