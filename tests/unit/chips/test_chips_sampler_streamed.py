"""Chips of a store larger than memory: the same pixels as from memory, a bounded buffer, batches of any step."""

from itertools import pairwise

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
import torch

from geossl.chips import streamed
from geossl.chips.grid import Grid
from geossl.chips.pairs import PairPolicy
from geossl.chips.sampler import ResidentSampler
from geossl.chips.store import ChipStore, empty_rows, open_store
from geossl.chips.streamed import StreamedSampler, chip_bytes, open_sampler
from geossl.chips.writer import StoreWriter, prepare_store
from geossl.errors import InputError, WorkError
from geossl.products import S2_ENCODING
from geossl.progress import set_quiet

SHARDS, CHIPS, SIDE, BANDS = 7, 40, 4, ("blue", "nir")
N = SHARDS * CHIPS


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> ChipStore:
    """Seven shards of forty chips: chip i holds 1000 + i; twenty tiles on fourteen dates."""
    path = tmp_path_factory.mktemp("streamed") / "store"
    grid = Grid("EPSG:32633", (10.0, 10.0), (500_000.0, 6_600_000.0), SIDE, 4)
    prepare_store(path, region="made", product="made", bands=BANDS, encoding=S2_ENCODING, grid=grid)
    writer = StoreWriter(path)
    for shard in range(SHARDS):
        numbers = np.arange(shard * CHIPS, (shard + 1) * CHIPS)
        dates = pd.Timestamp("2018-01-05", tz="UTC") + pd.to_timedelta(26 * (numbers // 20), "D")
        facts = {
            "chip": [f"c{n}" for n in numbers],
            "tile": [f"{n % 20}_0" for n in numbers],
            "block": "0_0",
            "ix": numbers % 20,
            "iy": 0,
            "datetime": dates.astype("datetime64[ns, UTC]"),
            "solar_day": [str(day.date()) for day in dates],
            "clear": np.float32(1),
            "failed": np.float32(0),
            "status": "ok",
            "index": 0,
            "left": 0.0,
            "top": 0.0,
            "datasets": "",
            "baseline": "",
            "geometry": [shapely.box(0, 0, 1, 1)] * CHIPS,
        }
        rows = gpd.GeoDataFrame(facts, geometry="geometry", crs="EPSG:4326")[list(empty_rows().columns)]
        data = np.broadcast_to((1000 + numbers)[:, None, None, None], (CHIPS, 2, SIDE, SIDE)).astype(np.uint16)
        valid = np.zeros((CHIPS, SIDE, SIDE), np.uint8)
        valid[:, 0, 0] = numbers % 2
        writer.commit(rows, data, valid)
    return open_store(path)


def sampler_of(store: ChipStore, shards: float = 2, seed: int = 0, rows=None) -> StreamedSampler:
    """With room for so many shards a window."""
    memory = int(2 * shards * CHIPS * chip_bytes(store))
    return StreamedSampler(store, np.arange(N) if rows is None else rows, "cpu", seed, memory)


def test_every_chip_once_an_epoch_with_its_own_pixels(store):
    sampler, resident = sampler_of(store), ResidentSampler(store, np.arange(N), "cpu", 0)
    for epoch in range(3):
        rows = sampler.epoch_rows(epoch)
        assert sorted(rows.tolist()) == list(range(N))
        for start in range(0, N, 32):
            batch = rows[start : start + 32]
            for mine, theirs in zip(sampler.take(batch), resident.take(batch), strict=True):
                assert torch.equal(mine, theirs)


def test_a_batch_depends_on_seed_and_step_and_not_on_what_was_read_before(store):
    straight, jumping, other = sampler_of(store), sampler_of(store), sampler_of(store, seed=1)
    orders = [straight.epoch_rows(epoch) for epoch in range(3)]
    assert torch.equal(jumping.epoch_rows(2), orders[2]) and torch.equal(jumping.epoch_rows(0), orders[0])
    assert not torch.equal(other.epoch_rows(0), orders[0]) and not torch.equal(orders[0], orders[1])
    rows = jumping.epoch_rows(1)
    for start in (200, 0, 100, 240, 90, 0):
        assert torch.equal(jumping.take(rows[start : start + 40])[2], rows[start : start + 40])


def test_each_shard_is_read_once_an_epoch_and_ahead_of_its_use(store, monkeypatch):
    read: list[np.ndarray] = []
    store = open_store(store.path)  # one that no other test's thread reads from
    load = store.load
    monkeypatch.setattr(store, "load", lambda rows: (read.append(np.asarray(rows)), load(rows))[1], raising=False)
    sampler = sampler_of(store)
    for epoch in range(2):
        rows = sampler.epoch_rows(epoch)
        for start in range(0, N - 30, 30):
            sampler.take(rows[start : start + 30])
    sampler._thread.shutdown()  # what is read ahead for the third epoch is read too
    counts = np.bincount(np.concatenate(read), minlength=N)
    ahead = {int(row) // CHIPS for row in sampler.windows(2)[0]}
    assert all(set(counts[s * CHIPS : (s + 1) * CHIPS].tolist()) == {3 if s in ahead else 2} for s in range(SHARDS))


def test_memory_is_what_was_given_and_windows_hold_whole_shards(store):
    sampler = sampler_of(store, shards=2.9)
    assert sampler.nbytes <= 2 * 2.9 * CHIPS * chip_bytes(store)
    windows = sampler.windows(4)
    assert [len(window) for window in windows] == [80, 80, 80, 40]
    owners = [set((window // CHIPS).tolist()) for window in windows]
    assert all(not one & other for one, other in pairwise(owners))
    assert {frozenset(one) for one in owners} != {frozenset((w // CHIPS).tolist()) for w in sampler.windows(5)}


def test_rows_that_do_not_train_are_not_streamed(store):
    rows = np.arange(3, N, 7)
    sampler = sampler_of(store, shards=1, rows=rows)
    order = sampler.epoch_rows(0)
    assert sorted(order.tolist()) == rows.tolist()
    assert torch.equal(sampler.take(order[:10])[0][:, 0, 0, 0].long(), order[:10] + 1000)
    assert sampler.places(torch.tensor([3, 17])).tolist() == [0, 2]


def test_partners_are_in_the_window_of_their_chip(store):
    sampler = sampler_of(store)
    resident = ResidentSampler(store, np.arange(N), "cpu", 0)
    rows = sampler.epoch_rows(1)
    windows = sampler.windows(1)
    number = np.empty(N, dtype=int)
    for place, window in enumerate(windows):
        number[window] = place
    policy = PairPolicy(60)
    partners = sampler.pair(rows, torch.Generator().manual_seed(0), policy)
    assert (number[partners] == number[rows]).all() and (partners % 20 == rows % 20).all()
    apart = (26 * (partners // 20 - rows // 20)).abs()
    assert apart.max() <= 60 and (apart > 0).float().mean() > 0.5
    assert torch.equal(sampler.take(partners[:32])[2], partners[:32])
    assert (resident.has_pair(policy) >= (apart > 0).numpy()[np.argsort(rows)]).all()


def test_weighted_epochs_keep_to_the_windows_and_repeat_no_chip_in_a_batch(store):
    sampler = sampler_of(store)
    weights = torch.ones(N)
    weights[: N // 2] = 3
    rows = sampler.weighted_rows(0, weights, 20, 14)
    assert torch.equal(rows, sampler_of(store).weighted_rows(0, weights, 20, 14))
    counts = torch.bincount(rows, minlength=N)
    assert int(counts[: N // 2].sum()) == pytest.approx(N * 3 / 4, abs=20)
    for batch in rows.view(14, 20):
        assert len(batch.unique()) == 20
        assert torch.equal(sampler.take(batch)[2], batch)


def test_any_chips_can_be_read_without_moving_the_window(store):
    sampler = sampler_of(store)
    rows = sampler.epoch_rows(0)
    sampler.take(rows[:10])
    held = list(sampler._held)
    values, clear, _ = sampler.read(torch.tensor([279, 0, 141]))
    assert values[:, 0, 0, 0].tolist() == [1279, 1000, 1141] and clear[:, 0, 0].tolist() == [False, True, False]
    assert sampler._held == held


def test_a_shard_that_cannot_be_read_ends_the_run_with_its_name(store, tmp_path):
    import shutil

    broken = open_store(shutil.copytree(store.path, tmp_path / "broken"))
    (broken.path / "data" / "c" / "4" / "0" / "0" / "0").unlink()
    sampler = sampler_of(broken)
    rows = sampler.epoch_rows(0)
    with pytest.raises(WorkError, match=r"data/c/4"):
        for start in range(0, N, 20):
            sampler.take(rows[start : start + 20])


def test_the_choice_is_said_with_its_reason(store, capsys, monkeypatch):
    set_quiet(False)
    needed = N * chip_bytes(store)
    chosen = open_sampler(store, np.arange(N), "cpu", 0, needed)
    assert isinstance(chosen, ResidentSampler) and chosen.nbytes == needed
    assert "280 resident" in capsys.readouterr().err
    assert isinstance(open_sampler(store, np.arange(N), "cpu", 0, needed - 1), StreamedSampler)
    assert "280 streamed in" in (said := capsys.readouterr().err) and "do not fit" in said
    monkeypatch.setattr(streamed, "free_memory", lambda device: needed)
    assert isinstance(open_sampler(store, np.arange(N), "cpu", 0), StreamedSampler)  # half of it at most
    assert streamed.chips_memory(torch.device("cpu"), 2) == needed // 4


def test_room_for_less_than_two_shards_is_refused(store):
    with pytest.raises(InputError, match="too little memory"):
        open_sampler(store, np.arange(N), "cpu", 0, 2 * CHIPS * chip_bytes(store) - 1)
