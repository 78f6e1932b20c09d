"""``geossl doctor`` on broken set-ups: each look finds what is wrong, grades it, and says what to do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from geossl.doctor import cube, resources, scheduler, software
from geossl.doctor.examine import examine
from geossl.doctor.finding import Diagnosis, Finding
from geossl.doctor.resources import GIB, Plan
from geossl.errors import InputError
from geossl.products import BandSpec, MaskSpec, load_profile

BROKEN_ODC = "[default]\nindex_driver: no_such_driver\ndb_url: postgresql://nobody@127.0.0.1:9/none\n"


def test_another_python_fails() -> None:
    assert software.python((3, 11, 9)).state == "ok"
    old = software.python((3, 13, 0))
    assert (old.state, old.remedy) == ("fail", "make the environment with python3.11")


def test_packages_that_a_later_install_has_replaced_are_named() -> None:
    wanted = ["sqlalchemy<2.1,>=2.0", "numpy<3,>=2", 'prefect<3.9,>=3.8; extra == "flows"', 'ruff; extra == "dev"']
    good = {"sqlalchemy": "2.0.58", "numpy": "2.1.0"}
    assert software.packages(wanted, good).state == "ok"  # flows need not be installed, ruff is nobody's need
    bad = software.packages(wanted, {"sqlalchemy": "2.1.9", "prefect": "3.9.1"})
    assert bad.state == "fail"
    assert "sqlalchemy 2.1.9" in bad.found
    assert "numpy is missing" in bad.found
    assert "prefect 3.9.1" in bad.found
    assert "constraints.txt" in str(bad.remedy)


def test_this_installation_has_the_versions_geossl_declares() -> None:
    assert software.packages().state == "ok", software.packages().found


def test_a_proj_that_knows_no_coordinate_systems_fails_with_the_variable_to_unset(tmp_path: Path) -> None:
    code = (
        "from geossl.doctor.software import gdal_and_proj\n"
        "gdal, proj = gdal_and_proj()\nprint(gdal.state, proj.state, proj.remedy)"
    )
    environment = {**os.environ, "PROJ_DATA": str(tmp_path), "PROJ_LIB": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith(f"ok fail unset PROJ_DATA={tmp_path}"), done.stdout + done.stderr


def test_an_odc_configuration_that_leads_nowhere_fails_and_the_embedded_cube_is_still_looked_at(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "odc.conf"
    config.write_text(BROKEN_ODC, encoding="utf-8")
    monkeypatch.setenv("ODC_CONFIG_PATH", str(config))
    configured, embedded = cube.cubes()
    assert configured.state == "fail"
    assert "ODC" in str(configured.remedy) or "embedded" in str(configured.remedy)
    assert (embedded.name, embedded.state) == ("cube embedded", "warn")
    assert "geossl cube index" in str(embedded.remedy)


def test_a_database_that_is_down_fails(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ODC_DEFAULT_DB_URL", "postgresql://nobody@127.0.0.1:9/none")
    finding = cube.cubes()[0]
    assert finding.state == "fail"
    assert "cannot connect" in finding.found
    assert "ODC_DEFAULT_DB_URL" in str(finding.remedy)


def test_products_are_compared_with_the_profiles_of_their_name() -> None:
    from geossl.cube.connect import Product

    profile = load_profile("sentinel-2-l2a")
    shipped = {"sentinel-2-l2a": profile}
    assert cube.product_against(Product("sentinel-2-l2a", profile), shipped).state == "ok"

    wrong = profile.model_copy(update={"scale": 1.0, "mask": None})
    finding = cube.product_against(Product("sentinel-2-l2a", wrong), shipped)
    assert finding.state == "warn"
    assert f"scale 1.0 instead of {profile.scale}" in finding.found
    assert "--profile sentinel-2-l2a" in str(finding.remedy)

    key, band = next(iter(profile.bands.items()))
    renamed = profile.model_copy(update={"bands": {**profile.bands, key: BandSpec(common="magenta")}})
    found = cube.product_against(Product("sentinel-2-l2a", renamed), shipped).found
    assert f"{key} is magenta instead of {band.common}" in found


def test_a_product_without_a_mask_counts_clouds_as_ground() -> None:
    from geossl.cube.connect import Product

    own = load_profile("sentinel-2-l2a").model_copy(update={"mask": None})
    finding = cube.product_against(Product("my_scenes", own), {})
    assert (finding.state, "clouds count as ground" in finding.found) == ("warn", True)
    masked = own.model_copy(update={"mask": MaskSpec(band="SCL", kind="classes")})
    assert cube.product_against(Product("my_scenes", masked), {}).state == "ok"


def plan(disk: float, memory: float) -> Plan:
    return Plan(chips=20_000, to_read=10_000, disk=int(disk * GIB), memory=int(memory * GIB), place=Path("/data"))


@pytest.mark.parametrize(("free", "state"), [(100, "ok"), (5.5, "warn"), (4.9, "fail")])
def test_disk_is_judged_against_the_chips_to_read(free: float, state: str) -> None:
    finding = resources.disk(plan(disk=4, memory=8), free * GIB, Path("/data"))
    assert finding.state == state
    assert "10000 chips to read need 4.0 GiB" in finding.found
    assert (finding.remedy is None) == (state == "ok")


@pytest.mark.parametrize(("free", "state"), [(3, "ok"), (1.2, "warn"), (0.5, "fail")])
def test_without_a_region_the_least_any_work_needs_counts(free: float, state: str) -> None:
    assert resources.disk(None, free * GIB, Path("/")).state == state


def test_memory_that_does_not_hold_the_chips_says_how_many_it_holds() -> None:
    assert resources.memory(plan(4, 8), 11 * GIB).state == "ok"
    tight = resources.memory(plan(4, 8), 6 * GIB)
    assert (tight.state, tight.remedy) == ("warn", "train with --max-chips 10000, or on a larger machine")
    assert resources.memory(plan(4, 8), 1 * GIB).state == "fail"


def test_a_home_that_cannot_be_written_fails(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    assert resources.writable(tmp_path / "new").state == "ok"
    assert not (tmp_path / "new").exists()  # looking changes nothing
    assert resources.writable(file).state == "fail"


@pytest.fixture
def healthy_server() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/api/health" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/api"
    server.shutdown()
    thread.join()
    server.server_close()


def test_prefect_is_asked_where_a_server_is_configured(healthy_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert scheduler.prefect().state == "ok"
    assert scheduler.prefect(healthy_server).state == "ok"
    assert scheduler.prefect(healthy_server.removesuffix("/api")).state == "fail"
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    gone = scheduler.prefect()
    assert (gone.state, "python -m flows" in str(gone.remedy)) == ("fail", True)


def test_a_temporary_server_is_left_behind_when_its_run_is_gone_and_not_while_it_runs() -> None:
    server = [sys.executable, "-c", "import time; time.sleep(60)", "uvicorn"]
    environment = {**os.environ, "PREFECT__SERVER_EPHEMERAL": "1"}
    of_this_process = subprocess.Popen(server, env=environment)
    code = f"from subprocess import *; print(Popen({server!r}, stdout=DEVNULL, stderr=DEVNULL).pid)"
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    orphan = run.stdout.strip()
    try:
        (finding,) = scheduler.leftovers()
        ended = str(finding.remedy).removeprefix("end them: kill ").split()
        assert (finding.state, orphan in ended, str(of_this_process.pid) in ended) == ("warn", True, False)
    finally:
        os.kill(int(orphan), signal.SIGKILL)
        of_this_process.kill()
        of_this_process.wait()
    deadline = time.monotonic() + 10  # a killed process stays listed for a moment
    while orphan in str(scheduler.leftovers()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert orphan not in str(scheduler.leftovers())


def test_one_failure_makes_the_diagnosis_unhealthy_and_text_shows_the_remedy() -> None:
    well = [Finding("python", "ok", "3.11.9"), Finding("torch", "warn", "no GPU", "buy one")]
    assert Diagnosis.of(well).healthy
    sick = Diagnosis.of([*well, Finding("disk", "fail", "full", "free some")])
    assert not sick.healthy
    assert sick.text().splitlines()[-3:] == [
        "fail  disk    full",
        "              remedy: free some",
        "1 ok, 1 warn, 1 fail",
    ]


def test_an_unknown_region_is_wrong_input() -> None:
    with pytest.raises(InputError, match="atlantis"):
        examine("atlantis")


@pytest.mark.parametrize(("address", "code"), [("http://127.0.0.1:9/api", 1), ("", 0)])
def test_the_verb_prints_every_finding_and_exits_1_when_one_fails(
    home: Path, monkeypatch: pytest.MonkeyPatch, address: str, code: int
) -> None:
    from geossl.cli.main import app

    for name in [name for name in os.environ if name.startswith(("ODC_", "DATACUBE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_API_URL", address)
    done = CliRunner().invoke(app, ["doctor", "--region", "malardalen", "--json"])
    told = json.loads(done.stdout)
    assert (done.exit_code, told["healthy"]) == (code, code == 0), done.output
    names = [finding["name"] for finding in told["findings"]]
    looked_at = {"python", "packages", "torch", "gdal", "proj", "cube embedded", "scenes of malardalen"}
    looked_at |= {"planned work", "home", "disk", "memory", "prefect"}
    assert looked_at <= set(names)
    assert all(finding["remedy"] for finding in told["findings"] if finding["state"] != "ok")
