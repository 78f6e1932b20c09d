"""Given several dates, some cloudy; then only what is clear counts, whatever the series' length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import torch

from geossl.chips.chipset import ChipSet
from geossl.encoders.saved import Encoder
from geossl.errors import InputError
from geossl.labels.read import Fields, read_vector_labels
from geossl.regions import parse_months, parse_period
from geossl.tasks.decoders import DeepNet
from geossl.tasks.examples import ChipData, PixelExamples
from geossl.tasks.series import SeriesChips, load_series, series_chips
from geossl.tasks.sources import open_source
from geossl.tasks.spec import TaskSpec, changed, load_task
from geossl.tasks.temporal import DatePooling, clear_share, day_encoding, median_composite

DATES = ("2018-06-01", "2018-07-01", "2018-08-01")


def task(**fields: Any) -> TaskSpec:
    return changed(load_task("water"), "test", **{"date_field": None, **fields})


def label_file(store: Any, folder: Path, **columns: Any) -> Path:
    tiles = store.table["tile"].nunique()
    shapes = [
        shape for n in range(tiles) for shape in (store.tile_box(n, 4, 8, 2, 7), store.tile_box(n, 8, 12, 20, 25))
    ]
    path = folder / "labels.gpkg"
    gpd.GeoDataFrame({"class": ["water", "other"] * tiles, **columns}, geometry=shapes, crs="EPSG:32633").to_file(path)
    return path


def labels_of(path: Path, date: str | None = None) -> Any:
    return read_vector_labels(path, ("other", "water"), Fields("class", date, None), {})


def test_the_composite_is_the_median_of_clear_dates_and_nothing_where_none_is() -> None:
    values = torch.tensor([1.0, 2.0, 9.0, 4.0]).reshape(1, 4, 1, 1, 1).expand(1, 4, 2, 1, 3).clone()
    clear = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.bool).reshape(1, 4, 1, 3)
    values[0, 3] = torch.nan  # what is not clear may be anything
    median, seen = median_composite(values, clear)
    assert median[0, :, 0].tolist() == [[2.0, 1.0, 1.0]] * 2  # of two dates the lower one
    assert seen.all()
    nothing, seen = median_composite(values, torch.zeros_like(clear))
    assert (nothing == 0).all() and not seen.any()


def test_a_cell_counts_by_its_clear_pixels() -> None:
    clear = torch.zeros(1, 1, 4, 6, dtype=torch.bool)
    clear[..., :2, :3] = True
    assert clear_share(clear, 4)[0, 0].tolist() == [[6 / 16, 0]]
    assert torch.equal(clear_share(clear, 1), clear.float())


@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
def test_cloudy_dates_and_the_padding_of_short_series_change_nothing(pooling: str) -> None:
    torch.manual_seed(0)
    pool = DatePooling(pooling, 8)
    if pooling == "attention":
        torch.nn.init.normal_(pool.query)
    maps, clear, days = (
        [torch.randn(2, 3, 8, 4, 4)],
        torch.rand(2, 3, 16, 16) > 0.3,
        torch.tensor([[30.0, 90, 200]] * 2),
    )
    clear[:, 0] = True
    plain = pool(maps, (4,), clear, days)[0]
    more = [torch.cat([maps[0], 1e3 * torch.randn(2, 2, 8, 4, 4)], 1)]
    none = torch.zeros(2, 2, 16, 16, dtype=torch.bool)
    cloudy = pool(more, (4,), torch.cat([clear, none], 1), torch.cat([days, torch.zeros(2, 2)], 1))[0]
    assert torch.allclose(plain, cloudy, atol=1e-5)
    assert pool(maps, (4,), torch.zeros_like(clear), days)[0].isfinite().all()  # nobody asks of it, but it is no NaN


def test_pooling_is_what_it_says_and_untrained_attention_is_the_mean() -> None:
    maps = [torch.arange(24, dtype=torch.float32).reshape(1, 3, 8, 1, 1).expand(1, 3, 8, 2, 2).contiguous()]
    clear = torch.tensor([True, False, True]).reshape(1, 3, 1, 1).expand(1, 3, 8, 8)
    days = torch.tensor([[10.0, 100, 300]])
    mean = DatePooling("mean", 8)(maps, (4,), clear, days)[0]
    assert torch.allclose(mean, (maps[0][:, 0] + maps[0][:, 2]) / 2)
    assert torch.equal(DatePooling("max", 8)(maps, (4,), clear, days)[0], maps[0][:, 2])
    assert torch.allclose(DatePooling("attention", 8)(maps, (4,), clear, days)[0], mean, atol=1e-5)


def test_attention_learns_which_season_speaks() -> None:
    """Of two dates the one of day 200 holds the answer, wherever it stands; only the day of the year says which."""
    torch.manual_seed(0)
    pool = DatePooling("attention", 4)
    optimizer = torch.optim.Adam(pool.parameters(), 0.05)
    clear = torch.ones(16, 2, 4, 4, dtype=torch.bool)
    for _ in range(80):
        first = torch.rand(16) > 0.5
        days = torch.where(first[:, None], torch.tensor([200.0, 20]), torch.tensor([20.0, 200]))
        maps = torch.randn(16, 2, 4, 1, 1)
        wanted = torch.where(first[:, None], maps[:, 0, :, 0, 0], maps[:, 1, :, 0, 0])
        loss = (pool([maps], (4,), clear, days)[0][:, :, 0, 0] - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1  # the mean of both has 0.5


def test_days_turn_with_the_year_and_an_unknown_day_says_nothing() -> None:
    codes = day_encoding(torch.tensor([1.0, 366.0, 180.0, 0.0]))
    assert (codes[0] - codes[1]).abs().max() < 0.1 and (codes[0] - codes[2]).abs().max() > 0.5
    assert (codes[3] == 0).all()


@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
def test_a_network_of_series_ignores_a_cloudy_date_at_every_pixel(encoder: Encoder, pooling: str) -> None:
    net = DeepNet(encoder, 2, "linear", pooling).eval()
    values, clear = torch.rand(1, 2, 5, 24, 40), torch.ones(1, 2, 24, 40, dtype=torch.bool)
    with torch.inference_mode():
        plain = net(values, clear)
        more = torch.cat([values, 9 * torch.rand(1, 1, 5, 24, 40)], 1)
        cloudy = net(more, torch.cat([clear, torch.zeros(1, 1, 24, 40, dtype=torch.bool)], 1))
    assert plain.shape == (1, 2, 24, 40) and torch.allclose(plain, cloudy, atol=1e-4)


def test_a_tile_is_one_chip_of_the_period_with_all_its_dates(make_store: Any, tmp_path: Path) -> None:
    store = make_store(tiles=3, dates=DATES)
    store.table.loc[1, "clear"] = 0.0
    labels = labels_of(label_file(store, tmp_path))
    whole = series_chips(store, labels, task(temporal="composite"), None, None)
    assert isinstance(whole, ChipSet) and whole.id == store.id
    assert [len(rows) for rows in whole.members] == [2, 3, 3]  # a date without a clear pixel is left out
    summer = series_chips(store, labels, task(temporal="composite"), parse_period("2018"), parse_months("7-8"))
    assert [len(rows) for rows in summer.members] == [1, 2, 2]


def test_a_dated_label_holds_on_the_dates_within_its_tolerance(make_store: Any, tmp_path: Path) -> None:
    store = make_store(tiles=4, dates=DATES)
    dated = label_file(store, tmp_path, date=["2018-06-15"] * 4 + ["2018-08-01"] * 4)
    spec = task(temporal="series", date_field="date", time_tolerance_days=20)
    made = series_chips(store, labels_of(dated, "date"), spec, None, None)
    when = made.table["datetime"].dt.strftime("%Y-%m-%d").tolist()
    assert sorted(zip(when, map(len, made.members), strict=True)) == [("2018-06-15", 2)] * 4 + [("2018-08-01", 1)] * 4
    examples, _ = open_source(spec, dated, None, store, None, None, None).examples({}, 0)
    assert isinstance(examples, PixelExamples) and isinstance(examples.data.chips, SeriesChips)
    tile = made.table["tile"].iloc[examples.data.rows[examples.chip]]
    early = tile.isin(["t0", "t1"]).to_numpy()
    assert set(made.table["datetime"].iloc[examples.data.rows[examples.chip[early]]].dt.month) == {6}


def test_pixels_that_any_date_shows_carry_labels_and_composites_show_them(make_store: Any, tmp_path: Path) -> None:
    store = make_store(tiles=4, dates=DATES)
    store.flags[0::3] = 2  # every first date is cloudy
    store.flags[2::3, :, 16:] = 2  # and the right half of every last one
    source = open_source(task(temporal="composite"), label_file(store, tmp_path), None, store, None, None, None)
    examples, _ = source.examples({}, 0)
    assert isinstance(examples, PixelExamples) and len(examples.value) == 4 * 40
    stored, flags = examples.data.chips.load([0])
    assert (flags == 0).all() and np.array_equal(stored[0, :, :, 16:], store.stored[1, :, :, 16:])
    assert np.array_equal(stored[0, :, :, :16], np.minimum(store.stored[1], store.stored[2])[:, :, :16])


def test_series_are_ragged_and_padded_with_nothing(make_store: Any, tmp_path: Path) -> None:
    store = make_store(tiles=2, dates=DATES)
    store.table.loc[[0, 1], "clear"] = 0.0
    made = series_chips(store, labels_of(label_file(store, tmp_path)), task(temporal="series"), None, None)
    data = ChipData(made, np.arange(2), np.array(["b0", "b1"]), np.array(["train", "train"]))
    values, clear = load_series(data, np.arange(2), [2, 0], needs_days=True)
    assert values.shape == (2, 3, 3, 32, 32) and clear[0].flatten(1).any(1).tolist() == [True, False, False]
    assert values[0, :, 2, 0, 0].tolist() == [213, 0, 0] and values[1, :, 2, 5, 5].tolist() == [152, 182, 213]
    nir = store.encoding.decode(store.stored[2:3, 2:3])[0, 0]
    assert np.allclose(values[0, 0, 0].numpy(), nir)
    fewer, _ = load_series(data, np.array([1]), [0], False, most=2, rng=np.random.default_rng(0))
    assert fewer.shape == (1, 2, 1, 32, 32)


def test_a_period_of_clouds_is_said_so(make_store: Any, tmp_path: Path) -> None:
    store = make_store(tiles=3, dates=DATES)
    store.table["clear"] = 0.0
    source = open_source(task(temporal="series"), label_file(store, tmp_path), None, store, None, None, None)
    with pytest.raises(InputError, match="no label lies on a chip"):
        source.examples({}, 0)
    store.table["clear"], store.flags[:] = 1.0, 2  # the table promises what the pixels do not hold
    with pytest.raises(InputError, match="no labelled pixel is clear"):
        open_source(task(temporal="series"), tmp_path / "labels.gpkg", None, store, None, None, None).examples({}, 0)


def test_ready_chips_are_series_of_one(store: Any) -> None:
    store.table.loc[0, "datetime"] = pd.NaT
    data = ChipData(store, np.arange(2), np.array(["b0", "b1"]), np.array(["train", "train"]))
    values, clear = load_series(data, np.arange(2), [0, 1, 2, 3], needs_days=True)
    assert values.shape == (2, 1, 5, 32, 32) and values[:, 0, 4, 0, 0].tolist() == [0, 152] and clear.all()
