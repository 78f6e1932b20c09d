"""Water that looks like a scene's deep water says nothing of its bed; bright beds and scenes without water are kept."""

from __future__ import annotations

import numpy as np

from geossl.tasks.deep_water import deep_signal
from geossl.tasks.spec import load_task

BANDS = ("blue", "green", "red", "nir")


def scene(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(C, 60, 60) reflectance: the left half deep water, then dark and bright beds, at the right edge land."""
    rng = np.random.default_rng(seed)
    values = np.empty((4, 60, 60), np.float32)
    values[:, :, :30] = np.array([0.03, 0.03, 0.015, 0.008])[:, None, None]
    values[:, :, 30:40] = np.array([0.03, 0.031, 0.015, 0.008])[:, None, None]
    values[:, :, 40:50] = np.array([0.06, 0.08, 0.05, 0.012])[:, None, None]
    values[:, :, 50:] = np.array([0.04, 0.07, 0.04, 0.3])[:, None, None]
    return values + rng.normal(0, 0.001, values.shape).astype(np.float32), np.ones((60, 60), bool)


def test_deep_water_and_dark_beds_are_not_seen_and_bright_beds_are() -> None:
    values, clear = scene()
    signal = deep_signal(values[None], clear[None], BANDS)
    assert signal is not None
    hidden = signal.hides(values, BANDS, 3)
    assert hidden[:, :30].mean() > 0.97
    assert hidden[:, 30:40].mean() > 0.8
    assert not hidden[:, 40:].any()


def test_haze_over_the_whole_scene_changes_nothing() -> None:
    values, clear = scene()
    plain = deep_signal(values[None], clear[None], BANDS)
    hazy = deep_signal(values[None] + 0.01, clear[None], BANDS)
    assert plain is not None and hazy is not None
    np.testing.assert_array_equal(plain.hides(values, BANDS, 3), hazy.hides(values + 0.01, BANDS, 3))


def test_without_water_there_is_no_signal() -> None:
    values, clear = scene()
    assert deep_signal(values[None, ..., 50:], clear[None, :, 50:], BANDS) is None
    assert deep_signal(values[None], ~clear[None], BANDS) is None


def test_the_task_of_the_sea_bed_has_the_rule() -> None:
    rule = load_task("habitat").not_seen
    assert rule is not None and rule.sigmas == 3
