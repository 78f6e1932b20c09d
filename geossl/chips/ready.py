"""Ready chips: a folder of equal-sized rasters with an ``index.csv``, used without a cube.

What the columns and bands mean is said by a chip-set description: ``chipset.yaml`` in the folder, else the shipped
``configs/chipsets/<folder name>.yaml``, else it is inferred from band descriptions and column names.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geossl import artefacts, config
from geossl.chips.chipset import IGNORE, LabelKind, Rows
from geossl.chips.describe import INDEX_NAMES, ChipsetConfig, infer_chipset
from geossl.chips.files import Header, read_header, read_pixels, threaded
from geossl.errors import InputError
from geossl.products import Encoding, Flag


class ReadyChips:
    """A chip set of raster files; a :class:`~geossl.chips.chipset.ChipSet`.

    Besides the usual columns the table has the columns of the index (those of the same name are replaced) and
    ``path``, the raster file.
    """

    def __init__(self, index: Path, settings: ChipsetConfig) -> None:
        """Read the index and every file's header (not its pixels).

        Raises:
            InputError: a column, band, file or label that the description names is missing; chips of unequal shape.
        """
        self.path = index
        self.folder = index.parent
        self.name = settings.name or self.folder.name
        self.settings = settings
        self.bands: tuple[str, ...] = tuple(settings.bands.values())
        encoding = settings.encoding
        self.encoding = Encoding(encoding.dtype, encoding.scale, encoding.offset, encoding.nodata)
        self.resolution_m = settings.resolution_m
        raw = read_index(index)
        self._files = self._paths(raw)
        headers = threaded(read_header, self._files)
        self.shape = self._check(headers)
        self._positions = _band_positions(headers[0], settings, self._files[0])
        self.table = self._table(raw, headers)
        self._label_texts = self._label_column()
        self.label_names: tuple[str, ...] = self._names()

    @cached_property
    def id(self) -> str:
        """Hash of index, description and every file's bytes."""
        files = threaded(artefacts.hash_file, self._files)
        facts = {"settings": self.settings, "index": artefacts.hash_file(self.path), "files": files}
        return artefacts.hash_json(facts)

    @property
    def label_kind(self) -> LabelKind | None:
        """``class``, ``multilabel``, ``mask``, ``number``, ``shares``, or None for chips without labels."""
        return self.settings.labels.kind if self.settings.labels else None

    def load(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Stored pixels (n, band, y, x) and flags (n, y, x): nodata and NaN are flagged, all else is clear.

        Raises:
            InputError: a file cannot be read (never filled with zeros).
        """
        wanted = np.asarray(rows, dtype=np.int64)
        dtype = np.dtype(self.encoding.dtype)
        data = np.empty((len(wanted), len(self.bands), *self.shape), dtype=dtype)
        positions = list(self._positions)

        def read(place: int) -> None:
            data[place] = read_pixels(self._files[wanted[place]], positions)

        threaded(read, range(len(wanted)))
        missing = np.zeros(data.shape, dtype=bool)
        if dtype.kind == "f":
            missing |= np.isnan(data)
        if self.encoding.nodata is not None:
            missing |= data == self.encoding.nodata
        flags = np.where(missing.any(axis=1), np.uint8(Flag.NODATA), np.uint8(0))
        return data, flags

    def labels(self, rows: Rows) -> np.ndarray:
        """Labels of the given rows: class ids (n,) int64, a 0/1 matrix (n, label) uint8, masks (n, y, x) uint8 of
        indices into ``label_names`` where 255 means no label, numbers (n,) float32, or proportions (n, label) float32
        whose rows sum to 1.

        Raises:
            InputError: the set has no labels, a mask holds a value that the description does not name, or numbers or
                proportions are none.
        """
        wanted = np.asarray(rows, dtype=np.int64)
        if self.settings.labels is None:
            raise InputError(
                "these chips carry no labels",
                where=self.path,
                remedy="name a label column or mask folder under 'labels' in a chipset.yaml beside the index",
            )
        if self.label_kind == "mask":
            return np.stack([self._mask(int(row)) for row in wanted]) if len(wanted) else self._no_masks()
        if self.label_kind in ("number", "shares"):
            return self._numbers[wanted]
        place = {name: number for number, name in enumerate(self.label_names)}
        texts = [self._label_texts[row] for row in wanted]
        if self.label_kind == "class":
            return np.array([place[text] for text in texts], dtype=np.int64)
        hot = np.zeros((len(wanted), len(self.label_names)), dtype=np.uint8)
        for row, text in enumerate(texts):
            for label in self._split(text):
                if label in place:
                    hot[row, place[label]] = 1
        return hot

    @cached_property
    def _numbers(self) -> np.ndarray:
        """Quantities (N,), or proportions (N, label), of all chips."""
        labels = self.settings.labels
        assert labels is not None
        columns = list(labels.keep) if labels.kind == "shares" else [str(labels.column)]
        for column in columns:
            _need(self.table, column, self.path, "labels")
        values = self.table[columns].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        good = np.isfinite(values).all(axis=1)
        if labels.kind == "shares":
            good &= (values >= 0).all(axis=1) & (np.abs(values.sum(axis=1) - 1) <= 0.01)
            values = values / np.where(good, values.sum(axis=1), 1.0)[:, None]
        if not good.all():
            raise InputError(
                "labels that are no numbers" if labels.kind == "number" else "proportions that do not sum to 1",
                where=f"{self.path}: {', '.join(columns)}",
                found=f"{self.table.loc[~good, columns].iloc[0].to_dict()} of chip {self.table['chip'][~good].iloc[0]};"
                f" {int((~good).sum())} of {len(good)} chips",
                remedy="correct these rows, or drop them from the index",
            )
        return (values if labels.kind == "shares" else values[:, 0]).astype(np.float32)

    def _no_masks(self) -> np.ndarray:
        return np.empty((0, *self.shape), dtype=np.uint8)

    def _mask(self, row: int) -> np.ndarray:
        labels = self.settings.labels
        assert labels is not None and labels.classes is not None
        path = self.folder / str(labels.folder) / self._files[row].name
        values = read_pixels(path, [1])[0]
        if values.shape != self.shape:
            raise InputError(
                "this mask has another shape than its chip", where=path, expected=self.shape, found=values.shape
            )
        mask = np.full(self.shape, IGNORE, dtype=np.uint8)
        known = np.zeros(self.shape, dtype=bool)
        for number, value in enumerate(labels.classes):
            mask[values == value] = number
            known |= values == value
        ignored = known | np.isin(values, labels.ignore)
        if not ignored.all():
            raise InputError(
                "a mask holds a value that is no class",
                where=path,
                expected=f"{dict(labels.classes)}, ignored {list(labels.ignore)}",
                found=np.unique(values[~ignored]).tolist(),
                remedy="name it under labels: classes or labels: ignore",
            )
        return mask

    def _paths(self, raw: pd.DataFrame) -> list[Path]:
        _need(raw, self.settings.file, self.path, "file")
        folder = self.folder / self.settings.folder
        files = [folder / str(name) for name in raw[self.settings.file]]
        missing = [file for file in files if not file.is_file()]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(files)} chip files are missing",
                where=self.path,
                found=f"{missing[0]} and others" if len(missing) > 1 else missing[0],
                remedy="check the folder in the chip set's description, or drop the rows from the index",
            )
        if not files:
            raise InputError("this index has no rows", where=self.path)
        return files

    def _check(self, headers: list[Header]) -> tuple[int, int]:
        first = headers[0]
        for path, header in zip(self._files, headers, strict=True):
            if (header.shape, header.descriptions, header.dtype) != (first.shape, first.descriptions, first.dtype):
                raise InputError(
                    "chips of one set are alike in shape, bands and type",
                    where=path,
                    expected=f"{first.shape} {first.dtype} {first.descriptions}",
                    found=f"{header.shape} {header.dtype} {header.descriptions}",
                )
        if first.dtype != self.encoding.dtype:
            raise InputError(
                "the chips are of another type than described",
                where=self._files[0],
                expected=self.encoding.dtype,
                found=first.dtype,
            )
        return first.shape

    def _table(self, raw: pd.DataFrame, headers: list[Header]) -> pd.DataFrame:
        settings = self.settings
        names = [Path(str(name)).with_suffix("").as_posix() for name in raw[settings.file]]
        facts: dict[str, Any] = {
            "chip": names,
            "tile": _texts(raw, settings.tile, self.path) if settings.tile else names,
            "block": self._blocks(raw, headers),
            "datetime": self._dates(raw),
            "clear": 1.0,
            "geometry": pd.Series([header.geometry for header in headers], dtype=object),
            "crs": [header.crs for header in headers],
            "left": [header.left for header in headers],
            "top": [header.top for header in headers],
            "path": [str(path) for path in self._files],
        }
        table = pd.DataFrame(facts)
        for column in raw.columns:
            if column not in table:
                table[column] = raw[column].to_numpy()
        if not table["chip"].is_unique:
            twice = table["chip"][table["chip"].duplicated()].iloc[0]
            raise InputError("a chip stands twice in the index", where=self.path, found=twice)
        return table

    def _blocks(self, raw: pd.DataFrame, headers: list[Header]) -> list[str]:
        if self.settings.block:
            return _texts(raw, self.settings.block, self.path)
        side = self.settings.block_deg
        assert side is not None  # the description has one of the two
        blocks = []
        for header, file in zip(headers, self._files, strict=True):
            if header.geometry is None:
                raise InputError(
                    "no block column, and this chip has no coordinates to make blocks of",
                    where=file,
                    remedy="add a column that names each chip's block and name it under 'block' in chipset.yaml",
                )
            centre = header.geometry.centroid
            blocks.append(f"{int(centre.x // side)}_{int(centre.y // side)}")
        return blocks

    def _dates(self, raw: pd.DataFrame) -> pd.Series:
        date = self.settings.date
        if date is None:
            return pd.Series(pd.NaT, index=range(len(raw))).dt.tz_localize("UTC")
        given = raw[date].reset_index(drop=True) if date in raw else pd.Series([date] * len(raw))
        try:
            return pd.to_datetime(given.astype(str), utc=True)
        except ValueError as error:
            raise InputError("neither a column nor a date", where=f"{self.path}: date {date!r}", found=error) from None

    def _split(self, text: str) -> list[str]:
        assert self.settings.labels is not None
        return [part.strip() for part in text.split(self.settings.labels.separator) if part.strip()]

    def _label_column(self) -> list[str]:
        labels = self.settings.labels
        if labels is None or labels.kind not in ("class", "multilabel"):
            return []
        assert labels.column is not None
        _need(self.table, labels.column, self.path, "labels")
        return ["" if pd.isna(value) else str(value) for value in self.table[labels.column]]

    def _names(self) -> tuple[str, ...]:
        labels = self.settings.labels
        if labels is None:
            return ()
        if labels.kind == "mask":
            assert labels.classes is not None
            return tuple(labels.classes.values())
        if labels.kind in ("number", "shares"):
            return labels.keep
        multi = labels.kind == "multilabel"
        found = {part for text in self._label_texts for part in (self._split(text) if multi else [text])}
        if not labels.keep:
            return tuple(sorted(found))
        if not multi and found - set(labels.keep):
            raise InputError(
                "the index holds a class that the description does not keep",
                where=f"{self.path}: {labels.column}",
                expected=", ".join(labels.keep),
                found=", ".join(sorted(found - set(labels.keep))),
            )
        return labels.keep


def open_ready(path: Path) -> ReadyChips:
    """Ready chips of a folder with an index, or of the index file itself.

    Raises:
        InputError: no index, or neither a description nor enough in the files to infer one.
    """
    index = find_index(path)
    if index is None:
        raise InputError("no index of chips here", where=path, expected=" or ".join(INDEX_NAMES))
    folder = index.absolute().parent
    own = folder / "chipset.yaml"
    if own.is_file():
        settings = config.load(ChipsetConfig, "chipsets", own)
    elif folder.name in config.config_names("chipsets"):
        settings = config.load(ChipsetConfig, "chipsets", folder.name)
    else:
        settings = infer_chipset(index, read_index(index))
    return ReadyChips(index, settings)


def find_index(path: Path) -> Path | None:
    """The index file a path means: itself, or the first of :data:`INDEX_NAMES` in the folder; else None."""
    if path.is_file() and path.suffix in {".csv", ".parquet"}:
        return path
    return next((path / name for name in INDEX_NAMES if (path / name).is_file()), None)


def read_index(path: Path) -> pd.DataFrame:
    """The index as a table."""
    try:
        return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype_backend="numpy_nullable")
    except (OSError, ValueError) as error:
        raise InputError("cannot read this index", where=path, found=error) from None


def _band_positions(header: Header, settings: ChipsetConfig, path: Path) -> tuple[int, ...]:
    """1-based band numbers in the order of the description; by band description where the files have them."""
    named = [text for text in header.descriptions if text]
    if not named:
        if header.count != len(settings.bands):
            raise InputError(
                "the files name no bands and have another number of them than described",
                where=path,
                expected=f"{len(settings.bands)}: {', '.join(settings.bands)}",
                found=header.count,
            )
        return tuple(range(1, header.count + 1))
    missing = [band for band in settings.bands if band not in header.descriptions]
    if missing:
        raise InputError(
            f"band missing: {', '.join(missing)}",
            where=path,
            expected=", ".join(settings.bands),
            found=", ".join(named),
            remedy="correct 'bands' in the chip set's description (band description: STAC common name)",
        )
    return tuple(header.descriptions.index(band) + 1 for band in settings.bands)


def _need(table: pd.DataFrame, column: str, index: Path, field: str) -> None:
    if column not in table:
        raise InputError(
            f"the index has no column '{column}'",
            where=f"{index} ({field} in the chip set's description)",
            expected=column,
            found=", ".join(map(str, table.columns)),
        )


def _texts(raw: pd.DataFrame, column: str, index: Path) -> list[str]:
    _need(raw, column, index, column)
    if raw[column].isna().any():
        raise InputError(f"column '{column}' has empty cells", where=index)
    return [str(value) for value in raw[column]]
