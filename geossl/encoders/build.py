"""torchgeo's backbones behind one small face: ``forward`` for embeddings, ``features`` for maps at several strides.

Goes in: normalised images (B, bands, H, W). Comes out: pooled embeddings (B, out_dim), or maps for dense heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchgeo import models

from geossl.errors import InputError, unknown_name

Stem = Literal["maxpool", "small"]

_ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "resnet18": models.resnet18,
    "resnet50": models.resnet50,
    "resnet152": models.resnet152,
}


def encoder_names() -> list[str]:
    """Names that :func:`build_encoder` knows."""
    return sorted(_ARCHITECTURES)


class Backbone(nn.Module):
    """A convolutional backbone without classifier.

    ``net`` is the plain timm/torchgeo network: its state dict loads into ``torchgeo.models`` (``num_classes=0``) as it
    is. ``channels`` and ``strides`` describe what :meth:`features` returns.
    """

    def __init__(self, name: str, bands: Sequence[str], stem: Stem, net: nn.Module) -> None:
        super().__init__()
        self.name, self.bands, self.stem, self.net = name, tuple(bands), stem, net
        if stem == "small":
            net.maxpool = nn.Identity()
        first = 4 if stem == "maxpool" else 2
        self.strides: tuple[int, ...] = tuple(first * 2**level for level in range(4))
        info: list[dict[str, Any]] = net.feature_info
        self.channels: tuple[int, ...] = tuple(level["num_chs"] for level in info[-4:])
        self.out_dim: int = self.channels[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings (B, out_dim) of normalised images (B, bands, H, W): global average over the last map."""
        embedding: Tensor = self.net(x)
        return embedding

    def features(self, x: Tensor) -> list[Tensor]:
        """Maps (B, channels[i], H / strides[i], W / strides[i]) after each of the four stages."""
        net = self.net
        x = net.maxpool(net.act1(net.bn1(net.conv1(x))))
        maps = []
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = stage(x)
            maps.append(x)
        return maps


def build_encoder(name: str, bands: Sequence[str], *, stem: Stem = "maxpool") -> Backbone:
    """A freshly initialised backbone for images of ``bands`` (STAC common names, in this order).

    ``stem='small'`` leaves out the max-pool of the stem, which keeps 64-px chips at 4 x 4 in the last map and costs
    3.5 times the compute. Initial weights come from torch's global generator.

    Raises:
        InputError: unknown architecture or stem, no bands, or a band named twice.
    """
    if name not in _ARCHITECTURES:
        raise unknown_name("encoder", name, _ARCHITECTURES, where="--encoder")
    if stem not in ("maxpool", "small"):
        raise unknown_name("stem", stem, ("maxpool", "small"))
    if not bands or len(set(bands)) != len(bands):
        raise InputError("an encoder needs bands, each named once", where="bands", found=", ".join(bands) or "none")
    # timm starts residual branches at zero, which would make the untrained control weaker than it need be.
    net = _ARCHITECTURES[name](weights=None, in_chans=len(bands), num_classes=0, zero_init_last=False)
    return Backbone(name, bands, stem, net)


def seeded_encoder(name: str, bands: Sequence[str], seed: int, *, stem: Stem = "maxpool") -> Backbone:
    """:func:`build_encoder` with initial weights that depend on ``seed`` alone; the global generator is untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_encoder(name, bands, stem=stem)
