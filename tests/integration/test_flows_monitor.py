"""The monitor: a new scene costs its own tiles and gives a new layer version; nothing new costs nothing.

With a real Prefect server on loopback (slow): on schedule, killed at every stage, and with the server going away. The
short form of it, for every run of the tests, is in test_flows_here.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import flows_kit as kit
import pytest

from geossl.config import read_yaml

STAGES = {
    "index": "geossl.cube.index._add",
    "tiles": "geossl.chips.build.write_store_manifest",
    "map": "geossl.maps.stream._save_state",
    "publish": "geossl.maps.versions._write_collection",
    "notify": "geossl.maps.versions.mark_announced",
}
KILLED = """
import os, signal, sys, importlib, runpy
target, sys.argv[0] = sys.argv.pop(1), "monitor"
module, name = target.rsplit(".", 1)
loaded = importlib.import_module(module)
true = getattr(loaded, name)


def die(*given, **named):
    true(*given, **named) if module.startswith("geossl.cube") else None  # within the index: what it added stays
    os.kill(os.getpid(), signal.SIGKILL)


import flows
setattr(loaded, name, die)
runpy.run_module("flows.monitor", run_name="__main__")
"""


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kit.make_head(tmp_path_factory.mktemp("head") / "head", "water")


@pytest.fixture
def archive(tmp_path: Path) -> kit.Archive:
    return kit.make_archive(tmp_path)


def words(archive: kit.Archive, head: Path, log: Path) -> list[str]:
    return [
        *("--task", "water", "--region", "malardalen", "--head", str(head)),
        *("--source", str(archive.catalog), "--newest", "1", "--log", str(log)),
    ]


def told(log: Path) -> list[str]:
    """Names of the versions that were announced, in order."""
    if not log.is_file():
        return []
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return [layer["version"] for line in lines for layer in line["layers"]]


def ask(address: str, path: str, body: dict[str, Any]) -> Any:
    """Post to the API of a Prefect server."""
    request = urllib.request.Request(
        f"{address}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def result(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prefect server of its own on loopback; the address of its API."""
    address, process = start_server(tmp_path_factory.mktemp("prefect"))
    yield address
    stop(process)


def start_server(folder: Path) -> tuple[str, subprocess.Popen[bytes]]:
    from geossl.doctor.scheduler import server_answers

    port = kit.free_port()
    settings = {"PREFECT_HOME": str(folder), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"],
        env=kit.environment(folder, **settings),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}/api"
    kit.wait_for("the server", lambda: server_answers(address), 240)
    return address, process


def stop(process: subprocess.Popen[Any]) -> None:
    """Kill a process and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


@pytest.mark.slow
def test_a_new_scene_costs_its_tiles_and_gives_a_new_version(
    archive: kit.Archive, head: Path, server: str, home: Path, tmp_path: Path
) -> None:
    given = words(archive, head, tmp_path / "log")
    archive.show(4)  # the last of them in August
    first = result(kit.run(home, "flows.monitor", *given, PREFECT_API_URL=server))
    assert first["new_scenes"] == 4
    tiles_a_scene, rest = divmod(first["new_chips"], 4)
    assert rest == 0
    assert [one["period"] for one in first["published"]] == ["2018-08"]

    archive.show(5)  # one in September comes in
    second = result(kit.run(home, "flows.monitor", *given, PREFECT_API_URL=server))
    assert (second["new_scenes"], second["new_chips"]) == (1, tiles_a_scene)
    assert [(one["period"], one["scenes"]) for one in second["published"]] == [("2018-09", 1)]
    assert told(tmp_path / "log") == [*first["announced"], *second["announced"]]

    before = {file: file.stat().st_mtime_ns for file in Path(second["layers"]).rglob("*.tif")}
    third = result(kit.run(home, "flows.monitor", *given, PREFECT_API_URL=server))
    assert third["said"].endswith("nothing new, nothing done")
    assert (third["new_scenes"], third["new_chips"], third["published"], third["announced"]) == (0, 0, [], [])
    assert {file: file.stat().st_mtime_ns for file in Path(third["layers"]).rglob("*.tif")} == before

    artifacts = ask(server, "artifacts/filter", {"limit": 200})
    kinds = {(one["key"], one["type"]) for one in artifacts}
    assert {
        ("index", "table"),
        ("tiles", "table"),
        ("due", "table"),
        ("monitor-water-malardalen", "table"),
    } <= kinds
    assert {("tiles", "image"), ("published-water-malardalen", "image")} <= kinds
    assert any(kind == "progress" and one_key.startswith("tiles") for one_key, kind in kinds)
    pictures = [one["data"] for one in artifacts if one["type"] == "image"]
    assert all(picture.startswith("data:image/png;base64,") for picture in pictures)


@pytest.fixture(scope="module")
def undisturbed(
    head: Path, server: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[kit.Archive, dict[str, bytes]]:
    """An archive, and the rasters of the layers that one run over it gives."""
    folder = tmp_path_factory.mktemp("undisturbed")
    archive = kit.make_archive(folder)
    given = words(archive, head, folder / "log")
    done = result(kit.run(folder / "home", "flows.monitor", *given, PREFECT_API_URL=server))
    return archive, rasters(Path(done["layers"]))


def rasters(layers: Path) -> dict[str, bytes]:
    found = [file for version in layers.glob("2*") for file in version.glob("*.tif")]
    return {str(file.relative_to(layers)): file.read_bytes() for file in found}


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_any_stage_the_next_run_gives_what_an_undisturbed_one_gives(
    stage: str,
    undisturbed: tuple[kit.Archive, dict[str, bytes]],
    head: Path,
    server: str,
    home: Path,
    tmp_path: Path,
) -> None:
    archive, expected = undisturbed
    given = words(archive, head, tmp_path / "log")
    command = [sys.executable, "-c", KILLED, STAGES[stage], *given]
    killed = subprocess.run(
        command, cwd=kit.ROOT, env=kit.environment(home, PREFECT_API_URL=server), capture_output=True, timeout=400
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    after = result(kit.run(home, "flows.monitor", *given, PREFECT_API_URL=server))
    assert after["new_scenes"] == 0  # indexed before every one of these deaths
    assert after["new_chips"] == (20 if stage == "index" else 0)
    assert len(after["published"]) == (0 if stage == "notify" else 1)
    assert len(after["announced"]) == 1  # told once more where the death came between telling and noting it
    assert len(expected) == 3
    assert rasters(Path(after["layers"])) == expected


@pytest.mark.slow
def test_a_server_that_goes_away_in_mid_run_costs_no_work(
    archive: kit.Archive, head: Path, home: Path, tmp_path: Path
) -> None:
    address, process = start_server(tmp_path / "prefect")
    given = words(archive, head, tmp_path / "log")
    try:
        # asking a server that is gone only once more, so that the run ends in a minute and not in many
        started = kit.start(home, "flows.monitor", *given, PREFECT_API_URL=address, PREFECT_CLIENT_MAX_RETRIES="1")
        store = home / "chips" / "malardalen" / "sandbox_s2_l2a" / "manifest.json"
        kit.wait_for("the tiles", store.is_file, 300, started)
    finally:
        stop(process)
    started.communicate(timeout=400)  # it may end well or not: either way nothing that was done is lost

    gone = kit.run(home, "flows.monitor", *given, PREFECT_API_URL=address)
    assert gone.returncode == 1
    assert "the Prefect server does not answer" in gone.stderr
    assert "unset PREFECT_API_URL" in gone.stderr

    alone = result(kit.run(home, "flows.monitor", *given))  # no server of one's own is needed
    assert (alone["new_scenes"], alone["new_chips"]) == (0, 0)
    assert len(list(Path(alone["layers"]).glob("2018-09-*"))) == 1
    assert len(told(tmp_path / "log")) == 1


GUARD = """
import os, sys
def watch(event, given):
    host = None
    if event == "socket.connect" and isinstance(given[1], tuple):
        host = given[1][0]
    elif event == "socket.getaddrinfo":
        host = given[0]
    if host not in (None, "", "127.0.0.1", "::1", "localhost", b"localhost", "0.0.0.0"):
        with open(os.environ["GUARD_FILE"], "a") as stream:
            print(event, host, sys.argv, file=stream)
sys.addaudithook(watch)
"""


@pytest.mark.slow
def test_on_schedule_from_one_process_a_new_scene_is_picked_up_and_nothing_leaves_the_machine(
    archive: kit.Archive, head: Path, home: Path, tmp_path: Path
) -> None:
    guard = tmp_path / "guard"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(GUARD, encoding="utf-8")
    log = tmp_path / "log"
    parameters = {
        "task": "water", "region": "malardalen", "head": str(head), "source": str(archive.catalog), "newest": 1,
        "log": str(log),
    }  # fmt: skip
    deployment = {
        "name": "water", "entrypoint": "flows/monitor.py:monitor", "parameters": parameters,
        "schedules": [{"interval": 20}],
    }  # fmt: skip
    (tmp_path / "prefect.yaml").write_text(json.dumps({"deployments": [deployment]}), encoding="utf-8")
    archive.show(4)
    port = kit.free_port()
    settings = {
        "GUARD_FILE": str(tmp_path / "connections"), "PYTHONPATH": str(guard), "PREFECT_RUNNER_POLL_FREQUENCY": "2",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
    }  # fmt: skip
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows", "--deployments", str(tmp_path / "prefect.yaml"), "--port", str(port)],
            cwd=kit.ROOT,
            env=kit.environment(home, **settings),
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        try:
            kit.wait_for("the first version", lambda: len(told(log)) == 1, 400, process)  # type: ignore[arg-type]
            archive.show(5)
            kit.wait_for("the second version", lambda: len(told(log)) == 2, 400, process)  # type: ignore[arg-type]
            address = f"http://127.0.0.1:{port}/api"

            def idle() -> bool:
                query = {"artifacts": {"key": {"any_": ["monitor-water-malardalen"]}}}
                return any(
                    "nothing new, nothing done" in one["data"] for one in ask(address, "artifacts/filter", query)
                )

            kit.wait_for("a run that says that it did nothing", idle, 400, process)  # type: ignore[arg-type]
            runs = ask(address, "flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}})
            assert len(runs) >= 3
            assert all(run["auto_scheduled"] for run in runs)
            process.send_signal(signal.SIGTERM)
            process.wait(120)
            from geossl.doctor.scheduler import server_answers

            assert not server_answers(address)  # the server it started ends with it
        finally:
            stop(process)
    assert [version[:7] for version in told(log)] == ["2018-08", "2018-09"]
    assert not (tmp_path / "connections").exists(), (tmp_path / "connections").read_text()


@pytest.mark.slow
def test_workers_of_ones_own_take_the_same_deployments_with_their_schedules(server: str, tmp_path: Path) -> None:
    def prefect(*given: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *given],
            cwd=kit.ROOT,
            env=kit.environment(tmp_path, PREFECT_API_URL=server, PREFECT_HOME=str(tmp_path)),
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    prefect("work-pool", "create", "geossl", "--type", "process")
    prefect("deploy", "--all")
    made = {one["name"]: one for one in ask(server, "deployments/filter", {})}
    named = {one["name"] for one in read_yaml(kit.ROOT / "prefect.yaml")["deployments"]}
    assert named <= set(made) and {made[name]["work_pool_name"] for name in named} == {"geossl"}
    weekly = made["drought-malardalen"]
    assert [one["schedule"]["cron"] for one in weekly["schedules"]] == ["0 5 * * 1"]
    assert "task" in weekly["parameter_openapi_schema"]["properties"]


def test_wrong_input_is_told_before_a_server_is_started(home: Path) -> None:
    done = kit.run(home, "flows.monitor", "--task", "drought", "--region", "malardalen")
    assert done.returncode == 2
    assert "no head for drought here" in done.stderr
    assert "flows.finetune" in done.stderr


@pytest.mark.slow
def test_a_scene_that_comes_in_while_the_map_is_made_is_in_the_version_or_in_the_next_one(
    archive: kit.Archive, head: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from geossl.chips.build import build_tiles
    from geossl.cube.index import index_source
    from geossl.maps import versions
    from geossl.maps.make import make_map

    where: dict[str, Any] = {"region": "malardalen"}
    root = versions.default_root("water", "malardalen")
    archive.show(4)
    assert index_source(archive.catalog).added == 4
    first_chips = build_tiles("malardalen").new
    (due,) = versions.find_due(head, root, newest=1, every="year", **where)
    assert (due.scenes, due.published) == (4, False)

    def make_while_a_scene_comes_in(*given: Any, **named: Any) -> Any:
        archive.show(5)
        assert index_source(archive.catalog).added == 1
        return make_map(*given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(versions, "make_map", make_while_a_scene_comes_in)
        layer = versions.make_version(head, root, due, **where)
    made = versions.publish_version(root, due.period, layer, "Water")
    assert made.scenes == 5  # and it is not called by the name it was planned under
    assert made.version != due.version

    (later,) = versions.find_due(head, root, newest=1, every="year", **where)
    assert later.published
    chips = build_tiles("malardalen")
    assert (chips.new, chips.skipped) == (first_chips // 4, first_chips)
    by_month = versions.find_due(head, root, newest=3, every="month", **where)
    assert [one.period for one in by_month] == ["2018-07", "2018-08", "2018-09"]
    assert [one.period for one in versions.find_due(head, root, newest=9, every="day", **where)] == archive.days
