"""``embed`` on real pixels: a series read from the cube, and chips of the Finnish coast with a point asked for."""

from __future__ import annotations

import shutil
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import yaml
from typer.testing import CliRunner

from geossl.chips.open import open_chips
from geossl.cli.main import app
from geossl.cube.connect import open_cube
from geossl.cube.index import index_source
from geossl.encoders.saved import random_encoder, save_encoder
from geossl.errors import InputError
from geossl.maps.embed import embed, plan_embed
from geossl.regions import Region

pytestmark = pytest.mark.real


def test_a_region_of_the_cube_is_embedded_per_tile_and_per_cell(real_data: Path, tmp_path: Path, home: Path) -> None:
    series = tmp_path / "series"
    shutil.copytree(real_data / "s2-romania-series", series, copy_function=shutil.copy)
    index_source(series, period="2018")
    with open_cube() as cube:
        product = cube.products()[0]
        region = Region("romania", cube.find(product)[0].footprint, tile_px=40)
    bands = ("blue", "green", "red", "nir")
    save_encoder(random_encoder("resnet18", bands, [0.1] * 4, [0.1] * 4, 0), tmp_path / "encoder")
    plan = plan_embed(tmp_path / "encoder", region=region, period="2018-06/2018-08", out=tmp_path / "out")
    assert plan.to_build == plan.chips > 0
    result = embed(tmp_path / "encoder", region=region, period="2018-06/2018-08", out=tmp_path / "out")
    frame = gpd.read_parquet(result.folder / "embeddings.parquet")
    assert np.isfinite(np.stack(frame["embedding"])).all()
    assert set(frame["datetime"].dt.month) <= {6, 7, 8}
    assert frame["datetime"].dt.date.nunique() > 1
    assert frame.geometry.intersects(region.geometry).all()
    with rasterio.open(result.folder / "cells.tif") as cells, rasterio.open(result.folder / "clear_dates.tif") as dates:
        assert cells.res == (40.0, 40.0)
        seen = dates.read(1) > 0
        assert (np.isfinite(cells.read(1)) == seen).all()
        assert dates.read(1).max() > 1
    radar = tmp_path / "radar"
    save_encoder(random_encoder("resnet18", ("vv", "vh"), [0.1] * 2, [0.1] * 2, 0), radar)
    with pytest.raises(InputError, match="lack band vv, vh"):
        embed(radar, region=region, out=tmp_path / "radar-out")


def test_the_command_draws_the_neighbours_of_a_point_on_the_finnish_coast(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "bigearthnet-finland"
    if not source.is_dir():
        pytest.skip(f"no real data at {source}")
    folder = tmp_path / "bigearthnet-finland"  # 60 chips of it
    folder.mkdir()
    (folder / "images").symlink_to(source / "images")
    index = pd.read_csv(source / "index.csv")
    index.head(60).to_csv(folder / "index.csv", index=False)
    chips = open_chips(folder)
    values = chips.encoding.decode(chips.load(range(20))[0])
    encoder = random_encoder("resnet18", chips.bands, values.mean((0, 2, 3)), values.std((0, 2, 3)), 0)
    save_encoder(encoder, tmp_path / "encoder", resolution_m=20.0)
    point = index.iloc[7]
    command = ["embed", "--encoder", str(tmp_path / "encoder"), "--chips", str(folder), "--out", str(tmp_path / "out")]
    asked = [*command, f"--neighbours-of={point['lon']},{point['lat']}", "--json"]
    ran = CliRunner().invoke(app, asked)
    assert ran.exit_code == 0, ran.output
    told = yaml.safe_load(ran.stdout.strip().splitlines()[-1])
    picture, table = (Path(file) for file in told["neighbours"])
    assert picture.read_bytes().startswith(b"\x89PNG")
    found = pd.read_csv(table)
    assert len(found) == 12
    assert found["chip"].iloc[0] == Path(point["file"]).with_suffix("").as_posix()
    assert found["longitude"].iloc[0] == pytest.approx(point["lon"], abs=1e-3)
    assert found["distance"].is_monotonic_increasing
    assert found["tile"].is_unique
    refused = CliRunner().invoke(app, [*command, "--neighbours-of=0,0"])
    assert refused.exit_code == InputError("x").exit_code
