"""kill -9 in the middle of a map: the same command finishes it and gives the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

FAKES = Path(__file__).parents[1] / "unit" / "maps"
PROGRAM = f"""
import sys, time
sys.path.insert(0, {str(FAKES)!r})
from maps_fakes import PixelHead, cut_chips, smooth_picture, task
from geossl.maps import predictors, stream
from geossl.maps.make import make_map

predictors.WindowSizes = lambda *given: stream.WindowSizes(32, 8, 8)
stream.BATCH_PIXELS = 2 * 32 * 32
out, pause, whole = sys.argv[1:]


class Slow(PixelHead):
    def predict(self, values, clear):
        time.sleep(float(pause))
        return super().predict(values, clear)


if pause == "0":  # the run that nothing disturbs, beside the one that goes on
    make_map(Slow(task()), chips=cut_chips(smooth_picture()), block="b1", out=whole)
result = make_map(Slow(task()), chips=cut_chips(smooth_picture()), block="b1", out=out)
print(result.windows_now, result.windows)
"""


def run(out: Path, pause: float) -> subprocess.Popen[str]:
    whole = out.parents[1] / "whole" / "map"
    command = [sys.executable, "-c", PROGRAM, str(out), str(pause), str(whole)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "run.json"}


def test_a_map_killed_within_a_row_is_finished_by_the_same_command(tmp_path: Path) -> None:
    out = tmp_path / "killed" / "map"
    for rows in (1, 2):  # twice: a resumed run may be killed as well
        process = run(out, 0.1)
        progress = out.parent / ".map.work" / "progress.json"
        deadline = time.monotonic() + 120
        while not (progress.is_file() and f'"rows_done": {rows}' in progress.read_text()):
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.15)  # into the next row
        os.kill(process.pid, signal.SIGKILL)
        process.wait(30)
        assert not out.exists()

    last = run(out, 0)
    said, _ = last.communicate(timeout=180)
    assert last.returncode == 0
    now, windows = map(int, said.split())
    assert 0 < now < windows
    assert files(out) == files(tmp_path / "whole" / "map")
