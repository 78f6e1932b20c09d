"""Sinkhorn's algorithm: soft assignments of samples to prototypes that use all prototypes equally."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float = 0.05, iterations: int = 3, weights: Tensor | None = None) -> Tensor:
    """Codes (n, K) of samples by their scores (n, K); each row sums to 1, and all columns to about n / K.

    Caron et al. 2020, arXiv:2006.09882, eq. 3 to 5: ``exp(scores / epsilon)`` with columns and rows scaled in turn. In
    float32 at least: float16 overflows at the usual epsilon, and float32 loses small codes below 0.025.

    Args:
        scores: cosine similarity of samples to prototypes.
        epsilon: how soft the codes are.
        iterations: how often columns and rows are scaled.
        weights: (n,) mass of each sample, 1 where not given; samples of mass 0 are not counted.
    """
    scores = scores if scores.dtype == torch.float64 else scores.float()
    codes = torch.exp(scores / epsilon)
    if weights is not None:
        codes = codes * weights[:, None]
    tiny = torch.finfo(codes.dtype).tiny
    for _ in range(iterations):
        codes = codes / codes.sum(dim=0, keepdim=True).clamp(min=tiny)
        rows = codes.sum(dim=1, keepdim=True).clamp(min=tiny)
        codes = codes / rows if weights is None else codes * (weights[:, None] / rows)
    return codes
