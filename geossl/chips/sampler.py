"""The resident sampler: all drawn chips on the training device in their stored integers, bands last.

A batch costs one ``index_select`` per array: no workers, no host copies, no loop over the batch. Unsigned 16-bit
pixels are kept as their int16 bit pattern (``index_select`` on int16 is several times faster than on uint16);
:meth:`ResidentSampler.decode` gives reflectance back.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from geossl.chips.chipset import ChipSet, Rows
from geossl.errors import InputError
from geossl.products import Encoding

_LOAD_AT_ONCE = 512
_DAY_NS = 86_400_000_000_000


class ResidentSampler:
    """Chips of some table rows, held on ``device``.

    A batch depends on the generator alone (and the rows), never on what was drawn before. ``nbytes`` is what the
    sampler holds on the device.
    """

    def __init__(self, chips: ChipSet, rows: Rows, device: str | torch.device, seed: int) -> None:
        """Load the chips of ``rows`` (indices into ``chips.table``); ``seed`` orders the epochs.

        Raises:
            InputError: no rows, or a pixel type that cannot be resident.
        """
        self.rows_np = np.asarray(rows, dtype=np.int64)
        if self.rows_np.ndim != 1 or not len(self.rows_np):
            raise InputError("no chips to draw from", where=chips.path, remedy="check splits, period and clear share")
        self.device = torch.device(device)
        self.seed = int(seed)
        self.encoding: Encoding = chips.encoding
        self.bands = tuple(chips.bands)
        dtype = _resident_dtype(np.dtype(chips.encoding.dtype), chips.path)
        height, width = chips.shape
        n = len(self.rows_np)
        self.values = torch.empty((n, height, width, len(self.bands)), dtype=dtype, device=self.device)
        self.clear = torch.empty((n, height, width), dtype=torch.bool, device=self.device)
        order = np.argsort(self.rows_np, kind="stable")  # neighbours in the store are read together
        for start in range(0, n, _LOAD_AT_ONCE):
            places = order[start : start + _LOAD_AT_ONCE]
            pixels, flags = chips.load(self.rows_np[places])
            where = torch.from_numpy(places).to(self.device)
            self.values[where] = _as_resident(pixels, dtype).to(self.device)
            self.clear[where] = torch.from_numpy(flags == 0).to(self.device)
        self.rows = torch.from_numpy(self.rows_np).to(self.device)
        self._place = torch.full((int(self.rows_np.max()) + 1,), -1, dtype=torch.long, device=self.device)
        self._place[self.rows] = torch.arange(n, device=self.device)
        table = chips.table.iloc[self.rows_np]
        self._tiles = np.unique(table["tile"].astype(str).to_numpy(), return_inverse=True)[1]
        stamps = table["datetime"]
        known = stamps.notna().to_numpy()
        utc = stamps.dt.tz_localize(None) if stamps.dt.tz is not None else stamps
        self._days = np.where(known, utc.to_numpy("datetime64[ns]").astype(np.int64) // _DAY_NS, 0)
        self._dated = known
        self._pairs: dict[int, tuple[Tensor, Tensor, Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.rows_np)

    @property
    def nbytes(self) -> int:
        """Bytes of pixels and flags on the device."""
        return self.values.nbytes + self.clear.nbytes

    def batch(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """``n`` chips drawn with replacement: values (n, y, x, band) int16 bit pattern or float32, clear (n, y, x)
        bool, table rows (n,); all on the device. ``generator`` must live on the device."""
        return self._at(torch.randint(len(self), (n,), generator=generator, device=self.device))

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The chips of the given table rows (each must be resident), shaped as :meth:`batch`."""
        return self._at(self._places(rows))

    def decode(self, values: Tensor) -> Tensor:
        """Stored values of :meth:`batch` as float32 reflectance, same shape; nodata is *not* marked (use clear)."""
        if values.dtype == torch.int16 and self.encoding.dtype == "uint16":
            values = values.view(torch.uint16)
        return values.float().mul_(self.encoding.scale).add_(self.encoding.offset)

    def epoch_rows(self, epoch: int) -> Tensor:
        """All resident table rows once, in an order that depends on (seed, epoch) only; on the device."""
        order = np.random.default_rng([self.seed, int(epoch)]).permutation(len(self))
        return self.rows[torch.from_numpy(order).to(self.device)]

    def pair(self, rows: Tensor, generator: torch.Generator, max_days: int) -> Tensor:
        """For each row another resident row: the same tile on another date at most ``max_days`` away, drawn
        uniformly; the row itself where there is none. Table rows (n,) on the device."""
        order, rank, first, last = self._windows(int(max_days))
        places = self._places(rows)
        others = last[places] - first[places] - 1  # without itself
        draw = torch.rand(len(places), generator=generator, device=self.device)
        step = torch.minimum((draw * others).long(), (others - 1).clamp(min=0))
        chosen = first[places] + step
        chosen = torch.where(chosen >= rank[places], chosen + 1, chosen)  # skip itself
        return torch.where(others > 0, self.rows[order[chosen.clamp(max=len(self) - 1)]], self.rows[places])

    def has_pair(self, max_days: int) -> np.ndarray:
        """(rows,) bool, in resident order: whether the tile has another date within ``max_days``."""
        _, _, first, last = self._windows(int(max_days))
        return ((last - first) > 1).cpu().numpy()

    def _places(self, rows: Tensor) -> Tensor:
        return self._place[rows.to(self.device)]

    def _at(self, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        values = self.values.flatten(1).index_select(0, places).view(-1, *self.values.shape[1:])
        return values, self.clear.index_select(0, places), self.rows.index_select(0, places)

    def _windows(self, max_days: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Chips ordered by (tile, day): the order, each chip's rank in it, and the ranks its window spans."""
        if max_days not in self._pairs:
            n = len(self)
            # Undated chips get a tile of their own: nothing is known about their distance in time.
            tiles = np.where(self._dated, self._tiles, self._tiles.max() + 1 + np.arange(n))
            span = int(self._days.max() - self._days.min()) + max_days + 2
            key = tiles.astype(np.int64) * span + (self._days - self._days.min())
            key = np.where(self._dated, key, tiles.astype(np.int64) * span)
            order = np.argsort(key, kind="stable")
            rank = np.empty(n, dtype=np.int64)
            rank[order] = np.arange(n)
            ordered = key[order]
            tile_start = tiles.astype(np.int64) * span
            first = np.searchsorted(ordered, np.maximum(key - max_days, tile_start), side="left")
            last = np.searchsorted(ordered, np.minimum(key + max_days, tile_start + span - 1), side="right")
            parts = (order, rank, first, last)
            tensors = [torch.from_numpy(np.ascontiguousarray(part, dtype=np.int64)).to(self.device) for part in parts]
            self._pairs[max_days] = (tensors[0], tensors[1], tensors[2], tensors[3])
        return self._pairs[max_days]


def _resident_dtype(dtype: np.dtype, where: object) -> torch.dtype:
    if dtype.kind == "f":
        return torch.float32
    if dtype.name in {"uint8", "int8", "int16", "uint16"}:
        return torch.int16
    raise InputError(
        "this pixel type cannot be resident", where=where, expected="at most 16 bits, or float", found=dtype
    )


def _as_resident(pixels: np.ndarray, dtype: torch.dtype) -> Tensor:
    """(n, band, y, x) as (n, y, x, band): uint16 by its bit pattern, narrower integers widened, floats as float32."""
    bands_last = np.ascontiguousarray(np.moveaxis(pixels, 1, -1))
    if dtype == torch.float32:
        return torch.from_numpy(bands_last.astype(np.float32, copy=False))
    if bands_last.dtype == np.uint16:
        return torch.from_numpy(bands_last.view(np.int16))
    return torch.from_numpy(bands_last.astype(np.int16, copy=False))
