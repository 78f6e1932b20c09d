"""Many chips of one shard at once: the shard's index is read once, its chunks are decompressed straight from the file.

zarr-python spends about a millisecond of its own on every chunk. The layout of a store's arrays is fixed (Zarr v3
``sharding_indexed``, index at the end, chunks of one chip, little-endian, zstd), so reading it takes a few lines.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
from google_crc32c import value as crc32c
from numcodecs.zstd import Zstd

from geossl.errors import WorkError

_MISSING = 2**64 - 1  # the index entry of a chunk that was not written
_CRC_BYTES = 4


def read_chunks(path: Path, places: np.ndarray, chunks: int, out: np.ndarray, fill: int | float) -> None:
    """Fill ``out[i]`` with chunk ``places[i]`` of a shard file of ``chunks`` chunks, or with ``fill`` where the shard
    has no such chunk.

    Raises:
        WorkError: the file is missing or damaged.
    """
    codec = Zstd()
    try:
        with path.open("rb") as stream:
            index = _index(stream, chunks)
            for number, place in enumerate(places):
                offset, length = (int(entry) for entry in index[place])
                if offset == _MISSING:
                    out[number] = fill
                    continue
                stream.seek(offset)
                plain = codec.decode(stream.read(length))
                out[number] = np.frombuffer(plain, dtype=out.dtype).reshape(out.shape[1:])
    except (OSError, ValueError, RuntimeError) as error:
        raise WorkError(
            "cannot read this shard of the chip store",
            where=path,
            found=error,
            remedy="the store is damaged: remove it and build the tiles again",
        ) from None


def _index(stream: BinaryIO, chunks: int) -> np.ndarray:
    """(chunk, 2) uint64: where each chunk lies in the file and how long it is."""
    stream.seek(-(16 * chunks + _CRC_BYTES), os.SEEK_END)
    tail = stream.read()
    entries, checksum = tail[:-_CRC_BYTES], tail[-_CRC_BYTES:]
    if crc32c(entries) != int.from_bytes(checksum, "little"):
        raise ValueError("the index does not agree with its checksum")
    return np.frombuffer(entries, dtype="<u8").reshape(chunks, 2)
