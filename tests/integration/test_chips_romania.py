"""Real scenes through index and tiles: on the scenes' own grid a chip's pixels are those that rasterio reads."""

import numpy as np
import pytest
import rasterio
from typer.testing import CliRunner

from geossl.chips.build import build_tiles
from geossl.chips.open import open_chips
from geossl.cube.connect import open_cube
from geossl.cube.index import index_source
from geossl.regions import Region

pytestmark = pytest.mark.real


@pytest.fixture
def region(real_data, home):
    index_source(real_data / "s2-romania-series", period="2018")
    with open_cube() as cube:
        scenes = cube.find(cube.products()[0])
    return Region("romania", scenes[0].footprint, tile_px=20, block_tiles=1)


def test_pixels_are_the_files_own_and_clear_is_what_scl_says(region, real_data):
    result = build_tiles(region)
    assert (result.dates, result.tiles, result.new, result.failed) == (34, 25, 850, 0)
    assert result.stored + result.cloudy == 850
    chips = open_chips(result.store)
    folder = real_data / "s2-romania-series"
    rows = np.random.default_rng(1).choice(len(chips.table), 25, replace=False)
    data, flags = chips.load(rows)
    for place, row in enumerate(rows):
        chip = chips.table.iloc[row]
        for band, name in (("blue", "B02"), ("red", "B04"), ("nir", "B08")):
            window = (slice(chip.iy * 20, chip.iy * 20 + 20), slice(chip.ix * 20, chip.ix * 20 + 20))
            stored = data[place, chips.bands.index(band)].astype(int)
            raw = _read(folder, chip.solar_day, name)[window].astype(int)
            assert np.array_equal(
                stored[raw > 0] - 1000, raw[raw > 0]
            )  # stored = 10000 rho + 1000, no offset before 04.00
        scl = _read(folder, chip.solar_day, "SCL")[window]
        assert np.array_equal(flags[place] == 0, np.isin(scl, (4, 5, 6, 7, 2)))
        assert chip.clear == pytest.approx((flags[place] == 0).mean())


def test_the_command_line_says_what_is_new_and_what_there_is(region, tmp_path):
    from geossl.cli.tiles import app

    vector = tmp_path / "square.geojson"
    import geopandas

    geopandas.GeoDataFrame(geometry=[region.geometry], crs="EPSG:4326").to_file(vector)
    run = CliRunner().invoke
    common = ["build", "--region", str(vector), "--period", "2018-07", "--tile-px", "25", "--block-tiles", "2"]
    dry = run(app, [*common, "--dry-run"])
    assert dry.exit_code == 0 and "new 80, skip 0" in dry.stdout, dry.output
    assert run(app, common).exit_code == 0
    again = run(app, [*common, "--json"])
    assert '"new": 0' in again.stdout.splitlines()[-1] and '"skipped": 80' in again.stdout
    status = run(app, ["status", "--region", str(vector)])
    assert status.exit_code == 0 and "16 tiles of 25 px" in status.stdout and "2018-07" in status.stdout
    assert run(app, ["status", "--region", "0,0,1,1"]).exit_code == 2
    assert run(app, ["build"]).exit_code == 2


def _read(folder, day, band):
    stamp = day.replace("-", "")
    with rasterio.open(folder / "s2-romania-l2a" / f"S2_ROMANIA_{stamp}" / f"{band}.tif") as source:
        return source.read(1)
