"""Pictures and figures show what they are given."""

from __future__ import annotations

import numpy as np
import pytest

from geossl.report.pages import to_png
from geossl.report.plots import (
    bars,
    chip_grid,
    composite_bands,
    embedding_map,
    lines,
    neighbours,
    principal_axes,
    true_colour,
)


def chips(n: int = 6) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 0.4, (n, 4, 16, 16)).astype(np.float32)


BANDS = ("blue", "green", "red", "nir")


def test_true_colour_puts_red_first() -> None:
    values = np.zeros((1, 4, 2, 2), np.float32)
    values[0, 2, 0, 0] = 1.0  # one red pixel
    picture = true_colour(values, BANDS, limits=np.array([[0, 1]] * 3))
    assert picture.shape == (1, 2, 2, 3) and picture.dtype == np.uint8
    assert picture[0, 0, 0].tolist() == [255, 0, 0]
    assert picture[0, 1, 1].tolist() == [0, 0, 0]


def test_pixels_without_value_are_gray_and_do_not_stretch_the_rest() -> None:
    values = chips()
    with_gap = values.copy()
    with_gap[0, :, :4, :4] = np.nan
    picture = true_colour(with_gap, BANDS)
    assert (picture[0, :4, :4] == 200).all()
    assert np.abs(picture[1].astype(int) - true_colour(values, BANDS)[1].astype(int)).max() <= 3


@pytest.mark.parametrize(
    ("bands", "shown"),
    [
        (("blue", "green", "red"), ("red", "green", "blue")),
        (("green", "red", "nir"), ("nir", "red", "green")),
        (("vv",), ("vv", "vv", "vv")),
    ],
)
def test_without_blue_a_false_colour_set_is_shown(bands: tuple[str, ...], shown: tuple[str, ...]) -> None:
    assert composite_bands(bands) == shown


def test_constant_or_empty_pictures_are_no_error() -> None:
    assert (true_colour(np.full((1, 4, 3, 3), np.nan), BANDS) == 200).all()
    assert true_colour(np.zeros((1, 4, 3, 3)), BANDS).shape == (1, 3, 3, 3)


def test_principal_axes_find_the_direction_of_largest_spread() -> None:
    generator = np.random.default_rng(1)
    along = generator.normal(size=200)
    features = np.outer(along, [3.0, 4.0, 0.0]) + generator.normal(scale=0.01, size=(200, 3))
    points = principal_axes(features)
    assert points.shape == (200, 2)
    assert abs(np.corrcoef(points[:, 0], along)[0, 1]) > 0.999


def test_every_figure_draws() -> None:
    pictures = true_colour(chips(12), BANDS)
    figures = [
        lines([0, 1, 2], {"a": [1.0, np.nan, 2.0], "b": [0, 1, 2]}, ylabel="loss"),
        bars({"x": 0.5, "y": 0.4}, {"x": (0.4, 0.6)}, xlabel="score"),
        chip_grid(pictures, [f"{i}" for i in range(12)], title="chips"),
        neighbours(pictures.reshape(3, 4, 16, 16, 3), np.ones((3, 3))),
        embedding_map(principal_axes(np.zeros((12, 5))), pictures),
    ]
    for figure in figures:
        assert to_png(figure, dpi=40).startswith(b"\x89PNG")
