"""YAML becomes typed objects in one place; every fault names file, field and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from geossl import config
from geossl.errors import InputError


class Example(config.Settings):
    side: int
    name: str = "x"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_users_own_file_is_read_by_path(tmp_path: Path) -> None:
    assert config.load(Example, "examples", write(tmp_path / "a.yaml", "side: 3")).side == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("side: wide", "side"),
        ("side: 3\nsied: 4", "sied"),
        ("- 1", "mapping"),
        ("side: [", "cannot read"),
    ],
)
def test_a_fault_in_the_file_names_file_and_field(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "a.yaml", text)
    with pytest.raises(InputError, match=message) as error:
        config.load(Example, "examples", path)
    assert str(path) in str(error.value)


def test_an_unknown_name_lists_the_known_and_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'simclr'") as error:
        config.load(Example, "methods", "simclt")
    assert "moco2" in str(error.value)


@pytest.mark.parametrize("kind", ["regions", "products", "methods", "tasks", "sandbox", "chipsets"])
def test_every_kind_of_configuration_is_shipped(kind: str) -> None:
    assert config.config_names(kind)
