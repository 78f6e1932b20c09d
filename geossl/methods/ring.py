"""A ring of past projections, kept with the state of a method: what MoCo, SimCLR v2 and SwaV call queue or memory."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Ring(nn.Module):
    """The last projections: ``items`` (K, d) and ``pointer``, the place of the oldest; both are in the state dict."""

    items: Tensor
    pointer: Tensor

    def __init__(self, items: Tensor) -> None:
        super().__init__()
        self.register_buffer("items", items)
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))
        self._kept: list[Tensor] = []

    def __len__(self) -> int:
        return len(self.items)

    def cut(self, longest: int) -> None:
        """Keep the first ``longest`` places (at least one); to be called before anything is added."""
        if len(self.items) > max(longest, 1):
            self.items = self.items[: max(longest, 1)].clone()

    def keep(self, rows: Tensor) -> None:
        """Set rows (n, d) aside until :meth:`add_kept`: gradients may be accumulated over several steps."""
        self._kept.append(rows.detach())

    def add_kept(self) -> None:
        """Add what was set aside since the last time, in that order."""
        if self._kept:
            self.add(torch.cat(self._kept))
            self._kept.clear()

    @torch.no_grad()
    def add(self, rows: Tensor) -> None:
        """Write rows (n, d) over the oldest ones; of more rows than places the last ones stay."""
        rows = rows[-len(self.items) :]
        place = (self.pointer + torch.arange(len(rows), device=rows.device)) % len(self.items)
        self.items.index_copy_(0, place, rows.to(self.items.dtype))
        self.pointer.copy_((self.pointer + len(rows)) % len(self.items))


def random_ring(places: int, dim: int) -> Ring:
    """A ring of random unit vectors from torch's global generator: negatives until the first real ones come."""
    return Ring(F.normalize(torch.randn(places, dim), dim=1))


def empty_ring(places: int, dim: int) -> Ring:
    """A ring of zero rows, which say that nothing is there yet."""
    return Ring(torch.zeros(places, dim))
