"""Embeddings of chips as GeoParquet: computed in parts that outlive a killed run, then joined with bounded memory.

One row a chip; ``embedding`` is a fixed-size list of float32, so ``np.stack(frame["embedding"])`` is a matrix, and
DuckDB and Polars see an array column.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from geossl.artefacts import atomic_file
from geossl.chips.chipset import ChipSet
from geossl.encoders.saved import Encoder
from geossl.errors import InputError
from geossl.maps.embed_plan import EmbedWork
from geossl.maps.sources import decoded
from geossl.progress import track
from geossl.tasks.spectral import fill

PART_CHIPS = 1024
"""Chips of a part, and of a row group of the finished file."""
BATCH_PIXELS = 512 * 1024
COLUMNS = ("chip", "tile", "datetime", "clear", "block", "geometry")


def device_of_machine() -> torch.device:
    """The accelerator where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_filled(chips: ChipSet, rows: Sequence[int], encoder: Encoder) -> tuple[torch.Tensor, torch.Tensor]:
    """Chips as the encoder takes them: (n, band, y, x) float32 reflectance, what is not clear filled with the band mean
    of the encoder; and (n, y, x) bool, what is clear.
    """
    stored, flags = chips.load(rows)
    order = encoder.select(chips.bands)
    pairs = [decoded(data[order], flag, chips.encoding) for data, flag in zip(stored, flags, strict=True)]
    values = torch.from_numpy(np.stack([pixels for pixels, _ in pairs]))
    clear = torch.from_numpy(np.stack([usable for _, usable in pairs]))
    return fill(values, clear, encoder.mean.cpu()), clear


def embed_chips(work: EmbedWork, folder: Path) -> tuple[list[Path], int]:
    """Embed all chips of the plan in parts in ``folder``; parts that are there are not made again.

    Returns the parts in order and the number of chips embedded now.
    """
    device = device_of_machine()
    encoder = work.encoder.to(device)
    starts = range(0, len(work.rows), PART_CHIPS)
    parts = [folder / f"part-{number:05d}.parquet" for number in range(len(starts))]
    done = sum(min(PART_CHIPS, len(work.rows) - start) for start, part in zip(starts, parts, strict=True)
               if part.exists())  # fmt: skip
    with track("embed chips", len(work.rows), "chips", done) as bar, torch.inference_mode():
        for start, part in zip(starts, parts, strict=True):
            if part.exists():
                continue
            rows = work.rows[start : start + PART_CHIPS]
            found, shares = [], []
            for some in _batches(rows, work.chips.shape):
                values, clear = load_filled(work.chips, some.tolist(), encoder)
                found.append(encoder(values.to(device)).float().cpu().numpy())
                shares.append(clear.float().mean((1, 2)).numpy())
                bar.advance(len(some))
            table = work.chips.table.iloc[rows][list(COLUMNS)].assign(clear=np.concatenate(shares))
            packed = part_table(table, np.concatenate(found))
            with atomic_file(part) as temporary:
                pq.write_table(packed, temporary, compression="zstd")
    return parts, len(work.rows) - done


def _batches(rows: np.ndarray, shape: tuple[int, int]) -> Iterator[np.ndarray]:
    size = max(1, BATCH_PIXELS // (shape[0] * shape[1]))
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def part_table(table: pd.DataFrame, embeddings: np.ndarray) -> pa.Table:
    """Rows and embeddings (n, d) as an Arrow table; chips without a clear pixel are left out.

    With the metadata of GeoParquet where a chip has a geometry; the column ``geometry`` is left out where none has.
    """
    seen = table["clear"].to_numpy() > 0
    kept, embeddings = table[seen], embeddings[seen]
    buffer = io.BytesIO()
    if kept["geometry"].notna().any():
        gpd.GeoDataFrame(kept, geometry="geometry", crs="EPSG:4326").to_parquet(buffer, index=False)
    else:
        kept.drop(columns="geometry").to_parquet(buffer, index=False)
    buffer.seek(0)
    arrow = pq.read_table(buffer)
    values = pa.array(np.ascontiguousarray(embeddings, np.float32).reshape(-1))
    return arrow.append_column("embedding", pa.FixedSizeListArray.from_arrays(values, embeddings.shape[1]))


def join_parts(parts: Sequence[Path], target: Path) -> int:
    """All parts as one file, a row group each; returns the number of rows.

    Raises:
        InputError: no chip has a clear pixel.
    """
    schemas = [pq.read_schema(part) for part in parts]
    rows = sum(pq.ParquetFile(part).metadata.num_rows for part in parts)
    if rows == 0:
        raise InputError("nothing clear in any chip", where=target.name, remedy="choose another --period")
    placed = [schema for schema in schemas if "geometry" in schema.names]
    schema = _joined_schema(placed) if placed else schemas[0]
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for part in parts:
            table = pq.read_table(part)
            if table.num_rows == 0:
                continue
            if placed and "geometry" not in table.schema.names:
                place = schema.names.index("geometry")
                nothing = pa.nulls(table.num_rows, schema.field(place).type)
                table = table.add_column(place, schema.field(place), nothing)
            writer.write_table(table.cast(schema))
    return rows


def _joined_schema(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """The first schema with a GeoParquet note on the geometry of all parts."""
    notes = [json.loads(schema.metadata[b"geo"]) for schema in schemas]
    joined: dict[str, Any] = notes[0]
    column = joined["columns"]["geometry"]
    boxes = np.array([note["columns"]["geometry"]["bbox"] for note in notes])
    column["bbox"] = [*boxes[:, :2].min(0).tolist(), *boxes[:, 2:].max(0).tolist()]
    column["geometry_types"] = sorted({kind for n in notes for kind in n["columns"]["geometry"]["geometry_types"]})
    return schemas[0].with_metadata({**schemas[0].metadata, b"geo": json.dumps(joined).encode()})
