"""Flows are imported here: their Prefect gets a home of the tests' own."""

from __future__ import annotations

import os
import tempfile

os.environ.setdefault("PREFECT_HOME", tempfile.mkdtemp(prefix="geossl-prefect-"))
