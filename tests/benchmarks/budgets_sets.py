"""The sets of the label-budget table: every real labelled set, split once by block, the same for all rows and seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
import yaml
from rasterio.transform import from_origin

from geossl.artefacts import atomic_directory, atomic_file
from geossl.chips.ready import ReadyChips, open_ready, read_index
from geossl.chips.splits import split_blocks
from geossl.tasks.examples import ChipExamples, PixelExamples, ready_chips, ready_masks
from geossl.tasks.spec import TaskSpec, fit_to_chips, load_task
from geossl.tasks.splits import TEST_SHARE, VAL_SHARE, LabelSplit, split_labelled
from tests.benchmarks.methods_sets import DATA
from tests.benchmarks.real_sets.pixels import SETS as TABLES
from tests.benchmarks.real_sets.pixels import ratios, read
from tests.benchmarks.real_sets.scenes import FLOOD_BANDS

SPLIT_SEED = 0
_SPAIN_PX, _SPAIN_BLOCK = 64, 2  # pixels a chip, chips a block's side
_ROMANIA_PX = 25
_ROMANIA_BANDS = {"B02": "blue", "B03": "green", "B04": "red", "B08": "nir", "B8A": "nir08", "B11": "swir16"}
_ROMANIA_CLEAR, _ROMANIA_MONTHS = 95.0, ("05", "06", "07", "08", "09")
_SCL_CLEAR = (4, 5, 6, 7, 11)


@dataclass(frozen=True, eq=False)
class Case:
    """Labelled chips or pixels of a set; ``parts`` of its labels by block."""

    name: str
    spec: TaskSpec
    examples: ChipExamples | PixelExamples
    sentence: str

    @property
    def labels(self) -> np.ndarray:
        """What budgets are drawn by: class indices (n,) or 0/1 (n, K) of all chips or pixels."""
        return self.examples.value if isinstance(self.examples, PixelExamples) else self.examples.target

    @property
    def blocks(self) -> np.ndarray:
        """Block of each of them."""
        data = self.examples.data
        return data.block[self.examples.chip] if isinstance(self.examples, PixelExamples) else data.block


@dataclass(frozen=True)
class Spectra:
    """Labelled single pixels without a picture: ``bands`` and normalised ``differences`` (n, …), ``labels`` (n,)."""

    name: str
    spec: TaskSpec
    bands: np.ndarray
    differences: np.ndarray
    labels: np.ndarray
    blocks: np.ndarray
    side: np.ndarray
    sentence: str


def open_case(name: str, work: Path, encoder_meta: dict[str, Any]) -> Case | Spectra:
    """A set by name; of one that is not kept as chips these are cut into ``work`` first.

    ``encoder_meta``: of a given encoder, whose pretraining blocks are never tested on (empty: none was given).
    """
    if name in TABLES:
        return _spectra(name)
    chips = open_ready(CHIPS[name](work))
    assert chips.label_kind is not None
    spec = fit_to_chips(load_task("land-cover"), chips.label_kind, chips.label_names, chips.path)
    split = split_labelled(chips.table["block"].astype(str), chips, encoder_meta, SPLIT_SEED)
    examples = _examples(chips, spec, split)
    unit = "pixels" if isinstance(examples, PixelExamples) else "chips"
    counts = ", ".join(f"{len(examples.part(side))} {side}" for side in ("train", "val", "test"))
    blocks = {side: len(split.blocks(side)) for side in ("train", "val", "test")}
    sentence = (
        f"{len(chips.table)} chips, {len(chips.bands)} bands of {chips.shape[0]} px, {spec.kind}; labelled {unit}:"
    )
    return Case(name, spec, examples, f"{sentence} {counts}; blocks: {blocks}. {split.sentence}")


def _examples(chips: ReadyChips, spec: TaskSpec, split: LabelSplit) -> ChipExamples | PixelExamples:
    if spec.kind == "segmentation":
        return ready_masks(chips, spec, split, SPLIT_SEED)
    return ready_chips(chips, split)


def untested_index(case: Case, work: Path) -> Path:
    """An index of the chips of training and validation blocks: what encoders are pretrained on here."""
    folder = work / "pretraining" / case.name
    chips = case.examples.data.chips
    assert isinstance(chips, ReadyChips)
    if not (folder / "index.csv").is_file():
        table = read_index(chips.path)[case.examples.data.side != "test"]
        table = table.assign(**{chips.settings.file: chips.table["path"][table.index].to_numpy()})
        settings = chips.settings.model_dump(mode="json", exclude_none=True, exclude={"labels"})
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "chipset.yaml").write_text(yaml.safe_dump({**settings, "folder": "", "name": case.name}))
        with atomic_file(folder / "index.csv") as temporary:
            table.to_csv(temporary, index=False)
    return folder / "index.csv"


def _spectra(name: str) -> Spectra:
    one = TABLES[name]
    data = read(one)
    codes, classes = pd.factorize(data[one.label].astype(str), sort=True)
    blocks = data[one.blocks].astype(str).to_numpy()
    sides = split_blocks(blocks, SPLIT_SEED, VAL_SHARE, TEST_SHARE)
    side = np.array([sides[block] for block in blocks])
    bands = data[[c for c in data.columns if c.startswith("B") and c[1].isdigit()]].to_numpy(dtype=np.float32)
    spec = TaskSpec.model_validate(
        {"name": name, "title": one.title, "kind": "classification", "classes": [{"name": str(c)} for c in classes]}
    )
    counts = ", ".join(f"{(side == part).sum()} {part}" for part in ("train", "val", "test"))
    sentence = f"{len(codes)} single pixels, {len(classes)} classes: {counts}; {len(sides)} blocks ({one.blocks})"
    return Spectra(name, spec, bands, ratios(bands).astype(np.float32), codes, blocks, side, sentence)


def spain(work: Path) -> Path:
    """The flood chip cut into chips of 64 px; four neighbours are a block."""
    source = DATA / "sen1floods11-spain"
    with rasterio.open(source / "Spain_7370579_S2Hand_north.tif") as image:
        values, corner = image.read(), image.transform
    with rasterio.open(source / "Spain_7370579_LabelHand_north.tif") as image:
        mask = np.where(image.read(1) < 0, 255, image.read(1)).astype(np.uint8)
    cut = _Cut(FLOOD_BANDS, "int16", {0: "other", 1: "water"}, "EPSG:4326", abs(corner.a), (corner.c, corner.f))
    return cut.write(work / "cut" / "sen1floods11-spain", [("2019-09-15", values, mask)], _SPAIN_PX, _SPAIN_BLOCK)


def romania(work: Path) -> Path:
    """Clear summer dates of 2018 cut into chips of 25 px, tree cover from 50 % on as mask; each place is a block."""
    source = DATA / "s2-romania-series"
    with rasterio.open(source / "labels" / "tree_cover_density_2018.tif") as image:
        density = image.read(1)
    mask = np.where(density > 100, 255, (density >= 50).astype(np.uint8)).astype(np.uint8).repeat(2, 0).repeat(2, 1)
    dates = []
    for folder in sorted((source / "s2-romania-l2a").glob("S2_ROMANIA_2018*")):
        day = folder.name.rpartition("_")[2]
        with rasterio.open(folder / "SCL.tif") as image:
            clear = np.isin(image.read(1), _SCL_CLEAR)
            corner, crs = image.transform, image.crs.to_string()
        if day[4:6] not in _ROMANIA_MONTHS or 100 * clear.mean() < _ROMANIA_CLEAR:
            continue
        bands = []
        for band in _ROMANIA_BANDS:
            with rasterio.open(folder / f"{band}.tif") as image:
                one = image.read(1)
            bands.append(one if one.shape == clear.shape else one.repeat(2, 0).repeat(2, 1))
        dates.append((f"{day[:4]}-{day[4:6]}-{day[6:]}", np.stack(bands) * clear, mask))
    cut = _Cut(
        list(_ROMANIA_BANDS.values()), "uint16", {0: "open", 1: "dense"}, crs, corner.a, (corner.c, corner.f), nodata=0
    )
    return cut.write(work / "cut" / "s2-romania-series", dates, _ROMANIA_PX, 1)


@dataclass(frozen=True)
class _Cut:
    """How images with masks become ready chips."""

    bands: Sequence[str]
    dtype: str
    classes: dict[int, str]
    crs: str
    pixel: float
    corner: tuple[float, float]
    nodata: int | None = None

    def write(self, folder: Path, images: list[tuple[str, np.ndarray, np.ndarray]], side: int, block: int) -> Path:
        """Date, values (C, H, W) and mask (H, W) of each image as chips of ``side`` pixels."""
        if folder.is_dir():
            return folder
        rows = []
        with atomic_directory(folder) as temporary:
            for part in ("images", "masks"):
                (temporary / part).mkdir()
            for date, values, mask in images:
                for top in range(0, mask.shape[0] - side + 1, side):
                    for left in range(0, mask.shape[1] - side + 1, side):
                        place = f"{top // side:02d}-{left // side:02d}"
                        name = f"{date}-{place}.tif"
                        window = (..., slice(top, top + side), slice(left, left + side))
                        self._raster(temporary / "images" / name, values[window], top, left, self.bands)
                        self._raster(temporary / "masks" / name, mask[window][None].astype(np.uint8), top, left, ())
                        cell = f"{top // side // block}-{left // side // block}"
                        rows.append({"file": name, "date": date, "place": place, "block": cell})
            pd.DataFrame(rows).to_csv(temporary / "index.csv", index=False)
            (temporary / "chipset.yaml").write_text(yaml.safe_dump(self._description()), encoding="utf-8")
        return folder

    def _raster(self, path: Path, values: np.ndarray, top: int, left: int, names: Sequence[str]) -> None:
        transform = from_origin(
            self.corner[0] + left * self.pixel, self.corner[1] - top * self.pixel, self.pixel, self.pixel
        )
        with rasterio.open(
            path, "w", driver="GTiff", dtype=values.dtype, count=len(values), height=values.shape[1],
            width=values.shape[2], crs=self.crs, transform=transform, compress="deflate",
        ) as out:  # fmt: skip
            out.write(values)
            if names:
                out.descriptions = tuple(names)

    def _description(self) -> dict[str, Any]:
        encoding = {"dtype": self.dtype, "scale": 0.0001, "offset": 0.0, "nodata": self.nodata}
        return {
            "bands": {band: band for band in self.bands},
            "encoding": encoding,
            "folder": "images",
            "resolution_m": 10,
            "tile": "place",
            "block": "block",
            "date": "date",
            "labels": {"kind": "mask", "folder": "masks", "classes": self.classes, "ignore": [255]},
        }


CHIPS: dict[str, Callable[[Path], Path]] = {
    "bigearthnet-finland": lambda work: DATA / "bigearthnet-finland",
    "eurosat_ms": lambda work: DATA / "eurosat_ms",
    "dfc24-water": lambda work: DATA / "dfc24-water",
    "sen1floods11-spain": spain,
    "s2-romania-series": romania,
}
SETS = (*CHIPS, *TABLES)
