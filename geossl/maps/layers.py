"""A published layer: rasters, style, picture and catalogue entries of one map, in one folder.

``class.tif`` (or ``value.tif``), ``probability.tif``, ``clear_dates.tif``, a QGIS style, ``quicklook.png``,
``item.json`` and ``collection.json``; the manifest comes last.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import rasterio

from geossl import rasters, stac
from geossl.errors import InputError
from geossl.maps.legend import NODATA, Legend, qml_classes, qml_quantity
from geossl.maps.quicklook import draw_quicklook, period_text, value_range
from geossl.maps.trusted import meaning
from geossl.maps.windows import Block
from geossl.regions import Period

MAX_DATES = 65_535


@dataclass(frozen=True)
class LayerFacts:
    """What a layer is about, for its files' metadata and its catalogue entry."""

    layer_id: str
    task: str
    region: str
    days: tuple[date | None, ...]
    first: date
    last: date
    source: str
    scene_ids: tuple[str, ...]
    head_id: str
    head_path: Path | None
    placement: stac.Placement


class LayerSink:
    """The working rasters of a map; finished cells are quantised here.

    A class map keeps the most probable class, each class's probability in per cent, and the number of clear dates.
    """

    def __init__(self, work: Path, grid: rasters.Grid, legend: Legend, tags: Mapping[str, str]) -> None:
        self.legend = legend
        names = [entry.name for entry in legend.classes]
        self.paths: dict[str, Path] = {}
        if names:
            named = {f"class_{value}": name for value, name in legend.names.items()}
            self._raster(work, grid, "class", "uint8", NODATA, [legend.title], {**tags, **named}, legend.colours)
            self._raster(work, grid, "probability", "uint8", NODATA, names, tags)
            if legend.ordinal:
                self._raster(work, grid, "index", "float32", float("nan"), [f"{names[0]} (0) to {names[-1]} (1)"], tags)
        else:
            self._raster(work, grid, "value", "float32", float("nan"), legend.planes or [legend.title], tags)
        if legend.trust:
            self._raster(work, grid, "trust", "float32", float("nan"), legend.trust, tags)
        self._raster(work, grid, "clear_dates", "uint16", None, ["number of clear dates"], tags)
        self._open: Any = None
        self._rasters: dict[str, rasterio.io.DatasetWriter] = {}

    def _raster(
        self,
        work: Path,
        grid: rasters.Grid,
        name: str,
        dtype: str,
        nodata: float | None,
        bands: Sequence[str],
        tags: Mapping[str, str],
        colours: Mapping[int, rasters.RGBA] | None = None,
    ) -> None:
        """The working raster of this name, made unless an earlier run has made it."""
        path = self.paths[name] = work / f"{name}.tif"
        if not path.exists():
            new = work / f".{name}.new.tif"
            facts = {**tags, "title": f"{self.legend.title}: {name.replace('_', ' ')}"}
            rasters.create_raster(new, grid, len(bands), dtype, nodata, descriptions=bands, colours=colours, tags=facts)
            new.replace(path)

    def write(self, block: Block) -> None:
        """Quantise finished cells and write them."""
        if self._open is None:
            self._open = rasters.open_rasters(list(self.paths.values()))
            self._rasters = dict(zip(self.paths, self._open.__enter__(), strict=True))
        extra = len(self.legend.trust)
        own = replace(block, values=block.values[: len(block.values) - extra])
        parts = quantise(own, bool(self.legend.classes), self.legend.ordinal)
        if extra:
            parts["trust"] = _trust_of(block.values, self.legend)
        for name, values in parts.items():
            rasters.write_block(self._rasters[name], values, block.y, block.x)

    def commit(self) -> None:
        """Close the rasters: everything written is on the disk."""
        if self._open is not None:
            opened, self._open = self._open, None
            opened.__exit__(None, None, None)

    def close(self) -> None:
        """Let go of the rasters; cells since the last :meth:`commit` are written again by the run that goes on."""
        with suppress(Exception):  # on a full disk they do not close without a second error
            self.commit()


def quantise(block: Block, classes: bool, ordinal: bool = False) -> dict[str, np.ndarray]:
    """Blended cells as what the rasters keep: name → (band, y, x).

    With ``ordinal`` classes, ``index`` is the expected step, from 0 (surely the first class) to 1 (surely the last).
    """
    seen = np.isfinite(block.values[0])
    counts = {"clear_dates": np.minimum(block.count, MAX_DATES).astype(np.uint16)[None]}
    if not classes:
        return {"value": np.where(seen, block.values, np.float32(np.nan)).astype(np.float32), **counts}
    # One pass a class: argmax over the first axis is many times slower.
    best = np.zeros(seen.shape, np.uint8)
    highest = block.values[0].copy()
    for value in range(1, len(block.values)):
        higher = block.values[value] > highest
        best[higher] = value
        np.maximum(highest, block.values[value], out=highest)
    percent = (np.nan_to_num(block.values).clip(0, 1) * 100 + 0.5).astype(np.uint8)
    if not seen.all():
        best[~seen] = NODATA
        percent[:, ~seen] = NODATA
    if not ordinal:
        return {"class": best[None], "probability": percent, **counts}
    steps = np.arange(len(block.values), dtype=np.float32)[:, None, None]
    index = (block.values * steps).sum(0) / np.maximum(block.values.sum(0), 1e-6) / (len(block.values) - 1)
    return {"class": best[None], "probability": percent, "index": index.astype(np.float32)[None], **counts}


def _trust_of(values: np.ndarray, legend: Legend) -> np.ndarray:
    """Bands of ``trust.tif`` (P, y, x) from blended channels; how sure the map is follows from its own probabilities,
    not from how sure single dates and windows were."""
    planes = values[-len(legend.trust) :].astype(np.float32)
    if legend.trust[0] == "confidence":
        chances = values[: -len(legend.trust)]
        planes[0] = np.maximum(chances, 1 - chances).min(0) if legend.kind == "multilabel" else chances.max(0)
    return planes


class FinishedRasters(Protocol):
    """Finished working rasters by name (``class`` or ``value``, and what stands beside it) and what they mean."""

    @property
    def legend(self) -> Legend: ...  # noqa: D102
    @property
    def paths(self) -> dict[str, Path]: ...  # noqa: D102


def write_layer(folder: Path, sink: FinishedRasters, facts: LayerFacts) -> tuple[str, ...]:
    """All files of a layer but its manifest; returns their names.

    Args:
        folder: where they go (an empty directory).
        sink: the finished working rasters.
        facts: what the layer is about.
    """
    legend = sink.legend
    main = "class" if legend.classes else "value"
    overviews = {"class": "mode", "clear_dates": "nearest"}
    for name, path in sink.paths.items():
        rasters.write_cog(
            path,
            folder / f"{name}.tif",
            overviews=overviews.get(name, "average"),
            categories=legend.names if name == "class" else None,
        )
    _write_style(folder, legend)
    if legend.trust:
        _write_trust_style(folder, legend)
    draw_quicklook(
        folder / f"{main}.tif",
        folder / "quicklook.png",
        legend,
        facts.placement.outline,
        f"{legend.title} — {facts.region}",
        f"{period_text(facts.days)}  ·  {facts.source}",
    )
    item = stac.make_item(
        facts.layer_id,
        facts.placement,
        facts.first,
        facts.last,
        _assets(sink, main),
        {
            "title": f"{legend.title}, {facts.region}, {period_text(facts.days)}",
            "geossl:task": facts.task,
            "geossl:head": facts.head_id,
            "geossl:product": facts.source,
            "geossl:scenes": list(facts.scene_ids),
            "geossl:dates": [day.isoformat() for day in facts.days if day is not None],
        },
        derived_from=[_relative(facts.head_path, folder)] if facts.head_path else (),
    )
    about = f"{legend.title} of {facts.region}, mapped by geossl; empty: {legend.unseen}"
    collection = stac.make_collection(f"{facts.task}-{facts.region}", legend.title, about, [item])
    stac.write_item_folder(folder, item, collection)
    return tuple(sorted(file.name for file in folder.iterdir()))


def _relative(head: Path, folder: Path) -> str:
    """The head's manifest as seen from the layer's folder (which lies beside its final place)."""
    return Path(os.path.relpath(head / "manifest.json", folder)).as_posix()


def _write_style(folder: Path, legend: Legend) -> None:
    if legend.classes:
        (folder / "class.qml").write_text(qml_classes(legend), encoding="utf-8")
        return
    with rasterio.open(folder / "value.tif") as raster:
        shape = tuple(max(1, min(side, 1024)) for side in raster.shape)
        low, high = legend.limits or value_range(raster.read(1, out_shape=shape))
    (folder / "value.qml").write_text(qml_quantity(legend, low, high), encoding="utf-8")


def _write_trust_style(folder: Path, legend: Legend) -> None:
    """Confidence and distances are drawn from 0 to 1, half widths over what the map has."""
    low, high, unit = 0.0, 1.0, ""
    if legend.trust[0].startswith("half_width"):
        with rasterio.open(folder / "trust.tif") as raster:
            shape = tuple(max(1, min(side, 1024)) for side in raster.shape)
            low, high = value_range(raster.read(1, out_shape=shape))
        unit = legend.unit
    style = Legend(legend.trust[0], "trust", (), unit)
    (folder / "trust.qml").write_text(qml_quantity(style, low, high), encoding="utf-8")


def _assets(sink: FinishedRasters, main: str) -> dict[str, stac.AssetFile]:
    legend = sink.legend
    assets = {}
    for name, path in sink.paths.items():
        fields: dict[str, Any] = {"bands": _bands(path, name, legend)}
        if name == "class":
            fields["classification:classes"] = [
                {"value": entry.value, "name": _identifier(entry.name), "title": entry.name,
                 "color_hint": entry.colour[1:].upper()}
                for entry in legend.classes
            ] + [{"value": NODATA, "name": "nodata", "title": legend.unseen, "nodata": True}]  # fmt: skip
        title = {
            "class": legend.title if legend.kind == "derived" else "most probable class",
            "probability": "probability of each class, per cent",
            "index": "expected step of the classes, from 0 (first) to 1 (last)",
            "trust": "how far to trust it: " + "; ".join(f"{one}: {meaning(one)}" for one in legend.trust),
        }.get(name, name.replace("_", " "))
        roles = ("data",) if name == main else ("metadata",)
        assets[name] = stac.AssetFile(f"{name}.tif", title, stac.COG_TYPE, roles, fields)
    if legend.trust:
        assets["trust_style"] = stac.AssetFile("trust.qml", "QGIS style of the first", "application/xml", ("style",))
    assets["style"] = stac.AssetFile(f"{main}.qml", "QGIS style", "application/xml", ("style",))
    assets["quicklook"] = stac.AssetFile("quicklook.png", "picture of the map", "image/png", ("thumbnail", "overview"))
    return assets


def _bands(path: Path, name: str, legend: Legend) -> list[dict[str, Any]]:
    with rasterio.open(path) as raster:
        nodata: Any = raster.nodata
        bands = [
            {"name": description or name, "data_type": dtype}
            for description, dtype in zip(raster.descriptions, raster.dtypes, strict=True)
        ]
    for band in bands:
        if nodata is not None:
            band["nodata"] = "nan" if np.isnan(nodata) else int(nodata)
        if name == "probability":
            band["unit"] = "percent"
        elif name == "value" and legend.unit and not legend.planes:
            band["unit"] = legend.unit
    return bands


def _identifier(name: str) -> str:
    """A class name as the classification extension wants it: letters, digits, ``-`` and ``_``."""
    return "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in name).strip("_") or "class"


def span_of(days: Sequence[date | None], period: Period | None) -> tuple[date, date]:
    """The days a layer stands for: the period asked for, else the first and last date of its pixels."""
    if period is not None:
        return period.start, period.end
    known = sorted(day for day in days if day is not None)
    if not known:
        raise InputError(
            "these chips carry no date", expected="a date for the map", remedy="say which days they show with --period"
        )
    return known[0], known[-1]
