"""Recipes come from YAML and refuse what no view can be made of."""

from __future__ import annotations

import pytest

from geossl.errors import InputError
from geossl.views.recipe import load_recipe


def test_a_shipped_recipe_takes_overrides():
    assert load_recipe("simclr").pipeline == "fused"
    assert load_recipe("simclr", size=96, gray=0.0).size == 96


def test_an_unknown_method_gets_a_hint():
    with pytest.raises(InputError, match="did you mean 'moco2'"):
        load_recipe("moco22")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("crop_area", [0.5, 1.2]),
        ("crop_area", [0.8, 0.2]),
        ("gray", 1.5),
        ("noise", -1),
        ("size", 4),
        ("solarize", 0.1),
    ],
)
def test_an_impossible_value_is_named_with_its_file(tmp_path, field, value):
    path = tmp_path / "mine.yaml"
    path.write_text(f"views:\n  {field}: {value}\n")
    with pytest.raises(InputError, match=field) as caught:
        load_recipe(path)
    assert "mine.yaml" in str(caught.value)


def test_views_must_be_a_mapping(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("views: [1, 2]\n")
    with pytest.raises(InputError, match="mapping"):
        load_recipe(path)
