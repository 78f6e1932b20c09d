"""Batches are a function of (seed, step); only clear chips of training blocks are used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from geossl.chips.open import open_chips
from geossl.chips.sampler import ResidentSampler
from geossl.errors import InputError
from geossl.regions import parse_period
from geossl.training.data import (
    Batches,
    StepNumbers,
    band_statistics,
    fill_bands,
    in_time,
    split_chips,
    step_seed,
)
from geossl.training.optim import Schedule
from geossl.views.recipe import Recipe


def make_batches(chips_path: Path, seed: int = 0, pair_days: int | None = None) -> Batches:
    chips = open_chips(chips_path)
    sampler = ResidentSampler(chips, np.arange(20), torch.device("cpu"), seed)
    return Batches(sampler, Recipe(size=16), torch.zeros(3), torch.ones(3), 8, 2, seed, pair_days)


def test_a_batch_depends_on_seed_and_step_and_not_on_what_came_before(small_chips: Path) -> None:
    straight = make_batches(small_chips)
    for step in range(3):
        straight.views(step)
    again = make_batches(small_chips).views(3)
    for one, other in zip(straight.views(3), again, strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(again[0], make_batches(small_chips, seed=1).views(3)[0])
    assert not torch.equal(again[0], straight.views(2)[0])


def test_no_chip_twice_in_an_epoch(small_chips: Path) -> None:
    batches = make_batches(small_chips)
    assert batches.steps_per_epoch == 2
    first = torch.cat([batches.rows(0), batches.rows(1)])
    assert len(first.unique()) == 16
    assert not torch.equal(first, torch.cat([batches.rows(2), batches.rows(3)]))


def test_views_are_normalised_and_channels_last(small_chips: Path) -> None:
    chips = open_chips(small_chips)
    rows = np.arange(len(chips.table))
    mean, std = band_statistics(chips, rows, 0)
    sampler = ResidentSampler(chips, rows, torch.device("cpu"), 0)
    plain = Recipe(size=32, gain=0, band_gain=0, offset=0, contrast=(1, 1), band_drop=0, gray=0, blur=0, noise=0)
    views = Batches(sampler, plain, torch.tensor(mean), torch.tensor(std), 24, 2, 0, None).views(0)
    assert [view.shape for view in views] == [(24, 3, 32, 32)] * 2
    assert views[0].is_contiguous(memory_format=torch.channels_last)
    assert views[0].mean(dim=(0, 2, 3)).abs().max() < 0.2
    assert (views[0].std(dim=(0, 2, 3)) - 1).abs().max() < 0.2


def test_pairs_in_time_take_the_second_view_from_another_date(small_chips: Path) -> None:
    """With views that change nothing, both are equal from the same chip and differ between dates."""
    still = Recipe(
        size=32, crop_area=(1, 1), crop_ratio=(1, 1), dihedral=False, gain=0, band_gain=0, offset=0, contrast=(1, 1),
        band_drop=0, gray=0, blur=0, noise=0,
    )  # fmt: skip
    for days, equal in ((None, True), (60, False), (5, True)):
        batches = make_batches(small_chips, pair_days=days)
        batches.recipe = still
        first, second = batches.views(0)
        assert torch.equal(first, second) is equal


def test_statistics_are_of_clear_pixels_of_the_given_rows(small_chips: Path) -> None:
    chips = open_chips(small_chips)
    rows = np.array([0, 3, 5])
    stored, flags = chips.load(rows)
    values = stored.astype(float) * 1e-4 - 0.1
    mean, std = band_statistics(chips, rows, 0)
    for band in range(3):
        clear = values[:, band][flags == 0]
        assert mean[band] == pytest.approx(clear.mean(), abs=1e-5)
        assert std[band] == pytest.approx(clear.std(), abs=1e-5)


def test_split_is_by_block_and_all_blocks_hold_nothing_out(small_chips: Path) -> None:
    chips = open_chips(small_chips)
    split = split_chips(chips, 0, all_blocks=False)
    blocks = chips.table["block"].to_numpy()
    assert set(blocks[split.train]) == set(split.blocks["train"])
    assert set(blocks[split.val]) == set(split.blocks["val"])
    assert split.blocks["test"] and not set(split.blocks["test"]) & (set(blocks[split.train]) | set(blocks[split.val]))
    everything = split_chips(chips, 0, all_blocks=True)
    assert len(everything.train) == len(chips.table) and not everything.blocks["val"] and not everything.blocks["test"]


def test_only_the_asked_period_trains_and_the_blocks_stay(small_chips: Path) -> None:
    chips = open_chips(small_chips)
    june = split_chips(chips, 0, False, parse_period("2018-06"))
    assert june.blocks == split_chips(chips, 0, False).blocks
    assert set(chips.table["datetime"].iloc[june.train].dt.month) == {6}
    assert len(split_chips(chips, 0, False, months=(7,)).train) == len(june.train)
    with pytest.raises(InputError, match="no chip to train on"):
        split_chips(chips, 0, False, parse_period("2019"))


def test_chips_of_unknown_date_are_not_in_a_period() -> None:
    stamps = pd.Series(pd.to_datetime(["2018-06-01", None], utc=True))
    assert in_time(stamps, None, None).tolist() == [True, True]
    assert in_time(stamps, parse_period("2018"), None).tolist() == [True, False]
    assert in_time(stamps, None, (6,)).tolist() == [True, False]


def test_cloudy_chips_do_not_train(small_chips: Path) -> None:
    chips = open_chips(small_chips)
    train = split_chips(chips, 0, False).train
    chips.table.loc[train[:3], "clear"] = 0.3
    split = split_chips(chips, 0, False)
    assert split.cloudy == 3 and not set(train[:3]) & set(split.train)


def test_gaps_hold_the_chips_band_mean() -> None:
    values = np.array([[[[1.0, np.nan], [3.0, 2.0]]], [[[np.nan, np.nan], [np.nan, np.nan]]]], dtype=np.float32)
    done = fill_bands(values)
    assert done[0, 0, 0, 1] == 2.0
    assert (done[1] == 2.0).all()  # nothing of its own: the mean over the others


def test_step_numbers_end_where_the_schedule_says_even_when_it_is_set_on_the_way() -> None:
    schedule = Schedule(None, timed=True)
    numbers = iter(StepNumbers(5, schedule))
    assert [next(numbers) for _ in range(3)] == [5, 6, 7]
    schedule.total = 9
    assert list(numbers) == [8]


def test_seeds_of_steps_differ() -> None:
    seeds = {step_seed(seed, step) for seed in range(20) for step in range(-3, 50)}
    assert len(seeds) == 20 * 53
    assert all(0 <= seed < 2**63 for seed in seeds)
