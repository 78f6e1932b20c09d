"""The monitor in this process, against Prefect's own test server: every task that is deployed, on tiny regions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flows_kit as kit
import pandas as pd
import pytest
import yaml

from geossl import config

TINY: dict[str, Any] = {"size_km": 1.6, "years": [2019, 2020, 2021], "scenes_a_year": [5, 5]}


@pytest.fixture(scope="module", autouse=True)
def _prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A server for these tests alone, whatever the caller's settings are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PREFECT_API_URL", raising=False)
        patch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
        from prefect.testing.utilities import prefect_test_harness

        import flows  # noqa: F401  (its settings, before Prefect is imported)

        with prefect_test_harness(server_startup_timeout=180):
            yield


def tiny_sandbox(name: str, folder: Path) -> str:
    """The spec of a shipped sandbox on its smallest square with three years of five scenes."""
    spec = folder / f"{name}.yaml"
    spec.write_text(yaml.safe_dump(config.read_yaml(config.config_folder("sandbox") / f"{name}.yaml") | TINY))
    return str(spec)


def test_a_new_scene_gives_a_new_version_and_nothing_new_changes_no_file(home: Path, tmp_path: Path) -> None:
    from flows.monitor import monitor

    archive, log = kit.make_archive(tmp_path), tmp_path / "log"
    where: dict[str, Any] = {"task": "water", "region": "malardalen", "newest": 1, "log": str(log)}
    where |= {"source": str(archive.catalog), "head": str(kit.make_head(tmp_path / "head", "water"))}
    archive.show(4)  # the last of them in August
    first = monitor(**where)
    assert (first.new_scenes, first.new_chips % 4) == (4, 0)
    archive.show(5)  # one in September
    second = monitor(**where)
    assert (second.new_scenes, second.new_chips) == (1, first.new_chips // 4)
    assert [one.period for one in (*first.published, *second.published)] == ["2018-08", "2018-09"]
    assert (second.layers / "latest").readlink() == Path(second.published[0].version)

    before = {file: file.stat().st_mtime_ns for file in second.layers.rglob("*") if file.is_file()}
    third = monitor(**where)
    assert third.said == "Open water, malardalen: nothing new, nothing done"
    assert (third.published, third.announced) == ((), ())
    assert {file: file.stat().st_mtime_ns for file in second.layers.rglob("*") if file.is_file()} == before
    told = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [len(line["layers"]) for line in told] == [1, 1]


@pytest.mark.slow
def test_a_lake_gets_an_index_layer_of_the_newest_dates_and_a_level_of_every_date(home: Path, tmp_path: Path) -> None:
    from flows.monitor import monitor

    where: dict[str, Any] = {"task": "water-level", "region": "vanern", "sandbox": tiny_sandbox("vanern", tmp_path)}
    first = monitor(**where, every="day", newest=2)
    assert first.new_scenes == 15
    table = pd.read_csv(first.layers / "series" / "series.csv")
    seen = table[table["level_m"].notna()]
    assert first.level == {name: seen.iloc[-1][name] for name in ("date", "level_m", "error_m")}
    assert seen["level_m"].between(43.5, 45.2).all()  # in the gauge's datum
    assert [one.period for one in first.published] == list(table["date"])[-2:]
    assert all((one.layer / "quicklook.png").is_file() for one in first.published)

    second = monitor(**where, every="day", newest=2)
    assert second.said.endswith("nothing new, nothing done")
    assert (second.published, second.level) == ((), first.level)


@pytest.mark.slow
def test_habitats_get_a_layer_a_year(home: Path, tmp_path: Path) -> None:
    from flows.monitor import monitor

    kit.make_head(home / "heads" / "habitat-bohuslan", "habitat")  # where it is looked for
    where: dict[str, Any] = {"task": "habitat", "region": "bohuslan", "sandbox": tiny_sandbox("bohuslan", tmp_path)}
    first = monitor(**where, every="year")
    assert [one.period for one in first.published] == ["2020", "2021"]
    assert all(one.clear_share > 0 for one in first.published)
    second = monitor(**where, every="year")
    assert second.said.endswith("nothing new, nothing done")
    assert list(second.layers.glob("202*")) == list(first.layers.glob("202*"))
