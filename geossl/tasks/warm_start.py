"""A student's first answer: the read-out of its spectral features that comes nearest to what the teacher says.

A teacher may rest on spectral planes alone. Small steps from random weights take long to repeat that, since planes vary
little and their weights must be large; a ridge fit gives it at once, and training adds what the encoder sees.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

from geossl.tasks.heads import ChipNet, PixelNet
from geossl.tasks.linear import Scaling
from geossl.tasks.spectral import statistic_count

_PIXELS = 100
"""Pixels taken of each chip at most."""
_PENALTY = 0.1


@torch.no_grad()
def warm_start(net: PixelNet | ChipNet, answers: Iterable[tuple[Tensor, Tensor, Tensor]], seed: int) -> None:
    """Set the read-out in place; the encoder is read with weight 0 at first.

    Args:
        net: the student.
        answers: batches of values (B, C, H, W) as the student takes them, clear (B, H, W), and the answer wanted:
            logits or scaled values, (B, K, H, W) or (B, K).
        seed: of the draw of pixels.
    """
    rng = np.random.default_rng(seed)
    net.eval()
    known, wanted = [], []
    for values, clear, answer in answers:
        if isinstance(net, ChipNet):
            known.append(net.features(values, clear)[:, -statistic_count(net.encoder.bands) :])
            wanted.append(answer)
            continue
        planes = net.spectral(values, clear).movedim(1, -1)
        for one, seen, said in zip(planes, clear, answer.movedim(1, -1), strict=True):
            places = torch.nonzero(seen.flatten())[:, 0]
            chosen = places[torch.from_numpy(rng.permutation(len(places))[:_PIXELS])]
            known.append(one.flatten(0, 1)[chosen])
            wanted.append(said.flatten(0, 1)[chosen])
    features, targets = torch.cat(known).numpy(), torch.cat(wanted).double().numpy()
    if not len(features):
        return
    scaling = Scaling.of(features, [features.shape[1]])
    fit = Ridge(alpha=_PENALTY).fit(scaling(features).astype(np.float64), targets)
    weight = np.atleast_2d(fit.coef_) * scaling.factor
    bias = torch.from_numpy(np.atleast_1d(fit.intercept_) - weight @ scaling.mean).float()
    _put(net, torch.from_numpy(weight).float(), bias)


def _put(net: PixelNet | ChipNet, weight: Tensor, bias: Tensor) -> None:
    if isinstance(net, ChipNet):
        net.reader.weight.zero_()
        net.reader.weight[:, -weight.shape[1] :] = weight
        net.reader.bias.copy_(bias)
        return
    for reader in net.readers:
        reader.weight.zero_()  # type: ignore[operator, union-attr]
    planes = net.planes.in_channels
    net.planes.weight.copy_(weight[:, :planes, None, None])
    assert net.planes.bias is not None
    net.planes.bias.copy_(bias)
    if net.anomalies is not None:
        net.anomalies.weight.copy_(weight[:, planes:, None, None])
