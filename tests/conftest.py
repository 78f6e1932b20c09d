"""Shared fixtures: real data (skipped, saying so, where missing) and an empty geossl home for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from geossl.progress import set_quiet

os.environ.setdefault("OMP_NUM_THREADS", "1")


def real_data_root() -> Path:
    """Where the shared real data lie: ``$GEOSSL_REAL_DATA``, by default ``../shared/data``."""
    return Path(os.environ.get("GEOSSL_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    root = real_data_root()
    if not root.is_dir():
        pytest.skip(f"no real data at {root} (set GEOSSL_REAL_DATA)")
    return root


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ``GEOSSL_HOME`` for one test."""
    monkeypatch.setenv("GEOSSL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """A verb run with ``--quiet`` silences its process; the next test is heard again."""
    yield
    set_quiet(False)
