"""The simulated landscape: deterministic, whole, and with one pair of classes that only texture tells apart."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from geossl.sandbox.classes import Cover, Crop
from geossl.sandbox.dates import plan_acquisitions
from geossl.sandbox.landscape import Landscape, make_landscape
from geossl.sandbox.noise import fractal, gaussian, generator, hash01, ranks
from geossl.sandbox.render import Rendered, render
from geossl.sandbox.seasons import make_seasons, rain_pattern
from geossl.sandbox.spec import load_spec
from geossl.sandbox.spectra import BANDS

SIDE = 480


@pytest.fixture(scope="module")
def land() -> Landscape:
    return make_landscape(SIDE, 7)


def _clear_scene(land: Landscape, seed: int) -> Rendered:
    """A cloudless summer scene of a year that is not dry."""
    spec = load_spec("malardalen")
    scenes = [s for s in plan_acquisitions(spec) if s.datetime.month in (6, 7) and s.datetime.year == 2021]
    cloudless = replace(min(scenes, key=lambda scene: scene.cover), cover=0.0, cirrus=0.0, edge=False)
    return render(land, make_seasons(spec), rain_pattern(SIDE, seed, 2021), cloudless, seed)


@pytest.fixture(scope="module")
def clear_scene(land: Landscape) -> Rendered:
    return _clear_scene(land, 7)


def test_the_same_seed_gives_the_same_landscape_and_another_seed_another_one() -> None:
    first, again, other = (make_landscape(96, seed) for seed in (3, 3, 4))
    for name in ("cover", "number", "elevation", "texture", "vigour", "height", "capacity"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert (first.cover != other.cover).mean() > 0.2


def test_every_class_of_land_cover_is_there_and_none_is_unknown(land: Landscape) -> None:
    shares = {kind: float((land.cover == kind).mean()) for kind in Cover}
    assert sum(shares.values()) == pytest.approx(1)
    assert 0.05 < shares[Cover.WATER] < 0.15
    assert 0.15 < shares[Cover.ARABLE] < 0.45
    assert all(share > 0 for share in shares.values())


def test_each_object_is_of_one_cover_and_each_field_of_one_crop_a_year(land: Landscape) -> None:
    for number in np.unique(land.number)[::25]:
        assert len(np.unique(land.cover[land.number == number])) == 1
    crops = land.objects.crops(2018)
    assert set(np.unique(crops[land.objects.cover == Cover.ARABLE])) == {int(crop) for crop in Crop}
    assert not crops[land.objects.cover != Cover.ARABLE].any()
    assert (crops != land.objects.crops(2019)).any()


def test_water_is_level_and_never_above_its_shore(land: Landscape) -> None:
    water = land.cover == Cover.WATER
    assert np.percentile(land.elevation[~water], 2) > 0.9
    assert land.elevation[water].max() <= land.elevation[~water].max()


def _patches(land: Landscape, scene: Rendered, kind: Cover, side: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """(patch, band, y, x) of the 10 m bands inside one stand or field, away from roads; and each patch's object."""
    bands = np.stack([scene.bands[band.key] for band in BANDS if band.gsd_m == 10]).astype(np.float32)
    free = (land.cover == kind) & (land.built.asphalt + land.built.gravel + land.built.river == 0)
    corners = [
        (y, x)
        for y in range(0, SIDE - side, 3)
        for x in range(0, SIDE - side, 3)
        if free[y : y + side, x : x + side].all() and len(np.unique(land.number[y : y + side, x : x + side])) == 1
    ]
    patches = np.stack([bands[:, y : y + side, x : x + side] for y, x in corners])
    return patches, np.array([land.number[y, x] for y, x in corners])


def _texture_features(patches: np.ndarray) -> np.ndarray:
    """Autocorrelation of the near infrared at a few lags: what rows have and crowns have not."""
    nir = patches[:, -1] - patches[:, -1].mean(axis=(1, 2), keepdims=True)
    power = np.abs(np.fft.rfft2(nir)) ** 2
    power /= power.sum(axis=(1, 2), keepdims=True)
    return np.sort(power.reshape(len(power), -1), axis=1)[:, -6:]


def test_pine_and_plantation_differ_in_texture_and_not_in_band_means(land: Landscape, clear_scene: Rendered) -> None:
    """Balanced accuracy over stands that the model has not seen, pooled over four landscapes.

    One landscape of this size has some 25 plantations, too few to tell chance from a leak.
    """
    more = [(made, _clear_scene(made, seed)) for seed in (1, 2, 3) for made in (make_landscape(SIDE, seed),)]
    patches, labels, stands = [], [], []
    for number, (ground, scene) in enumerate([(land, clear_scene), *more]):
        for code, kind in enumerate((Cover.PINE, Cover.PLANTATION)):
            found, objects = _patches(ground, scene, kind)
            patches.append(found)
            labels.append(np.full(len(found), code))
            stands.append(objects + number * 1_000_000)
    pixels, codes, groups = (np.concatenate(parts) for parts in (patches, labels, stands))
    assert min(len(np.unique(groups[codes == code])) for code in (0, 1)) >= 80
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, class_weight="balanced"))

    def score(features: np.ndarray) -> float:
        guesses = cross_val_predict(model, features, codes, groups=groups, cv=GroupKFold(5))
        return float(balanced_accuracy_score(codes, guesses))

    means = pixels.mean(axis=(2, 3))
    by_means = score(means)
    by_texture = score(np.concatenate([means, _texture_features(pixels)], axis=1))
    assert by_means < 0.6, (by_means, by_texture)
    assert by_texture > 0.75, (by_means, by_texture)


def test_forest_is_rough_and_fields_are_smooth(land: Landscape, clear_scene: Rendered) -> None:
    def roughness(kind: Cover) -> float:
        nir = _patches(land, clear_scene, kind)[0][:, -1] - 1000
        return float(np.median(nir.std(axis=(1, 2)) / nir.mean(axis=(1, 2))))

    assert roughness(Cover.SPRUCE) > 2 * roughness(Cover.ARABLE)


def test_fractal_noise_is_standardised_and_smoother_with_a_longer_wavelength() -> None:
    ragged, smooth = (fractal(128, generator(1, n), wavelength, 3.5) for n, wavelength in enumerate((4, 60)))
    for field in (ragged, smooth):
        assert field.mean() == pytest.approx(0, abs=1e-4)
        assert field.std() == pytest.approx(1, abs=1e-3)
    assert np.abs(np.diff(smooth)).mean() < 0.3 * np.abs(np.diff(ragged)).mean()


def test_an_older_processor_makes_the_same_noise() -> None:
    """Found with a processor that has AVX-512: other last bits of noise moved parcels, and so the labels drawn."""
    code = (
        "import hashlib; from geossl.sandbox.noise import fractal, generator; "
        "noise = fractal(256, generator(7, 0), 24, slope=2.6, stretch=3, angle=0.7); "
        "print(hashlib.sha256(noise.tobytes()).hexdigest())"
    )
    older = {**os.environ, "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR"}  # those it has not are ignored
    said = [
        subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True).stdout
        for env in (dict(os.environ), older)
    ]
    assert said[0] == said[1]


def test_rank_transforms_keep_the_order_and_change_the_distribution() -> None:
    field = generator(5).gamma(1.0, 1.0, (64, 64)).astype(np.float32)
    order = np.argsort(field, axis=None, kind="stable")
    for changed in (ranks(field), gaussian(field)):
        assert (np.diff(changed.ravel()[order]) >= 0).all()
    assert gaussian(field).std() == pytest.approx(1, abs=0.02)


def test_hashes_are_uniform_and_depend_on_every_key() -> None:
    values = hash01(np.arange(20_000), 3)
    assert values.min() >= 0 and values.max() < 1
    assert np.histogram(values, 10, (0, 1))[0] == pytest.approx(np.full(10, 2000), rel=0.1)
    assert abs(np.corrcoef(values, hash01(np.arange(20_000), 4))[0, 1]) < 0.03
    np.testing.assert_array_equal(values, hash01(np.arange(20_000), 3))
