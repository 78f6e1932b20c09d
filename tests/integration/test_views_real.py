"""Views of real chips by every shipped recipe: no zeros, no fill values, hardly anything out of range."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from geossl.chips.open import open_chips
from geossl.cli.main import app
from geossl.config import config_names
from geossl.views.preview import pixel_shares, preview_views
from geossl.views.recipe import load_recipe

pytestmark = pytest.mark.real


Chips = tuple[np.ndarray, np.ndarray, tuple[str, ...]]


@pytest.fixture(scope="module")
def finland(real_data: Path) -> Chips:
    chips = open_chips(real_data / "bigearthnet-finland")
    stored, flags = chips.load(range(0, len(chips.table), 28))
    return chips.encoding.decode(stored), flags == 0, chips.bands


@pytest.mark.parametrize("method", config_names("methods"))
def test_no_shipped_recipe_makes_zeros_or_distorts_real_chips(finland: Chips, method: str) -> None:
    values, clear, bands = finland
    recipe = load_recipe(method).for_bands(bands)
    generator = torch.Generator().manual_seed(0)
    views = preview_views(torch.from_numpy(values), torch.from_numpy(clear), recipe, generator)
    shares = pixel_shares(values, clear, views)
    assert len(views) == 2 + recipe.small_views
    assert shares.zero == 0 and shares.invalid == 0
    assert shares.outside < 0.12


def test_the_preview_of_real_chips_is_a_picture_with_its_shares(real_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "preview.png"
    words = [
        "--chips",
        str(real_data / "dfc24-water"),
        "--method",
        "simclr",
        "--out",
        str(out),
        "--count",
        "2",
        "--json",
    ]
    done = CliRunner().invoke(app, ["views", "preview", *words])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["shown"] == 2 and 0 <= result["outside"] < 0.12
    with Image.open(out) as picture:
        assert picture.width > 800 and picture.height > 1500
