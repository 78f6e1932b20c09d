"""Weather, soil water and phenology: dry years are dry, plants grow and are harvested when they should be."""

from __future__ import annotations

import numpy as np
import pytest

from geossl.sandbox.classes import NOT_APPLICABLE, Cover, Crop, Drought
from geossl.sandbox.dates import plan_acquisitions
from geossl.sandbox.landscape import Landscape, make_landscape
from geossl.sandbox.noise import generator
from geossl.sandbox.optics import away_from_sun, make_sky, sun_position, terrain_light
from geossl.sandbox.phenology import describe
from geossl.sandbox.seasons import (
    CAPACITIES_MM,
    Seasons,
    Weather,
    drought_classes,
    make_seasons,
    moisture,
    rain_pattern,
    run_bucket,
)
from geossl.sandbox.spec import load_spec
from geossl.sandbox.spectra import BANDS, MATERIALS, spectrum

KEYS = [band.key for band in BANDS]


@pytest.fixture(scope="module")
def seasons() -> Seasons:
    return make_seasons(load_spec("malardalen"))


@pytest.fixture(scope="module")
def land() -> Landscape:
    return make_landscape(240, 11)


def _ndvi(table: np.ndarray) -> np.ndarray:
    red, nir = table[:, KEYS.index("red")], table[:, KEYS.index("nir")]
    return (nir - red) / (nir + red)


def test_without_rain_every_soil_ends_stressed_and_small_soils_first() -> None:
    dry = Weather(np.zeros(366, np.float32), np.full(366, 3.0, np.float32))
    stress, _ = run_bucket(dry)
    by_capacity = stress[60, :, 1]
    assert (np.diff(by_capacity) <= 1e-6).all()
    assert stress[365, CAPACITIES_MM < 200, 1].min() > 0.8
    assert (np.diff(stress[:, 5, 1]) >= -1e-6).all()


def test_with_ample_rain_there_is_no_stress() -> None:
    wet = Weather(np.full(366, 12.0, np.float32), np.full(366, 3.0, np.float32))
    stress, dryness = run_bucket(wet)
    assert stress.max() < 1e-6
    assert dryness[30:].max() < 0.2


def test_the_dry_years_are_the_driest_and_the_severe_one_is_drier_than_the_moderate(seasons: Seasons) -> None:
    capacity = int(np.argmin(np.abs(CAPACITIES_MM - 130)))
    mean = {year: float(table[150:250, capacity, 1].mean()) for year, table in seasons.stress.items()}
    order = sorted(mean, key=lambda year: -mean[year])
    assert order[:2] == [2018, 2020]
    assert mean[2018] > 1.3 * mean[2020]


def test_drought_classes_follow_the_thresholds_and_leave_out_what_does_not_grow() -> None:
    anomaly = np.array([[-0.2, 0.0, 0.3, 0.7]], np.float32)
    classes = drought_classes(anomaly, np.array([[True, True, True, True]]))
    assert classes.tolist() == [[Drought.NONE, Drought.NONE, Drought.MODERATE, Drought.SEVERE]]
    assert (drought_classes(anomaly, np.zeros((1, 4), bool)) == NOT_APPLICABLE).all()


def test_barley_is_bare_in_may_green_in_july_and_cut_in_september(land: Landscape) -> None:
    barley = land.objects.crops(2021) == Crop.SPRING_BARLEY
    may, july, september = (_ndvi(describe(land, 2021, day, 0.0).fresh)[barley] for day in (125, 182, 250))
    assert may.mean() < 0.3 < 0.75 < july.mean()
    assert september.mean() < 0.45
    assert july.std() > 0  # fields differ


def test_rape_flowers_yellow_at_the_end_of_may(land: Landscape) -> None:
    rape = land.objects.crops(2021) == Crop.OILSEED_RAPE
    tables = {day: describe(land, 2021, day, 0.0).fresh[rape] for day in (146, 180)}
    ratio = {day: table[:, KEYS.index("red")] / table[:, KEYS.index("blue")] for day, table in tables.items()}
    assert ratio[146].mean() > 2 * ratio[180].mean()


def test_a_late_spring_delays_the_leaves(land: Landscape) -> None:
    birch = land.objects.cover == Cover.BROADLEAF
    early, late = (_ndvi(describe(land, 2021, 134, shift).fresh)[birch].mean() for shift in (-6.0, 6.0))
    assert early > late + 0.1


def test_stress_lowers_ndvi_and_brightens_the_shortwave_most_where_roots_are_shallow(land: Landscape) -> None:
    state = describe(land, 2021, 185, 0.0)
    swir = KEYS.index("swir16")
    drop = {}
    for kind in (Cover.GRASSLAND, Cover.SPRUCE, Cover.PINE):
        mine = land.objects.cover == kind
        drop[kind] = float((_ndvi(state.fresh) - _ndvi(state.parched))[mine].mean())
        assert (state.parched[mine, swir] > state.fresh[mine, swir]).all()
        assert drop[kind] > 0.01
    assert drop[Cover.GRASSLAND] > 2 * drop[Cover.SPRUCE]


def test_pine_and_plantation_have_the_same_tables_but_for_their_own_tone(land: Landscape) -> None:
    state = describe(land, 2021, 185, 0.0)
    means = [state.fresh[land.objects.cover == kind].mean(axis=0) for kind in (Cover.PINE, Cover.PLANTATION)]
    np.testing.assert_allclose(means[0], means[1], rtol=0.08)


def test_moisture_is_between_its_bounds_and_drier_in_the_dry_year(land: Landscape, seasons: Seasons) -> None:
    states = {year: moisture(land, seasons, rain_pattern(land.side, 1, year), year, 200) for year in (2018, 2017)}
    for state in states.values():
        assert 0 <= state.stress.min() and state.stress.max() <= 1
        assert 0 <= state.dryness.min() and state.dryness.max() <= 1
    fields = land.cover == Cover.ARABLE
    assert states[2018].stress[fields].mean() > states[2017].stress[fields].mean() + 0.2


def test_each_year_has_its_number_of_dates_and_some_clear_ones() -> None:
    spec = load_spec("malardalen")
    scenes = plan_acquisitions(spec)
    assert len({scene.id for scene in scenes}) == len(scenes)
    for year in spec.years:
        mine = [scene for scene in scenes if scene.datetime.year == year]
        assert spec.scenes_a_year[0] <= len(mine) <= spec.scenes_a_year[1]
        assert [scene.datetime for scene in mine] == sorted(scene.datetime for scene in mine)
        assert sum(scene.cover < 0.07 for scene in mine) >= 3
        assert all(4 <= scene.datetime.month <= 10 for scene in mine)
    assert plan_acquisitions(spec) == scenes


@pytest.mark.parametrize(("day", "noon"), [(172, 53.8), (266, 30.4), (80, 30.4)])
def test_the_sun_stands_where_astronomy_puts_it(day: int, noon: float) -> None:
    """At noon the sun is 90° - latitude + declination high (23.44°, 0°, 0° on these days) and due south."""
    sun = sun_position(59.6, day, 12.0)
    assert sun.elevation == pytest.approx(noon, abs=1.0)
    assert sun.azimuth == pytest.approx(180, abs=0.5)
    assert sun_position(59.6, day, 10.0).azimuth < 180


def test_shadows_fall_away_from_the_sun() -> None:
    down, right = away_from_sun(sun_position(59.6, 172, 10.0), 1.0)  # sun in the south-east
    assert down < 0 and right < 0
    assert np.hypot(down, right) == pytest.approx(1)
    rng = generator(4)
    sun = sun_position(59.6, 172, 11.6)
    sky = make_sky(200, rng, sun, 0.2, 0.0, 0.1)
    assert 0.05 < (sky.cloud > 0.12).mean() < 0.5
    assert sky.shaded.any()
    assert not (sky.shaded & sky.cloudy).any()


def test_slopes_towards_the_sun_are_brighter() -> None:
    north_up = np.repeat(np.arange(50, dtype=np.float32)[::-1, None], 50, axis=1)  # rises to the north: faces south
    sun = sun_position(59.6, 172, 12.0)
    assert terrain_light(north_up, sun).mean() > 1.0 > terrain_light(north_up[::-1], sun).mean()
    np.testing.assert_allclose(terrain_light(np.zeros((9, 9), np.float32), sun), 1, atol=1e-6)


def test_spectra_look_like_what_they_are_called() -> None:
    for plant in ("crop", "grass", "leaves", "spruce", "pine"):
        values = dict(zip(KEYS, spectrum(plant), strict=True))
        assert values["red"] < values["green"] < values["nir"]
        assert values["swir22"] < values["swir16"] < values["nir"]
    assert spectrum("water")[KEYS.index("nir")] < 0.02
    assert len(MATERIALS) == len(set(MATERIALS))
