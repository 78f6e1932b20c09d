"""``map_areas``: the areas of a layer's classes, on the whole map and in polygons: design-based, or a pixel count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from geossl.artefacts import (
    atomic_directory,
    atomic_file,
    check_place,
    hash_file,
    hash_json,
    is_complete,
    read_manifest,
    write_json,
    write_manifest,
)
from geossl.errors import InputError
from geossl.maps.areas import STRIP_ROWS, class_areas, read_zones, write_csv, zone_rows
from geossl.maps.design import MapAccuracy, allocate, estimate_areas
from geossl.progress import say, warn
from geossl.regions import read_vector

KIND = "areas"
CLASS = "class"
STRATUM, LAYER = "stratum", "layer"
"""Columns of a drawn sample: the map's class where the point lies, and which map that was."""
PIXEL_COUNT, DESIGN_BASED = "pixel count", "design-based"
ALL = "all"
FIELDS = ("zone", "class", "method", "hectares", "low_ha", "high_ha", "error_ha", "map_ha", "samples", "note")
ACCURACY_FIELDS = ("class", "figure", "value", "low", "high", "error")


@dataclass(frozen=True)
class AreasResult:
    """Areas of classes.

    Attributes:
        folder: areas.csv, areas.json, and with a sample accuracy.csv and confusion.csv.
        rows: a row a zone and class: hectares with their 95 % interval, by which ``method`` (``design-based`` or
            ``pixel count``), hectares on the map, test samples in the zone, and why it is a pixel count.
        overall: overall accuracy of the map with its interval, area-weighted; None without a sample.
        left_out: test samples that could not be used, and why.
    """

    folder: Path
    rows: tuple[dict[str, Any], ...]
    overall: tuple[float, float, float] | None
    left_out: dict[str, int]


@dataclass(frozen=True)
class SampleResult:
    """An empty sample: its file, and how many points lie in each class of the map."""

    path: Path
    points: dict[str, int]


@dataclass(frozen=True)
class _Layer:
    """A published class map."""

    path: Path
    names: dict[int, str]
    id: str


@dataclass(frozen=True)
class _Sample:
    """Test samples on the map: class of the map and of the reference as positions in the legend (n,), and points."""

    stratum: np.ndarray
    truth: np.ndarray
    points: gpd.GeoSeries
    left_out: dict[str, int]


def map_areas(
    layer: str | Path,
    *,
    sample: str | Path | None = None,
    zones: str | Path | None = None,
    zone_name: str | None = None,
    out: str | Path | None = None,
) -> AreasResult:
    """Areas of a layer's classes: with a test sample design-based with 95 % intervals, otherwise pixel counts.

    A zone has design-based areas when each class that the map shows in it has two test samples or more there; in other
    zones the figure is a pixel count, and says so.

    Args:
        layer: folder of a layer of classes (``geossl map``).
        sample: points with the true class (column ``class``): a probability sample. One drawn by :func:`draw_sample` is
            stratified by the map and is used with that map alone; any other is taken as simple random or systematic.
        zones, zone_name: polygons and the column with their names.
        out: the folder; by default ``<layer>-areas`` beside the layer.

    Raises:
        InputError: no layer of classes, a sample of another map or with classes that the map does not have.
    """
    opened = _open(layer)
    folder = Path(out) if out is not None else opened.path.with_name(f"{opened.path.name}-areas")
    folder = folder.absolute()
    inputs = {
        "layer": opened.id,
        "sample": hash_file(Path(sample)) if sample is not None and Path(sample).is_file() else None,
        "zones": hash_file(Path(zones)) if zones is not None and Path(zones).is_file() else None,
        "zone_name": zone_name,
    }
    identity = hash_json(inputs)
    check_place(folder, KIND)
    if is_complete(folder) and read_manifest(folder, KIND).get("inputs_hash") == identity:
        say(f"these areas are there already: {folder}")
        return _result(folder)
    with rasterio.open(opened.path / "class.tif") as source:
        points = _read_sample(Path(sample), opened, source) if sample is not None else None
        parts: dict[str, tuple[list[dict[str, Any]], Any]] = {
            ALL: (class_areas(opened.path / "class.tif", opened.names), None)
        }
        parts |= dict(_zone_parts(opened, source, zones, zone_name)) if zones is not None else {}
    rows: list[dict[str, Any]] = []
    accuracy = counts = None
    for zone, (areas, shape) in parts.items():
        found, said, table = _rows(zone, areas, shape, points)
        rows += found
        if zone == ALL:
            accuracy, counts = said, table
    names = list(opened.names.values())
    with atomic_directory(folder) as temporary:
        write_csv(temporary / "areas.csv", rows, FIELDS)
        write_json(temporary / "areas.json", {"layer": opened.path.name, "areas": rows})
        files = ["areas.csv", "areas.json"]
        overall = None
        if counts is not None:
            matrix = [{"map": name, **dict(zip(names, map(int, line), strict=True))} for name, line in
                      zip(names, counts, strict=True)]  # fmt: skip
            write_csv(temporary / "confusion.csv", matrix, ("map", *names))
            files.append("confusion.csv")
        if accuracy is not None:
            write_csv(temporary / "accuracy.csv", list(_accuracy_rows(accuracy, names)), ACCURACY_FIELDS)
            files.append("accuracy.csv")
            one = accuracy.overall
            overall = [round(float(part[0]), 4) for part in (one.value, one.low, one.high)]
        write_manifest(
            temporary, KIND, inputs=inputs, inputs_hash=identity, files=sorted(files), rows=rows, overall=overall,
            left_out=points.left_out if points else {},
        )  # fmt: skip
    return _result(folder)


def draw_sample(layer: str | Path, count: int, out: str | Path, *, seed: int = 0) -> SampleResult:
    """Draw a stratified random sample of a class map's pixels, to be labelled and given to :func:`map_areas`.

    The points are pixel centres, drawn without replacement; rare classes get 50 of them (or an even half of all), the
    rest go by area. Column ``class`` is empty: who fills it in should not look at the map (or at ``stratum``).

    Raises:
        InputError: the file is there already or no GeoPackage, too few points.
    """
    opened, path = _open(layer), Path(out)
    if path.suffix.lower() != ".gpkg":
        raise InputError("a sample is a GeoPackage", where=path, expected="--out FILE.gpkg")
    if path.exists():
        raise InputError("this file is there already", where=path, remedy="choose another --out")
    areas = class_areas(opened.path / "class.tif", opened.names)
    wanted = allocate(count, np.array([row["hectares"] for row in areas]))
    generator = np.random.default_rng(seed)
    chosen, strata = [], []
    with rasterio.open(opened.path / "class.tif") as source:
        for row, number in zip(areas, wanted, strict=True):
            number = min(int(number), int(row["pixels"]))
            order = np.sort(generator.choice(int(row["pixels"]), number, replace=False))
            chosen.append(_pixels_of(source, int(row["value"]), order))
            strata += [row["class"]] * number
        columns, lines = np.concatenate(chosen, 1)
        x, y = source.transform * (columns + 0.5, lines + 0.5)
        crs = source.crs.to_wkt()
    frame = gpd.GeoDataFrame(
        {CLASS: [None] * len(strata), STRATUM: strata, LAYER: opened.id[:16]},
        geometry=gpd.points_from_xy(x, y),
        crs=crs,
    )
    frame[CLASS] = frame[CLASS].astype("object")
    frame = frame.iloc[generator.permutation(len(frame))].reset_index(drop=True)
    about = f"class: one of {', '.join(opened.names.values())}; stratum and layer say how the sample was drawn"
    with atomic_file(path) as temporary:
        frame.to_file(temporary, layer="sample", driver="GPKG", DESCRIPTION=about)
    return SampleResult(path.absolute(), {row["class"]: strata.count(row["class"]) for row in areas})


def _open(layer: str | Path) -> _Layer:
    path = Path(layer).absolute()
    manifest = read_manifest(path, "layer")
    legend = manifest["inputs"]["legend"]
    if not isinstance(legend, list):
        raise InputError("areas are of classes, and this layer holds a quantity", where=path)
    return _Layer(path, {int(value): str(name) for value, name, _ in legend}, str(manifest["inputs_hash"]))


def _result(folder: Path) -> AreasResult:
    manifest = read_manifest(folder, KIND)
    overall = manifest["overall"]
    return AreasResult(
        folder,
        tuple(manifest["rows"]),
        None if overall is None else (overall[0], overall[1], overall[2]),
        dict(manifest["left_out"]),
    )


def _zone_parts(
    layer: _Layer, source: Any, zones: str | Path, zone_name: str | None
) -> Iterator[tuple[str, tuple[list[dict[str, Any]], Any]]]:
    frame, column = read_zones(Path(zones), zone_name, source.crs.to_wkt())
    geobox = GeoBox(source.shape, source.transform, source.crs.to_wkt())
    extent, found = geobox.extent.geom, False
    for name, shape in frame.dissolve(column).geometry.items():
        if shape.intersects(extent):
            found = True
            inside = shape.intersection(extent)
            yield str(name), (zone_rows(source, None, geobox, inside, layer.names), inside)
    if not found:
        raise InputError("no zone lies on this map", where=zones, remedy="give zones that overlap the map")


def _rows(
    zone: str, areas: list[dict[str, Any]], shape: Any, sample: _Sample | None
) -> tuple[list[dict[str, Any]], MapAccuracy | None, np.ndarray | None]:
    """Rows of one zone, what its samples say of the map there, and their counts (map class, reference class)."""
    strata = np.array([row["hectares"] for row in areas])
    said = counts = None
    note = "no test sample" if sample is None else ""
    if sample is not None:
        inside = np.ones(len(sample.truth), bool) if shape is None else sample.points.within(shape).to_numpy()
        counts = np.zeros((len(areas), len(areas)))
        np.add.at(counts, (sample.stratum[inside], sample.truth[inside]), 1)
        try:
            said = estimate_areas(counts, strata)
        except InputError as error:
            note = f"{error.what}: {error.found}"
    rows = []
    for number, row in enumerate(areas):
        facts = {
            "zone": zone,
            "class": row["class"],
            "map_ha": row["hectares"],
            "samples": 0 if counts is None else int(counts.sum()),
            "note": note,
        }
        if said is None:
            own: dict[str, Any] = {"method": PIXEL_COUNT, "hectares": row["hectares"]}
            own |= dict.fromkeys(("low_ha", "high_ha", "error_ha"))
        else:
            parts = (said.area.value, said.area.low, said.area.high, said.area.error)
            own = {"method": DESIGN_BASED}
            own |= {name: round(float(part[number]), 4) for name, part in
                    zip(("hectares", "low_ha", "high_ha", "error_ha"), parts, strict=True)}  # fmt: skip
        rows.append({name: {**facts, **own}[name] for name in FIELDS})
    return rows, said, counts


def _accuracy_rows(accuracy: MapAccuracy, names: list[str]) -> Iterator[dict[str, Any]]:
    for figure, one, classes in (
        ("overall", accuracy.overall, ["all"]),
        ("user's", accuracy.users, names),
        ("producer's", accuracy.producers, names),
    ):
        for number, name in enumerate(classes):
            parts = {"value": one.value, "low": one.low, "high": one.high, "error": one.error}
            numbers = {part: float(values[number]) for part, values in parts.items()}
            known = {part: round(number, 4) if np.isfinite(number) else None for part, number in numbers.items()}
            yield {"class": name, "figure": figure, **known}


def _read_sample(path: Path, layer: _Layer, source: Any) -> _Sample:
    frame = read_vector(path)
    if CLASS not in frame.columns or not (frame.geometry.geom_type == "Point").all():
        raise InputError(
            "a test sample is points with their true class",
            where=path,
            expected=f"points and a column '{CLASS}'",
            found=f"{', '.join(sorted(set(frame.geometry.geom_type)))}; columns {', '.join(map(str, frame.columns))}",
        )
    if LAYER in frame.columns and (frame[LAYER].astype(str) != layer.id[:16]).any():
        raise InputError(
            "this sample was drawn from another map, and says nothing of areas on this one",
            where=path,
            expected=f"a sample of layer {layer.id[:16]}",
            found=", ".join(sorted(set(frame[LAYER].astype(str)))),
            remedy="give the layer it was drawn from, or draw a sample of this one (--draw)",
        )
    known = {name.casefold(): position for position, name in enumerate(layer.names.values())}
    text = frame[CLASS].astype("object").where(frame[CLASS].notna(), "").astype(str).str.strip().str.casefold()
    foreign = sorted({str(name) for name in text if name and name not in known})
    if foreign:
        raise InputError(
            "this test sample names classes that the map does not have",
            where=path,
            expected=", ".join(layer.names.values()),
            found=", ".join(foreign),
        )
    points = frame.geometry.to_crs(source.crs.to_wkt())
    values = np.array([value[0] for value in source.sample(zip(points.x, points.y, strict=True))])
    height, width = source.shape
    column, line = ~source.transform * (points.x.to_numpy(), points.y.to_numpy())
    on_map = (column >= 0) & (column < width) & (line >= 0) & (line < height)
    position = {value: number for number, value in enumerate(layer.names)}
    stratum = np.array([position.get(int(value), -1) if there else -1 for value, there in
                        zip(values, on_map, strict=True)], int)  # fmt: skip
    filled = (text != "").to_numpy()
    usable = filled & (stratum >= 0)
    left_out = {"without a class": int((~filled).sum()), "where the map has no class": int((stratum < 0).sum())}
    left_out = {why: number for why, number in left_out.items() if number}
    if left_out:
        warn(f"test samples left out: {', '.join(f'{number} {why}' for why, number in left_out.items())}")
    truth = np.array([known[name] for name in text[usable]], int)
    return _Sample(stratum[usable], truth, points[usable].reset_index(drop=True), left_out)


def _pixels_of(source: Any, value: int, order: np.ndarray) -> np.ndarray:
    """Columns and rows (2, n) of the pixels of a class, by their number among its pixels from top to bottom."""
    found, before = [], 0
    for top in range(0, source.height, STRIP_ROWS):
        strip = source.read(1, window=Window(0, top, source.width, min(STRIP_ROWS, source.height - top)))
        lines, columns = np.nonzero(strip == value)
        some = order[(order >= before) & (order < before + len(lines))] - before
        found.append(np.stack([columns[some], lines[some] + top]))
        before += len(lines)
    return np.concatenate(found, 1)


def describe(rows: tuple[Mapping[str, Any], ...]) -> list[str]:
    """The rows as lines of text."""
    lines = []
    for row in rows:
        interval = "" if row["low_ha"] is None else f" [{row['low_ha']:,.1f}, {row['high_ha']:,.1f}]"
        lines.append(f"{row['zone']:<20} {row['class']:<24} {row['hectares']:>12,.1f} ha{interval}  {row['method']}")
    return lines
