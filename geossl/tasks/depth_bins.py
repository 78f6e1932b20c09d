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
from geossl.tasks.examples import PixelExamples
from geossl.tasks.heads import TaskNet
from geossl.tasks.scratch import predict_pixels
from geossl.tasks.spec import TaskSpec


def figures_by_depth(spec: TaskSpec, net: TaskNet, examples: PixelExamples, labels: Labels) -> list[dict[str, Any]]:
    """A row a bin of depth with test pixels: from_m, to_m (None: deeper), pixels, labels, macro_f1 (over the classes
    there), accuracy, and commonest_class, the accuracy of the commonest training class. For numbers instead: rmse,
    mae, bias, and mean_rmse, that of the mean of the training labels.

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
        if not here.any():
            continue
        facts: dict[str, Any] = {
            "from_m": None if np.isinf(low) else low,
            "to_m": None if np.isinf(high) else high,
            "pixels": int(here.sum()),
            "labels": len(np.unique(examples.place[test[here]])),
        }
        rows.append(facts | _figures(spec, examples.value[test[here]], said[here], known))
    return rows


def _figures(spec: TaskSpec, truth: np.ndarray, said: np.ndarray, known: np.ndarray) -> dict[str, float]:
    """Figures of one bin; ``known`` are the training values."""
    if spec.kind == "regression":
        off = said - truth
        numbers = {
            "rmse": np.sqrt((off**2).mean()),
            "mae": np.abs(off).mean(),
            "bias": off.mean(),
            "mean_rmse": np.sqrt(((known.mean() - truth) ** 2).mean()),
        }
    else:
        common = majority(known, len(truth), spec.outputs)
        numbers = {
            "macro_f1": quick_score(spec, truth, said),
            "accuracy": (truth == said).mean(),
            "commonest_class": (truth == common).mean(),
        }
    return {name: round(float(value), 4) for name, value in numbers.items()}


def depth_sections(rows: Sequence[Mapping[str, Any]]) -> list[Section]:
    """The table of depths as one section; none without rows."""
    if not rows:
        return []
    columns = list(rows[0])
    text = "Test pixels by the depth their labels name. What lies deeper than light reaches cannot be told apart."
    return [Section("Each depth", text, tables=[Table(columns, [[row[name] for name in columns] for row in rows])])]
