"""Working rasters survive being written in pieces; the COGs made from them are valid and carry what they were given."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rio_cogeo.cogeo import cog_validate

from geossl import rasters

GRID = rasters.Grid(1200, 700, "EPSG:3006", Affine(10, 0, 600_000, 0, -10, 6_600_000))


def pattern() -> np.ndarray:
    y, x = np.mgrid[: GRID.height, : GRID.width]
    return ((y // 90 + x // 70) % 3).astype(np.uint8)[None]


def written(path: Path, values: np.ndarray, nodata: float | None = 255) -> Path:
    rasters.create_raster(path, GRID, len(values), str(values.dtype), nodata, descriptions=["first"])
    for top in range(0, GRID.height, 500):  # pieces that do not fall on blocks
        with rasters.open_rasters([path]) as (raster,):
            for left in range(0, GRID.width, 333):
                rasters.write_block(raster, values[:, top : top + 500, left : left + 333], top, left)
    return path


def test_a_new_raster_is_nodata_everywhere_and_has_its_full_size(tmp_path: Path) -> None:
    path = tmp_path / "new.tif"
    rasters.create_raster(path, GRID, 2, "uint8", 255, descriptions=["a", "b"], tags={"fact": "7"})
    with rasterio.open(path) as source:
        assert (source.read() == 255).all()
        assert source.descriptions == ("a", "b")
        assert source.tags()["fact"] == "7"
    assert path.stat().st_size >= 2 * GRID.height * GRID.width


def test_writing_windows_never_moves_or_grows_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new.tif"
    rasters.create_raster(path, GRID, 1, "uint8", 255)
    size = path.stat().st_size
    written_path = written(tmp_path / "other.tif", pattern())
    assert written_path.stat().st_size == pytest.approx(size, abs=200)


def test_a_cog_holds_the_pixels_names_and_colours_and_its_overviews_are_classes(tmp_path: Path) -> None:
    source = tmp_path / "class.tif"
    colours = {0: (10, 20, 30, 255), 1: (40, 50, 60, 255), 2: (70, 80, 90, 255)}
    rasters.create_raster(source, GRID, 1, "uint8", 255, colours=colours, tags={"class_0": "water"})
    with rasters.open_rasters([source]) as (raster,):
        rasters.write_block(raster, pattern(), 0, 0)
    before = source.read_bytes()
    target = tmp_path / "cog.tif"
    rasters.write_cog(source, target, overviews="mode", categories={0: "water & <ice>", 2: "forest"})
    assert source.read_bytes() == before
    assert not Path(f"{source}.ovr").exists()
    valid, errors, warnings = cog_validate(target, strict=True)
    assert valid, (errors, warnings)
    with rasterio.open(target) as cog:
        np.testing.assert_array_equal(cog.read(), pattern())
        assert cog.nodata == 255
        assert cog.crs.to_epsg() == 3006
        assert cog.overviews(1) == [2, 4]
        assert {value: cog.colormap(1)[value] for value in colours} == colours
        assert cog.tags()["class_0"] == "water"
        small = cog.read(1, out_shape=(300, 175))
        assert set(np.unique(small)) == {0, 1, 2}
    names = subprocess.run(
        [sys.executable, "-c", "import sys; print(open(sys.argv[1]).read())", f"{target}.aux.xml"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "<Category>water &amp; &lt;ice&gt;</Category>\n      <Category></Category>\n      <Category>forest" in names


def test_nodata_does_not_bleed_into_the_overviews_of_a_quantity(tmp_path: Path) -> None:
    values = np.full((1, GRID.height, GRID.width), 5, np.float32)
    values[:, :, 1::2] = np.nan
    source = written(tmp_path / "value.tif", values, float("nan"))
    rasters.write_cog(source, tmp_path / "cog.tif", overviews="average")
    with rasterio.open(tmp_path / "cog.tif", OVERVIEW_LEVEL=0) as half:
        assert (half.read(1) == 5).all()


def test_equal_rasters_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        rasters.write_cog(written(tmp_path / f"{name}.tif", pattern()), tmp_path / f"{name}-cog.tif", overviews="mode")
    assert (tmp_path / "a-cog.tif").read_bytes() == (tmp_path / "b-cog.tif").read_bytes()


def test_a_disk_that_takes_no_more_is_told_when_the_raster_is_made(tmp_path: Path) -> None:
    program = (
        "import resource, signal, sys, errno, pathlib\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "from test_rasters import GRID, rasters\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "try:\n"
        "    rasters.create_raster(path, GRID, 1, 'uint8', 255)\n"
        "except OSError as error:\n"
        "    assert error.errno == errno.ENOSPC, error\n"
        "    assert not path.exists()\n"
        "    print('told')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "full.tif"), os.fspath(Path(__file__).parent)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "told", done.stderr
