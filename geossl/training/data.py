"""From a chip set to batches of views: which chips train, their statistics, and the batch of any given step.

A batch depends on (seed, step) and the chips alone, so a run that is continued at any step sees what an undisturbed
one would have seen. No loader workers: the chips lie on the training device, all of them or window by window, and the
views are made there.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from geossl.chips.chipset import ChipSet
from geossl.chips.pairs import PairPolicy
from geossl.chips.sampler import Sampler
from geossl.chips.splits import split_blocks
from geossl.errors import InputError
from geossl.regions import Period
from geossl.views.fused import make_small_views, make_views
from geossl.views.recipe import Recipe

MIN_CLEAR = 0.5
"""Chips with a smaller share of clear pixels are not trained on: hardly a view of them would be valid."""
LEAST_SPREAD = 0.01
"""Reflectance; the offset that views add."""
STATISTICS_CHIPS = 2000
_LOAD_AT_ONCE = 256
_EMBED_AT_ONCE = 128


@dataclass(frozen=True)
class Split:
    """Rows of the chip table by purpose, and which blocks they came from."""

    train: np.ndarray
    val: np.ndarray
    blocks: dict[str, list[str]]
    cloudy: int
    """Chips of training blocks left out because less than :data:`MIN_CLEAR` of them is clear."""


def split_chips(
    chips: ChipSet,
    seed: int,
    all_blocks: bool,
    period: Period | None = None,
    months: tuple[int, ...] | None = None,
) -> Split:
    """Training and validation rows by block; with ``all_blocks`` every block trains and nothing is held out.

    A store may hold more dates than are asked for: only chips of ``period`` and ``months`` are taken. The split of a
    block does not depend on them.

    Raises:
        InputError: no clear chip is left for training.
    """
    table = chips.table
    if not len(table):
        raise InputError("there are no chips", where=chips.path, remedy="build tiles, or check period and months")
    block = table["block"].astype(str).to_numpy()
    names = dict.fromkeys(block, "train") if all_blocks else split_blocks(block, seed)
    side = np.array([names[name] for name in block])
    asked = in_time(table["datetime"], period, months)
    clear = asked & (table["clear"].to_numpy(dtype=float) >= MIN_CLEAR)
    train, val = np.flatnonzero((side == "train") & clear), np.flatnonzero((side == "val") & clear)
    if not len(train):
        raise InputError(
            "no chip to train on",
            where=chips.path,
            expected=f"chips of training blocks with at least {MIN_CLEAR:.0%} clear pixels",
            found=f"{len(table)} chips, {int(asked.sum())} in the period, {int(clear.sum())} of them clear enough",
            remedy="take more dates, a longer period or one with fewer clouds, or --all-blocks",
        )
    blocks = {kind: sorted(n for n, k in names.items() if k == kind) for kind in ("train", "val", "test")}
    return Split(train, val, blocks, int(((side == "train") & asked & ~clear).sum()))


def in_time(stamps: pd.Series, period: Period | None, months: tuple[int, ...] | None) -> np.ndarray:
    """(n,) bool: whether each UTC time lies in the period and months; unknown times only where neither is asked."""
    inside = np.ones(len(stamps), dtype=bool)
    if period is not None:
        days = stamps.dt.date
        inside &= np.array([day == day and period.contains(day) for day in days], dtype=bool)
    if months is not None:
        inside &= stamps.dt.month.isin(months).to_numpy()
    return inside


def band_statistics(chips: ChipSet, rows: np.ndarray, seed: int) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each band in reflectance, over clear pixels of at most 2000 chips of ``rows``.

    A deviation is at least :data:`LEAST_SPREAD`: the cirrus band of cloudless scenes varies by 0.0005, and stretched by
    that the offset and noise of views, which are in reflectance, would be twenty of its deviations in every view and
    absent from every clean image.
    """
    if len(rows) > STATISTICS_CHIPS:
        chosen = np.random.default_rng(step_seed(seed, -1)).choice(rows, STATISTICS_CHIPS, replace=False)
        rows = np.sort(chosen)
    count = 0
    total = np.zeros(len(chips.bands))
    squares = np.zeros(len(chips.bands))
    for start in range(0, len(rows), _LOAD_AT_ONCE):
        stored, flags = chips.load(rows[start : start + _LOAD_AT_ONCE])
        values = np.moveaxis(chips.encoding.decode(stored), 1, -1)[flags == 0].astype(np.float64)  # (pixels, band)
        values = values[np.isfinite(values).all(axis=1)]
        count += len(values)
        total += values.sum(axis=0)
        squares += (values**2).sum(axis=0)
    if count == 0:
        raise InputError("no clear pixel in the training chips", where=chips.path, remedy="check the mask and nodata")
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    flat = [band for band, spread in zip(chips.bands, std, strict=True) if spread < 1e-8]
    if flat:
        raise InputError(
            f"band {', '.join(flat)} does not vary over the training chips",
            where=chips.path,
            remedy="leave the band out when the tiles are built",
        )
    return mean.tolist(), np.maximum(std, LEAST_SPREAD).tolist()


def fill_bands(values: np.ndarray) -> np.ndarray:
    """NaN in (n, band, y, x) replaced by the mean of that chip's band, or of the band over all where it has none."""
    missing = np.isnan(values)
    if not missing.any():
        return values
    count = (~missing).sum(axis=(2, 3))
    total = np.where(missing, 0.0, values).sum(axis=(2, 3), dtype=np.float64)
    overall = total.sum(axis=0) / np.maximum(count.sum(axis=0), 1)  # (band,)
    mean = np.where(count > 0, total / np.maximum(count, 1), overall).astype(np.float32)  # (n, band)
    return np.where(missing, mean[:, :, None, None], values)


def step_seed(seed: int, step: int) -> int:
    """A 63-bit seed for one step of one run; neighbouring steps share nothing."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{step}".encode()).digest()[:8], "big") >> 1


class Batches:
    """The views of any step: chips from the sampler, decoded, paired, augmented, normalised.

    An epoch takes every chip once, or, after :meth:`set_weights`, in proportion to weights. A process of several holds
    a part of the chips (``sampler.shard``); all of them do the same number of steps an epoch.
    """

    def __init__(
        self,
        sampler: Sampler,
        recipe: Recipe,
        mean: Tensor,
        std: Tensor,
        batch_size: int,
        n_views: int,
        seed: int,
        pairs: PairPolicy | int | None = None,
    ) -> None:
        """``mean``, ``std``: one a band, reflectance. ``batch_size``: chips a step in this process. ``pairs``: what
        the second view may show (a number: largest distance in days); None: another crop of the same chip."""
        self.sampler, self.recipe, self.batch_size, self.seed = sampler, recipe, batch_size, seed
        self.n_views = n_views
        self.pairs = PairPolicy(pairs) if isinstance(pairs, int) else pairs
        self._scale = (1 / std).to(sampler.device)[:, None, None]
        self._shift = (-mean / std).to(sampler.device)[:, None, None]
        self._weights: Tensor | None = None
        self._epoch: tuple[int, Tensor] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in one pass over the chips; the remainder sits out, another one each epoch."""
        return self.sampler.total // self.sampler.shard[1] // self.batch_size

    @property
    def weights(self) -> Tensor | None:
        """Weights in force, (training chips,) float32 on the CPU, or None: what a checkpoint must keep."""
        return self._weights

    def set_weights(self, weights: Tensor | None) -> None:
        """How often each training chip (by place, of all processes) is drawn from now on, relative to the others; None:
        each once an epoch. No chip stands twice in a batch. The order depends on (seed, epoch, weights) only, so set
        weights before the first step of an epoch, and after a resume those that were in force.
        """
        self._weights = None if weights is None else weights.detach().to("cpu", torch.float32)
        self._epoch = None

    def rows(self, step: int) -> Tensor:
        """Table rows of the batch of ``step`` (n,), each at most once."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, self._order(epoch))
        return self._epoch[1][place * self.batch_size : (place + 1) * self.batch_size]

    def places(self, step: int) -> Tensor:
        """Which of the training chips (0 to N - 1, of all processes) each image of ``step`` is, (n,) long."""
        return self.sampler.places(self.rows(step))

    def views(self, step: int) -> list[Tensor]:
        """Normalised views of ``step``, float32, channels_last: ``n_views`` tensors (n, band, size, size), then the
        recipe's ``small_views`` tensors (n, band, small_size, small_size), which show the chip itself, not its partner.
        """
        rank = self.sampler.shard[0]
        own_seed = step_seed(self.seed, step) if rank == 0 else step_seed(step_seed(self.seed, step), rank)
        generator = torch.Generator(self.sampler.device).manual_seed(own_seed)
        values, clear = self._decoded(*self.sampler.take(self.rows(step)))
        if self.pairs is None:
            views = make_views(values, clear, self.recipe, generator, self.n_views)
        else:
            views = make_views(values, clear, self.recipe, generator, 1)
            for number in range(1, self.n_views):
                partner = self.sampler.pair(self.rows(step), generator, self.pairs)
                views += make_views(*self._decoded(*self.sampler.take(partner)), self.recipe, generator, 1, number)
        if self.recipe.small_views:
            views += make_small_views(values, clear, self.recipe, generator)
        return [self._normalised(view) for view in views]

    def embed(self, network: nn.Module) -> Tensor:
        """Outputs (N, d) float32 of ``network`` on every training chip, unaugmented, in the order of places.

        Evaluation mode, no gradient; gaps hold the chip's band mean. On the sampler's device; where several processes
        share the chips each computes its part, and all of them get everything.
        """
        training = network.training
        network.eval()
        done: Tensor | None = None
        try:
            with torch.no_grad(), torch.autocast(self.sampler.device.type, enabled=False):
                order = np.sort(self.sampler.rows_np)  # as they lie in the store
                for start in range(0, len(order), _EMBED_AT_ONCE):
                    rows = torch.from_numpy(order[start : start + _EMBED_AT_ONCE]).to(self.sampler.device)
                    found = network(self._whole(rows)).float()
                    if done is None:
                        done = found.new_zeros((self.sampler.total, found.shape[1]))
                    done[self.sampler.places(rows)] = found
        finally:
            network.train(training)
        assert done is not None  # a sampler has at least one chip
        if self.sampler.shard[1] > 1:
            torch.distributed.all_reduce(done)  # the others' rows are 0 here
        return done

    def _order(self, epoch: int) -> Tensor:
        if self._weights is None:
            return self.sampler.epoch_rows(epoch)
        return self.sampler.weighted_rows(epoch, self._weights, self.batch_size, self.steps_per_epoch)

    def _decoded(self, stored: Tensor, clear: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        return self.sampler.decode(stored).permute(0, 3, 1, 2), clear  # (n, band, y, x), bands last in memory

    def _whole(self, rows: Tensor) -> Tensor:
        """Normalised chips (n, band, y, x), gaps filled with the chip's band mean (the set's where all is a gap)."""
        values, clear = self._decoded(*self.sampler.read(rows))
        lit = clear[:, None]
        values = torch.where(lit, self._normalised(values), 0.0)
        mean = values.sum(dim=(2, 3), keepdim=True) / lit.sum(dim=(2, 3), keepdim=True).clamp(min=1)
        return torch.where(lit, values, mean).contiguous(memory_format=torch.channels_last)

    def _normalised(self, values: Tensor) -> Tensor:
        return torch.addcmul(self._shift, values, self._scale, out=values)
