"""Reading scenes: exact on their own grid, honest about what is missing."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from odc.geo.geobox import GeoBox

from geossl.cube import read
from geossl.cube.connect import Product, Scene, solar_day
from geossl.cube.documents import measurement_uri
from geossl.cube.read import mask_flags, read_scenes
from geossl.errors import InputError
from geossl.products import Flag, MaskSpec

Make = Callable[..., tuple[Scene, Product]]
SIZE = 64


def ramp(size: int = SIZE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1000, 9000, (size, size)).astype(np.uint16)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "_PAUSE_S", 0.001)


def test_pixels_on_the_scenes_own_grid_are_the_files(scene: Make) -> None:
    red = ramp()
    one, product = scene({"red": (red, 10), "nir": (ramp(seed=1), 10)})
    pixels = read_scenes([one], product, one.geobox, ["red"])
    assert np.array_equal(pixels.data[0], red)
    assert not pixels.flags.any()
    assert pixels.failures == ()


def test_a_window_of_the_grid_gives_that_window_and_nodata_beyond_the_edge(scene: Make) -> None:
    red = ramp()
    one, product = scene({"red": (red, 10)})
    window = one.geobox.translate_pix(-8, 16)
    pixels = read_scenes([one], product, window, ["red"])
    assert np.array_equal(pixels.data[0, : SIZE - 16, 8:], red[16:, : SIZE - 8])
    assert (pixels.flags[:, :8] == Flag.NODATA).all() and (pixels.data[0, :, :8] == 0).all()
    assert (pixels.flags[: SIZE - 16, 8:] == 0).all()


def test_bands_come_in_the_order_asked_for_and_unknown_ones_are_named(scene: Make) -> None:
    red, nir = ramp(), ramp(seed=1)
    one, product = scene({"red": (red, 10), "nir": (nir, 10)})
    assert np.array_equal(read_scenes([one], product, one.geobox, ["nir", "red"]).data, np.stack([nir, red]))
    with pytest.raises(InputError, match=r"unknown band 'swir61'"):
        read_scenes([one], product, one.geobox, ["swir61"])


def test_a_coarser_band_is_interpolated_and_its_mask_is_not(scene: Make) -> None:
    coarse = np.repeat(np.arange(1000, 1000 + 320, 10, dtype=np.uint16)[None], 32, 0)
    scl = np.full((32, 32), 4, np.uint8)
    scl[:, 16:] = 9
    one, product = scene({"red": (ramp(), 10), "swir16": (coarse, 20), "scl": (scl, 20)})
    pixels = read_scenes([one], product, one.geobox, ["swir16"])
    # a linear ramp stays linear: 5 a pixel between the outer pixel centres
    assert pixels.data[0, 5, 1:63].tolist() == pytest.approx((1000 + (np.arange(1, 63) - 0.5) * 5).tolist(), abs=0.5)
    assert (pixels.flags[:, :32] == 0).all() and (pixels.flags[:, 32:] == Flag.CLOUD).all()


def test_nodata_never_blends_into_values_when_warped(scene: Make) -> None:
    red = np.full((SIZE, SIZE), 5000, np.uint16)
    red[20:40, 20:40] = 0
    one, product = scene({"red": (red, 10)})
    for target in (one.geobox.zoom_to(resolution=7.0), one.geobox.to_crs("EPSG:3006", resolution=9.0)):
        pixels = read_scenes([one], product, target, ["red"])
        valid = pixels.flags == 0
        assert valid.any() and (pixels.flags == Flag.NODATA).any()
        assert set(np.unique(pixels.data[0][valid])) == {5000}
        assert set(np.unique(pixels.data[0][~valid])) == {0}


def test_a_coarser_target_averages(scene: Make) -> None:
    checker = np.indices((SIZE, SIZE)).sum(0) % 2 * 2000 + 2000
    one, product = scene({"red": (checker.astype(np.uint16), 10)})
    pixels = read_scenes([one], product, one.geobox.zoom_to(resolution=40.0), ["red"])
    inner = pixels.data[0, 2:-2, 2:-2].astype(float)
    assert np.abs(inner - 3000).max() < 150


def test_any_requested_band_without_value_makes_the_pixel_nodata(scene: Make) -> None:
    red, nir = ramp(), ramp(seed=1)
    nir[3, 4] = 0
    one, product = scene({"red": (red, 10), "nir": (nir, 10)})
    assert read_scenes([one], product, one.geobox, ["red", "nir"]).flags[3, 4] == Flag.NODATA
    assert read_scenes([one], product, one.geobox, ["red"]).flags[3, 4] == 0


def test_the_scene_classification_becomes_flags(scene: Make) -> None:
    scl = np.full((SIZE, SIZE), 4, np.uint8)
    scl[0, :12] = range(12)
    one, product = scene({"red": (ramp(), 10), "scl": (scl, 10)})
    flags = read_scenes([one], product, one.geobox).flags[0, :12]
    expected = [Flag.NODATA, Flag.SATURATED, 0, Flag.SHADOW, 0, 0, 0, 0, Flag.CLOUD, Flag.CLOUD, Flag.CLOUD, Flag.SNOW]
    assert flags.tolist() == [int(flag) for flag in expected]


def test_quality_bits_become_flags() -> None:
    spec = MaskSpec(band="qa_pixel", kind="bits", nodata=(0,), cloud=(1, 2, 3), shadow=(4,), snow=(5,))
    values = np.array([1, 1 << 3, (1 << 3) | (1 << 4), 1 << 5, 1 << 6, 21824], np.uint16)
    expected = [Flag.NODATA, Flag.CLOUD, Flag.CLOUD | Flag.SHADOW, Flag.SNOW, 0, 0]
    assert mask_flags(values, spec).tolist() == [int(flag) for flag in expected]
    assert mask_flags(values.astype(np.int32), spec).tolist() == [int(flag) for flag in expected]


def test_a_missing_file_is_masked_and_named(scene: Make) -> None:
    one, product = scene({"red": (ramp(), 10), "nir": (ramp(seed=1), 10)})
    Path(measurement_uri(one.dataset, "nir")[0]).unlink()
    pixels = read_scenes([one], product, one.geobox)
    assert (pixels.flags == Flag.READ_FAILED).all()
    (failure,) = pixels.failures
    assert (failure.scene_id, failure.band) == (one.id, "nir")
    assert failure.uri.endswith("nir.tif") and "No such file" in failure.reason


def test_a_truncated_file_is_masked_and_named_even_if_it_was_read_before(scene: Make) -> None:
    one, product = scene({"red": (ramp(256), 10)})
    assert not read_scenes([one], product, one.geobox).failures
    path = Path(measurement_uri(one.dataset, "red")[0])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    pixels = read_scenes([one], product, one.geobox)
    assert [failure.band for failure in pixels.failures] == ["red"]
    assert (pixels.flags & Flag.READ_FAILED).all()


def test_a_read_that_fails_twice_succeeds_at_the_third_try(scene: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    import rasterio
    from rasterio.errors import RasterioIOError

    red = ramp()
    one, product = scene({"red": (red, 10)})
    calls = []
    real = rasterio.open

    def flaky(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        if len(calls) < 3:
            raise RasterioIOError("connection reset")
        return real(*args, **kwargs)

    monkeypatch.setattr("geossl.cube.files.rasterio.open", flaky)
    pixels = read_scenes([one], product, one.geobox)
    assert len(calls) == 3 and not pixels.failures and np.array_equal(pixels.data[0], red)


def test_a_file_of_another_size_than_indexed_is_not_read(scene: Make) -> None:
    one, product = scene({"red": (ramp(), 10)})
    scene({"red": (ramp(32), 10)})  # writes the same file anew
    (failure,) = read_scenes([one], product, one.geobox).failures
    assert "index it again" in failure.reason


def test_scenes_of_a_day_are_one_mosaic_each_pixel_from_one_scene(scene: Make) -> None:
    left, right = ramp(), ramp(seed=1)
    left[:, 40:] = 0
    right[:, :20] = 0
    cloudy, clear = np.full((SIZE, SIZE), 9, np.uint8), np.full((SIZE, SIZE), 4, np.uint8)
    first, product = scene({"red": (left, 10), "scl": (cloudy, 10)}, name="a")
    second, _ = scene({"red": (right, 10), "scl": (clear, 10)}, name="b", datetime="2024-06-01T10:00:05Z")
    pixels = read_scenes([second, first], product, first.geobox)
    expected = np.where(left > 0, left, right)
    assert np.array_equal(pixels.data[0], expected)
    assert (pixels.flags[:, :40] == Flag.CLOUD).all() and (pixels.flags[:, 40:] == 0).all()


def test_radiometry_is_settled_before_the_mosaic(scene: Make) -> None:
    old = np.full((SIZE, SIZE), 2000, np.uint16)
    new = np.full((SIZE, SIZE), 3000, np.uint16)
    new[:, 32:] = 0
    first, product = scene({"red": (new, 10)}, name="a", **{"s2:processing_baseline": "05.10"})
    removed = {"earthsearch:boa_offset_applied": True, "s2:processing_baseline": "04.00"}
    second, _ = scene({"red": (old, 10)}, name="b", **removed)
    pixels = read_scenes([first, second], product, first.geobox)
    assert np.unique(pixels.data).tolist() == [3000]  # both are a reflectance of 0.2
    assert product.encoding.decode(pixels.data)[0, 0, 0] == pytest.approx(0.2, abs=1e-6)


def test_of_a_scene_processed_twice_the_newer_baseline_is_taken(scene: Make) -> None:
    first, product = scene({"red": (ramp(), 10)}, name="a", **{"s2:processing_baseline": "04.00"})
    second, _ = scene({"red": (ramp(seed=1), 10)}, name="b", **{"s2:processing_baseline": "05.10"})
    assert np.array_equal(read_scenes([first, second], product, first.geobox).data[0], ramp(seed=1))


def test_a_failed_scene_is_filled_from_its_neighbour_and_still_named(scene: Make) -> None:
    first, product = scene({"red": (ramp(), 10)}, name="a")
    second, _ = scene({"red": (ramp(seed=1), 10)}, name="b", datetime="2024-06-01T10:00:05Z")
    Path(measurement_uri(first.dataset, "red")[0]).unlink()
    pixels = read_scenes([first, second], product, first.geobox)
    assert np.array_equal(pixels.data[0], ramp(seed=1)) and not pixels.flags.any()
    assert [failure.scene_id for failure in pixels.failures] == [first.id]


def test_no_scenes_is_all_nodata(scene: Make) -> None:
    one, product = scene({"red": (ramp(), 10)})
    pixels = read_scenes([], product, one.geobox)
    assert (pixels.flags == Flag.NODATA).all() and not pixels.data.any()


def test_a_scene_and_its_product_pickle_and_are_read_in_another_thread_count(scene: Make) -> None:
    one, product = scene({"red": (ramp(), 10), "nir": (ramp(seed=1), 10)})
    copied_scene, copied_product = pickle.loads(pickle.dumps((one, product)))
    again = read_scenes([copied_scene], copied_product, copied_scene.geobox, threads=4)
    once = read_scenes([one], product, one.geobox, threads=1)
    assert np.array_equal(again.data, once.data) and copied_scene.id == one.id


def test_a_target_that_misses_the_scene_is_nodata_without_a_failure(scene: Make) -> None:
    one, product = scene({"red": (ramp(), 10)})
    elsewhere = GeoBox((8, 8), one.geobox.transform.translation(9e4, 9e4) @ one.geobox.transform, one.geobox.crs)
    pixels = read_scenes([one], product, elsewhere)
    assert (pixels.flags == Flag.NODATA).all() and not pixels.failures


@pytest.mark.parametrize(
    ("moment", "longitude", "day"),
    [
        (datetime(2018, 5, 1, 10, tzinfo=UTC), 15.0, "2018-05-01"),
        (datetime(2018, 5, 1, 22, tzinfo=UTC), 170.0, "2018-05-02"),
        (datetime(2018, 5, 1, 2, tzinfo=UTC), -120.0, "2018-04-30"),
        (datetime(2018, 5, 1, tzinfo=UTC), -74.0, "2018-05-01"),  # only the day is known
    ],
)
def test_the_solar_day(moment: datetime, longitude: float, day: str) -> None:
    assert solar_day(moment, longitude).isoformat() == day
