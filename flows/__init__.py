"""Prefect flows over the library's own functions; they schedule, retry and report, and hold no logic of their own."""

from __future__ import annotations

import os
from pathlib import Path

from geossl.config import geossl_home

# Before Prefect is imported: nothing phones home, and its database lies beside geossl's own data.
os.environ.setdefault("PREFECT_HOME", str(geossl_home() / "prefect"))
Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)  # Prefect makes no parents
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY", "false")
os.environ.setdefault("PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS", "false")
os.environ.setdefault("PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT", "false")
# The default of 20 s is too near to what a cold start takes on a small machine.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "90")
# A run says every half minute that it lives, so that the server can mark one that was killed (see flows/serve.py).
os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "30")
