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
from geossl.tasks.heads import PixelNet
from geossl.tasks.scratch import predict_pixels
from geossl.tasks.spec import TaskSpec


def figures_by_depth(spec: TaskSpec, net: PixelNet, examples: PixelExamples, labels: Labels) -> list[dict[str, Any]]:
    """A row a bin of depth with test pixels: from_m, to_m (None: deeper), pixels, labels, macro_f1 (over the classes
    there), accuracy, and commonest_class, the accuracy of the commonest training class.

    Empty where the task names no depth column, or the label file has none.
    """
    column = label_column(labels, spec.depth_field) if spec.depth_field is not None else None
    if column is None:
        return []
    depth = pd.to_numeric(column, errors="coerce").to_numpy(float)
    test = examples.part("test")
    at = depth[examples.place[test]]
    said = predict_pixels(spec, net, examples, test)
    common = majority(examples.value[examples.part("train")], len(test), spec.outputs)
    limits = [-np.inf, *spec.depth_bins, np.inf]
    rows = []
    for low, high in pairwise(limits):
        here = (at >= low) & (at < high)
        if not here.any():
            continue
        truth = examples.value[test[here]]
        rows.append(
            {
                "from_m": None if np.isinf(low) else low,
                "to_m": None if np.isinf(high) else high,
                "pixels": int(here.sum()),
                "labels": len(np.unique(examples.place[test[here]])),
                "macro_f1": round(quick_score(spec, truth, said[here]), 4),
                "accuracy": round(float((truth == said[here]).mean()), 4),
                "commonest_class": round(float((truth == common[here]).mean()), 4),
            }
        )
    return rows


def depth_sections(rows: Sequence[Mapping[str, Any]]) -> list[Section]:
    """The table of depths as one section; none without rows."""
    if not rows:
        return []
    columns = list(rows[0])
    text = "Test pixels by the depth their labels name. What lies deeper than light reaches cannot be told apart."
    return [Section("Each depth", text, tables=[Table(columns, [[row[name] for name in columns] for row in rows])])]
