"""Resampling against an independent oracle, and what happens at edges and holes."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from scipy import ndimage

from geossl.cube.resample import resample

COARSE = GeoBox((40, 40), Affine(20, 0, 600_000, 0, -20, 6_600_000), "EPSG:32633")
FINE = GeoBox((48, 52), Affine(10, 0, 600_100, 0, -10, 6_599_900), "EPSG:32633")


def numbers(dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 9000, COARSE.shape.yx).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_bilinear_equals_scipy(dtype: str) -> None:
    part = numbers(dtype) - (4000 if dtype == "int16" else 0)
    values, missing = resample(part, np.zeros(part.shape, bool), COARSE, FINE, "bilinear", inside=True)
    oracle = ndimage.affine_transform(
        part.astype(np.float64), [0.5, 0.5], [4.75, 4.75], FINE.shape.yx, order=1, mode="nearest"
    )
    assert not missing.any() and values.dtype == part.dtype
    assert np.abs(values - oracle).max() <= (0.5 if part.dtype.kind in "iu" else 1e-2)


def test_nearest_takes_the_pixel_under_the_centre() -> None:
    part = numbers("uint8")
    values, _ = resample(part, np.zeros(part.shape, bool), COARSE, FINE, "nearest", inside=True)
    assert np.array_equal(values, np.repeat(np.repeat(part, 2, 0), 2, 1)[10:58, 10:62])


def test_a_hole_stays_a_hole_and_leaks_into_nothing() -> None:
    part = np.full(COARSE.shape.yx, 5000, np.uint16)
    hole = np.zeros(part.shape, bool)
    hole[10:14, 12:15] = True
    part[hole] = 0
    values, missing = resample(part, hole, COARSE, FINE, "bilinear", inside=True)
    assert np.array_equal(missing, np.repeat(np.repeat(hole, 2, 0), 2, 1)[10:58, 10:62])
    assert set(np.unique(values[~missing])) == {5000}


def test_outside_the_source_there_is_nothing() -> None:
    part = numbers()
    beyond = GeoBox((20, 20), Affine(10, 0, 600_750, 0, -10, 6_600_050), "EPSG:32633")
    for method in ("nearest", "bilinear"):
        _, missing = resample(part, np.zeros(part.shape, bool), COARSE, beyond, method, inside=False)
        assert missing[:5].all() and missing[:, 5:].all() and not missing[5:, :5].any()


def test_another_crs_is_warped_without_inventing_values() -> None:
    part = np.full(COARSE.shape.yx, 1234, np.uint16)
    target = COARSE.to_crs("EPSG:3006", resolution=13)
    values, missing = resample(part, np.zeros(part.shape, bool), COARSE, target, "bilinear", inside=False)
    assert 0.02 < missing.mean() < 0.5  # the corners of a rotated square
    assert np.abs(values[~missing] - 1234).max() < 1e-3
