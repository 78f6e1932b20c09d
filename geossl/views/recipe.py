"""What a view is: how far crop, radiometry, blur and noise may go. Stored under ``views:`` in a method's YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from geossl import config
from geossl.errors import InputError, unknown_name

Probability = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]


def _ordered_positive(pair: tuple[float, float]) -> tuple[float, float]:
    if not 0 < pair[0] <= pair[1]:
        raise ValueError(f"needs 0 < low <= high, found {pair[0]:g}, {pair[1]:g}")
    return pair


def _share_of_area(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[1] > 1:
        raise ValueError(f"a crop cannot be larger than the chip, found {pair[1]:g}")
    return pair


Interval = Annotated[tuple[float, float], AfterValidator(_ordered_positive)]
AreaShare = Annotated[Interval, AfterValidator(_share_of_area)]


class Recipe(config.Settings):
    """How views of reflectance are drawn; the order of the fields is the order of the operations.

    Nothing is clamped: reflectance may leave [0, 1]. Gains are drawn log-uniformly, so brighter and darker are alike.
    """

    pipeline: Literal["fused", "kornia"] = "fused"
    """``fused``: one resampling and one radiometric pass. ``kornia``: the same operations as a Kornia pipeline."""
    size: int = Field(64, ge=8)
    """Side of a view in pixels."""
    crop_area: AreaShare = (0.2, 1.0)
    """Area of the crop as a share of the chip's."""
    crop_ratio: Interval = (0.75, 4 / 3)
    """Width over height of the crop."""
    min_valid: Probability = 0.6
    """Crops with a smaller share of clear pixels are drawn again."""
    dihedral: bool = True
    """Flips and quarter-turns, all eight equally likely."""
    gain: NotNegative = 0.25
    """The image is multiplied by exp U(-gain, gain)."""
    band_gain: NotNegative = 0.08
    """Each band is multiplied by exp U(-band_gain, band_gain)."""
    contrast: Interval = (0.8, 1.25)
    """Deviations from each band's mean over the view are multiplied by a factor log-uniform in this interval."""
    offset: NotNegative = 0.01
    """U(-offset, offset) is added to the image, in reflectance."""
    band_drop: Probability = 0.1
    """Share of views in which one band is flattened to its mean over the view."""
    gray: Probability = 0.1
    """Share of views in which every band becomes the mean of all bands."""
    blur: Probability = 0.3
    """Share of views that are blurred."""
    blur_sigma_px: Interval = (0.1, 1.5)
    noise: NotNegative = 0.005
    """Standard deviation of the added white noise, in reflectance."""


def load_recipe(method_or_path: str | Path, **overrides: Any) -> Recipe:
    """The recipe under ``views:`` of a shipped method or of a user's own ``.yaml``; ``overrides`` replace fields.

    Raises:
        InputError: unknown method, unreadable file, or a field that does not exist or has an impossible value.
    """
    path = Path(method_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        path = config.config_folder("methods") / f"{method_or_path}.yaml"
        if not path.is_file():
            raise unknown_name(
                "method", str(method_or_path), config.config_names("methods"), remedy="or give a .yaml file"
            )
    views = config.read_yaml(path).get("views") or {}
    if not isinstance(views, dict):
        raise InputError("views is a YAML mapping", where=f"{path}: views", found=type(views).__name__)
    return config.parse(Recipe, {**views, **overrides}, f"{path}: views")
