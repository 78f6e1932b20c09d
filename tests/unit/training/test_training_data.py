"""Batches are a function of (seed, step); only clear chips of training blocks are used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from geossl.chips.open import open_chips
from geossl.chips.pairs import PairPolicy
from geossl.chips.sampler import ResidentSampler
from geossl.chips.streamed import StreamedSampler
from geossl.errors import InputError
from geossl.regions import parse_period
from geossl.training.data import (
    Batches,
    band_statistics,
    fill_bands,
    in_time,
    split_chips,
    step_seed,
)
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


def test_small_views_follow_the_large_ones(small_chips: Path) -> None:
    batches = make_batches(small_chips)
    batches.recipe = Recipe(size=24, small_views=3, small_size=12)
    views = batches.views(0)
    assert [view.shape for view in views] == [(8, 3, 24, 24)] * 2 + [(8, 3, 12, 12)] * 3
    again = make_batches(small_chips)
    again.recipe = Recipe(size=24, small_views=3, small_size=12)
    assert all(torch.equal(one, other) for one, other in zip(views, again.views(0), strict=True))
    assert not torch.equal(views[2], views[3])


def test_places_say_which_training_chip_each_image_is(small_chips: Path) -> None:
    chips = open_chips(small_chips)
    rows = np.arange(19, 3, -1)
    sampler = ResidentSampler(chips, rows, torch.device("cpu"), 0)
    batches = Batches(sampler, Recipe(size=16), torch.zeros(3), torch.ones(3), 8, 2, 0, None)
    for step in (0, 3):
        assert rows[batches.places(step)].tolist() == batches.rows(step).tolist()


def test_weighted_epochs_depend_on_seed_epoch_and_weights_and_repeat_no_chip_in_a_batch(small_chips: Path) -> None:
    weights = torch.linspace(0.2, 3, 20)
    one, other = make_batches(small_chips), make_batches(small_chips)
    one.views(1)
    plain = one.rows(4).tolist()
    for batches in (one, other):
        batches.set_weights(weights)
    counts = torch.zeros(20)
    for step in range(100):
        rows = one.rows(step)
        assert len(rows.unique()) == 8 and rows.tolist() == other.rows(step).tolist()
        counts[rows] += 1
    assert counts[10:].sum() > 2 * counts[:10].sum()
    assert torch.equal(one.weights, weights)
    one.set_weights(None)
    assert one.rows(4).tolist() == plain


def test_every_training_chip_is_embedded_at_its_place_whole_and_without_gaps(small_chips: Path) -> None:
    class BandMean(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            assert not self.training and not torch.is_grad_enabled() and images.shape[2:] == (32, 32)
            return images.mean(dim=(2, 3))

    chips = open_chips(small_chips)
    rows = np.arange(23, 5, -1)
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 1.0, 2.0])
    sampler = ResidentSampler(chips, rows, torch.device("cpu"), 0)
    network = BandMean()
    found = Batches(sampler, Recipe(size=16), mean, std, 8, 2, 0, None).embed(network)
    stored, flags = chips.load(rows)
    values = fill_bands(np.where((flags == 0)[:, None], chips.encoding.decode(stored), np.nan))
    assert torch.allclose(found, torch.from_numpy((values.mean(axis=(2, 3)) - mean.numpy()) / std.numpy()), atol=1e-5)
    assert network.training


def test_processes_do_equally_many_steps_on_chips_and_crops_of_their_own(small_chips: Path) -> None:
    chips = open_chips(small_chips)
    parts = []
    for rank in range(2):
        sampler = ResidentSampler(chips, np.arange(23), torch.device("cpu"), 0, shard=(rank, 2))
        parts.append(Batches(sampler, Recipe(size=16), torch.zeros(3), torch.ones(3), 5, 2, 0, None))
    assert [part.steps_per_epoch for part in parts] == [2, 2]
    seen = torch.cat([part.places(step) for part in parts for step in range(2)])
    assert len(seen.unique()) == 20


def test_streamed_chips_give_the_views_of_resident_ones(small_chips: Path) -> None:
    chips = open_chips(small_chips)
    resident = ResidentSampler(chips, np.arange(20), torch.device("cpu"), 0)
    windows = StreamedSampler(chips, np.arange(20), "cpu", 0, 2 * resident.nbytes)
    for step in (0, 1, 3):
        one, other = (
            Batches(sampler, Recipe(size=16), torch.zeros(3), torch.ones(3), 8, 2, 0, PairPolicy(60)).views(step)
            for sampler in (resident, windows)
        )
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))


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


def test_a_band_that_hardly_varies_is_not_stretched_until_the_views_noise_drowns_it(small_chips: Path) -> None:
    """Found on 13-band chips, whose cirrus band varies by 0.0004: SimCLR collapsed within 30 steps."""
    chips = open_chips(small_chips)

    class Cloudless:
        bands, encoding, path = chips.bands, chips.encoding, chips.path

        def load(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            stored, flags = chips.load(rows)
            stored[:, 1] = 1012 + stored[:, 1] % 5  # reflectance 0.001 and a little
            return stored, flags

    before = band_statistics(chips, np.arange(6), 0)[1]
    std = band_statistics(Cloudless(), np.arange(6), 0)[1]  # type: ignore[arg-type]
    assert std[1] == 0.01 and (std[0], std[2]) == (before[0], before[2])


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


def test_seeds_of_steps_differ() -> None:
    seeds = {step_seed(seed, step) for seed in range(20) for step in range(-3, 50)}
    assert len(seeds) == 20 * 53
    assert all(0 <= seed < 2**63 for seed in seeds)
