"""torchgeo's backbones behind one small face: ``forward`` for embeddings, ``features`` for maps at several strides.

Goes in: normalised images (B, bands, H, W). Comes out: pooled embeddings (B, out_dim), or maps for dense heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchgeo import models

from geossl.errors import InputError, unknown_name

Stem = Literal["maxpool", "small"]

_RESIDUAL: dict[str, Callable[..., nn.Module]] = {
    "resnet18": models.resnet18,
    "resnet50": models.resnet50,
    "resnet152": models.resnet152,
}
_TRANSFORMERS: dict[str, Callable[..., nn.Module]] = {
    "vit-s": models.vit_small_patch16_224,
    "vit-b": models.vit_base_patch16_224,
}
_ARCHITECTURES = _RESIDUAL | _TRANSFORMERS
PATCH = 16
"""Side of a transformer's patch, pixels."""


def encoder_names() -> list[str]:
    """Names that :func:`build_encoder` knows."""
    return sorted(_ARCHITECTURES)


class Backbone(nn.Module):
    """A network without classifier: what residual networks and transformers have in common.

    ``net`` is the plain timm/torchgeo network: its state dict loads into ``torchgeo.models`` (``num_classes=0``) as it
    is. ``channels`` and ``strides`` describe what :meth:`features` returns; cell i of a map of stride s is centred on
    pixel i * s. ``image_px`` is the image side that positions are learnt for (None: the network knows no positions).
    """

    strides: tuple[int, ...]
    channels: tuple[int, ...]
    out_dim: int
    image_px: int | None = None

    def __init__(self, name: str, bands: Sequence[str], stem: Stem, net: nn.Module) -> None:
        super().__init__()
        self.name, self.bands, self.stem, self.net = name, tuple(bands), stem, net

    @property
    def first(self) -> nn.Conv2d:
        """The convolution that reads the bands."""
        raise TypeError(f"{type(self).__name__} names no first layer")

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings (B, out_dim) of normalised images (B, bands, H, W)."""
        embedding: Tensor = self.net(x)
        return embedding

    def features(self, x: Tensor) -> list[Tensor]:
        """Maps (B, channels[i], ceil(H / strides[i]), ceil(W / strides[i])), fine to coarse."""
        return self.features_and_embedding(x)[0]

    def features_and_embedding(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """What :meth:`features` and :meth:`forward` give, in one pass."""
        raise TypeError(f"{type(self).__name__} gives no features")


class ResidualBackbone(Backbone):
    """A residual network; its embedding is the mean of its last map. Takes images of any size."""

    def __init__(self, name: str, bands: Sequence[str], stem: Stem, net: nn.Module) -> None:
        super().__init__(name, bands, stem, net)
        if stem == "small":
            net.maxpool = nn.Identity()
        first = 4 if stem == "maxpool" else 2
        self.strides = tuple(first * 2**level for level in range(4))
        info: list[dict[str, Any]] = net.feature_info
        self.channels = tuple(level["num_chs"] for level in info[-4:])
        self.out_dim = self.channels[-1]

    @property
    def first(self) -> nn.Conv2d:
        """The convolution that reads the bands."""
        layer: nn.Conv2d = self.net.conv1
        return layer

    def features_and_embedding(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Maps after each of the four stages, and the pooled last one."""
        net = self.net
        x = net.maxpool(net.act1(net.bn1(net.conv1(x))))
        maps = []
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = stage(x)
            maps.append(x)
        return maps, net.forward_head(x)


class TransformerBackbone(Backbone):
    """A vision transformer (Dosovitskiy et al. 2021, arXiv:2010.11929); its embedding is the normalised class token.

    Images of any size: edges are repeated up to whole patches, and the learnt positions (of a grid for ``image_px``)
    are interpolated to the grid at hand. :meth:`features` takes the patch tokens after a quarter, half, three quarters
    and all of the blocks, normalised, and samples them bilinearly at strides 4, 8, 16 and 32: the simple feature
    pyramid of Li et al. 2022, arXiv:2203.16527, without learnt layers. A patch is centred 7.5 pixels behind its first
    pixel; sampling puts every cell where :class:`Backbone` promises it.
    """

    def __init__(self, name: str, bands: Sequence[str], net: nn.Module, image_px: int) -> None:
        super().__init__(name, bands, "maxpool", net)
        depth = len(net.blocks)
        self.depths = tuple(depth * quarter // 4 - 1 for quarter in (1, 2, 3, 4))
        self.strides = (4, 8, 16, 32)
        self.out_dim = int(net.embed_dim)
        self.channels = (self.out_dim,) * 4
        self.image_px = image_px

    @property
    def first(self) -> nn.Conv2d:
        """The convolution that reads the bands."""
        layer: nn.Conv2d = self.net.patch_embed.proj
        return layer

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings (B, out_dim) of normalised images (B, bands, H, W)."""
        return super().forward(_whole_patches(x))

    def features_and_embedding(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Maps of the tokens at :attr:`strides`, and the class token."""
        height, width = x.shape[-2:]
        final, tokens = self.net.forward_intermediates(_whole_patches(x), indices=list(self.depths), norm=True)
        maps = [_at_stride(one, stride, height, width) for one, stride in zip(tokens, self.strides, strict=True)]
        return maps, self.net.forward_head(final)


def _whole_patches(x: Tensor) -> Tensor:
    down, right = -x.shape[-2] % PATCH, -x.shape[-1] % PATCH
    return F.pad(x, (0, right, 0, down), mode="replicate") if down or right else x


def _at_stride(tokens: Tensor, stride: int, height: int, width: int) -> Tensor:
    """Tokens (B, C, h, w) of patches, bilinear at pixels 0, stride, 2 stride, … of an image of this size."""
    axes = []
    for pixels, count in ((height, tokens.shape[-2]), (width, tokens.shape[-1])):
        places = torch.arange(0, pixels, stride, device=tokens.device, dtype=torch.float32)
        axes.append((2 * places + 1) / (count * PATCH) - 1)  # grid_sample: -1 and 1 are the outer edges
    y, x = torch.meshgrid(*axes, indexing="ij")
    grid = torch.stack([x, y], -1).to(tokens.dtype).expand(len(tokens), -1, -1, -1)
    return F.grid_sample(tokens, grid, mode="bilinear", padding_mode="border", align_corners=False)


def build_encoder(name: str, bands: Sequence[str], *, stem: Stem = "maxpool", image_px: int | None = None) -> Backbone:
    """A freshly initialised backbone for images of ``bands`` (STAC common names, in this order).

    ``resnet18``, ``resnet50``, ``resnet152``, ``vit-s`` and ``vit-b`` (patches of 16 px). ``stem='small'`` leaves out
    the max-pool of a residual network's stem, which keeps 64-px chips at 4 x 4 in the last map and costs 3.5 times the
    compute; a transformer has no such stem. ``image_px`` is the side for which a transformer learns its positions
    (224 by default, as torchgeo's; rounded up to whole patches; other sizes are interpolated); residual networks know
    none and ignore it. Initial weights come from torch's global generator.

    Raises:
        InputError: unknown architecture or stem, no bands, a band named twice, a stem the architecture lacks, or an
            ``image_px`` below 1.
    """
    if name not in _ARCHITECTURES:
        raise unknown_name("encoder", name, _ARCHITECTURES, where="--encoder")
    if stem not in ("maxpool", "small"):
        raise unknown_name("stem", stem, ("maxpool", "small"))
    if not bands or len(set(bands)) != len(bands):
        raise InputError("an encoder needs bands, each named once", where="bands", found=", ".join(bands) or "none")
    if name in _TRANSFORMERS:
        return _transformer(name, bands, stem, image_px)
    # timm starts residual branches at zero, which would make the untrained control weaker than it need be.
    net = _RESIDUAL[name](weights=None, in_chans=len(bands), num_classes=0, zero_init_last=False)
    return ResidualBackbone(name, bands, stem, net)


def _transformer(name: str, bands: Sequence[str], stem: Stem, image_px: int | None) -> TransformerBackbone:
    if stem != "maxpool":
        raise InputError(
            f"{name} has no stem that could be made smaller",
            where="stem",
            expected=f"the small-image stem with {', '.join(sorted(_RESIDUAL))}",
            found=f"{stem} with {name}",
            remedy="leave the stem out, or choose a residual network",
        )
    side = 224 if image_px is None else image_px
    if side < 1:
        raise InputError("an image has at least one pixel", where=f"{name}: image_px", found=side)
    side += -side % PATCH
    net = _TRANSFORMERS[name](weights=None, in_chans=len(bands), num_classes=0, img_size=side, dynamic_img_size=True)
    return TransformerBackbone(name, bands, net, side)


def seeded_encoder(
    name: str, bands: Sequence[str], seed: int, *, stem: Stem = "maxpool", image_px: int | None = None
) -> Backbone:
    """:func:`build_encoder` with initial weights that depend on ``seed`` alone; the global generator is untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_encoder(name, bands, stem=stem, image_px=image_px)
