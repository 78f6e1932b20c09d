"""The resident sampler: all drawn chips on the training device in their stored integers, bands last.

A batch costs one ``index_select`` per array: no workers, no host copies, no loop over the batch. Unsigned 16-bit
pixels are kept as their int16 bit pattern (``index_select`` on int16 is several times faster than on uint16);
:meth:`Sampler.decode` gives reflectance back. A store larger than memory: :mod:`geossl.chips.streamed`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor

from geossl.chips.chipset import ChipSet, Rows
from geossl.chips.draws import weighted_order
from geossl.chips.pairs import PairIndex, PairPolicy
from geossl.errors import InputError
from geossl.products import Encoding

_LOAD_AT_ONCE = 512


class Sampler(ABC):
    """Chips of some table rows, drawn onto ``device``. A chip's *place* is its number among the given rows.

    With ``shard=(rank, world)`` one process of several holds its part: of the tiles in an order shuffled by the seed,
    each rank gets a stretch of chips of equal length (give or take one), so a tile's dates stay together, but for the
    tiles at the ``world - 1`` cuts. ``total`` counts the chips of all ranks; ``own`` (len,) long on the CPU are the
    places held here, in the order of ``rows``.
    """

    def __init__(
        self,
        chips: ChipSet,
        rows: Rows,
        device: str | torch.device,
        seed: int,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        """Take the chips of ``rows`` (indices into ``chips.table``); ``seed`` orders the epochs.

        Raises:
            InputError: no rows, or a pixel type that cannot be resident.
        """
        given = np.asarray(rows, dtype=np.int64)
        if given.ndim != 1 or not len(given):
            raise InputError("no chips to draw from", where=chips.path, remedy="check splits, period and clear share")
        self.device = torch.device(device)
        self.seed = int(seed)
        self.shard = shard
        self.encoding: Encoding = chips.encoding
        self.bands = tuple(chips.bands)
        self.dtype = resident_dtype(np.dtype(chips.encoding.dtype), chips.path)
        self.total = len(given)
        tiles = chips.table["tile"].astype(str).to_numpy()[given]
        own = _part(tiles, self.seed, *shard)
        self.own = torch.from_numpy(own)
        self.rows_np = given[own]
        self.rows = torch.from_numpy(self.rows_np).to(self.device)
        self._local = torch.full((int(self.rows_np.max()) + 1,), -1, dtype=torch.long, device=self.device)
        self._local[self.rows] = torch.arange(len(own), device=self.device)
        self._global = self.own.to(self.device)
        self._tiles = tiles[own]
        self._stamps = chips.table["datetime"].iloc[self.rows_np]
        self.pairs = PairIndex(self._tiles, self._stamps, self.device)

    def __len__(self) -> int:
        return len(self.rows_np)

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes of pixels and flags on the device."""

    @abstractmethod
    def take(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The chips of the given table rows (each must be held here): values (n, y, x, band) int16 bit pattern or
        float32, clear (n, y, x) bool, table rows (n,); all on the device."""

    def read(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`take`, for chips in any order: what a sampler keeps in memory stays as it is."""
        return self.take(rows)

    def decode(self, values: Tensor) -> Tensor:
        """Stored values of :meth:`take` as float32 reflectance, same shape; nodata is *not* marked (use clear)."""
        if values.dtype == torch.int16 and self.encoding.dtype == "uint16":
            values = values.view(torch.uint16)
        return values.float().mul_(self.encoding.scale).add_(self.encoding.offset)

    def places(self, rows: Tensor) -> Tensor:
        """Places of table rows among the chips of all ranks, (n,) long on the device."""
        return self._global[self._local[rows.to(self.device)]]

    def epoch_rows(self, epoch: int) -> Tensor:
        """All rows held here once, in an order that depends on (seed, epoch) only; on the device."""
        generator = self._generator(epoch)
        order = np.concatenate([generator.permutation(window) for window in self._windows(epoch)])
        return self.rows[torch.from_numpy(order).to(self.device)]

    def weighted_rows(self, epoch: int, weights: Tensor, batch_size: int, batches: int) -> Tensor:
        """Rows of an epoch's batches (batches * batch_size,), each in proportion to its weight, none twice in a batch.

        ``weights`` (total,): one for each place of all ranks. Depends on (seed, epoch, weights) and the batch only.

        Raises:
            InputError: weights that are none, or leave too few chips for a batch.
        """
        if len(weights) != self.total:
            raise InputError(
                "there must be one weight a training chip",
                where="sampling weights",
                expected=self.total,
                found=len(weights),
            )
        own = weights.cpu()[self.own].numpy()
        order = weighted_order(own, batch_size, batches, self._windows(epoch), self._generator(epoch))
        return self.rows[torch.from_numpy(order).to(self.device)]

    def pair(self, rows: Tensor, generator: torch.Generator, policy: PairPolicy | int) -> Tensor:
        """For each row another row that :class:`PairPolicy` allows (a number: same tile, at most so many days away),
        drawn uniformly; the row itself where there is none. Table rows (n,) on the device."""
        return self.rows[self.pairs.draw(self._local[rows.to(self.device)], as_policy(policy), generator)]

    def has_pair(self, policy: PairPolicy | int) -> np.ndarray:
        """(rows,) bool, in the order of ``rows``: whether the chip has a partner."""
        return self.pairs.counts(as_policy(policy)) > 0

    def _windows(self, epoch: int) -> list[np.ndarray]:
        """Chips (numbers in ``rows``) that may be drawn beside each other; one window where all are in memory."""
        return [np.arange(len(self))]

    def _generator(self, epoch: int) -> np.random.Generator:
        rank = self.shard[0]
        return np.random.default_rng([self.seed, int(epoch), rank] if rank else [self.seed, int(epoch)])


class ResidentSampler(Sampler):
    """All chips held on ``device``; ``nbytes`` is what they take there."""

    def __init__(
        self,
        chips: ChipSet,
        rows: Rows,
        device: str | torch.device,
        seed: int,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        """Load the chips of ``rows``; see :class:`Sampler`."""
        super().__init__(chips, rows, device, seed, shard)
        height, width = chips.shape
        n = len(self)
        self.values = torch.empty((n, height, width, len(self.bands)), dtype=self.dtype, device=self.device)
        self.clear = torch.empty((n, height, width), dtype=torch.bool, device=self.device)
        order = np.argsort(self.rows_np, kind="stable")  # neighbours in the store are read together
        for start in range(0, n, _LOAD_AT_ONCE):
            chosen = order[start : start + _LOAD_AT_ONCE]
            pixels, flags = chips.load(self.rows_np[chosen])
            where = torch.from_numpy(chosen).to(self.device)
            self.values[where] = as_resident(pixels, self.dtype).to(self.device)
            self.clear[where] = torch.from_numpy(flags == 0).to(self.device)

    @property
    def nbytes(self) -> int:
        """Bytes of pixels and flags on the device."""
        return self.values.nbytes + self.clear.nbytes

    def batch(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """``n`` chips drawn with replacement, shaped as :meth:`take`. ``generator`` must live on the device."""
        return self._at(torch.randint(len(self), (n,), generator=generator, device=self.device))

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The chips of the given table rows; see :meth:`Sampler.take`."""
        return self._at(self._local[rows.to(self.device)])

    def _at(self, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        values = self.values.flatten(1).index_select(0, places).view(-1, *self.values.shape[1:])
        return values, self.clear.index_select(0, places), self.rows.index_select(0, places)


def _part(tiles: np.ndarray, seed: int, rank: int, world: int) -> np.ndarray:
    """Numbers of the chips one rank of ``world`` holds, in their given order."""
    if world == 1:
        return np.arange(len(tiles))
    if len(tiles) < world:
        raise InputError("fewer chips than processes", expected=f"at least {world}", found=len(tiles))
    numbers = np.unique(tiles, return_inverse=True)[1]
    shuffled = np.random.default_rng([seed, world]).permutation(numbers.max() + 1)[numbers]
    return np.sort(np.array_split(np.argsort(shuffled, kind="stable"), world)[rank])


def as_policy(given: PairPolicy | int) -> PairPolicy:
    """A number of days as a policy."""
    return given if isinstance(given, PairPolicy) else PairPolicy(int(given))


def resident_dtype(dtype: np.dtype, where: object) -> torch.dtype:
    """The torch type in which pixels of ``dtype`` are held."""
    if dtype.kind == "f":
        return torch.float32
    if dtype.name in {"uint8", "int8", "int16", "uint16"}:
        return torch.int16
    raise InputError(
        "this pixel type cannot be resident", where=where, expected="at most 16 bits, or float", found=dtype
    )


def as_resident(pixels: np.ndarray, dtype: torch.dtype) -> Tensor:
    """(n, band, y, x) seen as (n, y, x, band): uint16 by its bit pattern, narrower integers widened, floats as float32.

    A view where the type allows it: copying it into bands-last memory is one pass.
    """
    if dtype == torch.int16 and pixels.dtype == np.uint16:
        held = np.ascontiguousarray(pixels).view(np.int16)
    else:
        held = pixels.astype(np.float32 if dtype == torch.float32 else np.int16, copy=False)
    return torch.from_numpy(held).permute(0, 2, 3, 1)
