"""Single scenes with truth: flood water (drawn by hand), depth (echo sounder); and a reservoir's area without truth."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import rasterio
from scipy import ndimage
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from geossl.evaluation.controls import spectral_index
from geossl.tasks.depth import lyzenga_logs, stumpf_ratio
from tests.benchmarks.real_sets.common import DATA, Table, fold_rows, grid_cell, held_out, of_classes, of_values, row

FLOOD_BANDS = [
    "coastal",
    "blue",
    "green",
    "red",
    "rededge071",
    "rededge075",
    "rededge078",
    "nir",
    "nir08",
    "nir09",
    "cirrus",
    "swir16",
    "swir22",
]
STACK_BANDS = [band for band in FLOOD_BANDS if band != "cirrus"]
CELL_PX = 32
SAMPLE = 12_000
CLEAR_BLUE = 0.12
"""Median blue reflectance above which a date of the reservoir counts as overcast."""


def flood() -> Table:
    """Water or not in one hand-labelled flood chip; cells of 32 x 32 pixels stay together."""
    folder = DATA / "sen1floods11-spain"
    with rasterio.open(folder / "Spain_7370579_S2Hand_north.tif") as source:
        values = source.read().astype(np.float32) / 10_000
    with rasterio.open(folder / "Spain_7370579_LabelHand_north.tif") as source:
        label = source.read(1)
    mndwi, ndwi = (np.nan_to_num(spectral_index(name, values, FLOOD_BANDS)) for name in ("mndwi", "ndwi"))
    around = np.stack([ndimage.uniform_filter(band, 3) for band in values])
    features = np.concatenate([values, around, mndwi[None], ndwi[None]])
    rows_y, rows_x = np.nonzero(label >= 0)
    keep = np.random.default_rng(0).choice(len(rows_y), min(SAMPLE, len(rows_y)), replace=False)
    rows_y, rows_x = rows_y[keep], rows_x[keep]
    y, x = label[rows_y, rows_x].astype(int), features[:, rows_y, rows_x].T
    cells = grid_cell(rows_x, rows_y, CELL_PX)
    index = {"mndwi": x[:, -2], "ndwi": x[:, -1]}
    linear = make_pipeline(StandardScaler(), LogisticRegression(solver="newton-cholesky"))
    strengths = {"logisticregression__C": [0.1, 1.0, 10.0]}
    forest, leaves = RandomForestClassifier(100, random_state=0), {"min_samples_leaf": [3, 10, 30]}
    folds = 5
    predicted = {
        "MNDWI > 0": (index["mndwi"] > 0).astype(int),
        "NDWI > 0": (index["ndwi"] > 0).astype(int),
        "MNDWI, Otsu": (index["mndwi"] > _otsu(index["mndwi"])).astype(int),
        "MNDWI, best threshold of the training cells": _best_threshold(index["mndwi"], y, cells, folds),
        "bands, logistic": held_out(linear, strengths, x[:, : len(FLOOD_BANDS)], y, cells, folds, "jaccard"),
        "bands, 3 x 3 means and indices, random forest": held_out(forest, leaves, x, y, cells, folds, "jaccard"),
    }
    figures = {title: of_classes(y, said, cells) for title, said in predicted.items()}
    columns = ["mean_iou", "macro_f1", "accuracy"]
    rows = [row(title, one, columns, figures["bands, logistic"]) for title, one in figures.items()]
    for title, cells_of in zip(figures, rows, strict=True):
        cells_of["water_iou"] = [figures[title].per_class[1][key] for key in ("iou", "iou_low", "iou_high")]
    return Table(
        "sen1floods11-spain",
        f"Flood water in one hand-labelled chip: {len(y)} pixels drawn from 384 x 512, {y.mean():.0%} of them water",
        "python -m tests.benchmarks.real_sets sen1floods11-spain",
        f"five folds of cells of {CELL_PX} x {CELL_PX} pixels; intervals resample cells",
        [*columns, "water_iou"],
        rows,
        [
            "One chip of 446: the folds share its light and its flood. The label includes wet, dark fields.",
            "Published with U-Nets on the whole set: water IoU .805.",
        ],
    )


def bathymetry() -> Table:
    """Depth from four bands at echo soundings; cells of 100 m stay together."""
    folder = DATA / "s2-thousand-islands-bathymetry"
    points = gpd.read_file(folder / "labels" / "depth_points.geojson")
    item = next(folder.glob("s2-thousand-islands/*/*.json"))
    names = ["B02", "B03", "B04", "B08"]
    paths = [next(item.parent.glob(f"*{name}*.tif")) for name in names]
    layers = []
    for path in paths:
        with rasterio.open(path) as source:
            layers.append(source.read(1).astype(np.float64) / 10_000)
            transform, crs, shape = source.transform, source.crs, source.shape
    values = np.stack(layers)
    east, north = points.to_crs(crs).geometry.x.to_numpy(), points.to_crs(crs).geometry.y.to_numpy()
    columns_px, rows_px = ~transform * (east, north)
    px, py = np.floor(columns_px).astype(int), np.floor(rows_px).astype(int)
    inside = (px >= 0) & (py >= 0) & (px < shape[1]) & (py < shape[0])
    px, py, y = px[inside], py[inside], points["depth_m"].to_numpy()[inside]
    cells = grid_cell(east[inside], north[inside], 100)
    bands = values[:, py, px].T
    deep = np.percentile(values.reshape(4, -1), 2, axis=1)
    ratio = stumpf_ratio(bands[:, [0]], bands[:, [1]])
    lyzenga = lyzenga_logs(bands[:, :3], deep[:3])
    around = [ndimage.uniform_filter(band, size)[py, px] for band in values for size in (3, 7)]
    spread = [_spread(band, 5)[py, px] for band in values]
    full = np.column_stack([np.log(bands), ratio, lyzenga, np.log(np.stack(around, 1)), np.stack(spread, 1)])
    ridge = make_pipeline(StandardScaler(), Ridge())
    shrink = {"ridge__alpha": [0.1, 1.0, 10.0, 100.0]}
    forest, leaves = RandomForestRegressor(200, random_state=0), {"min_samples_leaf": [3, 10, 30]}
    models = {
        "mean depth of the other cells": (DummyRegressor(), {}, bands),
        "ratio of logarithms, blue to green (Stumpf 2003)": (ridge, shrink, ratio),
        "logarithms above deep water (Lyzenga 1978)": (ridge, shrink, lyzenga),
        "all features, ridge": (ridge, shrink, full),
        "all features, random forest": (forest, leaves, full),
    }
    folds, metrics = 5, ["rmse", "mae", "r2"]
    said = {
        title: held_out(model, grid, x, y, cells, folds, "neg_root_mean_squared_error")
        for title, (model, grid, x) in models.items()
    }
    figures = {title: of_values(y, one, cells) for title, one in said.items()}
    metrics = [name for name in metrics if name in next(iter(figures.values())).values]
    reference = figures["ratio of logarithms, blue to green (Stumpf 2003)"]
    best = min(said, key=lambda title: float(np.sqrt(np.mean((said[title] - y) ** 2))))
    bins = [(0, 2), (2, 5), (5, 10)]
    inside_bin = {(low, high): (y >= low) & (y < high) for low, high in bins}
    by_depth = ", ".join(
        f"{low} to {high} m: {np.abs(said[best] - y)[where].mean():.2f} m ({where.sum()})"
        for (low, high), where in inside_bin.items()
    )
    return Table(
        "s2-thousand-islands-bathymetry",
        f"Depth of a reef flat: {len(y)} soundings, {y.min():.1f} to {y.max():.1f} m",
        "python -m tests.benchmarks.real_sets s2-thousand-islands-bathymetry",
        "five folds of cells of 100 m; intervals resample cells; metres",
        metrics,
        [row(title, one, metrics, reference) for title, one in figures.items()],
        [f"Mean absolute error of '{best}' by depth (soundings): {by_depth}."],
    )


def reservoir() -> Table:
    """Water area of the Boadella reservoir on every date, by three rules; there is no truth to score."""
    rows = []
    stacks, days = [], []
    for path in sorted((DATA / "boadella-reservoir").glob("Boadella_*.tif")):
        with rasterio.open(path) as source:
            stacks.append(source.read().astype(np.float32) / 10_000)
            transform, bounds = source.transform, source.bounds
        days.append(path.stem.split("_")[1])
    latitude = np.deg2rad((bounds.top + bounds.bottom) / 2)
    pixel_ha = abs(transform.a * np.cos(latitude) * transform.e) * 111_320**2 / 1e4
    water = {
        day: np.nan_to_num(spectral_index("mndwi", one, STACK_BANDS), nan=1.0)
        for day, one in zip(days, stacks, strict=True)
    }
    clear = {day: float(np.median(one[1])) < CLEAR_BLUE for day, one in zip(days, stacks, strict=True)}
    often = np.mean([water[day] > 0 for day in days if clear[day]], axis=0) > 0.1
    parts, _ = ndimage.label(often)
    lake = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    for day, one in zip(days, stacks, strict=True):
        ndwi = np.nan_to_num(spectral_index("ndwi", one, STACK_BANDS), nan=1.0)
        rows.append(
            {
                "name": day,
                "mndwi_0_ha": [float(((water[day] > 0) & lake).sum() * pixel_ha), None, None],
                "mndwi_otsu_ha": [float(((water[day] > _otsu(water[day][lake])) & lake).sum() * pixel_ha), None, None],
                "ndwi_0_ha": [float(((ndwi > 0) & lake).sum() * pixel_ha), None, None],
                "clear": ["yes" if clear[day] else "no, left out of the outline", None, None],
            }
        )
    return Table(
        "boadella-reservoir",
        f"Water area of a reservoir on {len(days)} dates",
        "python -m tests.benchmarks.real_sets boadella-reservoir",
        "hectares inside the largest water body of the clear dates; no gauge and no mask came with the set",
        ["mndwi_0_ha", "mndwi_otsu_ha", "ndwi_0_ha", "clear"],
        rows,
        [
            "Nothing here is scored: the rows show how far three common rules agree.",
            f"Overcast: median blue reflectance of {CLEAR_BLUE:g} or more.",
        ],
    )


def _otsu(values: np.ndarray) -> float:
    """Threshold that parts the histogram (256 bins) into the two classes of greatest variance between (Otsu 1979)."""
    counts, edges = np.histogram(values[np.isfinite(values)], 256)
    centres = (edges[:-1] + edges[1:]) / 2
    below = counts.cumsum()
    above = below[-1] - below
    sums = (counts * centres).cumsum()
    with np.errstate(invalid="ignore", divide="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(edges[1:][np.nanargmax(between)])


def _best_threshold(index: np.ndarray, y: np.ndarray, cells: np.ndarray, folds: int) -> np.ndarray:
    predicted = np.empty_like(y)
    for test in fold_rows(cells, folds):
        train = np.setdiff1d(np.arange(len(y)), test)
        steps = np.linspace(-0.5, 0.5, 101)
        said = index[train] > steps[:, None]
        both = (said & (y[train] == 1)).sum(1)
        either = (said | (y[train] == 1)).sum(1)
        predicted[test] = index[test] > steps[(both / either).argmax()]
    return predicted


def _spread(band: np.ndarray, size: int) -> np.ndarray:
    mean = ndimage.uniform_filter(band, size)
    return np.sqrt(np.maximum(ndimage.uniform_filter(band**2, size) - mean**2, 0))
