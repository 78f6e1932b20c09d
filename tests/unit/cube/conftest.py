"""Small scenes on disk and the ODC documents of them, without any database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cube_scenes import as_scene, make_item

from geossl.cube.connect import Product, Scene


@pytest.fixture
def scene(tmp_path: Path) -> Callable[..., tuple[Scene, Product]]:
    """``scene(bands, name=…, **properties)``: a scene on disk and its product."""

    def make(bands: dict[str, tuple[np.ndarray, float]], name: str = "scene", **properties: Any) -> Any:
        return as_scene(make_item(tmp_path, bands, name, **properties))

    return make
