"""Features without learning: numpy as the oracle, and blindness to pixels that are not clear."""

from __future__ import annotations

import numpy as np
import pytest

from geossl.errors import InputError
from geossl.evaluation.controls import (
    RandomConvolutions,
    available_indices,
    image_statistics,
    rich_statistics,
    spectral_index,
)

RNG = np.random.default_rng(0)
BANDS = ("green", "red", "nir", "swir16")
VALUES = RNG.random((5, 4, 12, 12)).astype(np.float32) * 0.4 + 0.05
CLEAR = RNG.random((5, 12, 12)) > 0.2


def with_garbage(filling: float) -> np.ndarray:
    return np.where(CLEAR[:, None], VALUES, np.float32(filling))


def test_statistics_equal_numpy_on_the_clear_pixels():
    stats = image_statistics(VALUES, CLEAR)
    for chip in range(5):
        pixels = VALUES[chip][:, CLEAR[chip]]
        expected = np.concatenate([pixels.mean(1), pixels.std(1), *np.percentile(pixels, [10, 90], axis=1)])
        np.testing.assert_allclose(stats[chip], expected, rtol=1e-4)


@pytest.mark.parametrize("filling", [np.nan, 0.0, 1e4])
def test_pixels_that_are_not_clear_change_no_feature(filling):
    garbage = with_garbage(filling)
    np.testing.assert_array_equal(image_statistics(garbage, CLEAR), image_statistics(VALUES, CLEAR))
    np.testing.assert_allclose(rich_statistics(garbage, CLEAR, BANDS), rich_statistics(VALUES, CLEAR, BANDS))
    a, b = (RandomConvolutions(v, CLEAR, 0, patches=8).features(v, CLEAR) for v in (garbage, VALUES))
    np.testing.assert_allclose(a, b, rtol=1e-5)


def test_a_chip_without_clear_pixels_has_finite_features():
    clear = CLEAR.copy()
    clear[2] = False
    assert np.isfinite(rich_statistics(VALUES, clear, BANDS)).all()
    assert (image_statistics(VALUES, clear)[2] == 0).all()


def test_indices_follow_their_formula_by_band_name_in_any_order_and_rank():
    expected = (VALUES[:, 2] - VALUES[:, 1]) / (VALUES[:, 2] + VALUES[:, 1])
    np.testing.assert_allclose(spectral_index("ndvi", VALUES, BANDS), expected, rtol=1e-5)
    np.testing.assert_allclose(spectral_index("ndvi", VALUES[:, ::-1], BANDS[::-1]), expected, rtol=1e-5)
    np.testing.assert_allclose(spectral_index("ndvi", VALUES[0], BANDS), expected[0], rtol=1e-5)


def test_an_index_does_not_depend_on_what_else_is_in_the_scene():
    # The first Vänern pilot scaled every array to its own minimum and maximum, and dates could not be compared.
    brighter = VALUES.copy()
    brighter[:, :, 0, 0] = 5.0
    inside = (slice(None), slice(1, None), slice(1, None))
    np.testing.assert_array_equal(
        spectral_index("ndvi", brighter, BANDS)[inside], spectral_index("ndvi", VALUES, BANDS)[inside]
    )


def test_an_index_of_nothing_is_nan_and_negative_reflectance_stays_in_range():
    dark = np.array([0.0, 0.0, 0.0, 0.0], dtype=np.float32)[:, None, None]
    assert np.isnan(spectral_index("mndwi", dark, BANDS)).all()
    water = np.array([0.03, 0.02, -0.001, -0.004], dtype=np.float32)[:, None, None]
    assert spectral_index("mndwi", water, BANDS).item() == 1


def test_indices_that_need_a_missing_band_say_so():
    with pytest.raises(InputError, match="needs band rededge071"):
        spectral_index("ndre", VALUES, BANDS)
    with pytest.raises(InputError, match="did you mean 'ndvi'"):
        spectral_index("ndvj", VALUES, BANDS)
    assert available_indices(BANDS) == ["ndvi", "ndmi", "ndwi", "mndwi", "ndti"]


def test_rich_statistics_have_the_documented_width_and_see_texture():
    assert rich_statistics(VALUES, CLEAR, BANDS).shape == (5, 5 * 4 + 4 * 5)
    smooth = np.broadcast_to(np.sort(VALUES.reshape(5, 4, -1)).reshape(VALUES.shape), VALUES.shape)
    everywhere = np.ones_like(CLEAR)
    np.testing.assert_allclose(image_statistics(smooth, everywhere), image_statistics(VALUES, everywhere), rtol=1e-4)
    rough, even = (rich_statistics(v, everywhere, BANDS)[:, -4:] for v in (VALUES, smooth))
    assert (rough > 2 * even).all()


def test_random_convolutions_are_a_function_of_the_seed_and_see_texture():
    a, b, c = (RandomConvolutions(VALUES, CLEAR, seed, patches=8).features(VALUES, CLEAR) for seed in (0, 0, 1))
    assert a.shape == (5, 16) and np.array_equal(a, b) and not np.allclose(a, c)
    everywhere = np.ones_like(CLEAR)
    net = RandomConvolutions(VALUES, everywhere, 0, patches=8)
    shuffled = RNG.permuted(VALUES.reshape(5, 4, -1), axis=2).reshape(VALUES.shape)
    assert not np.allclose(net.features(shuffled, everywhere), net.features(VALUES, everywhere), rtol=0.02)


def test_random_convolutions_need_a_clear_pixel():
    with pytest.raises(InputError, match="no clear pixel"):
        RandomConvolutions(VALUES, np.zeros_like(CLEAR), 0)
