"""A tiny ready chip set on disk and a method with small views, so that a run takes a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

CHIPSET = """
title: Made for tests
bands: {b2: blue, b4: red, b8: nir}
encoding: {dtype: uint16, scale: 0.0001, offset: -0.1, nodata: 0}
resolution_m: 10
tile: tile
block: block
date: date
"""

METHOD = """
method: METHOD
title: small
settings: {SETTINGS}
views: {size: 32, noise: 0.002}
"""


def write_chips(
    folder: Path, tiles: int = 12, side: int = 32, dates: tuple[str, ...] = ("2018-06-01", "2018-07-11")
) -> Path:
    """``tiles`` places on every date, two tiles a block, each place with its own texture that both dates share."""
    folder.mkdir(parents=True)
    (folder / "chipset.yaml").write_text(CHIPSET, encoding="utf-8")
    rows = ["file,tile,block,date,kind"]
    for tile in range(tiles):
        place = np.random.default_rng(tile)
        level = place.uniform(0.02, 0.4, (3, 1, 1))
        texture = np.kron(place.normal(size=(3, side // 4, side // 4)), np.ones((1, 4, 4))) * 0.05
        for number, date in enumerate(dates):
            noise = np.random.default_rng([tile, number]).normal(scale=0.004, size=(3, side, side))
            stored = np.clip(np.rint((level + texture + noise) * 10_000 + 1000), 1, 65535).astype(np.uint16)
            stored[:, :2, :2] = 0  # a gap in every chip
            name = f"t{tile}_{date}.tif"
            profile = {"driver": "GTiff", "count": 3, "height": side, "width": side, "dtype": "uint16", "nodata": 0}
            place_on_map = Affine(10, 0, 600_000 + tile * side * 10, 0, -10, 6_600_000)
            with rasterio.open(folder / name, "w", crs="EPSG:32633", transform=place_on_map, **profile) as target:
                target.write(stored)
                target.descriptions = ("b2", "b4", "b8")
            rows.append(f"{name},t{tile},b{tile // 2},{date},{'dry' if tile % 2 else 'wet|green'}")
    (folder / "index.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def small_chips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chips(tmp_path_factory.mktemp("chips") / "small")


@pytest.fixture
def small_method(tmp_path: Path) -> Callable[..., str]:
    def make(method: str = "simclr", settings: str = "", extra: str = "") -> str:
        path = tmp_path / f"{method}.yaml"
        path.write_text(METHOD.replace("METHOD", method).replace("SETTINGS", settings) + extra, encoding="utf-8")
        return str(path)

    return make
