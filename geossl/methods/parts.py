"""Parts that several methods share: losses in float32, gathering over processes, true copies, moving averages.

Losses switch autocast off: similarities divided by a temperature lose their differences in bfloat16. With several
processes (DDP) a loss that looks across the batch gathers it first, so that every process has the loss of the joined
batch, and the mean of the gradients over the processes, which DDP takes, is the gradient of that loss.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import wraps
from itertools import groupby
from typing import Any, ParamSpec, cast

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn

from geossl.errors import InputError

P = ParamSpec("P")
_CHIPS_A_GROUP = 30
_FEWEST_GROUPS, _MOST_GROUPS = 16, 3000


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


def processes() -> int:
    """Processes that train together: 1 without an initialised process group."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def gather(rows: Tensor) -> Tensor:
    """Rows (n, …) of all processes in the order of their ranks (n * processes, …); gradients flow back to each.

    Every process must hold as many rows. With one process, ``rows`` itself.
    """
    gathered: Tensor = rows if processes() == 1 else _Gather.apply(rows)
    return gathered


class _Gather(torch.autograd.Function):
    """All rows forward, the sum of all processes' gradients back (torch's own goes wrong on strided gradients)."""

    @staticmethod
    def forward(context: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(processes())]
        distributed.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        return own_rows(total)


def own_rows(gathered: Tensor) -> Tensor:
    """The part of what :func:`gather` gave that came from this process."""
    return gathered if processes() == 1 else gathered.chunk(processes())[distributed.get_rank()]


@in_float32
def nt_xent(
    first: Tensor, second: Tensor, temperature: float, decoupled: bool = False, memory: Tensor | None = None
) -> Tensor:
    """Normalised temperature-scaled cross-entropy of two views' projections (n, d).

    Each of the 2n projections has one positive, its other view, and 2n - 2 negatives (Chen et al. 2020,
    arXiv:2002.05709, eq. 1). ``decoupled`` leaves the positive out of the denominator (Yeh et al. 2021,
    arXiv:2110.06848, eq. 6), which helps small batches. ``memory`` (K, d), of unit length, are further negatives of
    every projection, without gradients. One matrix product gives all similarities.
    """
    first, second = gather(torch.stack([first, second], dim=1)).unbind(1)
    n = len(first)
    z = F.normalize(torch.cat([first, second]), dim=1)  # (2n, d)
    similarity = z @ z.T / temperature
    other = torch.arange(2 * n, device=z.device).roll(n)
    itself = torch.eye(2 * n, dtype=torch.bool, device=z.device)
    positive = similarity.gather(1, other[:, None])[:, 0]
    left_out = itself | itself.roll(n, dims=1) if decoupled else itself
    candidates = similarity.masked_fill(left_out, -torch.inf)
    if memory is not None:
        candidates = torch.cat([candidates, z @ memory.detach().T / temperature], dim=1)
    return (candidates.logsumexp(dim=1) - positive).mean()


@in_float32
def info_nce(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of queries (n, d) picking their key (n, d) among the keys of a queue (K, d); all of unit length.

    He et al. 2020, arXiv:1911.05722, eq. 1; gradients flow through ``query`` alone.
    """
    positive = (query * key.detach()).sum(dim=1, keepdim=True)
    logits = torch.cat([positive, query @ queue.detach().T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long, device=query.device))


def unit_rows(projected: Tensor) -> Tensor:
    """Rows (…, d) scaled to unit length in float32."""
    return F.normalize(projected.float(), dim=-1)


def embedding_width(backbone: nn.Module) -> int:
    """``out_dim`` of a backbone."""
    return int(cast(int, backbone.out_dim))


def forward_views(network: nn.Module, views: list[Tensor]) -> list[Tensor]:
    """Outputs (n, d) of each view; neighbouring views of one size go through in one pass and share batch statistics."""
    outputs: list[Tensor] = []
    for _, same in groupby(views, key=lambda view: view.shape[-2:]):
        together = list(same)
        outputs += network(torch.cat(together)).chunk(len(together))
    return outputs


def seen_by_health(embedded: list[Tensor], n_views: int) -> Tensor:
    """Embeddings (n_views, n, D) of the large views, detached float32: what a step returns beside its loss."""
    return torch.stack(embedded[:n_views]).detach().float()


def frozen_copy(network: nn.Module) -> nn.Module:
    """A true copy: the same weights and statistics now, no shared storage, and no gradients."""
    return copy.deepcopy(network).requires_grad_(False)


@torch.no_grad()
def move_towards(average: nn.Module, network: nn.Module, momentum: float) -> None:
    """Exponential moving average of parameters: ``average = momentum * average + (1 - momentum) * network``.

    Buffers are left alone: the average runs in training mode, so its batch-norm uses and keeps statistics of its own.
    """
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - momentum)


def cosine_momentum(first: float, progress: float) -> float:
    """Momentum that rises from ``first`` to 1 along a half cosine (Grill et al. 2020, arXiv:2006.07733, sec. 3.3)."""
    return 1 - (1 - first) * (math.cos(math.pi * progress) + 1) / 2


def group_count(asked: int | None, chips: int, field: str) -> int:
    """How many prototypes or clusters: as asked, else one a 30 chips (16 to 3000, never more than chips).

    Raises:
        InputError: more are asked for than there are training chips.
    """
    if asked is None:
        return min(max(round(chips / _CHIPS_A_GROUP), _FEWEST_GROUPS), _MOST_GROUPS, chips)
    if asked > chips:
        raise InputError(
            f"there are fewer training chips than {field}",
            where=f"settings.{field}",
            expected=f"at most {chips} (the training chips)",
            found=asked,
            remedy=f"leave {field} out (one a {_CHIPS_A_GROUP} chips), or take more chips",
        )
    return asked
