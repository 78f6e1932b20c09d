"""By what a linear head's regularisation and weights of kinds are chosen on validation labels.

The task's headline figure alone moves in steps of a few per cent where validation has a few dozen labels, and many fits
tie; so how probable a fit makes the true labels counts too, which tells fits apart that say the same.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import logsumexp

from geossl.tasks.compare import quick_score
from geossl.tasks.linear import Linear
from geossl.tasks.spec import TaskSpec

EVIDENCE = 0.3
"""Weight of the mean log-likelihood beside the headline figure."""
_LEAST = -20.0
"""The log of a probability counts no lower: a class that nobody has labelled has none."""


def judge_of(
    spec: TaskSpec, features: np.ndarray, truth: np.ndarray, soft: np.ndarray | None = None
) -> Callable[[Linear], float] | None:
    """Scores fits on validation labels, higher is better; None where there are none.

    Args:
        spec: the task.
        features: (n, F) raw.
        truth: (n,) class indices or numbers, or (n, K) 0/1.
        soft: (n, K) class proportions, where labels are soft; only how probable they are made then counts.
    """
    if not len(features):
        return None
    if spec.kind == "regression":
        return lambda model: quick_score(spec, truth, model.predict(features))
    if spec.kind == "multilabel":

        def of_labels(model: Linear) -> float:
            scores = model.scores(features).astype(np.float64)
            evidence = -(np.logaddexp(0, scores) - truth * scores).mean()
            return quick_score(spec, truth, scores) + EVIDENCE * float(evidence)

        return of_labels
    wanted = np.eye(spec.outputs)[truth] if soft is None else soft.astype(np.float64)
    there = wanted.sum(axis=0)
    if spec.balanced and soft is None:
        wanted = wanted / np.where(there > 0, there, 1) * len(wanted) / max((there > 0).sum(), 1)

    def of_classes(model: Linear) -> float:
        scores = model.scores(features).astype(np.float64)
        logs = np.maximum(scores - logsumexp(scores, axis=1, keepdims=True), _LEAST)
        evidence = float((wanted * logs).sum(axis=1).mean())
        return evidence if soft is not None else quick_score(spec, truth, scores.argmax(axis=1)) + EVIDENCE * evidence

    return of_classes
