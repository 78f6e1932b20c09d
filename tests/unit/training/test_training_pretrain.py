"""A whole run on tiny chips: what it writes, how it is continued, and what it refuses."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import geossl
from geossl.encoders.saved import load_encoder
from geossl.errors import InputError, WorkError
from geossl.training import compute, data
from geossl.training.compute import cpu_flags
from geossl.training.optim import MEASURED_STEPS
from geossl.training.pretrain import foresee, pretrain
from geossl.training.state import WORK, Workspace

Make = Callable[..., str]


def train(chips: Path, method: str, out: Path, **arguments: object) -> object:
    settings = {"epochs": 2, "batch_size": 8, **arguments}
    return pretrain(chips=chips, method=method, out=out, **settings)  # type: ignore[arg-type]


def weights(folder: Path) -> bytes:
    return (folder / "encoder.safetensors").read_bytes()


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("method", ["simclr", "moco2"])
def test_a_run_writes_an_encoder_that_loads(small_chips: Path, small_method: Make, tmp_path: Path, method: str) -> None:
    out = tmp_path / "encoder"
    result = train(small_chips, small_method(method), out, probe_labels="kind")
    assert (result.encoder, result.report, result.method) == (out, out / "report.html", method)
    assert result.epochs == 2 and result.steps > 0 and result.samples_per_s > 0 and result.collapse == []
    assert 0 <= result.recall_at_1 <= 1 and 0 <= result.knn <= 1
    written = {path.name for path in out.iterdir()}
    assert written >= {"encoder.safetensors", "manifest.json", "metrics.csv", "report.html", "run.json", "tensorboard"}
    assert not any(name.startswith(".") for name in written)
    encoder = load_encoder(out)
    assert encoder.bands == ("blue", "red", "nir")
    assert encoder(torch.full((2, 3, 32, 32), 0.1)).shape == (2, encoder.out_dim)
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["splits"]["test"] and manifest["transductive"] is False and manifest["pairs"] == "same chip"
    assert manifest["config"]["method"] == method and manifest["radiometry"]["stored_as"]["offset"] == -0.1
    found = rows(out)
    assert found[0]["step"] == "0" and found[0]["recall_at_1"] and not found[0]["loss"]
    assert int(found[-1]["step"]) == result.steps and float(found[-1]["loss"]) > 0


@pytest.mark.usefixtures("no_pictures")
def test_equal_runs_are_equal_and_the_callers_generator_is_untouched(
    small_chips: Path, small_method: Make, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(small_chips, small_method(), tmp_path / "a", epochs=1)
    assert torch.equal(torch.rand(3), expected)
    train(small_chips, small_method(), tmp_path / "b", epochs=1)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    manifests = [(tmp_path / name / "manifest.json").read_bytes() for name in "ab"]
    assert manifests[0] == manifests[1]
    train(small_chips, small_method(), tmp_path / "c", epochs=1, seed=1)
    assert weights(tmp_path / "a") != weights(tmp_path / "c")


@pytest.mark.usefixtures("no_pictures", "often")
@pytest.mark.parametrize(("method", "deaths"), [("simclr", (3, 5)), ("moco2", (3,))])
def test_a_run_that_died_goes_on_to_the_same_weights(
    small_chips: Path,
    small_method: Make,
    tmp_path: Path,
    die_after: Callable[[int], None],
    killed: type[BaseException],
    method: str,
    deaths: tuple[int, ...],
) -> None:
    settings = small_method(method)
    train(small_chips, settings, tmp_path / "whole", epochs=3)
    for step in deaths:
        die_after(step)
        with pytest.raises(killed):
            train(small_chips, settings, tmp_path / "died", epochs=3)
        assert Workspace(tmp_path / "died").load().step == step - 1
        assert not (tmp_path / "died" / "manifest.json").exists()
    die_after(-1)
    result = train(small_chips, settings, tmp_path / "died", epochs=3)
    assert weights(tmp_path / "died") == weights(tmp_path / "whole")
    assert rows(tmp_path / "died") == rows(tmp_path / "whole")
    assert json.loads((result.encoder / "run.json").read_text(encoding="utf-8"))["attempts"] == 1 + len(deaths)
    assert not (result.encoder / WORK).exists()


@pytest.mark.usefixtures("no_pictures")
def test_a_finished_encoder_is_returned_as_it_is(
    small_chips: Path, small_method: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = train(small_chips, small_method(), tmp_path / "a", epochs=1)
    stamp = (tmp_path / "a" / "encoder.safetensors").stat().st_mtime_ns
    again = train(small_chips, small_method(), tmp_path / "a", epochs=1)
    assert again == first
    assert "this encoder is finished" in capsys.readouterr().err
    assert (tmp_path / "a" / "encoder.safetensors").stat().st_mtime_ns == stamp


@pytest.mark.usefixtures("no_pictures")
def test_another_run_in_the_same_place_is_refused(
    small_chips: Path, small_method: Make, tmp_path: Path, die_after: Callable[[int], None], killed: type[BaseException]
) -> None:
    train(small_chips, small_method(), tmp_path / "a", epochs=1)
    with pytest.raises(InputError, match=r"a finished encoder of other settings[\s\S]*epochs 1[\s\S]*--out"):
        train(small_chips, small_method(), tmp_path / "a", epochs=2)
    die_after(2)
    with pytest.raises(killed):
        train(small_chips, small_method(), tmp_path / "b", epochs=4)
    with pytest.raises(InputError, match=r"an unfinished encoder of other settings[\s\S]*seed"):
        train(small_chips, small_method(), tmp_path / "b", epochs=4, seed=3)


@pytest.mark.usefixtures("no_pictures")
def test_a_time_limit_becomes_a_number_of_steps_that_is_kept(
    small_chips: Path, small_method: Make, tmp_path: Path, die_after: Callable[[int], None], killed: type[BaseException]
) -> None:
    die_after(MEASURED_STEPS + 1)
    with pytest.raises(killed):
        train(small_chips, small_method(), tmp_path / "a", epochs=None, max_minutes=0.01)
    stored = json.loads((tmp_path / "a" / WORK / "schedule.json").read_text(encoding="utf-8"))["total"]
    assert stored >= MEASURED_STEPS + 2
    die_after(-1)
    result = train(small_chips, small_method(), tmp_path / "a", epochs=None, max_minutes=0.01)
    assert result.steps == stored


def test_all_blocks_are_recorded_as_transductive(small_chips: Path, small_method: Make, tmp_path: Path) -> None:
    train(small_chips, small_method(extra="pairs: {max_days: 60}\n"), tmp_path / "a", epochs=1, all_blocks=True)
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["transductive"] is True and manifest["splits"]["test"] == []
    assert manifest["chips"]["train"] == 24 and manifest["pairs"] == "same tile within 60 days"
    assert "transductive" in (tmp_path / "a" / "report.html").read_text(encoding="utf-8")


def test_a_loss_that_is_no_number_stops_the_run(small_chips: Path, small_method: Make, tmp_path: Path) -> None:
    with pytest.raises(WorkError, match=r"no longer a number|collapsed"):
        train(small_chips, small_method(extra="optimizer: {rate: 1.0e+30}\n"), tmp_path / "a", epochs=4)
    assert not (tmp_path / "a" / "manifest.json").exists()
    assert not (tmp_path / "a" / WORK).exists()


def test_a_collapsed_run_stops_and_says_so(
    small_chips: Path, small_method: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geossl.training.callbacks.evaluation_interval", lambda total, epoch: 2)
    monkeypatch.setattr("geossl.training.monitor.collapse_signs", lambda health: ["the features hardly vary"])
    with pytest.raises(WorkError, match=r"collapsed[\s\S]*the features hardly vary[\s\S]*batch"):
        train(small_chips, small_method(), tmp_path / "a", epochs=8)
    assert rows(tmp_path / "a")


def test_full_memory_names_the_remedy(
    small_chips: Path, small_method: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: data.Batches, step: int) -> list[torch.Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(data.Batches, "views", full)
    with pytest.raises(WorkError, match=r"memory is full[\s\S]*--batch-size 4 --accumulate 2"):
        train(small_chips, small_method(), tmp_path / "a")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 500}, "more chips in a batch than there are"),
        ({"batch_size": 1}, "this batch is too small"),
        ({"epochs": 3, "max_minutes": 1.0}, "a run has one length"),
        ({"epochs": 0}, "more than nothing"),
        ({"encoder": "resnet19"}, "did you mean 'resnet18'"),
        ({"probe_labels": "kid"}, "did you mean 'kind'"),
        ({"period": "2019"}, "no chip to train on"),
        ({"period": "summer"}, "not a period"),
        ({"region": "malardalen"}, "one source of chips"),
    ],
)
def test_wrong_input_is_refused_before_anything_starts(
    small_chips: Path, small_method: Make, tmp_path: Path, arguments: dict[str, object], message: str
) -> None:
    settings: dict[str, object] = {"chips": small_chips, "method": small_method(), "out": tmp_path / "a", **arguments}
    with pytest.raises(InputError) as error:
        pretrain(**settings)  # type: ignore[arg-type]
    assert message in str(error.value)
    assert not (tmp_path / "a").exists()


def test_unknown_method_is_refused(small_chips: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'simclr'"):
        pretrain(chips=small_chips, method="simcrl", out=tmp_path / "a")


def test_a_dry_run_counts_and_writes_nothing(small_chips: Path, small_method: Make, tmp_path: Path) -> None:
    told = foresee(chips=small_chips, method=small_method(), epochs=3, batch_size=4, out=tmp_path / "a")
    assert told.steps == 3 * (told.chips // 4)
    assert "3 epochs" in str(told) and ("float32" in str(told) or "bfloat16" in str(told))
    assert not (tmp_path / "a").exists()


def test_without_a_length_a_small_set_is_seen_many_times(small_chips: Path, home: Path) -> None:
    told = foresee(chips=small_chips)
    assert told.out == home / "encoders" / "small-simclr"
    assert told.steps == 100 * (told.chips // told.batch_size)


def test_the_python_api_is_the_same_function() -> None:
    assert geossl.pretrain is pretrain


def test_bfloat16_only_where_the_cpu_multiplies_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cpuinfo = tmp_path / "cpuinfo"
    for flags, precision in (("fpu avx2", "32-true"), ("fpu avx512_bf16", "bf16-mixed"), ("amx_bf16", "bf16-mixed")):
        cpuinfo.write_text(f"processor: 0\nflags\t\t: {flags}\n", encoding="ascii")
        found = cpu_flags(cpuinfo)
        monkeypatch.setattr(compute, "cpu_flags", lambda found=found: found)
        assert compute.choose_compute().precision == precision
    assert cpu_flags(tmp_path / "nothing") == set()
