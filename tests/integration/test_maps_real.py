"""Maps of real pixels: a series read from the cube, and a block of touching chips, with real networks."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pystac
import pytest
import rasterio
import torch

from geossl.chips.open import open_chips
from geossl.cube.connect import open_cube
from geossl.cube.index import index_source
from geossl.encoders.saved import random_encoder
from geossl.errors import InputError, WorkError
from geossl.maps.make import make_map, plan_map
from geossl.regions import Region
from geossl.tasks.heads import Head, make_net
from geossl.tasks.spec import load_task

pytestmark = pytest.mark.real


class Greenness:
    """Tree cover by NDVI alone: known at every pixel."""

    id = "greenness"
    bands = ("red", "nir")
    task = load_task("tree-cover")

    def predict(self, values: torch.Tensor, clear: torch.Tensor) -> torch.Tensor:
        red, near = values[:, 0, 0], values[:, 0, 1]
        dense = torch.sigmoid(20 * ((near - red) / (near + red).clamp_min(1e-3) - 0.7))
        return torch.stack([1 - dense, dense], 1)


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as source:
        return source.read()


@dataclass(frozen=True)
class Indexed:
    """A copy of the series, indexed in a cube of its own."""

    folder: Path
    region: Region


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Indexed]:
    root = os.environ.get("GEOSSL_REAL_DATA", Path(__file__).parents[3] / "shared" / "data")
    source = Path(root) / "s2-romania-series"
    if not source.is_dir():
        pytest.skip(f"no real data at {source}")
    folder = tmp_path_factory.mktemp("maps") / "series"
    shutil.copytree(source, folder, copy_function=shutil.copy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEOSSL_HOME", str(folder.parent / "home"))
        index_source(folder, period="2018")
        with open_cube() as cube:
            region = Region("romania", cube.find(cube.products()[0])[0].footprint)
        yield Indexed(folder, region)


def test_a_real_series_is_mapped_on_its_own_grid_from_its_clear_pixels(series: Indexed, tmp_path: Path) -> None:
    result = make_map(Greenness(), region=series.region, period="2018-06/2018-08", out=tmp_path / "map")
    assert result.shape == (100, 100)
    with (
        rasterio.open(result.layer / "class.tif") as found,
        rasterio.open(next(series.folder.rglob("*B04.tif"))) as scene,
    ):
        assert found.transform.almost_equals(scene.transform, 1e-6)
        assert found.crs == scene.crs

    # The same by hand: probabilities of the clear pixels of every date in the period, averaged.
    total, count = np.zeros((100, 100)), np.zeros((100, 100), int)
    for item in pystac.Catalog.from_file(str(series.folder / "catalog.json")).get_items(recursive=True):
        if not "2018-06-01" <= item.datetime.date().isoformat() <= "2018-08-31":
            continue
        red, near, scl = (read(Path(item.assets[name].get_absolute_href()))[0] for name in ("B04", "B08", "SCL"))
        clear = np.isin(scl, (2, 4, 5, 6, 7)) & (red > 0) & (near > 0)
        red, near = red / 10_000, near / 10_000
        dense = 1 / (1 + np.exp(-20 * ((near - red) / (near + red) - 0.7)))
        total, count = total + np.where(clear, dense, 0), count + clear
    mapped = read(result.layer / "clear_dates.tif")[0]
    assert abs(mapped.astype(int) - count).mean() < 0.05
    same = (mapped == count) & (count > 0)
    percent = read(result.layer / "probability.tif")[1].astype(float)
    assert abs(percent - 100 * total / np.maximum(count, 1))[same].max() <= 1

    cover = read(series.folder / "labels" / "tree_cover_density_2018.tif")[0].repeat(2, 0).repeat(2, 1)
    seen = (cover <= 100) & (mapped > 0)
    # where the class is dense the reference has more trees
    dense = read(result.layer / "class.tif")[0] == 1
    assert cover[seen & dense].mean() > cover[seen & ~dense].mean() + 10


def test_an_unreadable_scene_is_masked_and_named_and_too_many_stop_the_map(series: Indexed, tmp_path: Path) -> None:
    copy, region = series.folder, series.region
    dates = sorted({path.parent.name for path in copy.rglob("*B04.tif") if "2018" in path.parent.name})
    broken = [next(copy.rglob(f"{name}/*B04.tif")) for name in dates]
    whole = {path: path.read_bytes() for path in broken}
    broken[3].write_bytes(b"not a raster")
    result = make_map(Greenness(), region=region, period="2018", out=tmp_path / "one")
    assert [(read.band, Path(read.uri.removeprefix("file://")).name) for read in result.failed_reads] == [
        ("red", broken[3].name)
    ]
    assert json.loads((result.layer / "run.json").read_text())["failed_reads"][0]["reason"]
    assert result.clear_share > 0.9

    for path in broken[:10]:
        path.write_bytes(b"not a raster")
    with pytest.raises(WorkError, match="too many reads failed") as caught:
        make_map(Greenness(), region=region, period="2018", out=tmp_path / "many")
    assert caught.value.exit_code == 1
    assert not (tmp_path / "many").exists()

    for path, content in whole.items():
        path.write_bytes(content)
    assert make_map(Greenness(), region=region, period="2018", out=tmp_path / "many").failed_reads == ()


def test_a_region_without_scenes_in_the_period_and_missing_bands_are_told_in_a_sentence(
    series: Indexed, tmp_path: Path
) -> None:
    region = series.region
    with pytest.raises(InputError, match="no scene lies over this region in this period") as caught:
        make_map(Greenness(), region=region, period="2030", out=tmp_path / "map")
    assert "34 dates from 2018" in str(caught.value)
    head = SimpleNamespace(id="x", bands=("red", "rededge071"), task=load_task("tree-cover"), predict=None)
    with pytest.raises(InputError, match="missing: rededge071"):
        make_map(head, region=region, out=tmp_path / "map")
    assert not (tmp_path / "map").exists()


def test_a_block_of_real_chips_becomes_one_georeferenced_map_of_labels(real_data: Path, tmp_path: Path) -> None:
    chips = open_chips(real_data / "bigearthnet-finland")
    spec = load_task("land-cover")
    labels = [{"name": name} for name in chips.label_names]
    spec = type(spec).model_validate(
        {**spec.model_dump(), "kind": "multilabel", "classes": labels, "from_chips": False}
    )
    block = "0_4"  # a small one: seconds
    encoder = random_encoder("resnet18", chips.bands, [0.1] * 10, [0.1] * 10, seed=0)
    torch.manual_seed(0)
    head = Head(spec, make_net(spec, encoder), 60).eval()
    plan = plan_map(head, chips=chips, block=block, out=tmp_path / "map")
    assert plan.scenes == (chips.table["block"] == block).sum()
    assert plan.resolution_m == 300
    result = make_map(head, chips=chips, block=block, out=tmp_path / "map")
    assert [str(day) for day in result.dates] == ["2017-06-13"]
    percent = read(result.layer / "probability.tif")
    table = chips.table[chips.table["block"] == block]
    with rasterio.open(result.layer / "class.tif") as found:
        assert found.res == (300, 300)
        assert found.crs.to_epsg() == 32634
        covered = np.zeros(found.shape, bool)
        for left, top in zip(table["left"], table["top"], strict=True):
            row, column = found.index(left + 1, top - 1)
            covered[row : row + 4, column : column + 4] = True
        np.testing.assert_array_equal(found.read(1) != 255, covered)
    assert percent.shape[0] == len(chips.label_names)
    # Far from any other chip, every cell of a chip is that chip's own prediction.
    places = table[["left", "top"]].to_numpy(float)
    far = [abs(places - place).max(1)[np.arange(len(places)) != i].min() > 1250 for i, place in enumerate(places)]
    assert any(far), "choose a block with a chip that stands alone"
    row = int(table.index[far.index(True)])
    stored, flags = chips.load([row])
    values, clear = torch.from_numpy(chips.encoding.decode(stored)), torch.from_numpy(flags == 0)
    alone = head.predict(values[:, None], clear[:, None])[0, :, 0, 0].numpy()
    with rasterio.open(result.layer / "probability.tif") as found:
        y, x = found.index(table.loc[row, "left"] + 1, table.loc[row, "top"] - 1)
    # Chips that reach over the edge see it in part and are given less weight; in the middle it decides.
    middle = percent[:, y + 1 : y + 3, x + 1 : x + 3].reshape(len(alone), -1).mean(1)
    assert abs(middle - 100 * alone).max() < 12
