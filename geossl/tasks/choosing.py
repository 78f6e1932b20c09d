"""The linear head of some labels, and by what its regularisation and weights of kinds are chosen.

The task's headline figure alone moves in steps of a few per cent where validation has a few dozen labels, and many fits
tie; so how probable a fit makes the true labels counts too, which tells fits apart that say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from geossl.chips.splits import fold_blocks
from geossl.tasks.compare import quick_score
from geossl.tasks.linear import Folds, Judge, Linear, LinearKind, Scaling, fit_linear
from geossl.tasks.spec import TaskSpec

EVIDENCE = 0.3
"""Weight of the mean log-likelihood beside the headline figure."""
WEIGHING_BLOCKS = 5
"""Validation blocks from which they choose alone, and blocks of labels from which kinds of features are weighed."""
FOLDS, GROUPS = 5, 20
"""Of training blocks; and of all judged blocks, for the standard error of a difference, at most."""
_LEAST = -20.0
"""The log of a probability counts no lower: a class that nobody has labelled has none."""


@dataclass(frozen=True)
class Labelled:
    """Rows that a linear head learns from, or is chosen by.

    ``features`` (n, F) raw; ``truth`` (n,) class indices or numbers, or (n, K) 0/1; ``blocks`` (n,) which block each
    lies in, None where that is unknown; ``soft`` (n, K) class proportions, where labels are soft.
    """

    features: np.ndarray
    truth: np.ndarray
    blocks: np.ndarray | None = None
    soft: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.features)

    @property
    def count(self) -> int:
        """Blocks that they are known to lie in."""
        return 0 if self.blocks is None else len(np.unique(self.blocks))

    @property
    def targets(self) -> np.ndarray:
        """What is learnt."""
        return self.truth if self.soft is None else self.soft


def fit_head(spec: TaskSpec, train: Labelled, val: Labelled, scaling: Scaling, kinds: Mapping[str, int]) -> Linear:
    """The linear head of some labels; C and the weights of ``kinds`` are chosen by :func:`judge_of`.

    Labels of fewer than :data:`WEIGHING_BLOCKS` blocks choose weights by chance, so kinds then weigh alike.

    Raises:
        InputError: the training labels show fewer than two classes.
    """
    judge = judge_of(spec, train, val)
    judged = val.count + (train.count if isinstance(judge, Folds) else 0)
    kind: dict[str, LinearKind] = {"multilabel": "multilabel", "regression": "ridge"}
    return fit_linear(
        kind.get(spec.kind, "multinomial"),
        train.features,
        train.targets,
        spec.outputs,
        scaling,
        balanced=spec.balanced,
        judge=judge,
        kinds=kinds if judged >= WEIGHING_BLOCKS else None,
    )


def judge_of(spec: TaskSpec, train: Labelled, val: Labelled) -> Judge | Folds | None:
    """By what fits are told apart: validation labels where they lie in :data:`WEIGHING_BLOCKS` blocks or more.

    Where they do not, training labels help: cross-validation by block, judged together with the validation labels.
    None where there is neither.
    """
    if val.count < WEIGHING_BLOCKS and train.count > 1:
        return _folds(spec, train, val)
    return validation_judge(spec, val)


def validation_judge(spec: TaskSpec, val: Labelled) -> Judge | None:
    """Scores fits on validation labels, higher is better; None where there are none.

    Of soft labels only how probable they are made counts.
    """
    if not len(val):
        return None
    worth = _worth(spec, val.truth, val.soft)
    return lambda model: worth(model.scores(val.features))


def _folds(spec: TaskSpec, train: Labelled, val: Labelled) -> Folds:
    """Folds of training blocks; one beside which a single class is left cannot be judged."""
    assert train.blocks is not None and val.blocks is not None
    of_block = fold_blocks(train.blocks, min(FOLDS, train.count), 0)
    number = np.array([of_block[str(one)] for one in train.blocks])
    if spec.kind not in ("multilabel", "regression"):
        for fold in np.unique(number):
            if not _shows_two(train.targets[number != fold]):
                number[number == fold] = -1
    judged = number >= 0
    truth = np.concatenate([train.truth[judged], val.truth])
    soft = None if train.soft is None or val.soft is None else np.concatenate([train.soft[judged], val.soft])
    blocks = np.concatenate([train.blocks[judged].astype(str), val.blocks.astype(str)])

    def surely(first: np.ndarray, second: np.ndarray) -> bool:
        return _ahead(spec, truth, soft, blocks, first, second)

    return Folds(number, val.features, _worth(spec, truth, soft), surely)


def _shows_two(targets: np.ndarray) -> bool:
    """Whether class indices (n,) or proportions (n, K) show two classes or more."""
    return len(np.unique(targets)) > 1 if targets.ndim == 1 else int((targets > 0).any(axis=0).sum()) > 1


def _ahead(
    spec: TaskSpec,
    truth: np.ndarray,
    soft: np.ndarray | None,
    blocks: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
) -> bool:
    """Whether the first scores are better by more than one standard error (a jackknife over groups of blocks)."""
    groups = len(np.unique(blocks))
    if groups < 2:
        return False
    of_block = fold_blocks(blocks, min(GROUPS, groups), 0)
    group = np.array([of_block[one] for one in blocks])

    def difference(kept: np.ndarray) -> float:
        worth = _worth(spec, truth[kept], None if soft is None else soft[kept])
        return worth(first[kept]) - worth(second[kept])

    without = np.array([difference(group != one) for one in np.unique(group)])
    error = np.sqrt((len(without) - 1) * without.var())
    return bool(difference(group >= 0) > error)


def _worth(spec: TaskSpec, truth: np.ndarray, soft: np.ndarray | None) -> Callable[[np.ndarray], float]:
    """How good scores (n, K) are, higher is better; 0 where there are none."""
    if not len(truth):
        return lambda scores: 0.0
    if spec.kind == "regression":
        return lambda scores: quick_score(spec, truth, scores[:, 0])
    if spec.kind == "multilabel":

        def of_labels(scores: np.ndarray) -> float:
            scores = scores.astype(np.float64)
            evidence = -(np.logaddexp(0, scores) - truth * scores).mean()
            return quick_score(spec, truth, scores) + EVIDENCE * float(evidence)

        return of_labels
    wanted = np.eye(spec.outputs)[truth] if soft is None else soft.astype(np.float64)
    there = wanted.sum(axis=0)
    if spec.balanced and soft is None:
        wanted = wanted / np.where(there > 0, there, 1) * len(wanted) / max((there > 0).sum(), 1)

    def of_classes(scores: np.ndarray) -> float:
        scores = scores.astype(np.float64)
        logs = np.maximum(scores - logsumexp(scores, axis=1, keepdims=True), _LEAST)
        evidence = float((wanted * logs).sum(axis=1).mean())
        return evidence if soft is not None else quick_score(spec, truth, scores.argmax(axis=1)) + EVIDENCE * evidence

    return of_classes
