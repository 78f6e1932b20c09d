"""``geossl sandbox create``: a simulated region whose truth is known, written and indexed.

    <out>/sandbox.json     which sandbox this is (written first)
    <out>/scenes/          COGs and a static STAC catalogue
    <out>/truth/           what is known: see truth.py (farmland) and truth_water.py (lake, archipelago)
    <out>/labels/          sparse labels
    <out>/preview.png, manifest.json (last), run.json

Scenes depend on the seed and their own number alone: a run that was killed continues with the scenes that are
missing and ends with the same files.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geossl import artefacts, config
from geossl.errors import InputError, WorkError
from geossl.progress import say, track, warn
from geossl.sandbox.dates import Acquisition, plan_acquisitions
from geossl.sandbox.scenes import is_written, scene_folder, write_catalog, write_scene
from geossl.sandbox.spec import PRODUCT, Frame, SandboxSpec, frame_of, identity, load_spec
from geossl.sandbox.truth import is_static_truth_written
from geossl.sandbox.worlds import World, make_world

KIND = "sandbox"
_BYTES_A_PIXEL = 14
"""Disk space of one scene and its truth, a pixel of 10 m: measured on the default sandbox, rounded up."""
_LABEL_FILES = (".gpkg", ".csv", ".tif")
_MAX_THREADS = 2
"""Each thread needs about 250 MB on the default sandbox."""


@dataclass(frozen=True)
class SandboxResult:
    """What ``create_sandbox`` left on disk and in the cube."""

    name: str
    path: Path
    catalog: Path
    product: str
    scenes: int
    """Scenes of the sandbox."""
    written: int
    """Scenes that this run wrote; the others were there."""
    years: tuple[int, ...]
    dry_years: tuple[int, ...]
    size_km: float
    seed: int
    labels: tuple[Path, ...]
    truth: Path
    preview: Path
    bytes: int
    indexed: int | None
    """Scenes that are new in the cube; ``None`` where nothing was to be indexed."""


def create_sandbox(
    name: str,
    *,
    out: str | Path | None = None,
    seed: int | None = None,
    size_km: float | None = None,
    index: bool = True,
) -> SandboxResult:
    """Simulate a region: scenes, truth and sparse labels on disk, and the scenes in the embedded cube.

    Args:
        name: a shipped sandbox (``malardalen``, ``vanern``, ``bohuslan``), or the path of one's own ``.yaml`` of the
            same form.
        out: folder; default ``$GEOSSL_HOME/sandbox/<name>``.
        seed: replaces the sandbox's own seed: another landscape and other weather.
        size_km: side of the square, a multiple of 0.8 km.
        index: whether to index the scenes (product ``sandbox_s2_l2a``, always in the embedded cube).

    Raises:
        InputError: unknown sandbox, impossible size, or another sandbox lies in ``out``.
        WorkError: the disk is full; what is finished stays and the same call continues.
    """
    started = time.monotonic()
    spec = load_spec(name, seed=seed, size_km=size_km)
    short = Path(name).stem
    root = Path(out).expanduser().absolute() if out is not None else config.geossl_home() / "sandbox" / short
    frame, scenes = frame_of(spec), plan_acquisitions(spec)
    _claim(root, spec)
    with artefacts.lock(root / ".lock", busy="another process is writing this sandbox"):
        missing = [scene for scene in scenes if not is_written(root, scene.id)]
        complete = artefacts.is_complete(root) and not missing
        if complete:
            say(f"sandbox {short}: all {len(scenes)} scenes are there")
        else:
            _write(root, spec, frame, scenes, missing)
            artefacts.write_run(
                root, seconds=round(time.monotonic() - started, 2), scenes_written=len(missing), threads=_threads()
            )
            artefacts.write_manifest(root, KIND, **_facts(root, spec, scenes))
    catalog = root / "scenes" / "catalog.json"
    return SandboxResult(
        name=short,
        path=root,
        catalog=catalog,
        product=PRODUCT,
        scenes=len(scenes),
        written=0 if complete else len(missing),
        years=spec.years,
        dry_years=tuple(sorted(spec.dry_years)),
        size_km=spec.size_km,
        seed=spec.seed,
        labels=tuple(path for path in sorted((root / "labels").iterdir()) if path.suffix in _LABEL_FILES),
        truth=root / "truth",
        preview=root / "preview.png",
        bytes=sum(file.stat().st_size for file in root.rglob("*") if file.is_file()),
        indexed=_index(catalog) if index else None,
    )


def _claim(root: Path, spec: SandboxSpec) -> None:
    """Say in the folder which sandbox it holds; refuse a folder that holds another one or something else."""
    path = root / "sandbox.json"
    facts = identity(spec)
    if path.is_file():
        found = path.read_text(encoding="utf-8")
        if found != artefacts.to_json(facts):
            raise InputError(
                "another sandbox lies here",
                where=root,
                expected=f"version {spec.version}, seed {spec.seed}, {spec.size_km:g} km",
                found="other settings: see sandbox.json",
                remedy="choose another --out, or remove this folder",
            )
        return
    if root.is_dir() and any(entry.name != ".lock" for entry in root.iterdir()):
        raise InputError(
            "this folder holds something else",
            where=root,
            expected="an empty folder, or a sandbox begun before",
            remedy="choose another --out",
        )
    with artefacts.disk_errors(root):
        artefacts.write_json(path, facts)


def _write(root: Path, spec: SandboxSpec, frame: Frame, scenes: list[Acquisition], missing: list[Acquisition]) -> None:
    """Everything but the manifest."""
    _check_space(root, frame, len(missing))
    say(f"making the landscape ({spec.size_km:g} km a side, seed {spec.seed})")
    world = make_world(spec, frame)
    if not is_static_truth_written(root):
        world.write_static(root)
    with track("scenes", total=len(scenes), unit="scenes", done=len(scenes) - len(missing)) as bar:
        for scene in _rendered(root, spec, frame, world, missing):
            bar.advance(note=scene.date)
    write_catalog(root, spec, frame, scenes)
    say("drawing labels and the preview")
    world.finish(root, scenes)


def _rendered(
    root: Path, spec: SandboxSpec, frame: Frame, world: World, missing: list[Acquisition]
) -> Iterator[Acquisition]:
    """Render and write scenes on a few threads; each is yielded when it lies on disk. A failure ends all."""

    def work(scene: Acquisition) -> Acquisition:
        rendered = world.make(root, scene)
        write_scene(root, spec, frame, scene, rendered)  # last: a scene that is there has its truth
        return scene

    with _pool() as pool:
        waiting: set[Future[Acquisition]] = {pool.submit(work, scene) for scene in missing}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


def _threads() -> int:
    return max(1, min(_MAX_THREADS, os.cpu_count() or 1))


@contextmanager
def _pool() -> Iterator[ThreadPoolExecutor]:
    """Threads that start nothing new once one of them has failed or the user has interrupted."""
    pool = ThreadPoolExecutor(max_workers=_threads())
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _check_space(root: Path, frame: Frame, scenes: int) -> None:
    needed = scenes * frame.size**2 * _BYTES_A_PIXEL
    free = shutil.disk_usage(root).free
    if free < needed:
        raise WorkError(
            "not enough space on this disk",
            where=root,
            expected=f"{needed / 1e6:.0f} MB for {scenes} scenes",
            found=f"{free / 1e6:.0f} MB free",
            remedy="free space and run the same command again, choose another --out, or a smaller --size-km",
        )


def _facts(root: Path, spec: SandboxSpec, scenes: list[Acquisition]) -> dict[str, Any]:
    """What the manifest says: settings, and a hash of each scene's item (which holds those of its files)."""
    return {
        "spec": identity(spec),
        "product": PRODUCT,
        "scenes": {
            scene.id: artefacts.hash_file(scene_folder(root, scene.id) / f"{scene.id}.json") for scene in scenes
        },
        "truth": {
            str(path.relative_to(root)): artefacts.hash_file(path) for path in sorted((root / "truth").rglob("*.tif"))
        },
    }


def _index(catalog: Path) -> int:
    """Index the scenes; warns where scenes of another sandbox lie on the same ground (they would be mixed up).

    Sandboxes of different regions share the product and stay apart by where they are: whatever reads scenes asks for
    those of a region.
    """
    from shapely import union_all

    from geossl.cube.connect import open_cube
    from geossl.cube.index import index_source

    say("indexing the scenes in the embedded cube")
    added = index_source(catalog).added
    here = f"{catalog.parent.as_uri()}/"
    with open_cube(PRODUCT) as cube:
        found = [(str(scene.dataset.uri), scene.footprint) for scene in cube.find(cube.product(PRODUCT))]
    ground = union_all([footprint for uri, footprint in found if uri.startswith(here)])
    foreign = [uri for uri, footprint in found if not uri.startswith(here) and footprint.intersects(ground)]
    if foreign:
        warn(
            f"product {PRODUCT} also holds {len(foreign)} scenes of another sandbox on the same ground (such as "
            f"{foreign[0]}); set GEOSSL_HOME to another folder to keep them apart"
        )
    return added
