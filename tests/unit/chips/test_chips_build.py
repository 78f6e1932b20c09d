"""Building a chip store from a made cube whose every pixel is known."""

import filecmp
import threading
from datetime import date
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import xarray as xr
import zarr

from geossl import artefacts
from geossl.chips import reading
from geossl.chips.build import build_tiles
from geossl.chips.chipset import TABLE_COLUMNS, ChipSet
from geossl.chips.open import open_chips
from geossl.chips.status import store_status
from geossl.chips.store import open_store
from geossl.errors import InputError, WorkError
from geossl.products import Flag


@pytest.fixture
def out(tmp_path):
    return tmp_path / "store"


def files_of(store: Path) -> dict[str, str]:
    skip = {"run.json", ".lock"}
    return {
        str(f.relative_to(store)): artefacts.hash_file(f)
        for f in store.rglob("*")
        if f.is_file() and f.name not in skip
    }


def test_every_stored_pixel_is_the_scenes_own(made, region, days, make_scene, pixel_truth, out):
    made([make_scene(day) for day in days])
    result = build_tiles(region, out=out)
    assert (result.new, result.stored, result.skipped, result.dates, result.tiles) == (120, 120, 0, 8, 15)
    chips = open_chips(out)
    assert isinstance(chips, ChipSet) and set(TABLE_COLUMNS) <= set(chips.table.columns)
    rows = [119, 3, 60, 61]
    data, flags = chips.load(rows)
    assert data.dtype == np.uint16 and not flags.any()
    for place, row in enumerate(rows):
        chip = chips.table.iloc[row]
        x, y = np.meshgrid(chip.ix * 20 + np.arange(20), chip.iy * 20 + np.arange(20))
        for band in range(3):
            expected = pixel_truth(band, x, y, date.fromisoformat(chip.solar_day))
            assert np.array_equal(data[place, band], expected)


def test_a_chip_on_the_edge_of_two_areas_is_put_together_from_both(
    made, region, days, make_scene, out, monkeypatch, tmp_path
):
    cube = made([make_scene(day) for day in days[:2]])
    build_tiles(region, out=out)
    whole = open_chips(out).load(range(30))
    monkeypatch.setattr("geossl.chips.intent.panel_side", lambda *_: 32)
    cube.windows.clear()
    build_tiles(region, out=tmp_path / "cut")
    cut = open_chips(tmp_path / "cut")
    order = cut.table.reset_index().set_index("chip").loc[open_chips(out).table["chip"], "index"]
    data, flags = cut.load(range(30))
    by_name = {name: k for k, name in enumerate(cut.table["chip"])}
    places = [by_name[name] for name in order.index]
    assert np.array_equal(data[places], whole[0]) and np.array_equal(flags[places], whole[1])
    assert len(cube.windows) == 2 * 4 * 2  # areas of 32 over 100 x 60 pixels on two days
    assert sum(w * h for _, _, _, w, h in cube.windows) == 2 * 100 * 60  # each pixel was read once


def test_a_second_build_reads_nothing_and_changes_nothing(made, region, days, make_scene, out):
    cube = made([make_scene(day) for day in days])
    build_tiles(region, out=out)
    before = files_of(out)
    cube.windows.clear()
    result = build_tiles(region, out=out)
    assert (result.new, result.skipped, result.chips, cube.windows) == (0, 120, 120, [])
    assert files_of(out) == before


def test_new_dates_are_appended_and_what_is_there_is_not_touched(made, region, days, make_scene, out):
    cube = made([make_scene(day) for day in days[:3]])
    build_tiles(region, out=out)
    first = open_chips(out)
    old_id, old_table = first.id, first.table
    cube.scenes += [make_scene(day) for day in days[3:]]
    result = build_tiles(region, out=out)
    assert (result.new, result.skipped, result.chips) == (75, 45, 120)
    grown = open_chips(out)
    assert grown.id != old_id
    assert grown.table["chip"][:45].tolist() == old_table["chip"].tolist()
    assert grown.table["index"][45] == 256  # a build starts a shard of its own


def test_an_appended_store_decodes_in_xarray_and_opens_in_geopandas(made, region, days, make_scene, out):
    made([make_scene(day) for day in days])
    build_tiles(region, out=out)
    opened = xr.open_zarr(out, consolidated=False)
    data, _ = open_chips(out).load([5])
    assert opened["data"].dims == ("chip", "band", "y", "x")
    assert np.allclose(opened["data"][5].to_numpy(), data[0] * 1e-4 - 0.1)
    assert np.isnan(opened["data"][200].to_numpy()).all()  # a place that no chip has
    assert (opened["valid"][200].to_numpy() == int(Flag.NODATA)).all()
    rows = gpd.read_parquet(out / "manifest")
    assert rows.crs == "EPSG:4326" and len(rows) == 120 and rows.geometry.is_valid.all()


def test_a_dry_run_counts_and_writes_nothing(made, region, days, make_scene, out):
    cube = made([make_scene(day) for day in days])
    result = build_tiles(region, out=out, dry_run=True)
    assert (result.new, result.bytes, result.dry_run) == (120, 120 * 400 * 7, True)
    assert not out.exists() and not cube.windows
    build_tiles(region, out=out, period="2018-01/2018-02")
    assert build_tiles(region, out=out, dry_run=True).new == 90


def test_period_months_and_number_choose_chips(made, region, days, make_scene, out):
    made([make_scene(day) for day in days])
    assert build_tiles(region, out=out, period="2018-02", dry_run=True).new == 15
    assert build_tiles(region, out=out, months="3-5", dry_run=True).dates == 3
    assert build_tiles(region, out=out, max_chips=33).stored == 33
    assert build_tiles(region, out=out, max_chips=40).new == 7
    with pytest.raises(InputError, match="no scenes of made"):
        build_tiles(region, out=out, period="2011")
    with pytest.raises(InputError, match="nothing to draw"):
        build_tiles(region, out=out, max_chips=0)


def test_cloudy_and_empty_chips_are_recorded_and_not_read_again(made, region, days, make_scene, out):
    cube = made([make_scene(day) for day in days[:2]])
    cube.cloudy_days = {days[1]}
    result = build_tiles(region, out=out)
    assert (result.stored, result.cloudy) == (15, 15)
    status = store_status(out)
    assert (status.chips, status.cloudy, status.dates, status.clear) == (15, 15, 1, 1.0)
    assert "15 too cloudy" in status.text()
    cube.windows.clear()
    assert build_tiles(region, out=out).new == 0 and not cube.windows


def test_a_store_without_a_clear_chip_says_so(made, region, days, make_scene, out):
    cube = made([make_scene(days[0])])
    cube.cloudy_days = {days[0]}
    build_tiles(region, out=out)
    with pytest.raises(InputError, match="holds no chips yet"):
        open_store(out)


def test_too_many_failed_reads_are_an_error_that_keeps_what_was_read(made, region, days, make_scene, out):
    cube = made([make_scene(day) for day in days])
    cube.broken = {cube.scenes[2].id, cube.scenes[4].id}
    with pytest.raises(WorkError, match="2 of 24 reads failed") as caught:
        build_tiles(region, out=out)
    assert "torn" in str(caught.value) and caught.value.exit_code == 1
    assert len(open_chips(out).table) == 90
    cube.broken.clear()
    cube.windows.clear()
    assert build_tiles(region, out=out).stored == 30  # the next build tries them again, and only them
    assert {name for name, *_ in cube.windows} == {cube.scenes[2].id, cube.scenes[4].id}
    assert len(open_chips(out).table) == 120


def test_few_failed_reads_are_masked_listed_and_no_error(made, region, days, make_scene, out, capsys):
    extra = [make_scene(date(2017, month, 5)) for month in range(1, 13)]
    cube = made([*extra, *(make_scene(day) for day in days)])
    cube.broken = {cube.scenes[0].id}
    result = build_tiles(region, out=out)
    assert result.failed == 15 and len(result.failed_reads) == 1 and "torn" in result.failed_reads[0]
    assert "1 of 60 reads failed" in capsys.readouterr().err
    assert "torn" in (out / "run.json").read_text()


def test_a_chip_that_is_half_unread_is_stored_flagged_and_replaced_when_it_reads(
    made, region, days, make_scene, out, pixel_truth
):
    halves = [make_scene(days[0], 0, width=50), make_scene(days[0], 1, column=50, width=50)]
    more = [make_scene(day) for day in days[1:]]
    cube = made([*halves, *more])
    cube.broken = {halves[1].id}
    build_tiles(region, out=out)
    chips = open_chips(out)
    table = chips.table
    torn = table[table["status"] == "partial"]
    assert set(torn["ix"]) == {2} and len(torn) == 3  # the tiles across the seam
    _, flags = chips.load(torn.index.to_numpy())
    assert (flags[:, :, 10:] == int(Flag.READ_FAILED)).all() and not flags[:, :, :10].any()
    cube.broken = set()
    result = build_tiles(region, out=out)
    assert result.new == 9
    whole = open_chips(out)
    assert not (whole.table["status"] == "partial").any() and whole.table["chip"].is_unique
    row = whole.table.index[whole.table["chip"] == torn["chip"].iloc[0]][0]
    assert not whole.load([row])[1].any()


def test_bands_can_be_chosen_and_stay_those_of_the_store(made, region, days, make_scene, out):
    made([make_scene(day) for day in days[:2]])
    build_tiles(region, out=out, bands=["nir", "red"])
    assert open_chips(out).bands == ("nir", "red")
    assert build_tiles(region, out=out).new == 0
    with pytest.raises(InputError, match="another bands"):
        build_tiles(region, out=out, bands=["red"])
    with pytest.raises(InputError, match="unknown band 'nirr'"):
        build_tiles(region, out=out, bands=["nirr"])


def test_a_store_keeps_its_grid(made, region, days, make_scene, out):
    made([make_scene(day) for day in days[:2]])
    build_tiles(region, out=out)
    assert build_tiles(region.with_grid(tile_px=40), out=out).new == 0  # the region's default does not matter
    with pytest.raises(InputError, match="another grid"):
        build_tiles(region, out=out, tile_px=40)
    with pytest.raises(InputError, match="another CRS"):
        build_tiles(region.with_grid(crs="EPSG:3006"), out=out)


def test_a_directory_with_something_else_is_left_alone(made, region, days, make_scene, out):
    made([make_scene(days[0])])
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="something else"):
        build_tiles(region, out=out)
    assert (out / "thesis.txt").read_text() == "mine"


def test_two_builds_at_once_are_refused(made, region, days, make_scene, out):
    made([make_scene(days[0])])
    out.mkdir()
    with artefacts.lock(out / ".lock"), pytest.raises(InputError, match="another process builds"):
        build_tiles(region, out=out)


@pytest.mark.parametrize("stop_after", [1, 299, 300, 301, 700])
def test_an_interrupted_build_ends_as_an_undisturbed_one(
    made, box_region, make_scene, tmp_path, monkeypatch, stop_after
):
    days = [date(2018, month, day) for month in range(1, 13) for day in (4, 14, 24)]
    cube = made([make_scene(day) for day in days])
    cube.cloudy_days = set(days[3::7])
    region = box_region(0, 0, 100, 60).with_grid(tile_px=10)
    monkeypatch.setattr("geossl.chips.intent.panel_side", lambda *_: 48)
    build_tiles(region, out=tmp_path / "whole", max_chips=900)

    real, seen = reading.read_chips, []

    def dying(*args):
        for chip in real(*args):
            seen.append(chip)
            if len(seen) > stop_after:
                raise KeyboardInterrupt
            yield chip

    monkeypatch.setattr("geossl.chips.build.read_chips", dying)
    with pytest.raises(KeyboardInterrupt):
        build_tiles(region, out=tmp_path / "cut", max_chips=900)
    monkeypatch.setattr("geossl.chips.build.read_chips", real)
    build_tiles(region, out=tmp_path / "cut", max_chips=900)
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")
    assert filecmp.cmp(tmp_path / "cut" / "manifest.json", tmp_path / "whole" / "manifest.json", shallow=False)


def test_a_dask_client_that_is_active_reads_the_areas(made, region, days, make_scene, out, tmp_path, monkeypatch):
    from distributed import Client

    cube = made([make_scene(day) for day in days[:3]])
    build_tiles(region, out=tmp_path / "threads")
    threads = []

    def read(*args, **named):
        threads.append(threading.current_thread().name)
        return cube.read(*args, **named)

    monkeypatch.setattr("geossl.cube.read.read_scenes", read)
    with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None):
        build_tiles(region, out=out)
    assert len(threads) == 3 and all("Dask" in name for name in threads), threads
    assert files_of(out) == files_of(tmp_path / "threads")


def test_data_without_a_row_do_not_exist(made, region, days, make_scene, out):
    made([make_scene(day) for day in days])
    build_tiles(region, out=out, max_chips=20)
    (out / "manifest" / "part-00000.parquet").unlink()  # as if killed between the shard and its part
    with pytest.raises(InputError, match="no chips yet"):
        open_store(out)
    assert build_tiles(region, out=out, max_chips=20).stored == 20
    assert store_status(out).chips == 20


def test_loading_agrees_with_zarr_in_any_order(made, region, days, make_scene, out):
    made([make_scene(day) for day in days])
    build_tiles(region, out=out, max_chips=60)
    build_tiles(region, out=out)  # two shards
    chips = open_chips(out)
    rows = np.random.default_rng(0).permutation(120)
    data, flags = chips.load(rows)
    group = zarr.open_group(out, mode="r")
    places = chips.table["index"].to_numpy()[rows]
    assert np.array_equal(data, group["data"][:][places])
    assert np.array_equal(flags, group["valid"][:][places])
    assert chips.load([])[0].shape == (0, 3, 20, 20)


@pytest.mark.parametrize("damage", ["truncated", "index", "chunk", "missing"])
def test_a_damaged_shard_is_an_error_not_zeros(made, region, days, make_scene, out, damage):
    made([make_scene(day) for day in days])
    build_tiles(region, out=out)
    shard = out / "data" / "c" / "0" / "0" / "0" / "0"
    whole = bytearray(shard.read_bytes())
    if damage == "truncated":
        shard.write_bytes(whole[: len(whole) // 2])
    elif damage == "missing":
        shard.unlink()
    else:
        whole[-100 if damage == "index" else 200] ^= 0xFF
        shard.write_bytes(whole)
    with pytest.raises(WorkError, match="cannot read this shard"):
        open_chips(out).load(range(120))
