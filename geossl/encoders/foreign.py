"""Weights from elsewhere, read without running anything they bring: torchgeo's by name, files, encoder directories."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchgeo import models
from torchvision.models import WeightsEnum

from geossl.artefacts import MANIFEST, check_weights, hash_file, read_manifest
from geossl.encoders.bands import common_names
from geossl.encoders.migrate import migrate
from geossl.errors import InputError, unknown_name

KIND = "encoder"
WEIGHTS = "encoder.safetensors"
MODELS = {
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "resnet152": "resnet152",
    "vit_small_patch16_224": "vit-s",
    "vit_base_patch16_224": "vit-b",
}
"""torchgeo's names of the architectures, and ours."""
_TORCH_FILES = (".pth", ".pt", ".ckpt", ".bin")
_INSIDE = ("state_dict", "model_state_dict", "model", "student", "teacher", "network")
"""Where training frameworks put the weights in a checkpoint."""
_DIGITAL_NUMBERS = ("SSL4EO-S12", "CrisisLandMark", "SSL4Eco Dataset")
"""Data sets of Sentinel-2 digital numbers, 10,000 times the reflectance, which their weights' normalisation is for."""
_PATIENCE_S = 30.0


@dataclass(frozen=True)
class Foreign:
    """Weights as they were read.

    ``bands``: common names in the order of the first layer (None: not said). ``mean``, ``std``: one a band, in
    reflectance, that the weights expect their input normalised by (None: not known). ``radiometry``: what is known of
    it, in words. ``meta``: an encoder directory's manifest, or torchgeo's facts.
    """

    source: str
    hash: str
    state: dict[str, Tensor]
    architecture: str | None = None
    bands: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    radiometry: str = "not said"
    meta: dict[str, Any] = field(default_factory=dict)


def read_foreign(source: str | Path, architecture: str | None = None) -> Foreign:
    """Weights of a torchgeo enum (``ResNet18_Weights.SENTINEL2_ALL_MOCO``), a file, or an encoder directory.

    Args:
        source: as said.
        architecture: which one they must be of, as far as the source tells; any by default.

    Raises:
        InputError: nothing of that name, another architecture, a file that is no weights, or weights that cannot be
            downloaded.
    """
    path = Path(source)
    if path.is_dir():
        return _directory(path, architecture)
    if path.is_file():
        encoder = path.name == WEIGHTS and (path.parent / MANIFEST).is_file()
        return _directory(path.parent, architecture) if encoder else _file(path)
    if "_Weights" in str(source):
        return _torchgeo(enum_of(str(source)), architecture)
    raise InputError(
        "no such weights",
        where=source,
        expected="an encoder directory, a .pth, .ckpt or .safetensors file, or a name such as"
        " ResNet18_Weights.SENTINEL2_ALL_MOCO",
    )


def enum_of(name: str) -> WeightsEnum:
    """torchgeo's weights by their full name."""
    try:
        return models.get_weight(name)
    except ValueError:
        known = [str(weights) for model in MODELS for weights in models.get_model_weights(model)]
        raise unknown_name("torchgeo weights", name, known, where="--weights") from None


def _check_architecture(source: object, found: str, wanted: str | None) -> None:
    if wanted is not None and found != wanted:
        raise InputError(
            "these weights are of another architecture",
            where=source,
            expected=wanted,
            found=found,
            remedy=f"choose --encoder {found}, or weights of {wanted}",
        )


def _torchgeo(weights: WeightsEnum, wanted: str | None) -> Foreign:
    meta: dict[str, Any] = weights.meta
    names = meta.get("bands")
    bands = common_names(weights.name, names) if names else None
    architecture = MODELS.get(meta["model"])
    if architecture is None:
        raise InputError(
            "these weights are of an architecture that geossl does not build",
            where=str(weights),
            expected=", ".join(MODELS),
            found=meta["model"],
        )
    _check_architecture(weights, architecture, wanted)
    state = _downloaded(weights)
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    mean, std = _normalisation(weights, len(names) if names else int(meta["in_chans"]))
    known = meta.get("dataset") in _DIGITAL_NUMBERS and weights.name.startswith("SENTINEL2")
    return Foreign(
        source=str(weights),
        hash=hash_file(file),
        state=_tensors(state, str(weights)),
        architecture=architecture,
        bands=bands,
        mean=tuple(one / 10_000 for one in mean) if known else None,
        std=tuple(one / 10_000 for one in std) if known else None,
        radiometry="Sentinel-2 digital numbers, 10,000 times the reflectance"
        if known
        else f"pixels of {meta.get('dataset', 'a data set that is not named')}, whose relation to reflectance is not "
        "recorded",
        meta={key: meta[key] for key in ("dataset", "model", "ssl_method", "publication") if key in meta},
    )


def _downloaded(weights: WeightsEnum) -> Any:
    """The file in torch's hub directory, fetched if it is not there yet; its name carries its hash."""
    name, folder = Path(weights.url).name, Path(torch.hub.get_dir()) / "checkpoints"
    try:
        with _patience():
            return weights.get_state_dict(progress=False, check_hash=True, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _unreadable(folder / name, error) from None
    except (OSError, RuntimeError) as error:  # no network, no such address, another file than the hash says
        if (folder / name).is_file():
            raise _unreadable(folder / name, error) from None
        raise InputError(
            f"{weights} could not be downloaded",
            where=weights.url,
            found=f"{type(error).__name__}: {error}",
            expected=f"{folder / name}",
            remedy=f"download {name} on a machine with network and put it into {folder}"
            " (or another folder's hub/checkpoints, with TORCH_HOME set to that folder)",
        ) from None


@contextmanager
def _patience() -> Iterator[None]:
    """A server that never answers is an error after a while; torch's own download waits for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_PATIENCE_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _normalisation(weights: WeightsEnum, bands: int) -> tuple[list[float], list[float]]:
    """The weights' own transforms as one ``(x - mean) / std`` a band: normalisations in a row are one."""
    mean, std = torch.zeros(bands, dtype=torch.float64), torch.ones(bands, dtype=torch.float64)
    transforms: nn.Module = weights.transforms
    for step in transforms.modules():
        if type(step).__name__ == "Normalize":
            mean = mean + std * torch.tensor(step.mean, dtype=torch.float64)
            std = std * torch.tensor(step.std, dtype=torch.float64)
    return mean.tolist(), std.tolist()


def _file(path: Path) -> Foreign:
    if path.suffix == ".safetensors":
        try:
            state: Any = load_file(path)
        except SafetensorError as error:
            raise _unreadable(path, error) from None
    elif path.suffix in _TORCH_FILES:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise _unreadable(path, error) from None
    else:
        raise InputError(
            "geossl does not know this kind of file",
            where=path,
            expected=f"{', '.join(_TORCH_FILES)} or .safetensors, or an encoder directory",
        )
    return Foreign(str(path), hash_file(path), _tensors(state, path))


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        "this file cannot be read as weights",
        where=path,
        found=str(error).splitlines()[0] if str(error) else type(error).__name__,
        remedy="get the file again; a checkpoint that holds Python objects is not unpickled: save its state_dict alone"
        " with torch.save, or as safetensors",
    )


def _tensors(loaded: Any, where: object) -> dict[str, Tensor]:
    """The tensors of a plain state dict, or of the checkpoint it lies in."""
    inner = loaded
    while isinstance(inner, Mapping) and (names := [n for n in _INSIDE if isinstance(inner.get(n), Mapping)]):
        inner = inner[names[0]]
    found = {str(k): v for k, v in inner.items() if isinstance(v, Tensor)} if isinstance(inner, Mapping) else {}
    if not found:
        raise InputError("no weights in this file", where=where, expected="a state dict, or a checkpoint with one")
    return found


def _directory(folder: Path, wanted: str | None) -> Foreign:
    manifest = migrate(read_manifest(folder, KIND))
    _check_architecture(folder, manifest["architecture"], wanted)
    check_weights(folder / WEIGHTS, manifest, KIND, "copy the whole encoder directory again")
    normalisation = manifest["normalisation"]
    state = load_file(folder / WEIGHTS)
    return Foreign(
        source=str(folder),
        hash=manifest["weights"]["hash"],
        state={key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")},
        architecture=manifest["architecture"],
        bands=tuple(manifest["bands"]),
        mean=tuple(normalisation["mean"]),
        std=tuple(normalisation["std"]),
        radiometry="reflectance",
        meta=manifest,
    )
