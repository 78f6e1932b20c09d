"""Artefacts are whole or absent, deterministic, and say clearly when they are not what was expected."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from geossl import artefacts
from geossl.errors import InputError, WorkError


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    artefacts.write_json(target, {"a": 1})
    with pytest.raises(RuntimeError), artefacts.atomic_file(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert json.loads(target.read_text()) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_file_may_be_read_by_those_who_may_read_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with artefacts.atomic_file(tmp_path / "a") as temporary:
        temporary.touch(mode=0o600)
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_directory_appears_only_when_whole(tmp_path: Path) -> None:
    target = tmp_path / "artefact"
    with pytest.raises(RuntimeError), artefacts.atomic_directory(target) as folder:
        (folder / "part").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with artefacts.atomic_directory(target) as folder:
        (folder / "part").write_text("x")
        assert not target.exists()
    assert (target / "part").read_text() == "x"


def test_a_new_directory_replaces_the_old_one_whole(tmp_path: Path) -> None:
    target = tmp_path / "artefact"
    for content in ("old", "new"):
        with artefacts.atomic_directory(target) as folder:
            (folder / content).write_text(content)
    assert [path.name for path in target.iterdir()] == ["new"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / f".artefact.tmp-{gone.pid}").mkdir()
    with artefacts.atomic_directory(tmp_path / "artefact"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["artefact"]


def test_manifests_of_equal_inputs_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        artefacts.write_manifest(tmp_path / name, "encoder", config={"b": 2, "a": (1, 2)}, path=Path("x"))
    assert (tmp_path / "one/manifest.json").read_bytes() == (tmp_path / "two/manifest.json").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m | {"kind": "head"}, "another kind"),
        (lambda m: m | {"format_version": 99}, "newer geossl"),
    ],
)
def test_a_manifest_of_another_kind_or_format_is_refused(tmp_path: Path, change, message: str) -> None:
    artefacts.write_manifest(tmp_path, "encoder")
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(InputError, match=message):
        artefacts.read_manifest(tmp_path, "encoder")


def test_no_manifest_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no encoder here"):
        artefacts.read_manifest(tmp_path, "encoder")


def test_a_broken_manifest_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="not readable JSON"):
        artefacts.read_manifest(tmp_path, "encoder")


def test_a_full_disk_is_a_work_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(WorkError, match="disk is full"), artefacts.atomic_file(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_lock_is_held_and_dies_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import sys, time; from pathlib import Path; from geossl.artefacts import lock\n"
        "with lock(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(InputError, match="another process"), artefacts.lock(path):
            pass
        holder.kill()
        holder.wait()
    with artefacts.lock(path):
        pass
