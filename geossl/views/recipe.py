"""What a view is: how far crop, radiometry, blur and noise may go. Stored under ``views:`` in a method's YAML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

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


WAVELENGTH_UM = {
    "coastal": 0.443,
    "blue": 0.490,
    "green": 0.560,
    "yellow": 0.600,
    "pan": 0.650,
    "red": 0.665,
    "rededge": 0.740,
    "rededge071": 0.705,
    "rededge075": 0.740,
    "rededge078": 0.783,
    "nir": 0.842,
    "nir08": 0.865,
    "nir09": 0.945,
    "cirrus": 1.375,
    "swir16": 1.610,
    "swir22": 2.190,
}
"""Centre wavelengths of STAC common names (EO extension), micrometres, as Sentinel-2 has them where it has the band."""
_SAME_IN_ALL_VIEWS = ("pipeline", "bands", "size", "small_views", "small_size", "small_crop_area", "second")


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
    rotation_deg: float = Field(0.0, ge=0, le=45)
    """The crop is turned by U(-rotation_deg, rotation_deg), and made smaller where it would leave the chip."""
    dihedral: bool = True
    """Flips and quarter-turns, all eight equally likely."""
    haze: NotNegative = 0.0
    """Optical thickness at 0.55 micrometres is U(0, haze): a veil that is thicker the shorter the wavelength."""
    bands: tuple[str, ...] = ()
    """Common names of the bands, for haze; empty: it is equally thick in all. Set by :meth:`for_bands`."""
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
    cloud: Probability = 0.0
    """Share of views partly hidden by a cloud and its shadow (some 5 to 30 % of the view)."""
    gsd: NotNegative = 0.0
    """Pixels become exp U(0, gsd) times as large (and are interpolated back): another ground sampling distance."""
    blur: Probability = 0.3
    """Share of views that are blurred."""
    blur_sigma_px: Interval = (0.1, 1.5)
    noise: NotNegative = 0.005
    """Standard deviation of the added white noise, in reflectance."""
    small_views: int = Field(0, ge=0, le=16)
    """How many small views are made of each chip beside the large ones (multi-crop)."""
    small_size: int = Field(32, ge=8)
    """Side of a small view in pixels."""
    small_crop_area: AreaShare = (0.05, 0.25)
    """Area of a small view's crop as a share of the chip's."""
    second: dict[str, Any] = Field(default_factory=dict)
    """Fields that differ in every second large view (asymmetric recipes), such as ``{blur: 0.1}``."""

    @model_validator(mode="after")
    def _second_is_a_recipe(self) -> Self:
        fixed = [name for name in self.second if name in _SAME_IN_ALL_VIEWS]
        if fixed:
            raise ValueError(f"second: {', '.join(fixed)} is the same in all views")
        try:
            self.of_view(1)
        except ValidationError as error:
            faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
            raise ValueError(f"second: {'; '.join(faults)}") from None
        return self

    def of_view(self, number: int) -> Recipe:
        """The recipe of large view ``number`` (0, 1, …): with the fields of ``second`` where that is odd."""
        if number % 2 == 0 or not self.second:
            return self
        return Recipe.model_validate({**self.model_dump(), **self.second, "second": {}})

    def of_small(self) -> Recipe:
        """The recipe of the small views: its own size and crop, everything else as in the first large view."""
        return self.model_copy(update={"size": self.small_size, "crop_area": self.small_crop_area, "second": {}})

    def wavelengths_um(self) -> tuple[float, ...] | None:
        """Centre wavelengths of the bands, None where the recipe does not know its bands or needs no wavelength.

        Raises:
            InputError: haze is asked for and a band's wavelength is unknown.
        """
        if not self.bands or self.haze == 0:
            return None
        unknown = [band for band in self.bands if band not in WAVELENGTH_UM]
        if unknown:
            raise InputError(
                f"the wavelength of band {', '.join(unknown)} is unknown, so haze cannot be simulated",
                where="views: haze",
                expected=", ".join(WAVELENGTH_UM),
                remedy="leave the bands out, or set haze: 0",
            )
        return tuple(WAVELENGTH_UM[band] for band in self.bands)

    def for_bands(self, bands: Sequence[str]) -> Recipe:
        """The same recipe knowing which bands it is for.

        Raises:
            InputError: haze is asked for in some view and a band's wavelength is unknown.
        """
        known = self.model_copy(update={"bands": tuple(bands)})
        for number in (0, 1):
            known.of_view(number).wavelengths_um()
        return known


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
