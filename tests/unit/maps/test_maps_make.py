"""``make_map`` on ready chips: the layer's pixels, files and catalogue, resumption, and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
from maps_fakes import BANDS, CLASSES, ChipHead, PixelHead, cut_chips, task

from geossl.errors import InputError
from geossl.maps import predictors, stream
from geossl.maps.legend import UNSEEN
from geossl.maps.make import make_map, plan_map
from geossl.maps.stream import WindowSizes
from geossl.tasks.spec import DeepWaterRule, PixelRule


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictors, "WindowSizes", lambda *sizes: WindowSizes(*(sizes or (64, 16, 16))))
    monkeypatch.setattr(stream, "BATCH_PIXELS", 2 * 64 * 64)


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as source:
        return source.read()


def expected_class(picture: np.ndarray) -> np.ndarray:
    return picture[:3].argmax(0)


def same_files(one: Path, other: Path) -> None:
    names = sorted(file.name for file in one.iterdir())
    assert names == sorted(file.name for file in other.iterdir())
    for name in names:
        if name != "run.json":
            assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_the_map_of_a_head_of_single_pixels_is_its_answer_at_each_pixel(picture: np.ndarray, tmp_path: Path) -> None:
    head = PixelHead(task())
    result = make_map(head, chips=cut_chips(picture), block="b1", out=tmp_path / "map")
    np.testing.assert_array_equal(read(result.layer / "class.tif")[0], expected_class(picture))
    percent = read(result.layer / "probability.tif")
    assert percent.shape == (3, 96, 160)
    assert (abs(percent.astype(int).sum(0) - 100) <= 2).all()
    assert (read(result.layer / "clear_dates.tif") == 1).all()
    assert result.windows == result.windows_now > 4
    assert result.clear_share == 1
    with rasterio.open(result.layer / "class.tif") as source:
        assert source.crs.to_epsg() == 32633
        assert source.transform[2] == 600_000
        assert source.transform[5] == 6_600_000


def test_pixels_the_task_does_not_speak_of_are_nodata(picture: np.ndarray, tmp_path: Path) -> None:
    drought = task()
    drought.not_applicable = (PixelRule(index="ndwi", above=0.0, reason="water"),)
    result = make_map(PixelHead(drought), chips=cut_chips(picture), block="b1", out=tmp_path / "map")
    water = picture[1] > picture[3]  # green above near infrared
    assert 0.2 < water.mean() < 0.8
    found = read(result.layer / "class.tif")[0]
    assert (found[water] == 255).all()
    np.testing.assert_array_equal(found[~water], expected_class(picture)[~water])


def test_a_rule_may_leave_out_what_lies_below_its_limit(picture: np.ndarray, tmp_path: Path) -> None:
    bed = task()
    bed.not_applicable = (PixelRule(index="ndwi", below=0.0, reason="land"),)
    result = make_map(PixelHead(bed), chips=cut_chips(picture), block="b1", out=tmp_path / "map")
    land = picture[1] < picture[3]
    found = read(result.layer / "class.tif")[0]
    assert (found[land] == 255).all()
    np.testing.assert_array_equal(found[~land], expected_class(picture)[~land])


def test_pixels_that_are_never_clear_are_nodata_and_a_missing_chip_too(picture: np.ndarray, tmp_path: Path) -> None:
    flags = np.zeros(picture.shape[1:], np.uint8)
    flags[20:50, 30:90] = 2
    chips = cut_chips(picture, flags)
    chips.table = chips.table[chips.table["chip"] != "0_48"].reset_index(drop=True)
    result = make_map(PixelHead(task()), chips=chips, block="b1", out=tmp_path / "map")
    masked = flags > 0
    masked[0:16, 48:64] = True
    found = read(result.layer / "class.tif")[0]
    assert (found[masked] == 255).all()
    np.testing.assert_array_equal(found[~masked], expected_class(picture)[~masked])
    assert (read(result.layer / "probability.tif")[:, masked] == 255).all()
    assert (read(result.layer / "clear_dates.tif")[0] == ~masked).all()
    assert result.clear_share == pytest.approx((~masked).mean(), abs=1e-3)


def test_several_dates_give_the_mean_of_the_probabilities_over_the_clear_ones(
    picture: np.ndarray, tmp_path: Path
) -> None:
    import pandas as pd

    later = picture[[1, 0, 2, 3]]  # another class wins on the second date
    both = np.concatenate([picture, later], 1)
    flags = np.zeros(both.shape[1:], np.uint8)
    flags[96:, :80] = 2  # the second date is clouded in the west
    chips = cut_chips(both, flags)
    second = chips.table["row"] >= 96
    chips.table.loc[second, "datetime"] = pd.Timestamp("2018-07-11", tz="UTC")
    chips.table.loc[second, "top"] += 960.0
    head = PixelHead(task())
    result = make_map(head, chips=chips, block="b1", out=tmp_path / "map")
    assert [str(day) for day in result.dates] == ["2018-07-01", "2018-07-11"]
    assert all(shape[1] == 1 for shape in head.batches), "a head of single dates sees one date at a time"
    counts = read(result.layer / "clear_dates.tif")[0]
    assert (counts[:, :80] == 1).all()
    assert (counts[:, 80:] == 2).all()

    def softmax(values: np.ndarray) -> np.ndarray:
        powers = np.exp(20 * ((values[:3].astype(float) - 1000) / 10_000))
        return powers / powers.sum(0)

    mean = (softmax(picture) + softmax(later)) / 2
    expected = np.where(np.arange(160) < 80, softmax(picture), mean)
    assert abs(read(result.layer / "probability.tif") - 100 * expected).max() <= 0.51


def test_a_head_of_series_gets_all_dates_at_once(picture: np.ndarray, tmp_path: Path) -> None:
    import pandas as pd

    chips = cut_chips(np.concatenate([picture, picture], 1))
    second = chips.table["row"] >= 96
    chips.table.loc[second, "datetime"] = pd.Timestamp("2018-07-11", tz="UTC")
    chips.table.loc[second, "top"] += 960.0
    head = PixelHead(task(temporal="series"))
    result = make_map(head, chips=chips, block="b1", out=tmp_path / "map")
    assert all(shape[1] == 2 for shape in head.batches)
    np.testing.assert_array_equal(read(result.layer / "class.tif")[0], expected_class(picture))


def test_a_head_is_asked_on_pictures_of_the_size_it_has_learnt_from(picture: np.ndarray, tmp_path: Path) -> None:
    class OneSize(PixelHead):
        """Knows pictures of its own chip size only."""

        chip_px = 16

        def predict(self, values: Any, clear: Any) -> Any:
            assert values.shape[-2:] == (16, 16)
            return super().predict(values, clear)

    result = make_map(OneSize(task()), chips=cut_chips(picture), block="b1", out=tmp_path / "map")
    np.testing.assert_array_equal(read(result.layer / "class.tif")[0], expected_class(picture))


def test_a_map_smaller_than_a_window_works(picture: np.ndarray, tmp_path: Path) -> None:
    chips = cut_chips(picture[:, :16, :32])
    result = make_map(PixelHead(task()), chips=chips, block="b1", out=tmp_path / "map")
    assert result.windows == 1
    np.testing.assert_array_equal(read(result.layer / "class.tif")[0], expected_class(picture[:, :16, :32]))


def test_the_layer_carries_colours_class_names_style_and_a_valid_catalogue(picture: np.ndarray, tmp_path: Path) -> None:
    from rio_cogeo.cogeo import cog_validate

    result = make_map(PixelHead(task()), chips=cut_chips(picture), block="b1", out=tmp_path / "map", period="2018-07")
    for name in ("class.tif", "probability.tif", "clear_dates.tif"):
        valid, errors, _ = cog_validate(result.layer / name, strict=True)
        assert valid, errors
    with rasterio.open(result.layer / "class.tif") as source:
        assert source.nodata == 255
        colours = source.colormap(1)
        assert [source.tags()[f"class_{value}"] for value in range(3)] == list(CLASSES)
        assert "water" in (result.layer / "class.tif.aux.xml").read_text()
    with rasterio.open(result.layer / "probability.tif") as source:
        assert source.descriptions == CLASSES
    style = (result.layer / "class.qml").read_text()
    red, green, blue, _ = colours[0]
    assert f'value="0" color="#{red:02x}{green:02x}{blue:02x}"' in style
    item = pystac.Item.from_file(str(result.layer / "item.json"))
    assert item.common_metadata.start_datetime.isoformat() == "2018-07-01T00:00:00+00:00"
    assert item.common_metadata.end_datetime.date().isoformat() == "2018-07-31"
    assert item.properties["proj:code"] == "EPSG:32633"
    assert item.properties["geossl:scenes"] == sorted(cut_chips(picture).table["chip"])
    classes = item.assets["class"].extra_fields["classification:classes"]
    assert [entry["title"] for entry in classes] == [*CLASSES, UNSEEN]
    for asset in item.assets.values():
        assert (result.layer / asset.href).is_file()
    collection = pystac.Collection.from_file(str(result.layer / "collection.json"))
    assert [linked.id for linked in collection.get_items()] == [item.id]
    west, south, east, north = item.bbox
    assert 16 < west < east < 17
    assert 59 < south < north < 60
    assert (result.layer / "quicklook.png").stat().st_size > 5_000
    assert set(result.files) | {"manifest.json", "run.json"} == {file.name for file in result.layer.iterdir()}


def test_a_quantity_becomes_a_float_raster_with_its_unit(picture: np.ndarray, tmp_path: Path) -> None:
    flags = np.zeros(picture.shape[1:], np.uint8)
    flags[:40, :40] = 2
    head = PixelHead(task("regression", ()))
    result = make_map(head, chips=cut_chips(picture, flags), block="b1", out=tmp_path / "map")
    values = read(result.layer / "value.tif")[0]
    assert np.isnan(values[:40, :40]).all()
    np.testing.assert_allclose(values[40:], (picture[0, 40:] - 1000.0) / 10_000, atol=1e-5)
    assert (result.layer / "value.qml").is_file()
    item = json.loads((result.layer / "item.json").read_text())
    assert item["assets"]["value"]["bands"][0] == {
        "name": "Land cover",
        "data_type": "float32",
        "nodata": "nan",
        "unit": "%",
    }


def test_a_head_of_whole_chips_is_slid_over_the_map_in_quarter_steps(picture: np.ndarray, tmp_path: Path) -> None:
    constant = np.full_like(picture, 1000)
    constant[0] = 4000
    constant[1] = 2000
    constant[0, :, 80:], constant[1, :, 80:] = 2000, 4000
    result = make_map(ChipHead(), chips=cut_chips(constant), block="b1", out=tmp_path / "map")
    assert result.shape == (24, 40)
    with rasterio.open(result.layer / "class.tif") as source:
        assert source.res == (40.0, 40.0)
    found = read(result.layer / "class.tif")[0]
    assert (found[:, :20] == 0).all()
    assert (found[:, 20:] == 1).all()
    percent = read(result.layer / "probability.tif")
    assert (percent[0, :, :16] == 30).all()
    assert (percent[0, :, 24:] == 10).all()
    assert (np.diff(percent[0].astype(int), axis=1) <= 0).all(), "probabilities fade across the border"


def test_a_stopped_run_is_continued_and_gives_the_same_bytes(picture: np.ndarray, tmp_path: Path) -> None:
    class Stops(PixelHead):
        left = 3

        def predict(self, values: Any, clear: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return super().predict(values, clear)

    arguments = {"chips": cut_chips(picture), "block": "b1"}
    whole = make_map(PixelHead(task()), out=tmp_path / "whole" / "map", **arguments)
    stopping = Stops(task())
    stopping.id = PixelHead.id
    with pytest.raises(KeyboardInterrupt):
        make_map(stopping, out=tmp_path / "cut" / "map", **arguments)
    assert not (tmp_path / "cut" / "map").exists()
    resumed = make_map(PixelHead(task()), out=tmp_path / "cut" / "map", **arguments)
    assert 0 < resumed.windows_now < resumed.windows
    same_files(whole.layer, resumed.layer)
    assert not list((tmp_path / "cut").glob(".map.work*"))


def test_a_finished_map_is_not_made_again_but_other_input_replaces_it(picture: np.ndarray, tmp_path: Path) -> None:
    chips = cut_chips(picture)
    first = make_map(PixelHead(task()), chips=chips, block="b1", out=tmp_path / "map")
    again = make_map(PixelHead(task()), chips=chips, block="b1", out=tmp_path / "map")
    assert again.windows_now == 0
    assert (again.files, again.clear_share) == (first.files, first.clear_share)
    other = PixelHead(task())
    other.id = "another head"
    assert make_map(other, chips=chips, block="b1", out=tmp_path / "map").windows_now == first.windows


def test_wrong_input_is_one_sentence_and_touches_nothing(picture: np.ndarray, tmp_path: Path) -> None:
    chips = cut_chips(picture)
    head = PixelHead(task())
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"chips": chips, "block": "b9"}, "unknown block"),
        ({"chips": chips}, "which block"),
        ({}, "where the map's pixels come from"),
        ({"chips": chips, "block": "b1", "region": "malardalen"}, "where the map's pixels come from"),
        ({"chips": chips, "block": "b1", "period": "2019"}, "no chip of this block"),
        ({"chips": chips, "block": "b1", "out": precious}, "something else"),
    ]
    for arguments, words in cases:
        with pytest.raises(InputError, match=words):
            make_map(head, **{"out": tmp_path / "map", **arguments})
    with pytest.raises(InputError, match="bands that") as caught:
        make_map(PixelHead(task(), (*BANDS, "swir16")), chips=chips, block="b1", out=tmp_path / "map")
    assert "missing: swir16" in str(caught.value)
    assert (precious / "thesis.txt").read_text() == "years of work"
    assert not (tmp_path / "map").exists()


def test_a_plan_counts_the_work_and_reads_nothing(picture: np.ndarray, tmp_path: Path) -> None:
    chips = cut_chips(picture)
    plan = plan_map(PixelHead(task()), chips=chips, block="b1", out=tmp_path / "map")
    assert plan.shape == (96, 160)
    assert plan.scenes == 60
    assert plan.windows == 6
    assert chips.loaded == []
    assert not plan.out.exists()


def test_water_whose_bed_is_not_seen_is_nodata(picture: np.ndarray, tmp_path: Path) -> None:
    bed = task()
    bed.not_seen = DeepWaterRule(sigmas=3, reason="bed not seen")
    sea = picture.copy()
    sea[:4] = np.array([1600, 1800, 1600, 1100])[:, None, None]
    sea[:4, :, :80] = np.array([1300, 1300, 1200, 1080])[:, None, None]  # deep
    result = make_map(PixelHead(bed), chips=cut_chips(sea), block="b1", out=tmp_path / "map")
    found = read(result.layer / "class.tif")[0]
    assert (found[:, :80] == 255).all()
    assert (found[:, 80:] != 255).all()
