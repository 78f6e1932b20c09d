"""A small simulated archive whose scenes come in when a test says so, and a head that was never taught."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from geossl import config
from geossl.artefacts import atomic_directory, write_manifest
from geossl.encoders.saved import random_encoder
from geossl.sandbox.create import create_sandbox
from geossl.tasks.heads import KIND, Head, make_net, save_weights
from geossl.tasks.spec import load_task

ROOT = Path(__file__).parents[2]
BANDS = ("blue", "green", "red", "nir08", "swir16", "swir22", "nir")


@dataclass(frozen=True)
class Archive:
    """A static STAC catalogue of which the first ``shown`` scenes are listed."""

    catalog: Path
    links: tuple[dict[str, str], ...]

    def show(self, count: int) -> None:
        """List the first ``count`` scenes, as an archive does whose later scenes have not been taken yet."""
        document = json.loads(self.catalog.read_text(encoding="utf-8"))
        others = [link for link in document["links"] if link["rel"] != "item"]
        document["links"] = [*others, *self.links[:count]]
        self.catalog.write_text(json.dumps(document), encoding="utf-8")

    @property
    def days(self) -> list[str]:
        """The day of each scene, ``2018-07-03``, in order."""
        folder = self.catalog.parent
        items = [json.loads((folder / link["href"]).read_text(encoding="utf-8")) for link in self.links]
        return [item["properties"]["datetime"][:10] for item in items]


def make_archive(folder: Path) -> Archive:
    """Five scenes of 1.6 km and one year, in order of time; all are listed."""
    settings = config.read_yaml(config.config_folder("sandbox") / "malardalen.yaml")
    labels = {"polygons": 4, "points": 10, "landcover_points": 11, "landcover_polygons": 5}
    settings |= {"size_km": 1.6, "years": [2018], "dry_years": {2018: "severe"}, "scenes_a_year": [5, 5]}
    spec = folder / "tiny.yaml"
    spec.write_text(yaml.safe_dump(settings | {"labels": labels, "shoulder_scene": 0.0}), encoding="utf-8")
    made = create_sandbox(str(spec), out=folder / "tiny", index=False)
    catalog = made.catalog
    return catalog_of(catalog)


def catalog_of(catalog: Path) -> Archive:
    """The archive of a sandbox's catalogue: its items are listed by the collection inside it."""
    document = json.loads(catalog.read_text(encoding="utf-8"))
    children = [link["href"] for link in document["links"] if link["rel"] == "child"]
    if children:
        return catalog_of(catalog.parent / children[0])
    links = sorted((link for link in document["links"] if link["rel"] == "item"), key=lambda link: link["href"])
    return Archive(catalog, tuple(links))


def make_head(folder: Path, task: str = "drought") -> Path:
    """A head with random weights: maps of it mean nothing, and are made like any other."""
    spec = load_task(task)
    encoder = random_encoder("resnet18", BANDS, [0.1] * len(BANDS), [0.1] * len(BANDS), 0)
    head = Head(spec, make_net(spec, encoder), 80)
    with atomic_directory(folder) as place:
        write_manifest(place, KIND, **save_weights(head, place))
    return folder


def environment(home: Path, **more: str) -> dict[str, str]:
    """The surroundings of a flow: its own home, no server, nothing of the caller's Prefect settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**kept, "GEOSSL_HOME": str(home), "OMP_NUM_THREADS": "1", "NO_COLOR": "1", **more}


def start(home: Path, module: str, *words: str, **more: str) -> subprocess.Popen[str]:
    """Start ``python -m module words``."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *words],
        cwd=ROOT,
        env=environment(home, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(home: Path, module: str, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m module words`` to its end."""
    process = start(home, module, *words, **more)
    try:
        out, err = process.communicate(timeout=400)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def free_port() -> int:
    """A port of the loopback interface that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, true: object, seconds: float, process: subprocess.Popen[str] | None = None) -> None:
    """Wait until the callable ``true`` is; fail when it takes too long, or when ``process`` has ended."""
    deadline = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert process is None or process.poll() is None, f"{what}: the process has ended"
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.1)
