"""Writing a chip store: whole shards, then the manifest part that makes them exist.

One process writes a store at a time (the caller holds its lock). A part and its shard are one commit: what a killed
process wrote after the last part is dropped when the store is opened for writing again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import zarr
from xarray.backends.zarr import FillValueCoder
from zarr.codecs import ZstdCodec

from geossl import artefacts
from geossl.chips.grid import Grid
from geossl.chips.store import KIND, SHARD, identity, part_files, part_hashes
from geossl.errors import InputError
from geossl.products import Encoding, Flag

LOCK = ".lock"
_NAMES = {"product": "--product", "bands": "--bands", "grid": "--tile-px, --block-tiles or the region"}


def prepare_store(
    path: Path, *, region: str, product: str, bands: tuple[str, ...], encoding: Encoding, grid: Grid
) -> None:
    """Make an empty store at ``path``, or check that the one there holds chips of the same kind.

    Raises:
        InputError: another store, or something else, lies there.
    """
    facts: dict[str, Any] = {
        "region": region,
        "product": product,
        "bands": list(bands),
        "encoding": encoding.as_dict(),
        "grid": grid.as_dict(),
    }
    if artefacts.is_complete(path):
        check_same(path, facts)
        return
    if path.exists() and any(child.name not in {LOCK, "data", "valid", "zarr.json"} for child in path.iterdir()):
        raise InputError(
            "this directory holds something else", where=path, remedy="choose another --out, or remove what is there"
        )
    with artefacts.disk_errors(path):
        _create_arrays(path, facts, encoding, grid)
        (path / "manifest").mkdir(exist_ok=True)
    write_store_manifest(path, facts)


def check_same(path: Path, facts: dict[str, Any]) -> None:
    """Raise ``InputError`` when the store at ``path`` holds chips of another kind than ``facts`` says."""
    there = artefacts.read_manifest(path, KIND)
    for key, wanted in identity(facts).items():
        found = there[key]
        if artefacts.to_json(found) != artefacts.to_json(wanted):
            raise InputError(
                f"the chip store there has another {key}",
                where=path,
                expected=wanted,
                found=found,
                remedy=f"choose another --out, or give the {_NAMES.get(key, key)} it was built with",
            )


def write_store_manifest(path: Path, facts: dict[str, Any]) -> None:
    """``manifest.json`` of the parts that are committed: equal content gives an equal file."""
    kept = {key: facts[key] for key in ("region", "product", "bands", "encoding", "grid")}
    artefacts.write_manifest(path, KIND, **kept, shard=SHARD, parts=part_hashes(path))


class StoreWriter:
    """Appends commits to a store. Use under the store's lock."""

    def __init__(self, path: Path) -> None:
        """Open for writing; shards that no part mentions are dropped."""
        self.path = path
        self._arrays = {name: zarr.open_array(path / name, mode="r+") for name in ("data", "valid")}
        parts = part_files(path)
        self._part = 1 + int(parts[-1].stem.removeprefix("part-")) if parts else 0
        self._shard = 0
        for part in parts:
            last = int(gpd.read_parquet(part, columns=["index", "geometry"])["index"].max())
            self._shard = max(self._shard, last // SHARD + 1)
        with artefacts.disk_errors(path):
            self._resize(self._shard)

    def commit(self, rows: gpd.GeoDataFrame, data: np.ndarray, valid: np.ndarray) -> None:
        """Write at most one shard of chips, data (n, band, y, x) and valid (n, y, x), then the part with their rows.

        ``rows`` holds the stored chips in the order of ``data`` (``index`` is filled in here) and any number of rows
        of chips without pixels.
        """
        n = len(data)
        stored = rows["index"].to_numpy() >= 0
        assert n <= SHARD and int(stored.sum()) == n
        start = self._shard * SHARD
        rows = rows.copy()
        rows.loc[stored, "index"] = np.arange(start, start + n)
        with artefacts.disk_errors(self.path):
            if n:
                self._resize(self._shard + 1)
                self._write_shard("data", data, start)
                self._write_shard("valid", valid, start)
            part = self.path / "manifest" / f"part-{self._part:05d}.parquet"
            with artefacts.atomic_file(part) as temporary:
                rows.to_parquet(temporary, index=False, write_covering_bbox=True, schema_version="1.1.0")
        self._part += 1
        self._shard += n > 0

    def _write_shard(self, name: str, chips: np.ndarray, start: int) -> None:
        array = self._arrays[name]
        whole = np.full((SHARD, *array.shape[1:]), array.fill_value, dtype=array.dtype)
        whole[: len(chips)] = chips
        array[start : start + SHARD] = whole
        for file in (self.path / name / "c" / str(start // SHARD)).rglob("*"):
            if file.is_file():
                _fsync(file)

    def _resize(self, shards: int) -> None:
        for array in self._arrays.values():
            if array.shape[0] != shards * SHARD:
                array.resize((shards * SHARD, *array.shape[1:]))


def _create_arrays(path: Path, facts: dict[str, Any], encoding: Encoding, grid: Grid) -> None:
    """The Zarr group; xarray finds band names, scale, offset and nodata in the attributes and decodes."""
    group = zarr.open_group(path, mode="a")
    bands, side, dtype = facts["bands"], grid.tile_px, np.dtype(encoding.dtype)
    scaling: dict[str, Any] = {"scale_factor": encoding.scale, "add_offset": encoding.offset}
    if encoding.nodata is not None:
        scaling["_FillValue"] = FillValueCoder.encode(dtype.type(encoding.nodata), dtype)
    group.attrs.update({**facts, "convention": "reflectance = stored * scale_factor + add_offset", "shard": SHARD})
    common: dict[str, Any] = {"compressors": ZstdCodec(level=1, checksum=True), "overwrite": True}
    group.create_array(
        "data",
        shape=(0, len(bands), side, side),
        chunks=(1, len(bands), side, side),
        shards=(SHARD, len(bands), side, side),
        dtype=dtype,
        fill_value=dtype.type(encoding.nodata if encoding.nodata is not None else 0),
        dimension_names=("chip", "band", "y", "x"),
        attributes={**scaling, "bands": bands},
        **common,
    )
    group.create_array(
        "valid",
        shape=(0, side, side),
        chunks=(1, side, side),
        shards=(SHARD, side, side),
        dtype=np.uint8,
        fill_value=np.uint8(Flag.NODATA),
        dimension_names=("chip", "y", "x"),
        attributes={"flags": {str(flag.name): int(flag) for flag in Flag}, "meaning": "0 is clear"},
        **common,
    )


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
