"""Real catalogues through the cube: indexed, found, read, and reported."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from typer.testing import CliRunner

from geossl.cli.cube import app
from geossl.cube import documents
from geossl.cube.connect import Product, Scene, choose_product, open_cube
from geossl.cube.index import index_source
from geossl.cube.read import read_scenes
from geossl.cube.status import cube_status
from geossl.errors import InputError
from geossl.products import Flag
from geossl.regions import load_region, parse_period

REGION = "22.144,45.199,22.160,45.211"
"""Around s2-romania-series."""


@pytest.fixture(scope="module")
def _indexed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with the real catalogues in its embedded cube, and the server kept up for the whole module."""
    root = Path(os.environ.get("GEOSSL_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no real data at {root}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEOSSL_HOME", str(tmp_path_factory.mktemp("home")))
        for name in [name for name in os.environ if name.startswith(("ODC_", "DATACUBE_"))]:
            patch.delenv(name)
        with open_cube():
            for name in (
                "s2-romania-series", "l8-new-york-2018", "modis-sinop-ndvi", "s2-slovenia-l1c", "l7-north-carolina",
                "s2-karlstad-vanern", "s2-barbellino",
            ):  # fmt: skip
                index_source(root / name)
            index_source(root / "boadella-reservoir", profile="sentinel-2-stacks")
            yield root


@pytest.fixture
def cube_root(_indexed: Path) -> Path:
    return _indexed


def scenes_of(product: str) -> tuple[Product, list[Scene]]:
    with open_cube() as cube:
        known = cube.product(product)
        return known, cube.find(known)


@pytest.mark.parametrize(
    ("product", "shift"),
    [
        ("s2_romania_l2a", 1000), ("s2_slovenia_l1c", 1000), ("landsat_8_ny", 0), ("mod13q1_ndvi", 0),
        ("landsat_7_nc", 0), ("boadella_reservoir", 1000), ("s2_barbellino_l2a", 1000),
    ],
)  # fmt: skip
def test_pixels_on_a_scenes_own_grid_are_what_rasterio_reads(cube_root: Path, product: str, shift: int) -> None:
    """EPSG:3035, UTM with odd pixels, a sphere's sinusoidal projection without code, EPSG:32119 and EPSG:4326."""
    known, scenes = scenes_of(product)
    for scene in (scenes[0], scenes[-1]):
        pixels = read_scenes([scene], known, scene.geobox)
        assert pixels.failures == ()
        compared = 0
        for number, measurement in enumerate(known.profile.bands):
            uri, index = documents.measurement_uri(scene.dataset, measurement)
            with rasterio.open(uri) as file:
                dn, nodata = file.read(index).astype(np.int64), scene_nodata(scene, measurement)
            if dn.shape != pixels.data.shape[1:]:
                continue  # a coarser band
            valid = np.ones(dn.shape, bool) if nodata is None else dn != nodata
            assert np.array_equal(pixels.data[number][valid], dn[valid] + shift)
            assert (pixels.flags[~valid] & Flag.NODATA).all()
            compared += 1
        assert compared >= 1


def scene_nodata(scene: Scene, measurement: str) -> float | None:
    return scene.dataset.metadata_doc["properties"][documents.RADIOMETRY][measurement]["nodata"]


def test_float_numbers_with_the_offset_in_become_reflectance(cube_root: Path) -> None:
    known, (scene,) = scenes_of("s2_karlstad_l2a")
    pixels = read_scenes([scene], known, scene.geobox)
    with rasterio.open(documents.measurement_uri(scene.dataset, "b04")[0]) as file:
        reflectance = file.read(1) * 1e-4 - 0.1
    assert np.abs(known.encoding.decode(pixels.data)[0] - reflectance).max() < 5.1e-5


def test_the_mask_of_a_real_scene_agrees_with_its_catalogue(cube_root: Path) -> None:
    known, scenes = scenes_of("s2_romania_l2a")
    for scene in scenes[::35]:
        flags = read_scenes([scene], known, scene.geobox).flags
        cloud = 100 * ((flags & Flag.CLOUD) != 0).mean()
        assert cloud == pytest.approx(scene.cloud_cover, abs=0.05)


def test_a_warped_read_is_close_to_rasterios_own(cube_root: Path) -> None:
    known, scenes = scenes_of("s2_romania_l2a")
    scene = scenes[0]
    target = scene.geobox.to_crs("EPSG:32634", resolution=10)
    pixels = read_scenes([scene], known, target, ["red"])
    from rasterio.vrt import WarpedVRT

    uri, _ = documents.measurement_uri(scene.dataset, "b04")
    with rasterio.open(uri) as file, WarpedVRT(
        file, crs="EPSG:32634", transform=target.transform, width=target.shape.x, height=target.shape.y,
        resampling=rasterio.enums.Resampling.bilinear,
    ) as warped:  # fmt: skip
        oracle = warped.read(1).astype(int)
    both = (oracle > 0) & (pixels.flags & (Flag.NODATA | Flag.READ_FAILED) == 0)
    assert both.mean() > 0.7
    assert np.abs(pixels.data[0].astype(int) - 1000 - oracle)[both].max() <= 1


def test_indexing_again_adds_nothing(cube_root: Path) -> None:
    result = index_source(cube_root / "l8-new-york-2018")
    assert (result.added, result.skipped, result.refused) == (0, 19, ())


def test_files_that_moved_are_updated(cube_root: Path, tmp_path: Path) -> None:
    import shutil

    first, second = tmp_path / "one", tmp_path / "two"
    shutil.copytree(cube_root / "s2-karlstad-vanern", first)
    assert index_source(first, product="moved").added == 1
    first.rename(second)
    (product,) = index_source(second, product="moved").products
    assert (product.added, product.updated, product.skipped) == (0, 1, 0)
    known, (scene,) = scenes_of("moved")
    assert not read_scenes([scene], known, scene.geobox).failures


def test_scenes_are_found_by_place_period_and_month(cube_root: Path) -> None:
    region = load_region(REGION)
    with open_cube() as cube:
        product = cube.product("s2_romania_l2a")
        everything = cube.find(product, region.geometry)
        assert len(everything) == 140
        assert [scene.datetime for scene in everything] == sorted(scene.datetime for scene in everything)
        year = cube.find(product, region.geometry, parse_period("2017"))
        assert len(year) == 21 and {scene.solar_day.year for scene in year} == {2017}
        summer = cube.find(product, region.geometry, parse_period("2017"), (6, 7, 8))
        assert {scene.solar_day.month for scene in summer} == {6, 7, 8}
        assert cube.find(product, load_region("10,50,11,51").geometry) == []


def test_the_profile_comes_back_from_the_index(cube_root: Path) -> None:
    with open_cube() as cube:
        product = cube.product("s2-romania-l2a")  # the collection's own name does as well
        assert product.bands == ("blue", "green", "red", "nir", "nir08", "swir16")
        with pytest.raises(InputError, match="did you mean 's2_romania_l2a'"):
            cube.product("s2_romania")


def test_datacube_itself_loads_what_geossl_indexed(cube_root: Path) -> None:
    with open_cube() as cube:
        scene = cube.find(cube.product("s2_romania_l2a"), None, parse_period("2015-08-01"))[0]
        loaded = cube.dc.load(product="s2_romania_l2a", measurements=["red"], time="2015-08-01", like=scene.geobox)
        with rasterio.open(documents.measurement_uri(scene.dataset, "b04")[0]) as file:
            assert np.array_equal(loaded.red.values[0], file.read(1))


def test_the_product_is_chosen_by_the_region(cube_root: Path) -> None:
    cube, product = choose_product(load_region(REGION), None)
    with cube:
        assert (cube.name, product.name) == ("embedded", "s2_romania_l2a")
    with pytest.raises(InputError, match="several products") as several:
        choose_product(load_region("14.55,45.86,14.57,45.88"), None)
    assert "--product" in str(several.value)
    with pytest.raises(InputError, match="no scenes of this region") as none:
        choose_product(load_region("10,50,11,51"), None)
    assert "geossl sandbox create malardalen" in str(none.value) and "geossl cube index SOURCE" in str(none.value)


def test_an_empty_period_and_a_refused_catalogue_are_errors(cube_root: Path) -> None:
    with pytest.raises(InputError, match="no scenes in this source"):
        index_source(cube_root / "l8-new-york-2018", period="1999")
    with pytest.raises(InputError, match="none of the 2 scenes") as refused:
        index_source(cube_root / "stac-items" / "digital-earth-sweden", product="des")
    assert "not in degrees" in str(refused.value)


def test_every_real_item_document_is_indexed_or_refused_with_a_reason(cube_root: Path) -> None:
    for folder in ("earth-search-v1", "stactools-landsat", "planetary-computer"):
        result = index_source(cube_root / "stac-items" / folder)
        assert result.added > 0
        assert all(refusal.reason for refusal in result.refused)
    with open_cube() as cube:
        assert len(cube.find(cube.product("landsat-c2-l2"))) >= 5


def test_status_counts_what_is_there(cube_root: Path) -> None:
    (row,) = cube_status(REGION).products
    assert (row.product, row.scenes, row.dates) == ("s2_romania_l2a", 140, 140)
    assert (row.first.isoformat(), row.last.isoformat()) == ("2015-08-01", "2021-01-01")
    assert row.clear_dates is not None and 60 < row.clear_dates < 120
    assert row.covered is not None and 0.4 < row.covered < 0.9


def test_the_verbs(cube_root: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    picture = tmp_path / "map.png"
    shown = run(app, ["status", "--region", REGION, "--map", str(picture)])
    assert shown.exit_code == 0 and "s2_romania_l2a" in shown.stdout
    with rasterio.open(picture) as file:
        assert file.width > 400 and len(np.unique(file.read(1))) > 10
    listed = run(app, ["products"])
    assert "sentinel-2-l2a-des" in listed.stdout and "in cube 'embedded'" in listed.stdout
    again = run(app, ["index", str(cube_root / "modis-sinop-ndvi"), "--json"])
    assert json.loads(again.stdout)["products"][0]["skipped"] == 12
    wrong = run(app, ["index", str(tmp_path / "nowhere")])
    assert wrong.exit_code == 2 and "no such source" in wrong.stderr
