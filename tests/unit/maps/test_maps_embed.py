"""``embed`` on ready chips: the table, the raster of cells, resumption, and refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pystac
import pytest
import rasterio
import torch
import torch.nn.functional as F
from maps_fakes import BANDS, Chips, cut_chips
from rio_cogeo import cog_validate
from safetensors.torch import load_file
from shapely.geometry import box

from geossl.cli import embed as verb
from geossl.encoders.saved import Encoder, load_encoder, random_encoder, save_encoder
from geossl.errors import InputError
from geossl.maps import embed_chips
from geossl.maps.embed import embed, plan_embed
from geossl.tasks.dense import upsample


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    save_encoder(random_encoder("resnet18", BANDS, [0.2] * 4, [0.1] * 4, 1), folder, resolution_m=10.0)
    return folder


def with_places(chips: Chips) -> Chips:
    """The fake chips with the columns that real sets have; a hundredth of a degree a chip."""
    table = chips.table.assign(tile=chips.table["chip"], clear=1.0)
    row, column = table["row"] / chips.shape[0], table["column"] / chips.shape[1]
    table["geometry"] = [
        box(0.01 * x, -0.01 * (y + 1), 0.01 * (x + 1), -0.01 * y) for y, x in zip(row, column, strict=True)
    ]
    return replace(chips, table=table)


def without_places(chips: Chips) -> Chips:
    table = chips.table.assign(geometry=None, crs=None, left=np.nan, top=np.nan)
    return replace(chips, table=table)


@pytest.fixture
def chips(picture: np.ndarray) -> Chips:
    return with_places(cut_chips(picture, side=32))


def reflectance(chips: Chips, row: int) -> torch.Tensor:
    return torch.from_numpy(chips.encoding.decode(chips.load([row])[0]))


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as source:
        return source.read()


def test_the_table_has_a_row_a_chip_with_its_place_date_and_embedding(
    encoder: Path, chips: Chips, tmp_path: Path
) -> None:
    result = embed(encoder, chips=chips, out=tmp_path / "out")
    frame = gpd.read_parquet(result.folder / "embeddings.parquet")
    assert list(frame.columns) == ["chip", "tile", "datetime", "clear", "block", "geometry", "embedding"]
    assert frame["chip"].tolist() == chips.table["chip"].tolist()
    assert frame.crs == "EPSG:4326"
    assert frame.geometry.iloc[3].equals(chips.table["geometry"].iloc[3])
    assert frame["datetime"].iloc[0] == pd.Timestamp("2018-07-01", tz="UTC")
    kind = pq.read_schema(result.folder / "embeddings.parquet").field("embedding").type
    assert pa.types.is_fixed_size_list(kind)
    assert (kind.list_size, kind.value_type) == (512, pa.float32())
    with torch.inference_mode():
        direct = load_encoder(encoder)(reflectance(chips, 4))[0].numpy()
    np.testing.assert_allclose(np.stack(frame["embedding"])[4], direct, rtol=1e-4, atol=1e-5)


def test_geoparquet_of_several_parts_names_the_extent_of_all(
    encoder: Path, chips: Chips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed_chips, "PART_CHIPS", 4)
    result = embed(encoder, chips=chips, out=tmp_path / "out")
    file = pq.ParquetFile(result.folder / "embeddings.parquet")
    assert file.num_row_groups == 4
    note = json.loads(file.schema_arrow.metadata[b"geo"])["columns"]["geometry"]
    np.testing.assert_allclose(note["bbox"], gpd.GeoSeries(chips.table["geometry"]).total_bounds)


def test_a_chip_without_a_clear_pixel_has_no_row_and_a_partly_clear_one_its_share(
    encoder: Path, picture: np.ndarray, tmp_path: Path
) -> None:
    flags = np.zeros(picture.shape[1:], np.uint8)
    flags[:32, :32] = 1
    flags[:16, 32:64] = 1
    chips = with_places(cut_chips(picture, flags, side=32))
    result = embed(encoder, chips=chips, out=tmp_path / "out")
    frame = gpd.read_parquet(result.folder / "embeddings.parquet")
    assert (result.chips, result.left_out) == (14, 1)
    assert "0_0" not in frame["chip"].tolist()
    assert frame.set_index("chip")["clear"]["0_32"] == pytest.approx(0.5)
    cells = read(result.folder / "cells.tif")
    assert np.isnan(cells[:, :8, :8]).all()
    assert np.isnan(cells[:, :4, 8:16]).all()
    assert np.isfinite(cells[:, 8:]).all()
    assert read(result.folder / "clear_dates.tif")[0, :9, 0].tolist() == [0] * 8 + [1]


def test_nothing_clear_is_refused(encoder: Path, picture: np.ndarray, tmp_path: Path) -> None:
    chips = without_places(with_places(cut_chips(picture, np.ones(picture.shape[1:], np.uint8), side=32)))
    with pytest.raises(InputError, match="nothing clear"):
        embed(encoder, chips=chips, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_cells_are_the_reduced_maps_of_the_whole_picture(encoder: Path, chips: Chips, tmp_path: Path) -> None:
    result = embed(encoder, chips=chips, out=tmp_path / "out")
    assert result.cells == (24, 40)
    opened = load_encoder(encoder)
    held = load_file(result.folder / "components.safetensors")
    whole = torch.from_numpy(chips.encoding.decode(chips.picture[None]))
    with torch.inference_mode():
        maps = opened.features(whole)
        full = torch.cat([upsample(one, stride) for one, stride in zip(maps, opened.strides, strict=True)], 1)
        cells = F.avg_pool2d(full, 4)[0]
        expected = torch.einsum("kc,chw->khw", held["basis"], cells) - held["offset"][:, None, None]
    np.testing.assert_allclose(read(result.folder / "cells.tif"), expected.numpy(), rtol=1e-3, atol=1e-3)


def test_the_raster_is_a_cog_on_the_chips_grid_with_a_valid_item(encoder: Path, chips: Chips, tmp_path: Path) -> None:
    result = embed(encoder, chips=chips, out=tmp_path / "out")
    assert cog_validate(result.folder / "cells.tif")[0]
    with rasterio.open(result.folder / "cells.tif") as raster:
        assert (raster.count, raster.crs.to_epsg(), raster.res) == (16, 32633, (40.0, 40.0))
        assert (raster.transform[2], raster.transform[5]) == (600_000.0, 6_600_000.0)
    item = pystac.Item.from_file(str(result.folder / "item.json"))
    assert set(item.assets) == {"cells", "clear_dates", "chips", "components", "quicklook"}
    assert all((result.folder / asset.href).exists() for asset in item.assets.values())
    assert sum(result.components) <= 1 + 1e-6
    assert list(result.components) == sorted(result.components, reverse=True)


def test_cells_are_the_mean_over_clear_dates(encoder: Path, picture: np.ndarray, tmp_path: Path) -> None:
    first = with_places(cut_chips(picture, side=32))
    later = first.table.assign(chip=first.table["chip"] + "-later", datetime=pd.Timestamp("2018-08-01", tz="UTC"))
    both = replace(first, table=pd.concat([first.table, later], ignore_index=True), id="both")
    result = embed(encoder, chips=both, out=tmp_path / "both")
    assert (result.chips, plan_embed(encoder, chips=both, out=tmp_path / "both").tiles) == (30, 15)
    assert (read(result.folder / "clear_dates.tif") == 2).all()
    july = embed(encoder, chips=both, period="2018-07", out=tmp_path / "july")
    assert july.chips == 15
    assert (read(july.folder / "clear_dates.tif") == 1).all()


def test_chips_without_coordinates_give_a_plain_table_and_no_raster_and_it_is_said(
    encoder: Path, chips: Chips, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = embed(encoder, chips=without_places(chips), out=tmp_path / "out")
    frame = pd.read_parquet(result.folder / "embeddings.parquet")
    assert "geometry" not in frame
    assert len(frame) == 15
    assert result.cells is None
    assert not (result.folder / "cells.tif").exists()
    told = capsys.readouterr().err
    assert "no raster of cells: these chips have no place on the ground" in told
    assert "plain table without geometry" in told


def test_some_chips_without_coordinates_have_a_row_with_an_empty_geometry(
    encoder: Path, chips: Chips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed_chips, "PART_CHIPS", 5)
    some = without_places(chips).table
    some.loc[8:, "geometry"] = chips.table["geometry"].iloc[8:]
    result = embed(encoder, chips=replace(chips, table=some), out=tmp_path / "out")
    frame = gpd.read_parquet(result.folder / "embeddings.parquet")
    assert frame.geometry.isna().tolist() == [True] * 8 + [False] * 7


class Cut(Exception):
    """Stands for kill -9."""


def test_a_run_that_was_cut_off_goes_on_and_gives_the_same_files(
    encoder: Path, chips: Chips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed_chips, "PART_CHIPS", 4)
    whole = embed(encoder, chips=chips, out=tmp_path / "whole")
    make, made = embed_chips.part_table, []

    def make_two(*args: Any) -> Any:
        if len(made) == 2:
            raise Cut
        made.append(1)
        return make(*args)

    monkeypatch.setattr(embed_chips, "part_table", make_two)
    with pytest.raises(Cut):
        embed(encoder, chips=chips, out=tmp_path / "cut")
    assert not (tmp_path / "cut").exists()
    monkeypatch.setattr(embed_chips, "part_table", make)
    result = embed(encoder, chips=chips, out=tmp_path / "cut")
    assert (result.chips, result.chips_now) == (15, 7)
    for name in (*whole.files, "manifest.json"):
        assert (whole.folder / name).read_bytes() == (result.folder / name).read_bytes(), name
    assert not list(tmp_path.glob(".cut.work"))


def test_the_same_call_again_does_nothing_and_another_encoder_replaces_it(
    encoder: Path, chips: Chips, tmp_path: Path
) -> None:
    embed(encoder, chips=chips, out=tmp_path / "out")
    chips.loaded.clear()
    assert embed(encoder, chips=chips, out=tmp_path / "out").chips_now == 0
    assert chips.loaded == []
    other = tmp_path / "other"
    save_encoder(random_encoder("resnet18", BANDS, [0.2] * 4, [0.1] * 4, 2), other)
    assert embed(other, chips=chips, out=tmp_path / "out").chips_now == 15


def test_bands_are_found_by_name_in_any_order(chips: Chips, tmp_path: Path) -> None:
    turned = random_encoder("resnet18", ("nir", "red"), [0.2] * 2, [0.1] * 2, 1)
    save_encoder(turned, tmp_path / "encoder")
    result = embed(tmp_path / "encoder", chips=chips, out=tmp_path / "out")
    frame = gpd.read_parquet(result.folder / "embeddings.parquet")
    with torch.inference_mode():
        direct = turned(reflectance(chips, 0)[:, [3, 2]])[0].numpy()
    np.testing.assert_allclose(frame["embedding"].iloc[0], direct, rtol=1e-4, atol=1e-5)


def test_a_projection_gives_the_table_its_width_and_the_cells_stay_the_backbones(chips: Chips, tmp_path: Path) -> None:
    plain = random_encoder("resnet18", BANDS, [0.2] * 4, [0.1] * 4, 1)
    projected = Encoder(plain.backbone, plain.mean, plain.std, projection=torch.nn.Sequential(torch.nn.Linear(512, 8)))
    save_encoder(projected.eval(), tmp_path / "encoder")
    result = embed(tmp_path / "encoder", chips=chips, out=tmp_path / "out")
    assert result.dimensions == 8
    assert load_file(result.folder / "components.safetensors")["basis"].shape == (16, 64 + 128 + 256 + 512)


def test_wrong_input_is_refused_before_anything_is_written(encoder: Path, chips: Chips, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="no encoder here"):
        embed(tmp_path / "none", chips=chips, out=out)
    with pytest.raises(InputError, match="one source of chips"):
        embed(encoder, out=out)
    with pytest.raises(InputError, match="lack band nir"):
        embed(encoder, chips=replace(chips, bands=("blue", "green", "red", "swir16")), out=out)
    with pytest.raises(InputError, match="no chip with a clear pixel"):
        embed(encoder, chips=chips, period="2019", out=out)
    with pytest.raises(InputError, match="no chip lies at this point"):
        embed(encoder, chips=chips, out=out, neighbours_of=(50.0, 50.0))
    assert not out.exists()
    out.mkdir()
    (out / "mine.txt").touch()
    with pytest.raises(InputError, match="holds something else"):
        embed(encoder, chips=chips, out=out)


def test_pixels_of_another_size_are_warned_of(
    encoder: Path, chips: Chips, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan_embed(encoder, chips=without_places(replace(chips, resolution_m=20.0)), out=tmp_path / "out")
    assert "pretrained at 10 m pixels, these chips have 20 m" in capsys.readouterr().err


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(encoder: Path, chips: Chips, tmp_path: Path) -> None:
    plan = plan_embed(encoder, chips=chips, out=tmp_path / "out")
    assert (plan.chips, plan.dimensions, plan.cells, plan.no_cells) == (15, 512, (24, 40), None)
    assert chips.loaded == []
    assert list(tmp_path.iterdir()) == []


def test_a_point_is_longitude_and_latitude() -> None:
    assert verb.parse_point("16.5, 59.6") == (16.5, 59.6)
    for wrong in ("16.5", "a,b", "200,10", "10,95", "1,2,3"):
        with pytest.raises(InputError, match="not a point"):
            verb.parse_point(wrong)
