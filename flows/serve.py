"""``python -m flows``: every deployment of ``prefect.yaml`` from one process, on schedule.

Where no server is named (``PREFECT_API_URL``), one is started on this machine alone and stopped at the end. Runs
follow one another; a run is a process of its own, so one that is killed takes nothing with it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from geossl.config import Settings, parse, read_yaml
from geossl.doctor.scheduler import server_answers
from geossl.errors import InputError, WorkError
from geossl.progress import say

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

DEPLOYMENTS = Path(__file__).parents[1] / "prefect.yaml"
DEFAULT_PORT = 4200
_START_S = 180
_HEARTBEAT_S = 30


class ScheduleEntry(Settings):
    """When a deployment runs: one of ``cron`` and ``interval`` (seconds)."""

    cron: str | None = None
    interval: float | None = None
    timezone: str | None = None
    slug: str | None = None
    active: bool = True
    parameters: dict[str, Any] = Field(default_factory=dict)


class DeploymentEntry(Settings):
    """One deployment of ``prefect.yaml``; the work pool and tags are for ``prefect deploy``."""

    name: str
    entrypoint: str
    description: str | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    schedules: tuple[ScheduleEntry, ...] = ()
    tags: tuple[str, ...] = ()
    work_pool: dict[str, Any] = Field(default_factory=dict)


def read_deployments(path: Path) -> list[DeploymentEntry]:
    """The deployments of a ``prefect.yaml``.

    Raises:
        InputError: no such file, or a deployment with a field that is not understood.
    """
    entries = read_yaml(path).get("deployments")
    if not isinstance(entries, list) or not entries:
        raise InputError("this file names no deployments", where=path, expected="a list under 'deployments'")
    return [parse(DeploymentEntry, entry, f"{path}: deployment {entry.get('name')}") for entry in entries]


def make_deployment(entry: DeploymentEntry) -> RunnerDeployment:
    """A deployment as Prefect serves it."""
    from prefect.flows import Flow
    from prefect.schedules import Schedule
    from prefect.types.entrypoint import EntrypointType

    file, _, name = entry.entrypoint.partition(":")
    flow: Flow[..., Any] = getattr(import_module(".".join(Path(file).with_suffix("").parts)), name)
    if set(flow.parameters.required or ()) <= set(entry.parameters):
        flow.validate_parameters(dict(entry.parameters))
    schedules = [
        Schedule(
            interval=timedelta(seconds=one.interval) if one.interval else None,
            cron=one.cron,
            timezone=one.timezone,
            active=one.active,
            parameters=one.parameters,
            slug=one.slug,
        )
        for one in entry.schedules
    ]
    deployment: RunnerDeployment = flow.to_deployment(
        name=entry.name,
        description=entry.description,
        parameters=dict(entry.parameters),
        schedules=schedules or None,
        tags=list(entry.tags),
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    return deployment


@contextmanager
def server(port: int) -> Iterator[str]:
    """The address of the server's API: the configured one, one that runs at ``port``, or one started for the time.

    Raises:
        WorkError: the configured server does not answer, or none can be started.
    """
    configured = os.environ.get("PREFECT_API_URL")
    address = configured or f"http://127.0.0.1:{port}/api"
    if server_answers(address):
        say(f"Prefect server: {address}")
        yield address
        return
    if configured:
        raise WorkError(
            "the Prefect server does not answer",
            where=configured,
            remedy="start it, or unset PREFECT_API_URL: then a server is started here",
        )
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        env={**os.environ, "PREFECT_SERVER_UI_API_URL": address},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _await(process, address, port)
        say(f"Prefect server started: {address.removesuffix('/api')}")
        yield address
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(process: subprocess.Popen[bytes], address: str, port: int) -> None:
    deadline = time.monotonic() + _START_S
    while not server_answers(address):
        if process.poll() is not None or time.monotonic() > deadline:
            raise WorkError(
                "the Prefect server does not start",
                where=address,
                remedy=f"see whether something else uses port {port} (choose another with --port), and what "
                f"'prefect server start --port {port}' says",
            )
        time.sleep(0.5)


def mark_dead_runs() -> None:
    """Have the server mark a run as crashed when its process has fallen silent (kill -9, power cut).

    It is bookkeeping only: what is to be done next follows from the manifests, not from the states of runs.
    """
    from prefect.automations import Automation
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    name = "geossl: mark dead runs"
    beat = "prefect.flow-run.heartbeat"
    ends = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}
    try:
        Automation.read(name=name)
    except ValueError:  # there is none of this name
        Automation(
            name=name,
            trigger=EventTrigger(
                after={beat},
                expect={beat, *ends},
                match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                threshold=1,
                within=timedelta(seconds=4 * _HEARTBEAT_S),
            ),
            actions=[ChangeFlowRunState(state=StateType.CRASHED, message="its process is gone")],
        ).create()


def serve(deployments: Path = DEPLOYMENTS, port: int = DEFAULT_PORT) -> None:
    """Serve every deployment of a file until stopped (Ctrl-C or SIGTERM)."""
    entries = read_deployments(deployments)
    with server(port) as address:
        os.environ["PREFECT_API_URL"] = address  # before Prefect is imported, and for the runs' processes
        from prefect import serve as serve_all

        mark_dead_runs()
        made = [make_deployment(entry) for entry in entries]
        say("serving " + ", ".join(f"{one.flow_name}/{one.name}" for one in made))
        serve_all(*made, pause_on_shutdown=False, print_starting_message=False, limit=1)
