"""Prefect: whether it is there, and whether the server that is configured answers."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from geossl.doctor.finding import Finding

if TYPE_CHECKING:
    from psutil import Process

_TIMEOUT_S = 5
_TEMPORARY = "PREFECT__SERVER_EPHEMERAL"
"""What Prefect sets in the environment of the server that it starts for the time of one run."""


def prefect(address: str | None = None) -> Finding:
    """The scheduler; ``address`` is the API of a server, by default ``$PREFECT_API_URL``."""
    if find_spec("prefect") is None:
        return Finding("prefect", "warn", "not installed: everything runs but the flows", "pip install 'geossl[flows]'")
    address = address or os.environ.get("PREFECT_API_URL")
    if not address:
        return Finding("prefect", "ok", "no server is configured: 'python -m flows' starts one, single runs need none")
    if server_answers(address):
        return Finding("prefect", "ok", f"the server at {address} answers")
    return Finding(
        "prefect", "fail", f"the server at {address} does not answer",
        "start it (python -m flows), correct PREFECT_API_URL, or unset it",
    )  # fmt: skip


def server_answers(address: str) -> bool:
    """Whether a Prefect API answers at ``address`` (``http://127.0.0.1:4200/api``)."""
    if urlsplit(address).scheme not in {"http", "https"}:
        return False
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=_TIMEOUT_S) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def leftovers() -> list[Finding]:
    """Temporary servers of single runs that were killed: a run ends its server, unless it has no time to."""
    import psutil

    orphans = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it has just ended, or is another user's
            if process.environ().get(_TEMPORARY) == "1" and "uvicorn" in process.cmdline():
                orphans += [] if _has_its_run(process) else [str(process.pid)]
    if not orphans:
        return []
    found = f"{len(orphans)} temporary servers of runs that were killed still hold memory"
    return [Finding("prefect, temporary", "warn", found, f"end them: kill {' '.join(orphans)}")]


def _has_its_run(server: Process) -> bool:
    """Whether the parent is the Python that started it, and not what takes over orphans."""
    import psutil

    parent = server.parent()
    try:
        return parent is not None and parent.exe() == server.exe()
    except psutil.AccessDenied:  # another user's process, so not the run
        return False
