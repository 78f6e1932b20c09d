"""The one place where YAML becomes typed objects; knows no schema of its own.

Shipped configurations live in ``configs/<kind>/<name>.yaml`` (inside the wheel: ``geossl/configs``).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from geossl.errors import InputError, unknown_name

Schema = TypeVar("Schema", bound=BaseModel)


class Settings(BaseModel):
    """Base of all settings: immutable, and a field nobody declared is an error instead of being ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def geossl_home() -> Path:
    """Where geossl keeps what it makes when no ``--out`` is given: ``$GEOSSL_HOME`` or the platform's data folder."""
    if named := os.environ.get("GEOSSL_HOME"):
        return Path(named).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("geossl"))


def config_folder(kind: str) -> Path:
    """The folder of shipped configurations of one kind (``regions``, ``products``, ``methods``, ``tasks``, …)."""
    package = Path(__file__).parent
    shipped = package / "configs"
    return (shipped if shipped.is_dir() else package.parent / "configs") / kind


def config_names(kind: str) -> list[str]:
    """Names of the shipped configurations of one kind."""
    return sorted(path.stem for path in config_folder(kind).glob("*.yaml"))


def read_yaml(path: Path) -> dict[str, Any]:
    """One YAML mapping; raises ``InputError`` naming the file (and line) when it is missing or malformed."""
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no such configuration file", where=path, remedy="check the path") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError("cannot read this YAML file", where=path, found=error) from None
    if not isinstance(loaded, dict):
        raise InputError("a configuration is a YAML mapping", where=path, found=type(loaded).__name__)
    return loaded


def parse(schema: type[Schema], values: dict[str, Any], where: object) -> Schema:
    """``values`` as a ``schema``; raises ``InputError`` naming each wrong field."""
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        faults = [_fault(".".join(map(str, e["loc"])), e["msg"]) for e in error.errors()]
        raise InputError(
            f"not a valid {schema.__name__}",
            where=where,
            found="; ".join(faults),
            remedy=f"fields are: {', '.join(schema.model_fields)}",
        ) from None


def _fault(field: str, message: str) -> str:
    """What is wrong with a field, or (of none) with fields that do not go together."""
    said = message.removeprefix("Value error, ")
    return f"{field}: {said}" if field else said


def load(schema: type[Schema], kind: str, name_or_path: str | Path) -> Schema:
    """A shipped configuration by name, or a user's own by path to a ``.yaml`` file."""
    path = Path(name_or_path)
    if path.suffix in {".yaml", ".yml"}:
        return parse(schema, read_yaml(path), path)
    shipped = config_folder(kind) / f"{name_or_path}.yaml"
    if not shipped.is_file():
        raise unknown_name(
            kind.rstrip("s"), str(name_or_path), config_names(kind), remedy="or give the path of a .yaml file"
        )
    return parse(schema, read_yaml(shipped), shipped)
