"""Artefacts on disk: atomic writes, manifests as commit markers, locks.

An artefact is a directory. It is built under a temporary name beside its place and renamed when whole;
``manifest.json`` (deterministic: what went in) is written last, ``run.json`` (timings, host, attempts) beside it.
A directory without a manifest does not count as an artefact.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from geossl.errors import InputError, WorkError

FORMAT_VERSION = 1
FORMAT_VERSIONS = {"encoder": 2, "head": 2}
"""Kinds whose manifests have changed since; the room that owns a kind reads its older ones."""
MANIFEST = "manifest.json"
RUN = "run.json"
_UMASK = os.umask(0)
os.umask(_UMASK)


def to_json(value: object) -> str:
    """Deterministic JSON (sorted keys, two spaces); knows paths, dates, numpy scalars and pydantic models."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, default=_plain) + "\n"


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, datetime) or (hasattr(value, "isoformat") and callable(value.isoformat)):
        return value.isoformat()  # type: ignore[union-attr]
    for method in ("model_dump", "tolist", "to_dict"):
        if callable(getattr(value, method, None)):
            return getattr(value, method)()
    if isinstance(value, set | frozenset | tuple):
        return sorted(value) if not isinstance(value, tuple) else list(value)
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


def hash_json(value: object) -> str:
    """SHA-256 (hex, 16 digits) of the deterministic JSON of ``value``: an id for a set of inputs."""
    return hashlib.sha256(to_json(value).encode()).hexdigest()[:16]


def hash_file(path: Path) -> str:
    """SHA-256 (hex, 16 digits) of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Write ``path`` through a temporary name in the same folder; readers see the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}{path.suffix}")
    try:
        with disk_errors(path):
            yield temporary
            temporary.chmod(0o666 & ~_UMASK)  # some writers (safetensors) make files that only their owner may read
            _fsync(temporary)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Build a directory under a temporary name beside ``path`` and put it in its place when the block succeeds."""
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    temporary.mkdir()
    try:
        with disk_errors(path):
            yield temporary
            replace_directory(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_leftovers(path: Path) -> None:
    """Remove what processes that are gone left half-written for ``path``."""
    for kind in ("tmp", "old"):
        for leftover in path.parent.glob(f".{path.name}.{kind}-*"):
            owner = leftover.name.rpartition("-")[2]
            if owner == str(os.getpid()) or not Path("/proc", owner).exists():
                shutil.rmtree(leftover, ignore_errors=True)


def replace_directory(finished: Path, path: Path) -> None:
    """Move a finished directory to ``path``; an older artefact there is set aside first and then removed."""
    for file in finished.rglob("*"):
        if file.is_file():
            _fsync(file)
    old = path.with_name(f".{path.name}.old-{os.getpid()}")
    if path.exists():
        path.replace(old)
    finished.replace(path)
    _fsync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, value: object) -> None:
    """``value`` as deterministic JSON, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(to_json(value), encoding="utf-8")


def write_manifest(folder: Path, kind: str, **facts: object) -> dict[str, Any]:
    """The commit marker of an artefact: written last, deterministic for equal inputs (no times, no host)."""
    from geossl import __version__

    version = FORMAT_VERSIONS.get(kind, FORMAT_VERSION)
    manifest = {"kind": kind, "format_version": version, "geossl_version": __version__, **facts}
    write_json(folder / MANIFEST, manifest)
    return manifest


def write_run(folder: Path, **facts: object) -> None:
    """How the artefact came about on this occasion: timings, host, attempts, costs (never part of the identity)."""
    write_json(folder / RUN, {"host": platform.node(), "cpu_count": os.cpu_count(), **facts})


def is_complete(folder: Path) -> bool:
    """Whether the directory carries its commit marker."""
    return (folder / MANIFEST).is_file()


def read_manifest(folder: Path, kind: str) -> dict[str, Any]:
    """The manifest of an artefact of the named kind; raises ``InputError`` if it is none, or of a newer format."""
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(
            f"no {kind} here",
            where=folder,
            expected=f"a directory with {MANIFEST} that geossl wrote",
            found="no such directory" if not folder.exists() else "no manifest: not finished, or something else",
        )
    try:
        manifest: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError("this manifest is not readable JSON", where=path, found=error) from None
    if manifest.get("kind") != kind:
        raise InputError("another kind of artefact", where=folder, expected=kind, found=manifest.get("kind"))
    version, newest = manifest.get("format_version", 0), FORMAT_VERSIONS.get(kind, FORMAT_VERSION)
    if not isinstance(version, int) or version > newest:
        raise InputError(
            "written by a newer geossl",
            where=path,
            expected=f"format_version up to {newest}",
            found=version,
            remedy="update geossl",
        )
    return dict(manifest)


def check_place(out: Path, kind: str) -> None:
    """Refuse to put an artefact where a file or a folder that geossl did not write as this kind lies."""
    if out.is_dir() and any(out.iterdir()):
        if is_complete(out):
            read_manifest(out, kind)
            return
        raise InputError(
            "this folder holds something else",
            where=out,
            expected=f"a folder that is new or empty, or an earlier {kind}",
            remedy="choose another --out",
        )
    if out.exists() and not out.is_dir():
        raise InputError("this is a file", where=out, expected="a folder", remedy="choose another --out")


def check_weights(weights: Path, manifest: Mapping[str, Any], kind: str, remedy: str) -> None:
    """Raise ``InputError`` where an artefact's weights file is missing or not the bytes its manifest names."""
    if not weights.is_file():
        raise InputError(f"the {kind}'s weights are missing", where=weights, remedy=remedy)
    if hash_file(weights) != manifest["weights"]["hash"]:
        raise InputError(f"the {kind}'s weights are damaged: not the bytes written", where=weights, remedy=remedy)


@contextmanager
def lock(path: Path, busy: str = "another process is at work here") -> Iterator[None]:
    """Hold an exclusive lock file; the kernel drops it when the process dies, so kill -9 leaves nothing locked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(busy, where=path, remedy="wait until it has finished, then run again") from None
        yield


@contextmanager
def disk_errors(where: object) -> Iterator[None]:
    """Turn a full disk or a missing permission into a clear error."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise WorkError(
                "the disk is full", where=where, remedy="free space and run the same command again: it continues"
            ) from error
        if error.errno in {errno.EACCES, errno.EROFS}:
            raise WorkError("no permission to write", where=where, remedy="choose another --out") from error
        raise


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def work_folder(out: Path, identity: str) -> Path:
    """The folder of unfinished work beside ``out``; work on other inputs is dropped."""
    work = out.with_name(f".{out.name}.work")
    marker = work / f"for-{identity}"
    if not marker.is_file():
        shutil.rmtree(work, ignore_errors=True)
        with disk_errors(work):
            work.mkdir()
            marker.touch()
    return work
