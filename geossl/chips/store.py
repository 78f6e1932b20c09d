"""The chip store: a Zarr v3 group of pixels and a GeoParquet manifest that says which of them exist.

    manifest.json  run.json  manifest/part-00000.parquet …
    data  (chip, band, y, x)   the product's integers     one chip a chunk, 256 chips a shard, zstd
    valid (chip, y, x) uint8   flags, 0 = clear

The manifest is the commit: data without a row do not exist. A later row of the same chip replaces an earlier one.
``xarray.open_zarr(path)`` and ``geopandas.read_parquet(path / "manifest")`` read it without geossl.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from geossl import artefacts
from geossl.chips.chipset import ChipSet, Rows
from geossl.chips.grid import Grid
from geossl.chips.shards import read_chunks
from geossl.errors import InputError
from geossl.products import Encoding, Flag

__all__ = ["KIND", "SHARD", "STORED", "ChipSet", "ChipStore", "open_store", "part_files", "read_parts"]

KIND = "chip-store"
SHARD = 256
"""Chips a shard."""
STORED = ("ok", "partial")
"""States of chips that have pixels; ``partial``: some of them could not be read and are flagged READ_FAILED."""
_THREADS = min(4, os.cpu_count() or 1)


class ChipStore:
    """Chips that ``geossl tiles build`` wrote; a :class:`~geossl.chips.chipset.ChipSet`.

    Further columns of ``table``: ``ix``, ``iy`` (tile), ``solar_day``, ``index`` (place in the Zarr arrays),
    ``status``, ``datasets`` (ODC ids, comma-separated), ``baseline``, ``failed`` (share of unread pixels).
    """

    def __init__(self, path: Path) -> None:
        """Open the store at ``path``; an empty one opens too.

        Raises:
            InputError: no chip store there, or one of a newer geossl.
        """
        self.path = path
        self.manifest = artefacts.read_manifest(path, KIND)
        self.name: str = f"{self.manifest['region']}/{self.manifest['product']}"
        self.product: str = self.manifest["product"]
        self.region: str = self.manifest["region"]
        self.bands: tuple[str, ...] = tuple(self.manifest["bands"])
        self.encoding = Encoding(**self.manifest["encoding"])
        self.grid = Grid.from_dict(self.manifest["grid"])
        self.shape = (self.grid.tile_px, self.grid.tile_px)
        self.resolution_m = self.grid.resolution_m

    @cached_property
    def id(self) -> str:
        """Hash of the store's settings and every committed manifest part."""
        return artefacts.hash_json([identity(self.manifest), part_hashes(self.path)])

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Every chip that was read, stored or not (``status``), the latest row of each."""
        return read_parts(self.path)

    @cached_property
    def table(self) -> pd.DataFrame:
        """The stored chips, by place in the store; geometry in EPSG:4326."""
        rows = self.rows
        kept = rows[rows["status"].isin(STORED)].sort_values("index").reset_index(drop=True)
        table = pd.DataFrame(kept)
        table["crs"] = self.grid.crs
        return table

    def load(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Chips of table rows in that order: stored integers (n, band, y, x) and flags (n, y, x) uint8.

        Raises:
            WorkError: a shard is missing or damaged.
        """
        places = self.table["index"].to_numpy()[np.asarray(rows, dtype=np.int64)]
        data = np.empty((len(places), len(self.bands), *self.shape), dtype=self.encoding.dtype)
        valid = np.empty((len(places), *self.shape), dtype=np.uint8)
        nodata = 0 if self.encoding.nodata is None else self.encoding.nodata

        def read(shard: int) -> None:
            wanted = np.flatnonzero(places // SHARD == shard)
            wanted = wanted[np.argsort(places[wanted], kind="stable")]  # through the file from front to back
            for name, target, fill in (("data", data, nodata), ("valid", valid, int(Flag.NODATA))):
                part = np.empty((len(wanted), *target.shape[1:]), dtype=target.dtype)
                file = self.path / name / "c" / str(shard) / "/".join("0" * (target.ndim - 1))
                read_chunks(file, places[wanted] % SHARD, SHARD, part, fill)
                target[wanted] = part

        shards = np.unique(places // SHARD).tolist()
        if len(shards) > 1:
            with ThreadPoolExecutor(_THREADS) as pool:
                list(pool.map(read, shards))
        elif shards:
            read(shards[0])
        return data, valid


def open_store(path: Path) -> ChipStore:
    """A chip store that has chips.

    Raises:
        InputError: no chip store there, or nothing in it yet.
    """
    store = ChipStore(path)
    if not len(store.table):
        raise InputError(
            "this chip store holds no chips yet",
            where=path,
            found=f"{len(store.rows)} chips were read and none had enough clear pixels" if len(store.rows) else None,
            remedy=f"geossl tiles build --region {store.region} --product {store.product}",
        )
    return store


def identity(manifest: dict[str, Any]) -> dict[str, Any]:
    """The settings of a store that its chips depend on."""
    return {key: manifest[key] for key in ("product", "bands", "encoding", "grid")}


def part_files(path: Path) -> list[Path]:
    """The committed manifest parts, oldest first."""
    return sorted((path / "manifest").glob("part-*.parquet"))


def part_hashes(path: Path) -> dict[str, str]:
    """Name and content hash of each committed part."""
    return {part.name: artefacts.hash_file(part) for part in part_files(path)}


def read_parts(path: Path) -> gpd.GeoDataFrame:
    """The rows of all parts, the latest of each chip; an empty table where nothing was committed yet."""
    parts = [gpd.read_parquet(part) for part in part_files(path)]
    if not parts:
        return empty_rows()
    rows = gpd.GeoDataFrame(pd.concat(parts, ignore_index=True), crs="EPSG:4326")
    return rows.drop_duplicates("chip", keep="last").reset_index(drop=True)


def empty_rows() -> gpd.GeoDataFrame:
    """A manifest table without rows."""
    facts: dict[str, Any] = {
        "chip": pd.Series(dtype=str),
        "tile": pd.Series(dtype=str),
        "ix": pd.Series(dtype=np.int64),
        "iy": pd.Series(dtype=np.int64),
        "block": pd.Series(dtype=str),
        "datetime": pd.Series(dtype="datetime64[ns, UTC]"),
        "solar_day": pd.Series(dtype=str),
        "clear": pd.Series(dtype=np.float32),
        "failed": pd.Series(dtype=np.float32),
        "status": pd.Series(dtype=str),
        "index": pd.Series(dtype=np.int64),
        "left": pd.Series(dtype=np.float64),
        "top": pd.Series(dtype=np.float64),
        "datasets": pd.Series(dtype=str),
        "baseline": pd.Series(dtype=str),
        "geometry": gpd.GeoSeries([], crs="EPSG:4326"),
    }
    return gpd.GeoDataFrame(facts, geometry="geometry", crs="EPSG:4326")
