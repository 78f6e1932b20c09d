"""Chips of a store larger than memory: whole shards are read ahead, window by window, into two halves of one buffer.

An epoch takes the shards in an order shuffled by (seed, epoch), as many to a window as fit into a half; chips are
shuffled inside their window, and partners in time are looked for there too. So a batch depends on (seed, step) and on
the memory given, not on what was drawn before, and each shard is read once an epoch, by a thread, while the window
before it is trained on.
"""

from __future__ import annotations

import itertools
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import psutil
import torch
from torch import Tensor

from geossl.chips.chipset import ChipSet, Rows
from geossl.chips.pairs import PairIndex, PairPolicy
from geossl.chips.sampler import ResidentSampler, Sampler, as_policy, as_resident
from geossl.chips.store import SHARD, ChipStore
from geossl.errors import InputError
from geossl.progress import say

SHARE_OF_FREE = 0.5
"""Share of the free memory that chips may take; the rest is the network's."""
MOST_STREAMED = 4 * 2**30
"""Bytes of both windows at most: more would mix chips hardly better and take longer to fill."""
_READERS = 2  # shards that are read and turned bands last at the same time; so many lie beside the buffer


def open_sampler(
    chips: ChipSet,
    rows: Rows,
    device: str | torch.device,
    seed: int,
    memory_bytes: int | None = None,
    shard: tuple[int, int] = (0, 1),
) -> Sampler:
    """All chips in memory where they fit into ``memory_bytes`` (by default :func:`chips_memory` now), else windows of
    shards; says which and why.

    The order of chips differs between the two and with the window's size: a run that is continued passes the
    ``memory_bytes`` of its first start.

    Raises:
        InputError: no rows, or not even two shards fit.
    """
    memory = chips_memory(torch.device(device), shard[1]) if memory_bytes is None else int(memory_bytes)
    count = -(-len(rows) // shard[1])
    needed = count * chip_bytes(chips)
    limit = f"{_gib(memory)} that chips may take"
    if needed <= memory:
        say(f"chips: {count} resident, {_gib(needed)} of the {limit}")
        return ResidentSampler(chips, rows, device, seed, shard)
    sampler = StreamedSampler(chips, rows, device, seed, min(memory, MOST_STREAMED), shard)
    say(
        f"chips: {count} streamed in {len(sampler.windows(0))} windows of {sampler.capacity} chips at most, since "
        f"{_gib(needed)} do not fit into the {limit}"
    )
    return sampler


def chips_memory(device: torch.device, processes: int = 1) -> int:
    """Bytes that the chips of one of ``processes`` may take: half of what is free on its device now (the host's memory
    is shared by all of them)."""
    return int(SHARE_OF_FREE * free_memory(device)) // (1 if device.type == "cuda" else processes)


def free_memory(device: torch.device) -> int:
    """Bytes that are free on the device now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def chip_bytes(chips: ChipSet) -> int:
    """Bytes of one chip with its flags as a sampler holds it: 16-bit integers or float32, and a bool a pixel."""
    height, width = chips.shape
    size = 4 if np.dtype(chips.encoding.dtype).kind == "f" else 2
    return height * width * (size * len(chips.bands) + 1)


class StreamedSampler(Sampler):
    """Chips that pass through memory in windows. Batches of one epoch must be taken in the order of its rows to be
    fast; any other order gives the same pixels, window by window."""

    def __init__(
        self,
        chips: ChipSet,
        rows: Rows,
        device: str | torch.device,
        seed: int,
        memory_bytes: int,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        """See :class:`Sampler`; two windows together take at most ``memory_bytes``, a window ``capacity`` chips.

        Raises:
            InputError: a window could not hold the largest shard.
        """
        super().__init__(chips, rows, device, seed, shard)
        self._chips = chips
        stored = chips.table["index"].to_numpy() if isinstance(chips, ChipStore) else np.arange(len(chips.table))
        self._shard_of = np.unique(stored[self.rows_np] // SHARD, return_inverse=True)[1]
        sizes = np.bincount(self._shard_of)
        self.capacity = min(int(memory_bytes // (2 * chip_bytes(chips))), len(self))
        if self.capacity < sizes.max():
            raise InputError(
                "too little memory to stream these chips",
                where=chips.path,
                expected=f"room for two shards of {sizes.max()} chips, {_gib(2 * sizes.max() * chip_bytes(chips))}",
                found=_gib(int(memory_bytes)),
                remedy="free some memory, or build tiles of fewer pixels",
            )
        height, width = chips.shape
        buffer = 2 * self.capacity
        self._values = torch.empty((buffer, height, width, len(self.bands)), dtype=self.dtype, device=self.device)
        self._clear = torch.empty((buffer, height, width), dtype=torch.bool, device=self.device)
        self._slot = torch.full((len(self),), -1, dtype=torch.long, device=self.device)
        self._held: list[tuple[int, int] | None] = [None, None]  # (epoch, window) in each half
        self._ahead: tuple[tuple[int, int], int, Future[np.ndarray]] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shards")
        self._epoch = 0
        self._plans: dict[int, tuple[list[np.ndarray], np.ndarray]] = {}
        self._epoch_pairs: tuple[int, PairIndex] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of pixels and flags of both windows on the device."""
        return self._values.nbytes + self._clear.nbytes

    def windows(self, epoch: int) -> list[np.ndarray]:
        """Chips (numbers in ``rows``) of each window of an epoch, in the order in which they are trained on."""
        return self._plan(epoch)[0]

    def epoch_rows(self, epoch: int) -> Tensor:
        """As :meth:`Sampler.epoch_rows`; what is taken from now on belongs to this epoch."""
        self._epoch = int(epoch)
        return super().epoch_rows(epoch)

    def weighted_rows(self, epoch: int, weights: Tensor, batch_size: int, batches: int) -> Tensor:
        """As :meth:`Sampler.weighted_rows`; what is taken from now on belongs to this epoch."""
        self._epoch = int(epoch)
        return super().weighted_rows(epoch, weights, batch_size, batches)

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Chips of the current epoch's windows; see :meth:`Sampler.take`. Waits where they are not yet read.

        On a GPU this makes the host wait once: it must know which window is meant.
        """
        local = self._local[rows.to(self.device)]
        needed = np.unique(self._plan(self._epoch)[1][local.cpu().numpy()])
        if len(needed) > 2:  # windows smaller than a batch: only where weights leave them next to nothing
            return self.read(rows)
        for window in needed.tolist():
            self._hold((self._epoch, window), {(self._epoch, other) for other in needed.tolist()})
        if len(needed) == 1:  # while a batch spans two windows, both halves are in use
            self._read_ahead((self._epoch, int(needed[0])))
        slots = self._slot[local]
        values = self._values.flatten(1).index_select(0, slots).view(-1, *self._values.shape[1:])
        return values, self._clear.index_select(0, slots), self.rows[local]

    def read(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Any chips, straight from the store: for a pass in the order of the store (:meth:`Sampler.read`)."""
        pixels, flags = self._chips.load(rows.cpu().numpy())
        clear = torch.from_numpy(flags == 0).to(self.device)
        return as_resident(pixels, self.dtype).to(self.device).contiguous(), clear, rows.to(self.device)

    def pair(self, rows: Tensor, generator: torch.Generator, policy: PairPolicy | int) -> Tensor:
        """As :meth:`Sampler.pair`, among the chips of the same window of the current epoch only."""
        if self._epoch_pairs is None or self._epoch_pairs[0] != self._epoch:
            tiles = np.unique(self._tiles, return_inverse=True)[1]
            beside = self._plan(self._epoch)[1] * (tiles.max() + 1) + tiles
            self._epoch_pairs = (self._epoch, PairIndex(beside, self._stamps, self.device))
        local = self._local[rows.to(self.device)]
        return self.rows[self._epoch_pairs[1].draw(local, as_policy(policy), generator)]

    def _windows(self, epoch: int) -> list[np.ndarray]:
        return self._plan(epoch)[0]

    def _plan(self, epoch: int) -> tuple[list[np.ndarray], np.ndarray]:
        """The windows of an epoch, and the window of each chip."""
        if epoch not in self._plans:
            sizes = np.bincount(self._shard_of)
            order = np.random.default_rng([self.seed, epoch, self.shard[0], SHARD]).permutation(len(sizes))
            window_of_shard = np.empty(len(sizes), dtype=np.int64)
            window = filled = 0
            for shard in order:
                if filled + sizes[shard] > self.capacity:
                    window, filled = window + 1, 0
                window_of_shard[shard] = window
                filled += sizes[shard]
            window_of = window_of_shard[self._shard_of]
            windows = [np.flatnonzero(window_of == number) for number in range(window + 1)]
            kept = {known: plan for known, plan in self._plans.items() if abs(known - epoch) <= 1}
            self._plans = {**kept, epoch: (windows, window_of)}
        return self._plans[epoch]

    def _hold(self, key: tuple[int, int], needed: set[tuple[int, int]]) -> None:
        """Have a window in one of the halves, without touching the others that are needed."""
        if key in self._held:
            return
        if self._ahead is not None:
            ahead, half, work = self._ahead
            self._ahead = None
            self._now_holds(ahead, half, work.result())
            if key in self._held:
                return
        half = next(number for number in (0, 1) if self._held[number] not in needed)
        self._held[half] = None
        self._now_holds(key, half, self._fill(self.windows(key[0])[key[1]], half))

    def _now_holds(self, key: tuple[int, int], half: int, local: np.ndarray) -> None:
        self._held[half] = key
        slots = torch.arange(len(local), device=self.device) + half * self.capacity
        self._slot[torch.from_numpy(local).to(self.device)] = slots

    def _read_ahead(self, key: tuple[int, int]) -> None:
        """Let the thread fill the half that does not hold ``key`` with the window after it."""
        epoch, window = key
        after = (epoch, window + 1) if window + 1 < len(self.windows(epoch)) else (epoch + 1, 0)
        if after in self._held or (self._ahead is not None and self._ahead[0] == after):
            return
        if self._ahead is not None:  # a jump in the steps: what was read ahead is not wanted
            self._ahead[2].result()
        half = 1 - self._held.index(key)
        self._held[half] = None
        members = self.windows(after[0])[after[1]]
        self._ahead = (after, half, self._thread.submit(self._fill, members, half))

    def _fill(self, members: np.ndarray, half: int) -> np.ndarray:
        """Read a window's chips into a half, shard after shard; the same chips in the order in which they lie there."""
        local = members[np.lexsort((self.rows_np[members], self._shard_of[members]))]
        edges = [*np.unique(self._shard_of[local], return_index=True)[1].tolist(), len(local)]

        def read(stretch: tuple[int, int]) -> None:
            begin, end = stretch
            pixels, flags = self._chips.load(self.rows_np[local[begin:end]])
            where = slice(half * self.capacity + begin, half * self.capacity + end)
            self._values[where].copy_(as_resident(pixels, self.dtype))
            self._clear[where].copy_(torch.from_numpy(flags == 0))

        with ThreadPoolExecutor(_READERS) as readers:
            list(readers.map(read, itertools.pairwise(edges)))
        return local


def _gib(count: float) -> str:
    return f"{count / 2**30:.2f} GiB"
