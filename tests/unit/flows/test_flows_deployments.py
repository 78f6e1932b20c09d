"""``prefect.yaml``: what is served and when; the flows' parameters have a schema that refuses nonsense."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows import serve
from geossl.errors import InputError, WorkError

ROOT = Path(__file__).parents[3]
FLOWS = {"ingest": "ingest", "tiles": "tiles", "pretrain": "pretrain", "finetune": "finetune", "map": "make_map"}
FLOWS |= {"monitor": "monitor"}


def test_three_regions_are_monitored_weekly_and_every_flow_can_be_asked_for() -> None:
    entries = {entry.name: entry for entry in serve.read_deployments(serve.DEPLOYMENTS)}
    weekly = {name: entry for name, entry in entries.items() if entry.schedules}
    found = {(entry.parameters["task"], entry.parameters["region"]) for entry in weekly.values()}
    assert found == {("drought", "malardalen"), ("water-level", "vanern"), ("habitat", "bohuslan")}
    for entry in weekly.values():
        assert entry.entrypoint == "flows/monitor.py:monitor"
        assert [one.cron.split()[-1] for one in entry.schedules if one.cron] == ["1"]
        assert [one.timezone for one in entry.schedules] == ["Europe/Stockholm"]
    assert {entry.entrypoint for entry in entries.values()} == {f"flows/{m}.py:{f}" for m, f in FLOWS.items()}


@pytest.mark.parametrize("entry", serve.read_deployments(serve.DEPLOYMENTS), ids=lambda entry: entry.name)
def test_each_deployment_becomes_one_of_prefect_with_parameters_that_fit(entry: serve.DeploymentEntry) -> None:
    made = serve.make_deployment(entry)
    assert made.name == entry.name
    assert made.entrypoint is not None
    assert made.entrypoint.startswith("flows.")  # found by import, wherever the process runs
    assert made.enforce_parameter_schema
    assert len(made.schedules or ()) == len(entry.schedules)


@pytest.mark.parametrize(("module", "name"), FLOWS.items())
def test_every_parameter_is_described_and_its_type_is_in_the_schema(module: str, name: str) -> None:
    flow = getattr(importlib.import_module(f"flows.{module}"), name)
    for parameter, facts in flow.parameters.properties.items():
        assert facts.get("description"), f"{module}: {parameter}"
        assert "type" in facts or "anyOf" in facts or "enum" in facts, f"{module}: {parameter}"


def test_wrong_parameters_are_refused_when_the_deployment_is_made(tmp_path: Path) -> None:
    from prefect.exceptions import ParameterTypeError

    wrong = {"task": "drought", "region": "malardalen", "every": "fortnight"}
    entry = serve.DeploymentEntry(name="wrong", entrypoint="flows/monitor.py:monitor", parameters=wrong)
    with pytest.raises(ParameterTypeError, match=r"day.*month.*year"):
        serve.make_deployment(entry)

    file = tmp_path / "prefect.yaml"
    file.write_text("deployments:\n  - {name: x, entrypoint: 'flows/tiles.py:tiles', shedules: []}\n")
    with pytest.raises(InputError, match="shedules"):
        serve.read_deployments(file)


def test_nothing_phones_home_by_the_settings_prefect_itself_reports() -> None:
    code = (
        "import flows\nfrom prefect.settings import get_current_settings\n"
        "from prefect._internal.analytics.enabled import is_telemetry_enabled\n"
        "s = get_current_settings()\n"
        "print(s.server.analytics_enabled, s.cloud.enable_orchestration_telemetry, is_telemetry_enabled(), "
        "s.server.ui.show_promotional_content, s.api.url, s.api.key)"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "DO_NOT", "CI"))}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=kept, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["False", "False", "False", "False", "None", "None"]


def test_a_configured_server_that_is_gone_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with pytest.raises(WorkError, match="does not answer") as caught, serve.server(4200):
        pass
    assert "unset PREFECT_API_URL" in str(caught.value.remedy)


def test_a_water_level_needs_a_gauge_and_no_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.monitor import check

    monkeypatch.setenv("GEOSSL_HOME", str(tmp_path))
    check("water-level", "vanern", gauge="readings.csv")
    check("water-level", "vanern", sandbox="vanern")  # which brings one
    with pytest.raises(InputError, match="from a gauge"):
        check("water-level", "vanern")
    with pytest.raises(InputError, match="no head for drought here"):
        check("drought", "malardalen", gauge="readings.csv")
    with pytest.raises(InputError, match="two sources of scenes"):
        check("water-level", "vanern", source="scenes", sandbox="vanern")
