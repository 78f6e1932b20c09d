"""Heads: an encoder and what reads it for one task, in one module and one directory.

A head for pixels reads the encoder's maps at all strides, spectral planes and random convolutions with a 1 x 1
convolution; a head for chips reads a pooled map, the embedding, band statistics and pooled random convolutions.
Everything that scales features is folded into the weights. A *form* says how a network is built: ``pixel`` and ``chip``
here, ``deep`` in :mod:`geossl.tasks.decoders`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from geossl.artefacts import atomic_file, check_weights, hash_file, read_manifest
from geossl.encoders.saved import Encoder, architecture_facts, restored
from geossl.errors import InputError, unknown_name
from geossl.tasks.anomaly import plane_count
from geossl.tasks.convolutions import Convolutions
from geossl.tasks.dense import pad_to, sample, upsample
from geossl.tasks.linear import Linear
from geossl.tasks.spec import TaskSpec
from geossl.tasks.spectral import chip_statistics, fill, pixel_planes, plane_names, statistic_count
from geossl.tasks.temporal import median_composite
from geossl.tasks.trust import Trust, load_trust, save_trust

KIND = "head"
WEIGHTS = "head.safetensors"


class TaskNet(nn.Module, ABC):
    """What a head holds: called with reflectance (B, C, H, W) and clear (B, H, W) bool it gives logits or values,
    (B, K, H, W) of pixels or (B, K) of chips.

    One with ``takes_dates`` is called with all dates of a place instead, (B, T, C, H, W) and (B, T, H, W), and settles
    itself what they say together.
    """

    encoder: Encoder
    takes_dates = False

    @property
    @abstractmethod
    def form(self) -> dict[str, Any]:
        """How :func:`make_net` builds this network around an encoder: ``form``, its name, and plain settings."""


class PixelNet(TaskNet):
    """Logits (B, K, H, W) of reflectance (B, C, H, W): the encoder's maps, spectral planes and random convolutions,
    read linearly.

    With ``references`` images have the anomaly planes of these indices behind their bands, which are read too; an image
    that comes without them counts as one without reference dates. ``convolutions``: None where none are read.
    """

    def __init__(
        self,
        encoder: Encoder,
        outputs: int,
        references: Sequence[str] = (),
        convolutions: Convolutions | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.extra = plane_count(references)
        planes = len(plane_names(encoder.bands, local=True))
        self.readers = nn.ModuleList(nn.Conv2d(width, outputs, 1, bias=False) for width in encoder.channels)
        self.planes = nn.Conv2d(planes, outputs, 1)
        self.anomalies = nn.Conv2d(self.extra, outputs, 1, bias=False) if self.extra else None
        self.convolutions = convolutions
        width = 0 if convolutions is None else convolutions.width
        self.responses = nn.Conv2d(width, outputs, 1, bias=False) if width else None

    @property
    def form(self) -> dict[str, Any]:
        """See :attr:`TaskNet.form`."""
        return {"form": "pixel", "patches": 0 if self.convolutions is None else self.convolutions.patches}

    @property
    def kinds(self) -> dict[str, int]:
        """Kinds of features and how many of each, in their order: ``encoder`` (maps of every stride), ``spectral``
        planes, then, where they are read, ``anomalies`` and ``convolutions``."""
        kinds = {"encoder": sum(self.encoder.channels), "spectral": self.planes.in_channels}
        if self.extra:
            kinds["anomalies"] = self.extra
        return kinds if self.convolutions is None else {**kinds, "convolutions": self.convolutions.width}

    @property
    def widths(self) -> tuple[int, ...]:
        """The same with every stride's maps by themselves."""
        return (*self.encoder.channels, *list(self.kinds.values())[1:])

    def maps(self, values: Tensor, clear: Tensor) -> list[Tensor]:
        """The encoder's maps of images padded to its coarsest stride; pixels that are not clear hold the band mean."""
        bands = values[:, : len(self.encoder.bands)]
        filled = pad_to(fill(bands, clear, self.encoder.mean), max(self.encoder.strides))
        return self.encoder.features(filled)

    def spectral(self, values: Tensor, clear: Tensor) -> Tensor:
        """Spectral planes (B, P, H, W), and behind them the anomaly planes and the pooled responses of convolutions."""
        planes = self._planes(values, clear)
        if self.convolutions is None:
            return planes
        return torch.cat([planes, self.convolutions.local(values[:, : len(self.encoder.bands)], clear)], 1)

    def _planes(self, values: Tensor, clear: Tensor) -> Tensor:
        encoder, count = self.encoder, len(self.encoder.bands)
        planes = pixel_planes(values[:, :count], clear, encoder.bands, encoder.mean, encoder.std, local=True)
        if not self.extra:
            return planes
        anomalies = values[:, count:]
        if anomalies.shape[1] == 0:
            anomalies = values.new_zeros(len(values), self.extra, *values.shape[-2:])
        return torch.cat([planes, anomalies], 1)

    def read_at(self, maps: list[Tensor], planes: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Features (N, sum of widths) of one image's pixels: exactly what :meth:`forward` reads there.

        ``maps`` and ``planes`` are that image's, with a leading 1.
        """
        return torch.cat([sample(maps, self.encoder.strides, rows, columns), planes[0][:, rows, columns].T], 1)

    def forward(self, values: Tensor, clear: Tensor) -> Tensor:
        """Logits or values of every pixel."""
        height, width = values.shape[-2:]
        spectral = self._planes(values, clear)
        total = self.planes(spectral[:, : self.planes.in_channels])
        if self.anomalies is not None:
            total = total + self.anomalies(spectral[:, self.planes.in_channels :])
        if self.convolutions is not None and self.responses is not None:
            # Pooling is linear too: K channels are pooled instead of all responses.
            bands = values[:, : len(self.encoder.bands)]
            total = total + self.convolutions.local(bands, clear, self.responses.weight)
        for one, reader, stride in zip(self.maps(values, clear), self.readers, self.encoder.strides, strict=True):
            total = total + upsample(reader(one), stride)[..., :height, :width]
        return total

    def set_weights(self, linear: Linear) -> None:
        """Put fitted weights (K, sum of widths) in."""
        parts = torch.from_numpy(linear.weight).float().split(list(self.widths), dim=1)
        with torch.no_grad():
            last = [one for one in (self.anomalies, self.responses) if one is not None]
            for reader, part in zip([*self.readers, self.planes, *last], parts, strict=True):
                reader.weight.copy_(part[:, :, None, None])
            self.planes.bias.copy_(torch.from_numpy(linear.bias).float())


def _spread(maps: Tensor) -> Tensor:
    """Standard deviation over each map (B, C, H, W): (B, C); 0 where a map is one cell."""
    return maps.var((2, 3), correction=0).clamp_min(1e-12).sqrt()  # the root's slope at 0 is infinite


class ChipNet(TaskNet):
    """Logits (B, K) of chips (B, C, H, W): mean and spread of the encoder's maps, the embedding, band statistics and
    the pooled responses of random convolutions (where there are any), read linearly.

    The embedding stands for the mean of the last map: it is just that of a residual network, of a transformer its class
    token; where the encoder kept layers of its projection head (SimCLR v2), theirs. Maps of all stages and their spread
    are read because early ones hold texture that later ones drop (bigearthnet-finland, all labels: docs/heads.md).
    """

    def __init__(self, encoder: Encoder, outputs: int, convolutions: Convolutions | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.convolutions = convolutions
        self.reader = nn.Linear(sum(self.widths), outputs)

    @property
    def form(self) -> dict[str, Any]:
        """See :attr:`TaskNet.form`."""
        return {"form": "chip", "patches": 0 if self.convolutions is None else self.convolutions.patches}

    @property
    def kinds(self) -> dict[str, int]:
        """Kinds of features and how many of each, in their order: ``encoder`` (maps and embedding), ``statistics``,
        and ``convolutions`` where they are read."""
        return {name: sum(widths) for name, widths in self.parts.items()}

    @property
    def parts(self) -> dict[str, tuple[int, ...]]:
        """Numbers of features that are scaled alike, kind by kind."""
        *early, last = self.encoder.channels
        maps = tuple(width for stage in early for width in (stage, stage))
        parts: dict[str, tuple[int, ...]] = {
            "encoder": (*maps, last, self.encoder.out_dim),
            "statistics": (statistic_count(self.encoder.bands),),
        }
        return parts if self.convolutions is None else {**parts, "convolutions": (self.convolutions.width,)}

    @property
    def widths(self) -> tuple[int, ...]:
        """All :attr:`parts` in their order."""
        return tuple(width for widths in self.parts.values() for width in widths)

    def features(self, values: Tensor, clear: Tensor) -> Tensor:
        """Features (B, sum of widths)."""
        encoder = self.encoder
        maps, embedding = encoder.features_and_embedding(fill(values, clear, encoder.mean))
        statistics = chip_statistics(values, clear, encoder.bands, encoder.mean, encoder.std)
        parts = [one for plane in maps[:-1] for one in (plane.mean((2, 3)), _spread(plane))]
        parts += [_spread(maps[-1]), embedding, statistics]
        if self.convolutions is not None:
            parts.append(self.convolutions.pooled(values, clear))
        return torch.cat(parts, 1)

    def forward(self, values: Tensor, clear: Tensor) -> Tensor:
        """Logits of every chip."""
        logits: Tensor = self.reader(self.features(values, clear))
        return logits

    def set_weights(self, linear: Linear) -> None:
        """Put fitted weights (K, sum of widths) in."""
        with torch.no_grad():
            self.reader.weight.copy_(torch.from_numpy(linear.weight).float())
            self.reader.bias.copy_(torch.from_numpy(linear.bias).float())


class Head(nn.Module):
    """A task's network as maps use it.

    ``bands`` are common names in the order :meth:`predict` takes them; ``chip_px`` is the side of the chips it learnt
    from; ``meta`` is its manifest; ``trust`` its calibration and limits (None: made without).
    """

    def __init__(self, task: TaskSpec, net: TaskNet, chip_px: int, meta: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.task, self.net, self.chip_px = task, net, chip_px
        self.meta: dict[str, Any] = dict(meta or {})
        self.bands: tuple[str, ...] = net.encoder.bands
        self.trust: Trust | None = None

    def select(self, bands: Sequence[str]) -> list[int]:
        """Where the head's bands lie in data with ``bands`` (see :meth:`geossl.encoders.saved.Encoder.select`)."""
        return self.net.encoder.select(bands)

    @torch.inference_mode()
    def predict(self, values: Tensor, clear: Tensor) -> Tensor:
        """Probabilities (B, K, H, W), or values (B, 1, H, W) for a regression.

        Several dates are predicted one by one and averaged where they are clear (pixels clear on no date: over all
        dates). A task of composites sees their median instead, and a network that takes dates sees them all at once.
        A head for chips says the same at every pixel of the chip, its dates weighed by their clear share.

        Args:
            values: (B, T, C, H, W) reflectance in the order of :attr:`bands`; anything where not clear. A task with
                ``references`` has their anomaly planes as further channels.
            clear: (B, T, H, W) bool.
        """
        if self.task.temporal == "composite":
            values, clear = (one[:, None] for one in median_composite(values, clear))
        batch, dates, _, height, width = values.shape
        if self.net.takes_dates:
            found = self._activated(self.net(torch.nan_to_num(values), clear))
            return found if found.ndim == 4 else found[:, :, None, None].expand(-1, -1, height, width)
        flat, seen = values.flatten(0, 1), clear.flatten(0, 1)
        found = self._activated(self.net(torch.nan_to_num(flat), seen))  # (B·T, K, …)
        per_date = found.unflatten(0, (batch, dates))
        if not self.task.per_pixel:
            weight = clear.flatten(2).float().mean(-1)[..., None]  # (B, T, 1)
            return _weighted(per_date, weight)[:, :, None, None].expand(-1, -1, height, width)
        return per_date[:, 0] if dates == 1 else _weighted(per_date, clear[:, :, None].float())

    def _activated(self, logits: Tensor) -> Tensor:
        if self.trust is not None:
            logits = logits / self.trust.temperature
        if self.task.kind == "multilabel":
            return logits.sigmoid()
        return logits if self.task.kind == "regression" else logits.softmax(1)


def _weighted(values: Tensor, weight: Tensor) -> Tensor:
    """Mean over dimension 1; equal weights where all are 0."""
    total = weight.sum(1, keepdim=True)
    weight = torch.where(total > 0, weight / total.clamp_min(1e-9), torch.full_like(weight, 1 / weight.shape[1]))
    return (values * weight).sum(1)


@overload
def make_net(task: TaskSpec, encoder: Encoder) -> PixelNet | ChipNet: ...


@overload
def make_net(task: TaskSpec, encoder: Encoder, form: Mapping[str, Any]) -> TaskNet: ...


def make_net(task: TaskSpec, encoder: Encoder, form: Mapping[str, Any] | None = None) -> TaskNet:
    """The network of a task around an encoder, its read-out not fitted yet.

    ``form`` is what a network of this kind says in :attr:`TaskNet.form`; without it, the plain one for the task's
    pixels or chips.

    Raises:
        InputError: a form that this version does not know.
    """
    settings = dict(form or {"form": "pixel" if task.per_pixel else "chip"})
    name = settings.pop("form")
    if name == "deep":
        from geossl.tasks.decoders import DeepNet  # decoders build on this module

        return DeepNet(encoder, task.outputs, **settings)
    patches = settings.get("patches", 0)
    convolutions = Convolutions.empty(len(encoder.bands), patches) if patches else None
    if name == "pixel":
        return PixelNet(encoder, task.outputs, task.references, convolutions)
    if name == "chip":
        return ChipNet(encoder, task.outputs, convolutions)
    raise unknown_name("form of head", str(name), ("pixel", "chip", "deep"), remedy="update geossl")


def save_weights(head: Head, folder: Path) -> dict[str, Any]:
    """Write ``head.safetensors``, and ``trust.safetensors`` where there is trust, and give the facts that
    :func:`load_head` needs, for the manifest."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in head.net.state_dict().items()}
    with atomic_file(folder / WEIGHTS) as temporary:
        save_file(state, str(temporary))
    return {
        "task": head.task.model_dump(mode="json"),
        "chip_px": head.chip_px,
        "net": head.net.form,
        **architecture_facts(head.net.encoder),
        "weights": {"file": WEIGHTS, "hash": hash_file(folder / WEIGHTS)},
        **({} if head.trust is None else {"trust": save_trust(head.trust, folder)}),
    }


def load_head(path: str | Path) -> Head:
    """The head of a directory that ``geossl finetune`` wrote, in evaluation mode, on the CPU.

    Heads written before there were forms have no ``net`` in their manifest and read no convolutions.

    Raises:
        InputError: no such directory, another kind of artefact, damaged weights, a form this version does not know.
    """
    folder = Path(path)
    manifest = read_manifest(folder, KIND)
    weights = folder / WEIGHTS
    remedy = "copy the whole head directory again, or run the same geossl finetune again"
    check_weights(weights, manifest, KIND, remedy)
    task = TaskSpec.model_validate(manifest["task"])
    encoder = restored(manifest, manifest.get("encoder"))
    net = make_net(task, encoder, manifest["net"]) if "net" in manifest else make_net(task, encoder)
    try:
        net.load_state_dict(load_file(weights))
    except (RuntimeError, SafetensorError) as error:
        raise InputError("the weights do not fit the manifest", where=folder, found=error, remedy=remedy) from None
    head = Head(task, net, manifest["chip_px"], manifest).eval()
    head.trust = load_trust(folder, manifest)
    return head
