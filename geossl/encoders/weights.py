"""Initial weights for a backbone from elsewhere, bands matched by name, with a report of what fitted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor

from geossl.encoders.bands import match_bands, mix
from geossl.encoders.build import Backbone, seeded_encoder
from geossl.encoders.foreign import Foreign, read_foreign
from geossl.encoders.saved import Encoder
from geossl.errors import InputError
from geossl.progress import say

FileBands = Sequence[str] | str
"""Common names of a file's bands: a sequence, or ``"red,green,…"``, or ``"same"``."""
_COPIES = ("key", "_k.", "teacher", "momentum", "target", "ema")
"""Parts of prefixes that mark a slow copy of the network, second choice where a file holds two."""
_LINEAGE = ("chips", "splits", "transductive", "resolution_m", "radiometry", "view_px", "extent")


@dataclass(frozen=True)
class WeightsReport:
    """What fitted.

    Attributes:
        source: where the weights came from.
        hash: of the file (SHA-256, 16 digits).
        prefix: what stood before the backbone's names in the file.
        matched, total: tensors of the backbone that were filled, and all of them.
        missing: the backbone's tensors that the file lacks, or has in another shape.
        unused: tensors of the file that the backbone has no place for (heads, projections).
        bands: what was done with bands that are not on both sides; empty where all matched.
        scale: factor on the first layer, 1 where all bands matched.
        mean, std: normalisation that the weights expect, one a band of the backbone, in reflectance (None: not known).
        radiometry: what is known of it, in words.
        rescaled: whether the first layer was fitted to the caller's normalisation.
    """

    source: str
    hash: str
    prefix: str
    matched: int
    total: int
    missing: tuple[str, ...]
    unused: int
    bands: tuple[str, ...]
    scale: float
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    radiometry: str
    rescaled: bool

    @property
    def share(self) -> float:
        """Share of the backbone's tensors that were filled, 0 to 1."""
        return self.matched / self.total

    def as_dict(self) -> dict[str, Any]:
        """For a manifest (``initial_weights``); of a file or directory its name and hash, not where it lay."""
        return {**asdict(self), "source": Path(self.source).name}

    def __str__(self) -> str:
        lines = [
            f"weights of {self.source}: {self.matched} of {self.total} tensors of the backbone matched"
            f" ({100 * self.share:.1f} %)" + (f", under '{self.prefix}'" if self.prefix else "")
        ]
        if self.unused:
            lines.append(f"  {self.unused} tensors of the file are not part of a backbone")
        lines += [f"  {sentence}" for sentence in self.bands]
        if self.scale != 1:
            lines.append(f"  first layer times {self.scale:.3f}, so that its response keeps its size")
        known = "not known" if self.mean is None else "known"
        fitted = "; first layer fitted to it" if self.rescaled else ""
        lines.append(f"  expects: {self.radiometry} (normalisation in reflectance {known}{fitted})")
        return "\n".join(lines)


def load_weights(
    backbone: Backbone,
    source: str | Path,
    *,
    allow_partial: bool = False,
    bands: FileBands | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> WeightsReport:
    """Fill a backbone in place, and tell what fitted (also to the progress output).

    Bands are matched by common name. A band that the file lacks gets filters between those of its neighbours in
    wavelength (:func:`geossl.encoders.bands.match_bands`); bands that only the file has are left out. Where bands do
    not match one to one, the whole first layer is multiplied by one factor that keeps the sum of squares of its
    filters, hence the variance of its response to standardised bands. Positions of a transformer are interpolated to
    the backbone's grid.

    Args:
        backbone: filled in place; untouched where an error is raised.
        source: a torchgeo weight enum's full name, a ``.pth``, ``.ckpt`` or ``.safetensors`` file, or an encoder
            directory.
        allow_partial: take weights that do not fill the whole backbone; the rest stays as it was.
        bands: common names of the file's bands in its order, where the file does not say (a sequence, or one text with
            commas); ``"same"``: those of the backbone, in its order.
        mean, std: normalisation of what the backbone will be fed, one a band, in reflectance. Where the file's own is
            known, the first layer is rescaled so that it answers as it did on the file's (shifts go into the bias, or
            the running mean behind it; exact but for the zero-padded border of a residual network).

    Raises:
        InputError: no such weights, another architecture, bands not said or none in common, or less than the whole
            backbone matched.
    """
    return _fill(backbone, read_foreign(source, backbone.name), allow_partial, bands, mean, std)


def _fill(
    backbone: Backbone,
    foreign: Foreign,
    allow_partial: bool,
    bands: FileBands | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> WeightsReport:
    own: dict[str, Tensor] = backbone.net.state_dict()
    prefix, found = _core(foreign.state, own)
    unused = len(foreign.state) - sum(name in own for name in found)
    first = _first_layer(found, foreign, backbone, bands)
    rescaled = first.expected is not None and mean is not None and std is not None
    if first.expected is not None and mean is not None and std is not None:
        _renormalise(found, first.name, first.expected, (torch.tensor(mean), torch.tensor(std)))
    if "pos_embed" in found and "pos_embed" in own and found["pos_embed"].shape[1] != own["pos_embed"].shape[1]:
        found["pos_embed"] = _positions(found["pos_embed"], own["pos_embed"])
    fitting = {name: found[name] for name in own if name in found and found[name].shape == own[name].shape}
    counted = [name for name in own if not name.endswith("num_batches_tracked")]  # no weight, and absent in old files
    missing = tuple(name for name in counted if name not in fitting)
    expected = first.expected
    report = WeightsReport(
        source=foreign.source,
        hash=foreign.hash,
        prefix=prefix,
        matched=len(counted) - len(missing),
        total=len(counted),
        missing=missing,
        unused=unused,
        bands=first.sentences,
        scale=first.scale,
        mean=None if expected is None else tuple(expected[0].tolist()),
        std=None if expected is None else tuple(expected[1].tolist()),
        radiometry=foreign.radiometry,
        rescaled=rescaled,
    )
    say(str(report))
    _check_share(report, backbone.name, allow_partial, found, own)
    backbone.net.load_state_dict({**own, **fitting})
    return report


def transfer_encoder(
    source: str | Path,
    bands: Sequence[str],
    *,
    architecture: str | None = None,
    allow_partial: bool = False,
    file_bands: FileBands | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Encoder:
    """An encoder for ``bands`` with given weights and nothing learnt here: the control "transfer from a given file".

    It normalises as the weights expect where that is known, so that they answer as they did where they were trained;
    else by ``mean`` and ``std`` (one a band, reflectance), as for chips of one's own.

    Args:
        source: as for :func:`load_weights`.
        bands: common names of the bands it will take.
        architecture: a name of :func:`geossl.encoders.build.encoder_names`; needed for plain files.
        allow_partial, file_bands: as for :func:`load_weights` (``bands``).
        mean, std: normalisation where the weights' own is not known.

    Raises:
        InputError: as :func:`load_weights`; no architecture, or no normalisation.
    """
    foreign = read_foreign(source, architecture)
    name = architecture or foreign.architecture
    if name is None:
        raise InputError(
            "a file of weights does not say its architecture", where=source, remedy="name one: --encoder resnet18"
        )
    form = {key: foreign.meta.get(key) for key in ("stem", "image_px")} if "stem" in foreign.meta else {}
    backbone = seeded_encoder(name, bands, 0, **{key: value for key, value in form.items() if value is not None})
    report = _fill(backbone, foreign, allow_partial, file_bands, None, None)
    mean, std = (report.mean, report.std) if report.mean is not None and report.std is not None else (mean, std)
    if mean is None or std is None:
        raise InputError(
            "the normalisation that these weights expect is not known",
            where=source,
            found=report.radiometry,
            remedy="give mean and std of the bands in reflectance, for instance those of the chips they are used on",
        )
    lineage = {key: foreign.meta[key] for key in _LINEAGE if key in foreign.meta}
    return Encoder(backbone, mean, std, {"method": "transfer", "initial_weights": report.as_dict(), **lineage}).eval()


def _core(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """The prefix under which most of the backbone's names stand, and the tensors there.

    Of two equally whole networks the one that is no slow copy (``encoder_k``, ``teacher``) is taken.
    """
    counts: dict[str, int] = {}
    for key in state:
        parts = key.split(".")
        for cut in range(len(parts)):
            if ".".join(parts[cut:]) in own:
                prefix = "".join(f"{part}." for part in parts[:cut])
                counts[prefix] = counts.get(prefix, 0) + 1
    if not counts:
        return "", {}
    prefix = max(counts, key=lambda name: (counts[name], not any(mark in name for mark in _COPIES), -len(name)))
    return prefix, {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _bands_of(foreign: Foreign, count: int, backbone: Backbone, given: FileBands | None) -> tuple[str, ...]:
    """Common names of the file's bands, in its order."""
    names = foreign.bands
    if given is not None:
        listed = tuple(one.strip() for one in given.split(",")) if isinstance(given, str) else tuple(given)
        names = backbone.bands if given == "same" else listed
    if names is None:
        same = ", or bands='same' for the encoder's own" if count == len(backbone.bands) else ""
        raise InputError(
            "the file does not say which bands its first layer reads",
            where=foreign.source,
            expected=f"{count} common names in the file's order",
            found="none",
            remedy=f"give the names with bands (--weights-bands){same}",
        )
    if len(names) != count:
        raise InputError(
            "the names do not fit the bands that the first layer reads",
            where=foreign.source,
            expected=f"{count} names",
            found=f"{len(names)}: {', '.join(names)}",
        )
    return names


@dataclass(frozen=True)
class _First:
    """What was done to the first layer: its name, sentences on bands, the factor, and (mean, std) that it expects of
    our bands, where known (those of the bands the filters came from)."""

    name: str
    sentences: tuple[str, ...] = ()
    scale: float = 1.0
    expected: tuple[Tensor, Tensor] | None = None


def _first_layer(found: dict[str, Tensor], foreign: Foreign, backbone: Backbone, bands: FileBands | None) -> _First:
    """Replace the first layer's filters (out, file's bands, k, k) in ``found`` by those for our bands."""
    name = next(name for name, part in backbone.net.named_modules() if part is backbone.first)
    weight = found.get(f"{name}.weight")
    if weight is None or weight.ndim != 4:
        return _First(name)
    theirs = _bands_of(foreign, weight.shape[1], backbone, bands)
    matched = match_bands(backbone.bands, theirs, foreign.source)
    mixed = mix(matched, theirs)
    adapted, scale = torch.einsum("bn,onhw->obhw", mixed.to(weight), weight), 1.0
    if not matched.exact:
        squares = (float(one.double().square().sum()) for one in (weight, adapted))
        scale = math.sqrt(next(squares) / max(next(squares), 1e-30))
    found[f"{name}.weight"] = adapted * scale
    expected = None
    if foreign.mean is not None and foreign.std is not None:
        mean, std = (mixed.double() @ torch.tensor(one, dtype=torch.float64) for one in (foreign.mean, foreign.std))
        expected = (mean, std)
    return _First(name, tuple(matched.sentences), scale, expected)


def _positions(theirs: Tensor, ours: Tensor) -> Tensor:
    """Learnt positions (1, 1 + h * w, C) of a square grid, interpolated to our square grid; the class token's stays."""
    old, new = (round(math.sqrt(one.shape[1] - 1)) for one in (theirs, ours))
    if old * old + 1 != theirs.shape[1]:
        return theirs  # no square grid: it stays unmatched
    return resample_abs_pos_embed(theirs, new_size=[new, new], old_size=[old, old], num_prefix_tokens=1)


def _renormalise(
    found: dict[str, Tensor],
    first: str,
    theirs: tuple[Tensor, Tensor],
    ours: tuple[Tensor, Tensor],
) -> None:
    """Fit the first layer to input normalised by ``ours`` instead of ``theirs``.

    ``(r - m') / s' = z * s / s' + (m - m') / s'`` for reflectance r and z = (r - m) / s.
    """
    weight = found[f"{first}.weight"]
    gain, offset = ours[1].double() / theirs[1], (ours[0].double() - theirs[0]) / theirs[1]
    shift = (weight.double().sum((2, 3)) @ offset).to(weight.dtype)
    found[f"{first}.weight"] = (weight.double() * gain[:, None, None]).to(weight.dtype)
    behind = {"conv1": "bn1.running_mean"}.get(first, f"{first}.bias")
    if behind in found:
        found[behind] = found[behind] - shift if behind.endswith("running_mean") else found[behind] + shift


def _check_share(
    report: WeightsReport,
    name: str,
    allow_partial: bool,
    found: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
) -> None:
    if not report.missing or (allow_partial and report.matched):
        return
    shaped = [name for name in report.missing if name in found]
    examples = [f"{name} {tuple(found[name].shape)} for {tuple(own[name].shape)}" for name in shaped]
    examples += [name for name in report.missing if name not in found]
    raise InputError(
        "the weights do not fill the whole backbone" if report.matched else "these are not weights of this backbone",
        where=report.source,
        expected=f"all {report.total} tensors of {name}",
        found=f"{report.matched} ({100 * report.share:.1f} %); missing or of another shape: {', '.join(examples[:5])}"
        + (", …" if len(examples) > 5 else ""),
        remedy="choose the architecture of the weights"
        + (", or allow partial weights by name (the rest starts untrained)" if report.matched else ""),
    )
