"""Encoders on disk: weights as safetensors beside a manifest that says what they are and where they come from.

An :class:`Encoder` takes reflectance and normalises inside, so that nobody has to remember the statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from geossl.artefacts import MANIFEST, atomic_file, check_weights, disk_errors, hash_file, read_manifest, write_manifest
from geossl.encoders.build import Backbone, build_encoder, seeded_encoder
from geossl.errors import InputError

KIND = "encoder"
WEIGHTS = "encoder.safetensors"


class Encoder(nn.Module):
    """A backbone with its bands and normalisation: reflectance (B, bands, H, W) in, embeddings (B, out_dim) out.

    Invalid pixels must have been filled by the caller (``views`` and ``tasks`` fill with the band mean). ``mean`` and
    ``std`` (float32, one a band, reflectance) are buffers, so they move with the module and lie in the state dict.
    ``meta`` is the manifest an encoder was loaded from, or what was given when it was made.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        mean: Sequence[float] | Tensor,
        std: Sequence[float] | Tensor,
        meta: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.meta: dict[str, Any] = dict(meta or {})
        for name, given in (("mean", mean), ("std", std)):
            values = torch.as_tensor(given, dtype=torch.float32).detach().clone().reshape(-1)
            if len(values) != len(backbone.bands) or not torch.isfinite(values).all():
                raise InputError(
                    f"the normalisation needs one finite {name} a band",
                    where=f"encoder {backbone.name}",
                    expected=f"{len(backbone.bands)} values ({', '.join(backbone.bands)})",
                    found=values.tolist(),
                )
            self.register_buffer(name, values)
        if not (self.std > 0).all():
            raise InputError(
                "a band does not vary, so it cannot be normalised",
                where=f"encoder {backbone.name}: std",
                found=dict(zip(backbone.bands, self.std.tolist(), strict=True)),
                remedy="leave this band out",
            )

    @property
    def bands(self) -> tuple[str, ...]:
        """Common names of the bands, in the order the encoder takes them."""
        return self.backbone.bands

    @property
    def out_dim(self) -> int:
        """Length of an embedding."""
        return self.backbone.out_dim

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of input per pixel of each map of :meth:`features`."""
        return self.backbone.strides

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each map of :meth:`features`."""
        return self.backbone.channels

    def normalise(self, values: Tensor) -> Tensor:
        """Reflectance (B, bands, H, W) to mean 0 and standard deviation 1 a band over the training chips."""
        return (values - self.mean[:, None, None]) / self.std[:, None, None]

    def forward(self, values: Tensor) -> Tensor:
        """Embeddings (B, out_dim) of reflectance (B, bands, H, W)."""
        embedding: Tensor = self.backbone(self.normalise(values))
        return embedding

    def features(self, values: Tensor) -> list[Tensor]:
        """Maps of reflectance (B, bands, H, W) at :attr:`strides`."""
        return self.backbone.features(self.normalise(values))

    def select(self, bands: Sequence[str]) -> list[int]:
        """Where the encoder's bands lie in data with ``bands``: ``values[:, encoder.select(bands)]`` fits.

        Raises:
            InputError: the data lack a band of the encoder.
        """
        check_bands(self, bands)
        given = list(bands)
        return [given.index(band) for band in self.bands]


def check_bands(encoder: Encoder, bands: Sequence[str], where: object = None) -> None:
    """Refuse data that lack bands of the encoder. Order and surplus bands are no fault: see :meth:`Encoder.select`."""
    missing = [band for band in encoder.bands if band not in bands]
    if missing:
        surplus = [band for band in bands if band not in encoder.bands]
        raise InputError(
            f"the data lack band {', '.join(missing)} of the encoder",
            where=where,
            expected=", ".join(encoder.bands),
            found=", ".join(bands) + (f" (surplus: {', '.join(surplus)})" if surplus else ""),
            remedy="take data with these bands, or pretrain an encoder on the bands the data have",
        )


def random_encoder(
    name: str, bands: Sequence[str], mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor, seed: int
) -> Encoder:
    """An untrained encoder: the control that every trained one has to beat."""
    backbone = seeded_encoder(name, bands, seed)
    return Encoder(backbone, mean, std, {"method": "random", "seed": seed}).eval()


def save_encoder(encoder: Encoder, folder: Path, **facts: object) -> None:
    """Write ``encoder.safetensors`` and, last, ``manifest.json`` into ``folder`` (which may hold a run's other files).

    ``facts`` go into the manifest: method, seed, encoding, resolution_m, chips, metrics, … An encoder that was there
    before stops counting as one before its weights are replaced.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.state_dict().items()}
    with atomic_file(folder / WEIGHTS) as temporary:
        save_file(state, str(temporary))
    known = {key: value for key, value in encoder.meta.items() if key not in _OWN}
    write_manifest(
        folder,
        KIND,
        **{**known, **facts},
        architecture=encoder.backbone.name,
        stem=encoder.backbone.stem,
        bands=list(encoder.bands),
        normalisation={"mean": encoder.mean.tolist(), "std": encoder.std.tolist()},
        weights={"file": WEIGHTS, "hash": hash_file(folder / WEIGHTS)},
    )


_OWN = ("kind", "format_version", "geossl_version", "architecture", "stem", "bands", "normalisation", "weights")


def load_encoder(path: str | Path) -> Encoder:
    """The encoder of a directory that :func:`save_encoder` wrote, in evaluation mode, on the CPU.

    Raises:
        InputError: no such directory, another kind of artefact, damaged weights.
    """
    folder = Path(path)
    manifest = read_manifest(folder, KIND)
    weights = folder / WEIGHTS
    remedy = "copy the whole encoder directory again, or run the same geossl pretrain again"
    check_weights(weights, manifest, KIND, remedy)
    backbone = build_encoder(manifest["architecture"], manifest["bands"], stem=manifest["stem"])
    normalisation = manifest["normalisation"]
    encoder = Encoder(backbone, normalisation["mean"], normalisation["std"], manifest)
    try:
        encoder.load_state_dict(load_file(weights))
    except (RuntimeError, SafetensorError) as error:
        raise InputError("the weights do not fit the manifest", where=folder, found=error, remedy=remedy) from None
    return encoder.eval()
