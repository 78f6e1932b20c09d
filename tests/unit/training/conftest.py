"""A tiny ready chip set on disk and a method with small views, so that a run takes a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from geossl.training import callbacks
from geossl.training.callbacks import Recorder

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
views: {size: 32, noise: 0.002VIEWS}
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
    def make(method: str = "simclr", settings: str = "", extra: str = "", views: str = "") -> str:
        path = tmp_path / f"{method}.yaml"
        text = METHOD.replace("METHOD", method).replace("SETTINGS", settings).replace("VIEWS", views)
        path.write_text(text + extra, encoding="utf-8")
        return str(path)

    return make


@pytest.fixture(scope="session")
def killed() -> type[BaseException]:
    """Stands for a process that dies: nothing catches it."""
    return type("Killed", (BaseException,), {})


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing the report takes longer than training on these chips."""

    def write(path: Path, *facts: object) -> None:
        path.write_text("a report", encoding="utf-8")

    monkeypatch.setattr("geossl.training.outcome.write_report", write)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint every second step."""
    monkeypatch.setattr(callbacks, "LOG_EVERY", 2)
    monkeypatch.setattr(callbacks, "CHECKPOINT_EVERY_S", 0.0)


@pytest.fixture
def die_after(monkeypatch: pytest.MonkeyPatch, killed: type[BaseException]) -> Callable[[int], None]:
    """Die at the end of a step."""
    original = Recorder.on_train_batch_end

    def at(step: int) -> None:
        def end(self: Recorder, trainer: object, module: object, outputs: object, batch: int, index: int) -> None:
            original(self, trainer, module, outputs, batch, index)  # type: ignore[arg-type]
            if int(batch) + 1 == step:
                raise killed

        monkeypatch.setattr(Recorder, "on_train_batch_end", end)

    return at
