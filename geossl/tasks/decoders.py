"""Networks that read an encoder's maps with more than one linear layer, and those that read a series of dates.

FPN and U-Net are the decoders of segmentation_models_pytorch on our encoders' maps. A decoder adds to what the linear
head reads of maps and spectral planes, and adds nothing at first: with few labels a network that begins at the fitted
linear head and learns what that misses is far ahead of one that begins at nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn

from geossl.encoders.saved import Encoder
from geossl.errors import InputError, unknown_name
from geossl.tasks.anomaly import plane_count
from geossl.tasks.dense import pad_to, upsample
from geossl.tasks.heads import TaskNet
from geossl.tasks.linear import Linear
from geossl.tasks.spec import TaskSpec
from geossl.tasks.spectral import fill, pixel_planes, plane_names
from geossl.tasks.temporal import POOLINGS, DatePooling

DECODERS = ("linear", "fpn", "unet")
_PYRAMID, _SEGMENTATION, _DROPOUT = 128, 64, 0.2
_UNET = (128, 64, 32, 16)


class DeepNet(TaskNet):
    """Logits or values (B, K, H, W) of pixels through a decoder, of one date or of a series.

    Args:
        encoder: gives maps at four strides, each twice the one before.
        outputs: K.
        decoder: ``linear`` (a 1 x 1 convolution of each map), ``fpn`` (Lin et al. 2017, arXiv:1612.03144; Kirillov et
            al. 2019, arXiv:1901.02446) or ``unet`` (Ronneberger et al. 2015, arXiv:1505.04597; the last step goes from
            the finest map to pixels).
        temporal: ``date``: images (B, C, H, W) with clear (B, H, W); else a pooling of
            :class:`geossl.tasks.temporal.DatePooling`: series (B, T, C, H, W) with clear (B, T, H, W), where a channel
            behind the bands is the day of the year, the same at every pixel.
        references: indices whose anomaly planes follow the bands (single dates only).

    Raises:
        InputError: an unknown decoder or pooling, or an encoder whose maps a decoder does not fit.
    """

    def __init__(
        self,
        encoder: Encoder,
        outputs: int,
        decoder: str = "linear",
        temporal: str = "date",
        references: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if decoder not in DECODERS:
            raise unknown_name("decoder", decoder, DECODERS, where="--decoder")
        if temporal != "date" and temporal not in POOLINGS:
            raise unknown_name("way of pooling dates", temporal, ("date", *POOLINGS))
        if decoder != "linear":
            _check_strides(encoder, decoder)
        self.encoder, self.decoder_name, self.temporal = encoder, decoder, temporal
        self.references = tuple(references)
        self.takes_dates = temporal != "date"
        self.extra = plane_count(references)
        self.pooling = DatePooling(temporal, encoder.channels[-1]) if self.takes_dates else None
        self.readers = nn.ModuleList(nn.Conv2d(width, outputs, 1, bias=False) for width in encoder.channels)
        self.planes = nn.Conv2d(len(plane_names(encoder.bands, local=True)) + self.extra, outputs, 1)
        self.decoder: FPNDecoder | UnetDecoder | None = None
        self.last: nn.Conv2d | None = None
        widths = list(encoder.channels)
        if decoder == "fpn":
            self.decoder = FPNDecoder(widths, 4, _PYRAMID, _SEGMENTATION, _DROPOUT)
            self.last = nn.Conv2d(_SEGMENTATION, outputs, 1, bias=False)
        elif decoder == "unet":
            self.decoder = UnetDecoder((len(encoder.bands), *widths), _UNET, n_blocks=4)
            self.last = nn.Conv2d(_UNET[-1], outputs, 1, bias=False)
        if self.last is not None:
            nn.init.zeros_(self.last.weight)

    @property
    def form(self) -> dict[str, Any]:
        """See :attr:`geossl.tasks.heads.TaskNet.form`."""
        return {
            "form": "deep",
            "decoder": self.decoder_name,
            "temporal": self.temporal,
            "references": list(self.references),
        }

    def forward(self, values: Tensor, clear: Tensor) -> Tensor:
        """Logits or values of every pixel."""
        height, width = values.shape[-2:]
        maps, planes = self._seen(values, clear)
        total: Tensor = self.planes(planes)
        for one, reader, stride in zip(maps, self.readers, self.encoder.strides, strict=True):
            total = total + upsample(reader(one), stride)[..., :height, :width]
        if isinstance(self.decoder, FPNDecoder) and self.last is not None:
            return total + upsample(self.last(self.decoder(maps)), self.encoder.strides[0])[..., :height, :width]
        if isinstance(self.decoder, UnetDecoder) and self.last is not None:
            pixels = pad_to(planes, max(self.encoder.strides))  # the decoder takes its last size from it, nothing else
            return total + self.last(self.decoder([pixels, *maps]))[..., :height, :width]
        return total

    def set_weights(self, linear: Linear) -> None:
        """Begin at a linear head fitted to maps of all strides, spectral planes and anomaly planes, in this order."""
        parts = torch.from_numpy(linear.weight).float().split([*self.encoder.channels, self.planes.in_channels], dim=1)
        with torch.no_grad():
            for layer, part in zip([*self.readers, self.planes], parts, strict=True):
                assert isinstance(layer, nn.Conv2d)
                layer.weight.copy_(part[:, :, None, None])
            assert self.planes.bias is not None
            self.planes.bias.copy_(torch.from_numpy(linear.bias).float())

    def _seen(self, values: Tensor, clear: Tensor) -> tuple[list[Tensor], Tensor]:
        """Maps of the encoder and planes of the pixels, pooled over dates where there are several."""
        if self.pooling is None:
            return self._of_images(values, clear)
        count, days = len(self.encoder.bands), torch.zeros(values.shape[:2], device=values.device)
        if values.shape[2] > count:
            days = values[:, :, count, 0, 0]
        maps, planes = self._of_images(values[:, :, :count].flatten(0, 1), clear.flatten(0, 1))
        dated = [one.unflatten(0, clear.shape[:2]) for one in (planes, *maps)]
        pooled = self.pooling(dated, (1, *self.encoder.strides), clear, days)
        return pooled[1:], pooled[0]

    def _of_images(self, values: Tensor, clear: Tensor) -> tuple[list[Tensor], Tensor]:
        encoder, count = self.encoder, len(self.encoder.bands)
        bands = values[:, :count]
        planes = pixel_planes(bands, clear, encoder.bands, encoder.mean, encoder.std, local=True)
        if self.extra:
            anomalies = values[:, count:]
            if anomalies.shape[1] == 0:
                anomalies = values.new_zeros(len(values), self.extra, *values.shape[-2:])
            planes = torch.cat([planes, anomalies], 1)
        return encoder.features(pad_to(fill(bands, clear, encoder.mean), max(encoder.strides))), planes


def deep_form(spec: TaskSpec) -> dict[str, Any]:
    """The form of the network that a task asks for (:func:`geossl.tasks.heads.make_net`)."""
    temporal = spec.pooling if spec.temporal == "series" else "date"
    return {"form": "deep", "decoder": spec.decoder, "temporal": temporal, "references": list(spec.references)}


def _check_strides(encoder: Encoder, decoder: str) -> None:
    """Decoders double their maps from step to step."""
    strides = encoder.strides
    if len(strides) != 4 or any(coarse != 2 * fine for fine, coarse in pairwise(strides)):
        raise InputError(
            f"the decoder {decoder} does not fit this encoder",
            where=f"--decoder {decoder}",
            expected="maps at four strides, each twice the one before",
            found=f"{encoder.backbone.name} with strides {', '.join(map(str, strides))}",
            remedy="use the linear decoder",
        )
