"""Controls, probes and views on real chips: bigearthnet-finland, labels by blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch

from geossl.evaluation.controls import image_statistics, spectral_index
from geossl.evaluation.intervals import block_bootstrap
from geossl.evaluation.probes import linear_probe, macro_average_precision
from geossl.views.fused import make_views
from geossl.views.recipe import load_recipe

BANDS = ("blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "swir16", "swir22")
LABELS = ("Coniferous forest", "Non-irrigated arable land", "Sea and ocean", "Discontinuous urban fabric", "Peatbogs")


@pytest.fixture(scope="module")
def table_and_values(real_data: Path) -> tuple[pd.DataFrame, np.ndarray]:
    root = real_data / "bigearthnet-finland"
    table = pd.read_csv(root / "index.csv").iloc[::2].reset_index(drop=True)
    chips = []
    for name in table["file"]:
        with rasterio.open(root / "images" / Path(name).name) as source:
            chips.append(source.read())
    return table, np.stack(chips).astype(np.float32) / 1e4


def test_band_statistics_beat_chance_by_far_with_an_interval_from_blocks(table_and_values):
    table, values = table_and_values
    features = image_statistics(values, np.ones((len(values), 60, 60), dtype=bool))
    truth = np.stack([table["labels43"].str.split("|").map(lambda on, label=label: label in on) for label in LABELS], 1)
    blocks = table["block"].to_numpy()
    order = np.random.default_rng(0).permutation(np.unique(blocks).astype(str))
    third = len(order) // 3
    test, val = (np.isin(blocks.astype(str), part) for part in (order[:third], order[third : third + third // 2]))
    train = ~test & ~val
    result = linear_probe(
        "multilabel", features[train], truth[train], features[val], truth[val], features[test], truth[test]
    )
    interval = block_bootstrap(
        lambda rows: macro_average_precision(truth[test][rows], result.predicted[rows]), blocks[test], resamples=200
    )
    assert interval.low > truth[test].mean() + 0.1
    assert interval.low <= result.score <= interval.high


def test_indices_tell_sea_from_forest(table_and_values):
    table, values = table_and_values
    ndvi = np.nanmean(spectral_index("ndvi", values, BANDS), axis=(1, 2))
    mndwi = np.nanmean(spectral_index("mndwi", values, BANDS), axis=(1, 2))
    only = table["labels43"]
    assert mndwi[only == "Sea and ocean"].min() > 0 > mndwi[only == "Coniferous forest"].max()
    assert ndvi[only == "Coniferous forest"].min() > 0.4


def test_views_of_real_chips_keep_reflectance_where_sensors_measure_it(table_and_values):
    _, values = table_and_values
    chips = torch.from_numpy(values[:128])
    clear = torch.ones((128, 60, 60), dtype=torch.bool)
    recipe = load_recipe("simclr")
    for view in make_views(chips, clear, recipe, torch.Generator().manual_seed(0)):
        assert view.isfinite().all()
        # Kornia's own brightness and contrast turn a quarter of such views into zeros.
        assert (view.abs() < 1e-6).float().mean() < 1e-3
        ratio = view.mean((0, 2, 3)) / chips.mean((0, 2, 3))
        assert ratio.min() > 0.7 and ratio.max() < 1.5
