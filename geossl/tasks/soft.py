"""What a teacher says of unlabelled chips, and how well a student repeats it.

Chen et al. 2020, arXiv:2006.10029, eq. 2: the student minimises the cross-entropy between the teacher's and its own
class probabilities, both softened by a temperature; true labels do not enter. Labels that are independent are softened
one by one; a quantity has no probabilities, so its squared error is taken, in the teacher's own spread.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geossl.tasks.heads import ChipNet, PixelNet
from geossl.tasks.spec import TaskSpec

Net = PixelNet | ChipNet


@dataclass(frozen=True)
class Softening:
    """How a task's logits become what is learnt: ``temperature``, and for a quantity the teacher's ``mean`` and
    ``spread``.
    """

    spec: TaskSpec
    temperature: float
    mean: float = 0.0
    spread: float = 1.0

    def targets(self, logits: Tensor, clear: Tensor) -> Tensor:
        """What the student shall say: probabilities (B, K, …) or scaled values (B, 1, H, W), float32; NaN at pixels
        that are not clear, of which nothing is asked.

        ``logits``: the teacher's, (B, K, H, W), or (B, K) of chips. ``clear``: (B, H, W).
        """
        if self.spec.kind == "regression":
            soft = (logits - self.mean) / self.spread
        elif self.spec.kind == "multilabel":
            soft = (logits / self.temperature).sigmoid()
        else:
            soft = (logits / self.temperature).softmax(1)
        return soft.masked_fill(~clear[:, None], torch.nan) if soft.ndim == 4 else soft

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean over everything that is asked (0 where nothing is); ``logits`` of the student in scaled units."""
        known = torch.isfinite(targets[:, :1])
        targets = targets.nan_to_num()
        if self.spec.kind == "regression":
            errors = (logits - targets).square()
        elif self.spec.kind == "multilabel":
            errors = F.binary_cross_entropy_with_logits(logits / self.temperature, targets, reduction="none")
            errors = errors.mean(1, keepdim=True)
        else:
            errors = -(targets * (logits / self.temperature).log_softmax(1)).sum(1, keepdim=True)
        return (errors * known).sum() / known.sum().clamp_min(1)

    @torch.no_grad()
    def unscale(self, net: Net) -> None:
        """Fold a quantity's scale into a trained student's last layers, so that it speaks the teacher's unit."""
        pixels = isinstance(net, PixelNet)
        readers = [*net.readers, net.planes, net.anomalies, net.responses] if pixels else [net.reader]
        for layer in readers:
            if layer is None:  # a task without references reads no anomalies
                continue
            assert isinstance(layer, nn.Conv2d | nn.Linear)
            layer.weight.mul_(self.spread)
            if layer.bias is not None:
                layer.bias.mul_(self.spread).add_(self.mean)


def softening(spec: TaskSpec, teacher: Net, batches: Iterable[tuple[Tensor, Tensor]], temperature: float) -> Softening:
    """For a quantity: scaled by what the teacher says of these (values, clear) batches; else the temperature alone."""
    if spec.kind != "regression":
        return Softening(spec, temperature)
    with torch.inference_mode():
        said = torch.cat([teacher(values, clear)[:, 0][clear] for values, clear in batches])
    if not len(said):
        return Softening(spec, temperature)
    return Softening(spec, temperature, float(said.mean()), max(float(said.std(correction=0)), 1e-6))


@dataclass
class Agreement:
    """How far two sets of answers are the same, gathered over batches."""

    spec: TaskSpec
    _same: float = 0.0
    _count: float = 0.0
    _residual: float = 0.0
    _sum: float = 0.0
    _squares: float = 0.0

    def add(self, student: Tensor, teacher: Tensor, clear: Tensor) -> None:
        """Logits or values of one batch, (B, K, H, W) or (B, K); ``clear`` (B, H, W)."""
        if self.spec.kind == "regression":
            ours, theirs = student[:, 0][clear].double(), teacher[:, 0][clear].double()
            self._residual += float((ours - theirs).square().sum())
            self._sum += float(theirs.sum())
            self._squares += float(theirs.square().sum())
            self._count += theirs.numel()
            return
        if self.spec.kind == "multilabel":
            same = (student > 0) == (teacher > 0)
        else:
            same = student.argmax(1) == teacher.argmax(1)
            same = same[clear] if same.ndim == 3 else same
        self._same += float(same.sum())
        self._count += same.numel()

    @property
    def value(self) -> float:
        """Share of clear pixels, chips or labels with the same answer; of a quantity the share of the teacher's
        variance that the student repeats (R², at most 1). NaN where nothing was compared."""
        if not self._count:
            return float("nan")
        if self.spec.kind != "regression":
            return self._same / self._count
        variance = self._squares / self._count - (self._sum / self._count) ** 2
        return 1 - self._residual / self._count / max(variance, 1e-12)
