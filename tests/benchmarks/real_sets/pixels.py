"""Labelled pixels without a picture: indices, bands and a spectral network; a site, region or block left out."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.benchmarks.real_sets.common import (
    DATA,
    Table,
    commonest,
    constant,
    grid_cell,
    held_out,
    of_classes,
    row,
)

COLUMNS = ["macro_f1", "balanced_accuracy", "accuracy"]


@dataclass(frozen=True)
class PixelSet:
    """A table of pixels: what is left out in turn, in how many folds (None: each once), and what is resampled."""

    folder: str
    title: str
    label: str
    protocol: str
    groups: str
    blocks: str
    folds: int | None
    reading: str


SETS = {
    "pacific-shallow-habitat": PixelSet(
        "pacific-shallow-habitat",
        "Shallow-water habitat at 16 Pacific sites",
        "class",
        "leave one site out; intervals resample sites; mangrove (two pixels) dropped",
        "site",
        "site",
        None,
        "Classes differ strongly by site, so a random split would flatter every row.",
    ),
    "tonga-landcover-pixels": PixelSet(
        "tonga-landcover-pixels",
        "Land cover on Tongatapu",
        "class",
        "five folds of 1.5 km blocks; intervals resample blocks",
        "block",
        "block",
        5,
        "One island, 19 water pixels.",
    ),
    "africa-cropland-pixels": PixelSet(
        "africa-cropland-pixels",
        "Cropland in three regions of Africa, two seasons",
        "crop",
        "leave one region out; intervals resample cells of two degrees",
        "region",
        "cell",
        None,
        "Transfer to a region that no label came from.",
    ),
    "floating-materials-spectra": PixelSet(
        "floating-materials-spectra",
        "What floats on the sea",
        "class",
        "five folds of scene blocks of 20 x 20 pixels; intervals resample the blocks",
        "scene_block",
        "scene_block",
        5,
        "Class and place are one here (all seaweed is Accra, all pumice Okinawa): a high figure shows that scenes "
        "can be told apart, not materials.",
    ),
}


def table(name: str) -> Table:
    """Every model on one set, tuned alike."""
    one = SETS[name]
    data = read(one)
    y = data[one.label].astype(str).to_numpy()
    groups, blocks = data[one.groups].astype(str).to_numpy(), data[one.blocks].astype(str).to_numpy()
    bands = data[[column for column in data.columns if column.startswith("B") and column[1].isdigit()]].to_numpy()
    differences = ratios(bands)
    linear = make_pipeline(StandardScaler(), LogisticRegression(solver="newton-cholesky", class_weight="balanced"))
    network = make_pipeline(
        StandardScaler(), MLPClassifier((64, 64), early_stopping=True, max_iter=300, random_state=0)
    )
    forest = RandomForestClassifier(200, class_weight="balanced_subsample", random_state=0)
    strengths = {"logisticregression__C": [0.1, 1.0, 10.0]}
    models = {
        "normalised differences, logistic": (linear, strengths, differences),
        "bands, logistic": (linear, strengths, bands),
        "bands, spectral network": (network, {"mlpclassifier__alpha": [1e-4, 1e-2, 1.0]}, bands),
        "bands and differences, random forest": (
            forest,
            {"min_samples_leaf": [1, 3, 10]},
            np.concatenate([bands, differences], axis=1),
        ),
    }
    found = {"commonest class": of_classes(y, constant(y, groups, one.folds, commonest), blocks)}
    for title, (model, grid, x) in models.items():
        found[title] = of_classes(y, held_out(model, grid, x, y, groups, one.folds, "f1_macro"), blocks)
    reference = found["bands, logistic"]
    rows = [row(title, figures, COLUMNS, reference) for title, figures in found.items()]
    return Table(
        name,
        f"{one.title}: {len(y)} pixels, {len(np.unique(y))} classes",
        f"python -m tests.benchmarks.real_sets {name}",
        one.protocol,
        COLUMNS,
        rows,
        [one.reading, "Single pixels: an image encoder has nothing to look at here."],
    )


def read(one: PixelSet) -> pd.DataFrame:
    """The set's table with a column for what is left out and what is resampled."""
    data = pd.read_csv(DATA / one.folder / "pixels.csv")
    if one.folder == "pacific-shallow-habitat":
        data = data[data["class"] != "mangrove"].reset_index(drop=True)
    if one.folder == "tonga-landcover-pixels":
        data["block"] = grid_cell(data["x"].to_numpy(), data["y"].to_numpy(), 1500)
    if one.folder == "africa-cropland-pixels":
        data["cell"] = grid_cell(data["lon"].to_numpy(), data["lat"].to_numpy(), 2)
    if one.folder == "floating-materials-spectra":
        cells = grid_cell(data["col"].to_numpy(), data["row"].to_numpy(), 20)
        data["scene_block"] = data["location"] + data["date"].astype(str) + cells
    return data


def ratios(bands: np.ndarray) -> np.ndarray:
    """Normalised differences of all pairs of bands; 0 where the pair sums to nothing."""
    parts = []
    for first, second in combinations(range(bands.shape[1]), 2):
        total = bands[:, first] + bands[:, second]
        parts.append(np.where(np.abs(total) > 1e-4, (bands[:, first] - bands[:, second]) / total, 0.0))
    return np.clip(np.stack(parts, axis=1), -1, 1)
