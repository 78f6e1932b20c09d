"""The resident sampler: stored integers, bands last, batches that depend on the generator alone."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from geossl.chips.chipset import ChipSet
from geossl.chips.sampler import ResidentSampler
from geossl.errors import InputError
from geossl.products import S2_ENCODING, Encoding

DAYS = ["2018-05-01", "2018-05-11", "2018-07-30", "2019-05-02"]


@dataclass
class Made:
    """Four tiles on four dates; a pixel holds 1000 * chip + 100 * band + column."""

    encoding: Encoding = S2_ENCODING
    name: str = "made"
    path: Path = Path("made")
    id: str = "0"
    bands: tuple[str, ...] = ("red", "nir", "swir16")
    resolution_m: float = 10.0
    shape: tuple[int, int] = (4, 6)
    table: pd.DataFrame = field(default_factory=lambda: table(DAYS))

    def load(self, rows):
        rows = np.asarray(rows)
        data = np.zeros((len(rows), 3, *self.shape), self.encoding.dtype)
        data += (1000 * rows[:, None, None, None]).astype(data.dtype)
        data += (100 * np.arange(3)[None, :, None, None]).astype(data.dtype)
        data += np.arange(6)[None, None, None, :].astype(data.dtype)
        flags = np.zeros((len(rows), *self.shape), np.uint8)
        flags[:, 0, 0] = np.where(rows % 2, 2, 0)
        return data, flags


def table(days):
    rows = [{"tile": f"{t}_0", "block": "0_0", "datetime": day} for t in range(4) for day in days]
    frame = pd.DataFrame(rows)
    frame["datetime"] = pd.to_datetime(frame["datetime"], utc=True)
    return frame


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_made_set_is_a_chip_set():
    assert isinstance(Made(), ChipSet)


def test_a_batch_holds_the_stored_pixels_of_its_rows_bands_last():
    chips = Made()
    sampler = ResidentSampler(chips, [9, 2, 15, 4], "cpu", seed=0)
    values, clear, rows = sampler.batch(32, generator())
    assert values.dtype == torch.int16 and values.shape == (32, 4, 6, 3)
    assert clear.dtype == torch.bool and clear.shape == (32, 4, 6)
    assert set(rows.tolist()) == {9, 2, 15, 4}
    data, flags = chips.load(rows.numpy())
    assert np.array_equal(values.numpy().view(np.uint16), np.moveaxis(data, 1, -1))
    assert np.array_equal(clear.numpy(), flags == 0)


def test_large_unsigned_values_survive_their_int16_bit_pattern():
    class Bright(Made):
        def load(self, rows):
            data, flags = super().load(rows)
            return np.full_like(data, 60_000), flags

    sampler = ResidentSampler(Bright(), [0, 1], "cpu", seed=0)
    values, _, _ = sampler.batch(2, generator())
    assert sampler.decode(values).numpy() == pytest.approx(60_000 * 1e-4 - 0.1, rel=1e-6)


@pytest.mark.parametrize("dtype", ["int16", "uint8", "float32"])
def test_other_pixel_types_decode_too(dtype):
    chips = Made(encoding=Encoding(dtype, 0.5, 1.0, None))
    sampler = ResidentSampler(chips, [0], "cpu", seed=0)
    values, _, _ = sampler.batch(1, generator())
    expected = chips.encoding.decode(np.moveaxis(chips.load([0])[0], 1, -1))
    assert np.allclose(sampler.decode(values).numpy(), expected)


def test_wider_integers_are_refused():
    with pytest.raises(InputError, match="cannot be resident"):
        ResidentSampler(Made(encoding=Encoding("int32", 1.0, 0.0, None)), [0], "cpu", seed=0)
    with pytest.raises(InputError, match="no chips"):
        ResidentSampler(Made(), [], "cpu", seed=0)


def test_a_batch_depends_on_the_generator_alone():
    one, two = (ResidentSampler(Made(), range(16), "cpu", seed=s) for s in (0, 1))
    one.batch(5, generator(7))
    assert torch.equal(one.batch(8, generator(3))[2], two.batch(8, generator(3))[2])


def test_an_epoch_has_every_row_once_and_depends_on_seed_and_number():
    rows = [9, 2, 15, 4]
    sampler = ResidentSampler(Made(), rows, "cpu", seed=5)
    orders = [sampler.epoch_rows(epoch).tolist() for epoch in range(8)]
    assert all(sorted(order) == sorted(rows) for order in orders)
    assert len({tuple(order) for order in orders}) > 1
    again = ResidentSampler(Made(), rows, "cpu", seed=5)
    assert [again.epoch_rows(epoch).tolist() for epoch in range(8)] == orders
    assert torch.equal(sampler.take(torch.tensor([15, 9]))[2], torch.tensor([15, 9]))


def test_a_pair_is_the_same_tile_on_another_near_date_or_the_chip_itself():
    chips = Made()
    sampler = ResidentSampler(chips, range(16), "cpu", seed=0)
    rows = torch.arange(16).repeat(20)
    for days, expected in ((30, {0: {1}, 1: {0}, 2: {2}, 3: {3}}), (90, {0: {1, 2}, 1: {0, 2}, 2: {0, 1}, 3: {3}})):
        others = sampler.pair(rows, generator(1), days)
        assert (rows // 4 == others // 4).all()  # same tile
        for date in range(4):
            assert set((others[rows % 4 == date] % 4).tolist()) == expected[date]
        assert sampler.has_pair(days)[:4].tolist() == [expected[d] != {d} for d in range(4)]


def test_pairs_use_resident_rows_only():
    sampler = ResidentSampler(Made(), [0, 4, 5], "cpu", seed=0)
    others = sampler.pair(torch.tensor([0, 4, 5]), generator(), 30)
    assert others.tolist() == [0, 5, 4]


def test_chips_without_a_date_pair_with_themselves():
    chips = Made(table=table([None, None]).assign(datetime=pd.Series([pd.NaT] * 8).dt.tz_localize("UTC")))
    sampler = ResidentSampler(chips, range(8), "cpu", seed=0)
    assert sampler.pair(torch.arange(8), generator(), 1000).tolist() == list(range(8))


def test_nbytes_is_what_is_held():
    sampler = ResidentSampler(Made(), range(16), "cpu", seed=0)
    assert sampler.nbytes == 16 * 24 * (3 * 2 + 1)


def test_places_count_the_given_rows():
    sampler = ResidentSampler(Made(), [9, 2, 15, 4], "cpu", seed=0)
    assert sampler.places(torch.tensor([15, 9, 4])).tolist() == [2, 0, 3]


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_chips_and_a_tiles_dates_stay_together(world):
    rows = [15, *range(15)]
    parts = [ResidentSampler(Made(), rows, "cpu", seed=0, shard=(rank, world)) for rank in range(world)]
    assert sorted(row for part in parts for row in part.rows.tolist()) == list(range(16))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    tiles = [set((part.rows // 4).tolist()) for part in parts]
    assert sum(map(len, tiles)) <= 4 + world - 1  # at most one tile is cut at each border
    for part in parts:
        assert part.total == 16
        assert [rows[place] for place in part.places(part.rows).tolist()] == part.rows.tolist()
        assert part.nbytes == len(part) * 24 * 7
    assert parts[0].epoch_rows(1).tolist() != parts[1].epoch_rows(1).tolist()


def test_weights_belong_to_places_of_all_processes():
    weights = torch.zeros(16)
    weights[[1, 2, 5, 8, 9, 12, 14, 15]] = 1
    for rank in range(2):
        part = ResidentSampler(Made(), range(16), "cpu", seed=0, shard=(rank, 2))
        drawn = set(part.weighted_rows(0, weights, 2, 3).tolist())
        assert drawn <= set(part.rows.tolist()) & {1, 2, 5, 8, 9, 12, 14, 15}
    with pytest.raises(InputError, match="one weight"):
        part.weighted_rows(0, weights[:8], 2, 3)
