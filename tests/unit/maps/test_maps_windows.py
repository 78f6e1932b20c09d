"""Windows cover a map without a ragged ring, and blending gives back what every window agrees on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl.maps.windows import Axis, Blender, Layout, cut_axis


@given(length=st.integers(1, 3000), size=st.sampled_from([64, 128, 512]), overlap=st.integers(0, 31))
@settings(max_examples=200, deadline=None)
def test_windows_cover_every_cell_overlap_enough_and_stay_inside(length: int, size: int, overlap: int) -> None:
    axis = cut_axis(length, size, overlap)
    assert axis.starts[0] == 0
    assert axis.starts[-1] + axis.size == length
    assert axis.size <= size
    shared = [a + axis.size - b for a, b in zip(axis.starts, axis.starts[1:], strict=False)]
    assert all(overlap <= cells < axis.size for cells in shared)


@pytest.mark.parametrize(("length", "count", "size"), [(100, 1, 100), (2048, 5, 448), (4096, 9, 512)])
def test_windows_are_no_larger_than_their_number_needs(length: int, count: int, size: int) -> None:
    axis = cut_axis(length, 512, 32)
    assert (len(axis.starts), axis.size) == (count, size)


@given(length=st.integers(1, 2000), overlap=st.integers(1, 31))
@settings(max_examples=100, deadline=None)
def test_weights_of_neighbours_add_up_to_one(length: int, overlap: int) -> None:
    axis = cut_axis(length, 128, overlap)
    total = np.zeros(length)
    for index, start in enumerate(axis.starts):
        total[start : start + axis.size] += axis.weights(index)
    third = any(a + axis.size > b for a, b in zip(axis.starts, axis.starts[2:], strict=False))
    np.testing.assert_allclose(total, 1, atol=0.05 if third else 1e-5)


def blend(
    layout: Layout, windows: dict[tuple[int, int], np.ndarray], seen: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    shape = (layout.rows.length, layout.columns.length)
    channels = next(iter(windows.values())).shape[0]
    out, times = np.full((channels, *shape), -1, np.float32), np.zeros(shape, int)
    blender = Blender(layout, channels)
    for row in range(len(layout.rows.starts)):
        for window in layout.row(row):
            here = seen[window.slices]
            block = blender.add(window, windows[window.row, window.column], here.astype(np.float32), here)
            across = slice(block.y, block.y + block.count.shape[0]), slice(block.x, block.x + block.count.shape[1])
            out[(slice(None), *across)] = block.values
            times[across] += 1
    assert (times == 1).all(), "every cell is given out exactly once"
    return out


@given(height=st.integers(1, 150), width=st.integers(1, 150), overlap=st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_a_field_that_all_windows_agree_on_comes_back(height: int, width: int, overlap: int) -> None:
    layout = Layout(cut_axis(height, 48, overlap, 4), cut_axis(width, 48, overlap, 4))
    generator = np.random.default_rng(height * 1000 + width)
    field = generator.random((2, height, width), np.float32)
    seen = generator.random((height, width)) > 0.2
    windows = {
        (window.row, window.column): field[(slice(None), *window.slices)]
        for row in range(len(layout.rows.starts))
        for window in layout.row(row)
    }
    out = blend(layout, windows, seen)
    np.testing.assert_allclose(out[:, seen], field[:, seen], atol=1e-5)
    assert np.isnan(out[:, ~seen]).all()


def test_the_seam_between_two_windows_is_a_smooth_step_of_weights_that_a_direct_sum_gives_too() -> None:
    layout = Layout(Axis(8, 8, (0,)), Axis(24, 16, (0, 8)))
    windows = {(0, 0): np.zeros((1, 8, 16), np.float32), (0, 1): np.ones((1, 8, 16), np.float32)}
    out = blend(layout, windows, np.ones((8, 24), bool))
    expected = np.sin(np.pi / 2 * (np.arange(8) + 0.5) / 8) ** 2
    np.testing.assert_allclose(out[0, 0], [*np.zeros(8), *expected, *np.ones(8)], atol=1e-6)
