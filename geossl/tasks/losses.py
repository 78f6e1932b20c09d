"""What networks that learn by steps minimise; pixels without a label never count.

Classes come as indices with 255 where unlabelled, or as proportions (soft labels) that are 0 in every class there;
numbers come with NaN where unlabelled. Logits are float32.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from segmentation_models_pytorch.losses._functional import soft_dice_score
from torch import Tensor

from geossl.chips.chipset import IGNORE
from geossl.tasks.spec import TaskSpec

GAMMA = 2.0
"""Focus of the focal loss: how much what is right already counts less."""
Loss = Callable[[Tensor, Tensor], Tensor]


def class_weights(spec: TaskSpec, values: np.ndarray) -> Tensor | None:
    """(K,) weights by which every class with labels weighs alike; None for numbers, many labels, or ``balanced: no``.

    ``values``: the training labels, (N,) class indices or (N, K) proportions.
    """
    if spec.kind not in ("segmentation", "classification") or not spec.balanced:
        return None
    counts = values.sum(axis=0) if values.ndim == 2 else np.bincount(values, minlength=spec.outputs)
    there = counts > 0
    weights = np.where(there, counts.sum() / (np.where(there, counts, 1) * max(there.sum(), 1)), 0.0)
    return torch.tensor(weights, dtype=torch.float32)


def make_loss(spec: TaskSpec, weights: Tensor | None = None) -> Loss:
    """The loss of a task's ``loss`` (or, for numbers and labels of chips, its kind).

    ``cross-entropy``; ``focal`` (Lin et al. 2017, arXiv:1708.02002, over the softmax) for rare or hard classes;
    ``dice``: the soft Dice loss (Milletari et al. 2016, arXiv:1606.04797) plus cross-entropy, which alone gives
    probabilities worth the name. Numbers, which are expected in their own spread, have the Huber loss with a limit of
    1; many labels a chip binary cross-entropy. ``weights``: of the classes (:func:`class_weights`).
    """
    if spec.kind == "regression":
        return _huber
    if spec.kind == "multilabel":
        return lambda logits, target: F.binary_cross_entropy_with_logits(logits, target.float())

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        wanted = target if target.is_floating_point() else one_hot(target, logits.shape[1])
        log = logits.log_softmax(1)
        if weights is not None:
            of_class = weights.to(logits).reshape(1, -1, *[1] * (logits.ndim - 2))
        else:
            of_class = torch.ones(1, device=logits.device)
        weighed = wanted * of_class
        terms = -weighed * log if spec.loss != "focal" else -weighed * (1 - log.exp()).pow(GAMMA) * log
        value = terms.sum() / weighed.sum().clamp_min(1e-9)
        return value + _dice(log, wanted) if spec.loss == "dice" else value

    return loss


def one_hot(target: Tensor, classes: int) -> Tensor:
    """Indices (B, …) as proportions (B, K, …) float32, 0 in every class where they are 255."""
    known = target != IGNORE
    hot = F.one_hot(target.where(known, 0), classes).movedim(-1, 1).float()
    return hot * known[:, None]


def _dice(log: Tensor, wanted: Tensor) -> Tensor:
    """One minus the mean Dice coefficient of the classes that the labelled pixels of the batch show."""
    known = wanted.sum(1, keepdim=True) > 0
    dims = tuple(one for one in range(log.ndim) if one != 1)
    scores = soft_dice_score(log.exp() * known, wanted, smooth=0.0, eps=1e-7, dims=dims)
    there = wanted.sum(dims) > 0
    return ((1 - scores) * there).sum() / there.sum().clamp_min(1)


def _huber(logits: Tensor, target: Tensor) -> Tensor:
    """Huber loss (Huber 1964) of (B, 1, …) or (B, 1) values against targets (B, …); 0 where nothing is labelled."""
    known = torch.isfinite(target)
    errors = F.huber_loss(logits[:, 0], target.where(known, 0.0), reduction="none", delta=1.0)
    return (errors * known).sum() / known.sum().clamp_min(1)
