"""The description of a set of ready chips, and how it is inferred where none is written."""

from __future__ import annotations

from datetime import date as calendar_date
from pathlib import Path

import pandas as pd
import rasterio
from pydantic import Field, field_validator, model_validator
from rasterio.errors import RasterioError

from geossl.chips.chipset import LabelKind
from geossl.config import Settings
from geossl.errors import InputError
from geossl.products import SENTINEL2_BANDS
from geossl.progress import warn

INDEX_NAMES = ("index.csv", "index.parquet")

_COMMON = frozenset({*SENTINEL2_BANDS.values(), "pan", "lwir11", "lwir12", "green05", "yellow", "rededge"})
_FILE_COLUMNS = ("file", "filename", "path", "image")
_BLOCK_COLUMNS = ("block", "block_lon_lat_deg", "adjacency_group", "group", "site")
_CLASS_COLUMNS = ("class", "label")
_DATE_COLUMNS = ("date", "datetime")
_BLOCK_DEG = 0.25


class ChipEncoding(Settings):
    """How stored pixels become reflectance: ``value = stored * scale + offset``."""

    dtype: str
    scale: float
    offset: float = 0.0
    nodata: int | float | None = None


class ChipLabels(Settings):
    """Where the labels of ready chips are."""

    kind: LabelKind
    """``class``: one name a chip. ``multilabel``: several names a chip. ``mask``: a raster a chip. ``number``: a
    quantity a chip. ``shares``: the proportion of each class in a chip, in a column named as the class."""
    column: str | None = None
    separator: str = "|"
    keep: tuple[str, ...] = ()
    """The labels to use, in this order; empty: all, sorted by name. For shares: the columns, and so the classes."""
    folder: str | None = None
    """For masks: the folder (relative to the index) of rasters named as the chips."""
    classes: dict[int, str] | None = None
    """For masks: pixel value and class name."""
    ignore: tuple[int, ...] = ()
    """For masks: pixel values without a label."""

    @model_validator(mode="after")
    def _whole(self) -> ChipLabels:
        if self.kind == "mask" and not (self.folder and self.classes):
            raise ValueError("labels of kind 'mask' need 'folder' and 'classes'")
        if self.kind == "shares" and len(self.keep) < 2:
            raise ValueError("labels of kind 'shares' need 'keep', the columns with the classes' proportions")
        if self.kind not in ("mask", "shares") and not self.column:
            raise ValueError(f"labels of kind '{self.kind}' need 'column'")
        return self


class ChipsetConfig(Settings):
    """Schema of ``configs/chipsets/*.yaml`` and of a ``chipset.yaml`` beside an index."""

    title: str = ""
    name: str | None = None
    file: str = "file"
    """Column with the file name."""
    folder: str = ""
    """Folder of the files, relative to the index."""
    bands: dict[str, str] = Field(min_length=1)
    """Band description (or, in files without, name by position): STAC common name."""
    encoding: ChipEncoding
    resolution_m: float = Field(gt=0)
    tile: str | None = None
    """Column naming the place where a chip was taken, for sets with several dates of one place."""
    block: str | None = None
    """Column naming the block; chips of one block fall into one split."""
    block_deg: float | None = Field(default=None, gt=0)
    """Instead of a column: blocks are cells of so many degrees, by the chip's centre."""
    date: str | None = None
    """Column with the date, or one date for all chips."""
    labels: ChipLabels | None = None

    @field_validator("date", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return value.isoformat() if isinstance(value, calendar_date) else value

    @model_validator(mode="after")
    def _whole(self) -> ChipsetConfig:
        if (self.block is None) == (self.block_deg is None):
            raise ValueError("give either 'block' or 'block_deg'")
        if len(set(self.bands.values())) != len(self.bands):
            raise ValueError("two bands have the same common name")
        return self


def infer_chipset(index: Path, table: pd.DataFrame) -> ChipsetConfig:
    """A description from the columns of the index and the first file; says on stderr what it took.

    Raises:
        InputError: files, bands or scale cannot be told; the message says what to write into ``chipset.yaml``.
    """
    remedy = f"write a chipset.yaml beside it (fields: {', '.join(ChipsetConfig.model_fields)})"
    file = _first(table, _FILE_COLUMNS)
    if file is None or not len(table):
        raise InputError(
            "this index names no files",
            where=index,
            expected=f"a column {' or '.join(_FILE_COLUMNS)}",
            found=", ".join(map(str, table.columns)) or "an empty table",
            remedy=remedy,
        )
    folder = next((name for name in ("", "images") if (index.parent / name / str(table[file].iloc[0])).is_file()), None)
    if folder is None:
        raise InputError(
            "the chip files are not beside the index", where=index, found=table[file].iloc[0], remedy=remedy
        )
    path = index.parent / folder / str(table[file].iloc[0])
    try:
        source = rasterio.open(path)
    except RasterioError as error:
        raise InputError("cannot open this chip", where=path, found=error) from None
    with source:
        bands = _common_names(source.descriptions, path, remedy)
        encoding = _encoding(source, bands, path, remedy)
        resolution = _resolution_m(source, path, remedy)
    block = _first(table, _BLOCK_COLUMNS)
    column, several = _first(table, _CLASS_COLUMNS), _first(table, ("labels",))
    labels = None
    if column or several:
        labels = ChipLabels(kind="class" if column else "multilabel", column=column or several)
    inferred = ChipsetConfig(
        file=file,
        folder=folder,
        bands=bands,
        encoding=encoding,
        resolution_m=resolution,
        block=block,
        block_deg=None if block else _BLOCK_DEG,
        date=_first(table, _DATE_COLUMNS),
        labels=labels,
    )
    taken = {key: value for key, value in inferred.model_dump().items() if value not in (None, "")}
    warn(f"no description of the chips in {index.parent}; inferred {taken}; if that is wrong, write a chipset.yaml")
    return inferred


def _first(table: pd.DataFrame, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in table.columns), None)


def _common_names(descriptions: tuple[str | None, ...], path: Path, remedy: str) -> dict[str, str]:
    bands = {
        text: SENTINEL2_BANDS.get(text, text) for text in descriptions if text in SENTINEL2_BANDS or text in _COMMON
    }
    if not bands:
        raise InputError(
            "these bands have no names that are known",
            where=path,
            expected="band descriptions such as B02 or blue",
            found=descriptions,
            remedy=remedy,
        )
    order = list(SENTINEL2_BANDS.values())
    return dict(sorted(bands.items(), key=lambda item: order.index(item[1]) if item[1] in order else len(order)))


def _encoding(source: rasterio.DatasetReader, bands: dict[str, str], path: Path, remedy: str) -> ChipEncoding:
    dtype, scale, offset = source.dtypes[0], source.scales[0], source.offsets[0]
    nodata = source.nodata
    if nodata is not None and float(nodata).is_integer() and not dtype.startswith("float"):
        nodata = int(nodata)
    if dtype.startswith("float") or (scale, offset) != (1.0, 0.0):
        return ChipEncoding(dtype=dtype, scale=scale, offset=offset, nodata=nodata)
    if any(name in SENTINEL2_BANDS for name in bands):
        return ChipEncoding(dtype=dtype, scale=1e-4, offset=0.0, nodata=nodata)
    raise InputError(
        "how these integers become reflectance is not said",
        where=path,
        expected="scale and offset in the file",
        found=dtype,
        remedy=remedy,
    )


def _resolution_m(source: rasterio.DatasetReader, path: Path, remedy: str) -> float:
    if source.crs is None:
        raise InputError("this chip has no CRS, so its pixel size is unknown", where=path, remedy=remedy)
    side = abs(source.transform.e)
    metres = side * 111_320.0 if source.crs.is_geographic else side * source.crs.linear_units_factor[1]
    return round(float(metres), 2)
