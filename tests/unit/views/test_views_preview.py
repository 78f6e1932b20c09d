"""The preview: what it counts, what it says, what it draws, and the verb that makes it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from typer.testing import CliRunner

from geossl.cli.main import app
from geossl.views.fused import make_small_views, make_views
from geossl.views.preview import describe_view, draw_preview, pixel_shares, preview_views
from geossl.views.recipe import Recipe

BANDS = ("blue", "green", "red", "nir")
STILL = {
    "gain": 0.0,
    "band_gain": 0.0,
    "contrast": (1.0, 1.0),
    "offset": 0.0,
    "band_drop": 0.0,
    "gray": 0.0,
    "blur": 0.0,
    "noise": 0.0,
}
WHOLE = {"crop_area": (1.0, 1.0), "crop_ratio": (1.0, 1.0), "min_valid": 0.0}


def chips(n: int = 6, side: int = 32):
    values = torch.rand((n, 4, side, side), generator=torch.Generator().manual_seed(0)) * 0.4 + 0.01
    return values, torch.ones((n, side, side), dtype=torch.bool)


def views_of(values, clear, recipe, seed: int = 0):
    return preview_views(values, clear, recipe, torch.Generator().manual_seed(seed))


def shares_of(values, clear, views):
    return pixel_shares(values.numpy(), clear.numpy(), views)


# --- figures ----------------------------------------------------------------------------------------------------------


def test_the_preview_shows_the_very_views_that_training_gets():
    values, clear = chips()
    recipe = Recipe(size=24, small_views=2, small_size=16, haze=0.2, second={"blur": 1.0})
    generator = torch.Generator().manual_seed(0)
    expected = make_views(values, clear, recipe, generator) + make_small_views(values, clear, recipe, generator)
    shown = views_of(values, clear, recipe)
    assert [view.name for view in shown] == ["view 1", "view 2", "small view 1", "small view 2"]
    for view, one in zip(shown, expected, strict=True):
        assert np.array_equal(view.values, one.numpy())


def test_unchanged_views_have_nothing_zero_invalid_or_outside():
    values, clear = chips()
    shares = shares_of(values, clear, views_of(values, clear, Recipe(size=32, **STILL, **WHOLE)))
    assert (shares.zero, shares.invalid, shares.outside) == (0, 0, 0)


def test_invalid_pixels_are_counted_and_their_values_do_not_widen_the_range():
    values, clear = chips()
    clear[:, :8] = False  # a quarter
    values[:, :, :8] = 5.0
    recipe = Recipe(size=32, **{**STILL, "gain": 0.0, "offset": 0.0}, **WHOLE)
    shares = shares_of(values, clear, views_of(values, clear, recipe))
    assert shares.invalid == 0.25 and shares.zero == 0 and shares.outside == 0


def test_values_beyond_the_chips_range_and_zeros_are_counted():
    values, clear = chips()
    views = views_of(values, clear, Recipe(size=32, **STILL, **WHOLE))
    clamped = views[0].values.copy()
    clamped[:, :2] = 0.0  # what clamping does to half of the bands
    clamped[:, 2, :16] = 0.9
    shares = shares_of(values, clear, [replace(views[0], values=clamped)])
    assert shares.zero == 0.5
    assert shares.outside == 0.5 + 0.25 / 2


def test_a_chip_without_a_clear_pixel_is_no_obstacle():
    values, clear = chips()
    clear[2] = False
    values[2] = torch.nan
    shares = shares_of(values, clear, views_of(values, clear, Recipe(size=32, **STILL, **WHOLE)))
    assert shares.invalid == pytest.approx(1 / 6)


def test_parameters_are_told_in_words():
    values, clear = chips(8)
    recipe = Recipe(size=16, rotation_deg=10, haze=0.3, cloud=1.0, gsd=0.5, gray=1.0, blur=1.0, band_drop=1.0)
    view = views_of(values, clear, recipe.for_bands(BANDS))[0]
    text = "\n".join(describe_view(view, 0, BANDS, (32, 32)))
    for word in ("crop", "tilted", "gain", "contrast ×", "offset", "band dropped", "gray", "haze", "cloud", "pixels ×"):
        assert word in text
    assert "blur" in text and "noise 0.005" in text
    plain = views_of(values, clear, Recipe(size=16, **STILL, **WHOLE, dihedral=False))[0]
    assert describe_view(plain, 0, BANDS, (32, 32)) == [
        "crop 100% of the chip",
        "gain +0\N{NO-BREAK SPACE}%",
        "contrast ×1.00, offset +0.000",
    ]


# --- the picture ------------------------------------------------------------------------------------------------------


def boxes_of_text(figure: Figure):
    renderer = FigureCanvasAgg(figure).get_renderer()
    titles = [axes.title for axes in figure.axes if axes.get_title()]
    return [text.get_window_extent(renderer) for text in [*figure.texts, *titles]]


@pytest.mark.parametrize("bands", [BANDS, ("vv",), ("coastal", "red", "green", "blue", "nir08", "swir16", "swir22")])
def test_no_text_or_picture_overlaps_another(bands):
    values = torch.rand((4, len(bands), 32, 32), generator=torch.Generator().manual_seed(0))
    clear = torch.ones((4, 32, 32), dtype=torch.bool)
    clear[:, 5:12, 5:20] = False
    recipe = Recipe(size=32, small_views=2, small_size=16, rotation_deg=10, cloud=1.0, gsd=0.5, gray=1.0, band_drop=1.0)
    views = views_of(values, clear, recipe)
    figure = draw_preview(values.numpy(), clear.numpy(), bands, views, [["chip name"], ["chip name"]], [0, 3], "Title")
    width, height = figure.bbox.width, figure.bbox.height
    texts, pictures = boxes_of_text(figure), [axes.get_window_extent() for axes in figure.axes]
    assert len(texts) == 1 + 2 * 5 * 2  # title; name and parameters of each of five columns, two chips
    for i, box in enumerate(texts):
        assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height
        assert not any(box.overlaps(other) for other in [*texts[i + 1 :], *pictures])
    for i, box in enumerate(pictures):
        assert not any(box.overlaps(other) for other in pictures[i + 1 :])


# --- the verb ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    folder = tmp_path / "chips"
    folder.mkdir()
    (folder / "chipset.yaml").write_text(
        "title: Made for tests\nbands: {b2: blue, b3: green, b4: red, b8: nir}\n"
        "encoding: {dtype: uint16, scale: 0.0001, offset: -0.1, nodata: 0}\nresolution_m: 10\n"
        "block: block\ndate: date\n"
    )
    rows = ["file,block,date"]
    for number in range(6):
        stored = np.random.default_rng(number).integers(1100, 4000, (4, 32, 32)).astype(np.uint16)
        stored[:, :4] = 0  # a gap, an eighth
        profile = {"driver": "GTiff", "count": 4, "height": 32, "width": 32, "dtype": "uint16", "nodata": 0}
        with rasterio.open(folder / f"c{number}.tif", "w", **profile) as target:
            target.write(stored)
            target.descriptions = ("b2", "b3", "b4", "b8")
        rows.append(f"c{number}.tif,b{number},2018-06-0{number + 1}")
    (folder / "index.csv").write_text("\n".join(rows) + "\n")
    return folder


def run(*words: str):
    return CliRunner().invoke(app, ["--quiet", "views", "preview", *words])


def test_the_verb_writes_a_picture_and_prints_the_shares(ready: Path, tmp_path: Path):
    out = tmp_path / "made" / "look.png"
    done = run("--chips", str(ready), "--method", "simclr", "--out", str(out), "--count", "2")
    assert done.exit_code == 0, done.output
    assert "2 chips with 2 views each" in done.output
    for word in ("exactly zero", "rest on invalid pixels", "outside the range"):
        assert word in done.output
    with Image.open(out) as picture:
        assert picture.format == "PNG" and picture.width > 700 and picture.height > 1500


def test_its_json_holds_the_shares_and_a_seed_repeats_them(ready: Path, tmp_path: Path):
    words = ("--chips", str(ready), "--out", str(tmp_path / "look.png"), "--count", "1", "--json")
    first, again, other = (json.loads(run(*words, "--seed", seed).stdout) for seed in ("1", "1", "2"))
    assert first == again and first["outside"] != other["outside"]
    assert (first["chips"], first["shown"], first["views"], first["zero"]) == (6, 1, 2, 0)
    assert 0 < first["invalid"] < 0.3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "one source of chips"),
        (["--chips", "CHIPS", "--region", "malardalen"], "one source of chips"),
        (["--chips", "CHIPS", "--out", "look.jpg"], "PNG"),
        (["--chips", "CHIPS", "--count", "0"], "1 to 32"),
        (["--chips", "CHIPS", "--method", "simclear"], "simclr"),
        (["--chips", "CHIPS", "--period", "1999"], "no chip to show"),
        (["--chips", "missing"], "no chips here"),
    ],
)
def test_wrong_input_is_told_and_nothing_is_written(ready: Path, tmp_path: Path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    done = run(*[str(ready) if word == "CHIPS" else word for word in words])
    assert done.exit_code == 2 and message in done.stderr
    assert not list(tmp_path.glob("*.png"))
