"""Parts that several methods share: losses in float32, true copies of networks, moving averages.

Losses switch autocast off: similarities divided by a temperature lose their differences in bfloat16.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import torch
import torch.nn.functional as F
from torch import Tensor, nn

P = ParamSpec("P")


def in_float32(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Run a loss without autocast, its tensors converted to float32 (float64 stays)."""

    def convert(value: object) -> object:
        narrow = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
        return value.float() if narrow and isinstance(value, Tensor) else value

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        device = next(value.device.type for value in args if isinstance(value, Tensor))
        with torch.autocast(device, enabled=False):
            return function(*map(convert, args), **{key: convert(value) for key, value in kwargs.items()})  # type: ignore[arg-type]

    return wrapped


@in_float32
def nt_xent(first: Tensor, second: Tensor, temperature: float, decoupled: bool = False) -> Tensor:
    """Normalised temperature-scaled cross-entropy of two views' projections (n, d).

    Each of the 2n projections has one positive, its other view, and 2n - 2 negatives (Chen et al. 2020,
    arXiv:2002.05709, eq. 1). ``decoupled`` leaves the positive out of the denominator (Yeh et al. 2021,
    arXiv:2110.06848, eq. 6), which helps small batches. One matrix product gives all similarities.
    """
    n = len(first)
    z = F.normalize(torch.cat([first, second]), dim=1)  # (2n, d)
    similarity = z @ z.T / temperature
    other = torch.arange(2 * n, device=z.device).roll(n)
    itself = torch.eye(2 * n, dtype=torch.bool, device=z.device)
    positive = similarity.gather(1, other[:, None])[:, 0]
    left_out = itself | itself.roll(n, dims=1) if decoupled else itself
    return (similarity.masked_fill(left_out, -torch.inf).logsumexp(dim=1) - positive).mean()


@in_float32
def info_nce(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of queries (n, d) picking their key (n, d) among the keys of a queue (K, d); all of unit length.

    He et al. 2020, arXiv:1911.05722, eq. 1; gradients flow through ``query`` alone.
    """
    positive = (query * key.detach()).sum(dim=1, keepdim=True)
    logits = torch.cat([positive, query @ queue.detach().T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long, device=query.device))


def frozen_copy(network: nn.Module) -> nn.Module:
    """A true copy: the same weights and statistics now, no shared storage, and no gradients."""
    return copy.deepcopy(network).requires_grad_(False)


@torch.no_grad()
def move_towards(average: nn.Module, network: nn.Module, momentum: float) -> None:
    """Exponential moving average of parameters: ``average = momentum * average + (1 - momentum) * network``."""
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - momentum)
