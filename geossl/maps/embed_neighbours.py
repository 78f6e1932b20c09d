"""Nearest neighbours of a chip among the embeddings of other tiles, as a picture and a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from geossl.artefacts import atomic_file
from geossl.chips.chipset import ChipSet
from geossl.errors import InputError
from geossl.maps.embed_plan import NEIGHBOUR_CLEAR
from geossl.report.plots import PALETTE, composite_bands, true_colour

COUNT = 11
_COLUMNS = ("chip", "tile", "datetime", "clear", "block")


def find_neighbours(table: Path, chip: str, count: int = COUNT) -> pd.DataFrame:
    """The chip and its nearest neighbours by cosine distance, at most one a tile, from ``embeddings.parquet``.

    The mean of all embeddings is subtracted first: without that every chip points in nearly the same direction, since
    the maps that are pooled are not negative, and the cosine hardly tells chips apart.

    The file is read in batches. Row 0 is the chip itself; the others lie on other tiles and are at least 90 % clear.
    Columns: rank, chip, tile, datetime, clear, block, distance (1 - cosine).

    Raises:
        InputError: the chip is not in the file, or nothing clear is there to compare with.
    """
    file = pq.ParquetFile(table)
    query, mean = _embedding_and_mean(file, chip)
    if query is None:
        raise InputError("this chip was not embedded: none of its pixels is clear", where=table, found=chip)
    parts = []
    for batch in file.iter_batches(columns=[*_COLUMNS, "embedding"]):
        vectors = _vectors(batch) - mean
        length = np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
        facts = batch.select(list(_COLUMNS)).to_pandas()
        facts["distance"] = np.clip(1 - vectors @ query / np.maximum(length, 1e-12), 0, 2)
        parts.append(facts)
    everything = pd.concat(parts, ignore_index=True)
    itself = everything[everything["chip"] == chip].assign(distance=0.0)
    others = everything[
        (everything["tile"] != itself["tile"].iloc[0]) & (everything["clear"] >= NEIGHBOUR_CLEAR)
    ].sort_values(["distance", "chip"], kind="stable")
    nearest = others.drop_duplicates("tile").head(count)
    if nearest.empty:
        raise InputError("no other tile has a clear chip to compare with", where=table)
    found = pd.concat([itself, nearest], ignore_index=True)
    found.insert(0, "rank", range(len(found)))
    return found


def _vectors(batch: pa.RecordBatch) -> np.ndarray:
    column = batch.column("embedding")
    flat: np.ndarray = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), -1).astype(np.float64)


def _embedding_and_mean(file: pq.ParquetFile, chip: str) -> tuple[np.ndarray | None, np.ndarray]:
    """The centred embedding of a chip (None where it has no row) and the mean of all."""
    found: np.ndarray | None = None
    total = np.zeros(1)
    for batch in file.iter_batches(columns=["chip", "embedding"]):
        vectors = _vectors(batch)
        total = total + vectors.sum(0)
        place = np.flatnonzero(batch.column("chip").to_numpy(zero_copy_only=False) == chip)
        if len(place):
            found = vectors[place[0]]
    mean = total / max(file.metadata.num_rows, 1)
    return (None if found is None else found - mean), mean


def write_neighbours(folder: Path, chips: ChipSet, chip: str, point: tuple[float, float]) -> tuple[Path, Path]:
    """``neighbours_LON_LAT.png`` and ``.csv`` in the folder of embeddings, replaced where they are there already.

    The table has the columns of :func:`find_neighbours` and ``longitude``, ``latitude`` of the chips' centres.
    """
    found = find_neighbours(folder / "embeddings.parquet", chip)
    rows = pd.Index(chips.table["chip"]).get_indexer(found["chip"])
    centres = [outline.centroid if outline is not None else None for outline in chips.table["geometry"].iloc[rows]]
    found["longitude"] = [np.nan if centre is None else round(centre.x, 6) for centre in centres]
    found["latitude"] = [np.nan if centre is None else round(centre.y, 6) for centre in centres]
    name = f"neighbours_{point[0]:.5f}_{point[1]:.5f}"
    picture, table = folder / f"{name}.png", folder / f"{name}.csv"
    stored, flags = chips.load(rows.tolist())
    values = chips.encoding.decode(stored)
    values[np.broadcast_to((flags != 0)[:, None], values.shape)] = np.nan
    figure = draw_neighbours(values, chips.bands, found, f"Nearest neighbours of {point[0]:.4f}, {point[1]:.4f}")
    with atomic_file(picture) as temporary:
        figure.savefig(temporary, dpi=130, metadata={"Software": None}, facecolor="white")
    with atomic_file(table) as temporary:
        found.to_csv(temporary, index=False, float_format="%.6g")
    return picture, table


def draw_neighbours(values: np.ndarray, bands: tuple[str, ...], found: pd.DataFrame, title: str) -> Figure:
    """Chips (n, band, y, x) in true colour on one scale, the first framed; tile, date and distance above each."""
    columns = min(4, len(found))
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(2.15 * columns, 2.6 * rows + 0.6), layout="constrained")
    pictures = true_colour(values, bands)
    for place, facts in enumerate(found.itertuples()):
        axes = figure.add_subplot(rows, columns, place + 1)
        axes.imshow(pictures[place], interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(color=PALETTE[1] if place == 0 else "#ffffff", linewidth=3.0 if place == 0 else 0.0)
        day = "date not known" if pd.isna(facts.datetime) else str(pd.Timestamp(str(facts.datetime)).date())
        told = "this chip" if place == 0 else f"distance {float(str(facts.distance)):.4f}"
        axes.set_title(f"{_short(str(facts.tile))}\n{day}\n{told}", fontsize=8, pad=3)
    shown = composite_bands(bands)
    colours = "true colour" if shown == ("red", "green", "blue") else ", ".join(dict.fromkeys(shown))
    figure.suptitle(f"{title}  ·  {colours}", fontsize=11)
    return figure


def _short(name: str, most: int = 28) -> str:
    return name if len(name) <= most else f"…{name[1 - most :]}"
