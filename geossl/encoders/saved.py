"""Encoders on disk: weights as safetensors beside a manifest that says what they are and where they come from.

An :class:`Encoder` takes reflectance and normalises inside, so that nobody has to remember the statistics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from geossl.artefacts import (
    MANIFEST,
    atomic_file,
    check_weights,
    disk_errors,
    hash_file,
    read_manifest,
    write_json,
    write_manifest,
)
from geossl.encoders.build import Backbone, Stem, build_encoder, seeded_encoder
from geossl.encoders.foreign import KIND, WEIGHTS
from geossl.encoders.item import ITEM, encoder_item
from geossl.encoders.layers import build_layers, describe_layers, output_width
from geossl.encoders.migrate import migrate, radiometry
from geossl.errors import InputError

__all__ = ["KIND", "WEIGHTS", "Encoder", "check_bands", "load_encoder", "random_encoder", "save_encoder"]


class Encoder(nn.Module):
    """A backbone with its bands and normalisation: reflectance (B, bands, H, W) in, embeddings (B, out_dim) out.

    Invalid pixels must have been filled by the caller (``views`` and ``tasks`` fill with the band mean). ``mean`` and
    ``std`` (float32, one a band, reflectance) are buffers, so they move with the module and lie in the state dict.
    ``meta`` is the manifest an encoder was loaded from, or what was given when it was made. With a ``projection``
    (the first layers of a method's projection head, kept as SimCLR v2 does: Chen et al. 2020, arXiv:2006.10029) the
    embedding is that of the projection; the maps are the backbone's.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        mean: Sequence[float] | Tensor,
        std: Sequence[float] | Tensor,
        meta: dict[str, Any] | None = None,
        projection: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.projection = backbone, projection
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
        if self.projection is None:
            return self.backbone.out_dim
        return output_width(self.projection, self.backbone.out_dim)

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
        return self._projected(self.backbone(self.normalise(values)))

    def features_and_embedding(self, values: Tensor) -> tuple[list[Tensor], Tensor]:
        """What :meth:`features` and the encoder itself give, in one pass."""
        maps, embedding = self.backbone.features_and_embedding(self.normalise(values))
        return maps, self._projected(embedding)

    def _projected(self, embedding: Tensor) -> Tensor:
        if self.projection is None:
            return embedding
        projected: Tensor = self.projection(embedding)
        return projected

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


def architecture_facts(encoder: Encoder) -> dict[str, Any]:
    """What :func:`restored` needs to make the same encoder anew, as JSON; weights are not in it."""
    return {
        "architecture": encoder.backbone.name,
        "stem": encoder.backbone.stem,
        "image_px": encoder.backbone.image_px,
        "projection": None if encoder.projection is None else describe_layers(encoder.projection),
        "bands": list(encoder.bands),
        "normalisation": {"mean": encoder.mean.tolist(), "std": encoder.std.tolist()},
    }


def restored(facts: Mapping[str, Any], meta: dict[str, Any] | None = None) -> Encoder:
    """An encoder of :func:`architecture_facts` with fresh weights; facts of older formats lack the newer ones."""
    stem: Stem = facts["stem"]
    backbone = build_encoder(facts["architecture"], facts["bands"], stem=stem, image_px=facts.get("image_px"))
    layers = facts.get("projection")
    projection = None if layers is None else build_layers(layers)
    return Encoder(backbone, facts["normalisation"]["mean"], facts["normalisation"]["std"], meta, projection)


def untrained_twin(encoder: Encoder, seed: int) -> Encoder:
    """The same architecture, bands and normalisation with first weights that depend on ``seed`` alone: its control."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return restored(architecture_facts(encoder), {"method": "random", "seed": seed}).eval()


def save_encoder(encoder: Encoder, folder: Path, **facts: Any) -> None:
    """Write ``encoder.safetensors``, ``item.json`` and, last, ``manifest.json`` into ``folder`` (which may hold a run's
    other files).

    ``facts`` go into the manifest: method, seed, encoding (how the chips store reflectance; kept as ``radiometry``),
    resolution_m, chips, metrics, extent (:func:`geossl.encoders.item.training_extent`), initial_weights, … An encoder
    that was there before stops counting as one before its weights are replaced.

    Raises:
        InputError: a projection of layers that cannot be described.
    """
    known = {key: value for key, value in encoder.meta.items() if key not in _OWN}
    if "encoding" in facts:
        known["radiometry"] = radiometry(facts.pop("encoding"))
    told = {**known, **facts, **architecture_facts(encoder)}
    told.setdefault("radiometry", radiometry(None))
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.state_dict().items()}
    with atomic_file(folder / WEIGHTS) as temporary:
        save_file(state, str(temporary))
    write_json(folder / ITEM, encoder_item(encoder, told, WEIGHTS, _item_id(told)))
    write_manifest(folder, KIND, **told, item=ITEM, weights={"file": WEIGHTS, "hash": hash_file(folder / WEIGHTS)})


_OWN = (
    "kind",
    "format_version",
    "geossl_version",
    "architecture",
    "stem",
    "image_px",
    "projection",
    "bands",
    "normalisation",
    "weights",
    "item",
)


def _item_id(facts: Mapping[str, Any]) -> str:
    """A name for the STAC item that says what it is, in characters that the MLM extension takes."""
    parts = [(facts.get("chips") or {}).get("name"), facts.get("method"), facts["architecture"]]
    name = "-".join(str(part) for part in parts if part)
    return "geossl-" + "".join(one if one.isascii() and one.isalnum() else "-" for one in name).strip("-")


def load_encoder(path: str | Path) -> Encoder:
    """The encoder of a directory that :func:`save_encoder` wrote, in evaluation mode, on the CPU.

    Directories of older formats are read too (:mod:`geossl.encoders.migrate`).

    Raises:
        InputError: no such directory, another kind of artefact, a newer format, damaged weights.
    """
    folder = Path(path)
    manifest = migrate(read_manifest(folder, KIND))
    weights = folder / WEIGHTS
    remedy = "copy the whole encoder directory again, or run the same geossl pretrain again"
    check_weights(weights, manifest, KIND, remedy)
    encoder = restored(manifest, manifest)
    try:
        encoder.load_state_dict(load_file(weights))
    except (RuntimeError, SafetensorError) as error:
        raise InputError("the weights do not fit the manifest", where=folder, found=error, remedy=remedy) from None
    return encoder.eval()
