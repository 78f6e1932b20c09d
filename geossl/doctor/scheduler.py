"""Prefect: whether it is there, and whether the server that is configured answers."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from importlib.util import find_spec
from urllib.parse import urlsplit

from geossl.doctor.finding import Finding

_TIMEOUT_S = 5


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
