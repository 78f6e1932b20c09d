"""Small views beside large ones, and large views of two kinds."""

from __future__ import annotations

import pytest
import torch

from geossl.errors import InputError
from geossl.views.fused import make_small_views, make_views
from geossl.views.params import draw_params
from geossl.views.recipe import Recipe, load_recipe

CLEAR = torch.ones((20, 64, 64), dtype=torch.bool)
VALUES = torch.rand((20, 3, 64, 64), generator=torch.Generator().manual_seed(0)) * 0.5


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_without_small_views_there_are_none_and_large_ones_do_not_change():
    assert make_small_views(VALUES, CLEAR, Recipe(size=32), generator()) == []
    plain = make_views(VALUES, CLEAR, Recipe(size=32), generator())
    beside = make_views(VALUES, CLEAR, Recipe(size=32, small_views=4), generator())
    assert len(beside) == 2 and all(torch.equal(a, b) for a, b in zip(plain, beside, strict=True))


def test_small_views_have_their_own_number_size_and_crop():
    recipe = Recipe(size=48, small_views=3, small_size=24, small_crop_area=(0.05, 0.2))
    views = make_small_views(VALUES, CLEAR, recipe, generator())
    assert [tuple(view.shape) for view in views] == [(20, 3, 24, 24)] * 3
    assert all(view.is_contiguous(memory_format=torch.channels_last) for view in views)
    assert not torch.equal(views[0], views[1])
    top, left, bottom, right = draw_params(CLEAR, 3, recipe.of_small(), generator()).box.unbind(1)
    area = (bottom - top + 1) * (right - left + 1) / 64**2
    assert area.min() > 0.045 and area.max() < 0.21


def test_small_views_of_the_kornia_pipeline_are_the_same():
    recipe = Recipe(small_views=2, small_size=16)
    for a, b in zip(
        make_small_views(VALUES, CLEAR, recipe, generator()),
        make_small_views(VALUES, CLEAR, recipe.model_copy(update={"pipeline": "kornia"}), generator()),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4)


def test_a_symmetric_recipe_is_that_of_every_view():
    recipe = Recipe()
    assert recipe.of_view(0) is recipe and recipe.of_view(1) is recipe


def test_the_second_view_differs_in_the_named_fields_only():
    recipe = Recipe(blur=1.0, gray=0.2, second={"blur": 0.1, "crop_area": [0.5, 0.9]})
    assert recipe.of_view(0) is recipe and recipe.of_view(2) is recipe
    second = recipe.of_view(1)
    assert (second.blur, second.crop_area, second.gray) == (0.1, (0.5, 0.9), 0.2)
    assert recipe.of_view(3) == second


def test_asymmetric_views_are_made_with_their_own_recipe():
    still = {"gain": 0, "band_gain": 0, "contrast": (1, 1), "offset": 0, "band_drop": 0, "blur": 0, "noise": 0}
    recipe = Recipe(
        size=64,
        crop_area=(1, 1),
        crop_ratio=(1, 1),
        dihedral=False,
        gray=0,
        second={"gray": 1.0, "offset": 0.1},
        **still,
    )
    first, second = make_views(VALUES, CLEAR, recipe, generator())
    assert torch.equal(first, VALUES)
    torch.testing.assert_close(second[:, :1].expand(-1, 3, -1, -1), second)
    shift = (second[:, 0] - VALUES.mean(1)).flatten(1)
    assert shift.std(1).max() < 1e-6 and 0.05 < shift.mean(1).abs().max() <= 0.1
    again = make_views(VALUES, CLEAR, recipe, generator(), n_views=1, first_view=1)[0]
    torch.testing.assert_close(again[:, :1].expand(-1, 3, -1, -1), again)  # numbered on, where calls are split


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"blur": 1.5}, "second: blur"),
        ({"blurr": 0.5}, "second: blurr"),
        ({"size": 32}, "size is the same in all views"),
        ({"small_views": 2}, "small_views is the same in all views"),
        ({"second": {}}, "second is the same in all views"),
    ],
)
def test_what_the_second_view_cannot_have_is_refused(tmp_path, second, message):
    path = tmp_path / "mine.yaml"
    path.write_text(f"views:\n  second: {second}\n")
    with pytest.raises(InputError, match=message):
        load_recipe(path)


@pytest.mark.parametrize(
    ("field", "value"), [("small_views", -1), ("small_size", 4), ("small_crop_area", [0.3, 0.1]), ("rotation_deg", 60)]
)
def test_impossible_small_views_and_rotations_are_refused(tmp_path, field, value):
    path = tmp_path / "mine.yaml"
    path.write_text(f"views:\n  {field}: {value}\n")
    with pytest.raises(InputError, match=field):
        load_recipe(path)
