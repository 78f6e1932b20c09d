"""What a self-supervised method is: views in, loss out. One file a method here, one YAML in ``configs/methods``.

A method knows neither data nor optimiser. It registers itself::

    @register("simclr")
    class SimCLR(Method):
        settings_type = SimCLRSettings
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import Field
from torch import Tensor, nn

from geossl import config
from geossl.errors import InputError, unknown_name


@dataclass(frozen=True)
class StepResult:
    """What one step gives: the loss to minimise (float32 scalar), figures to log, and the backbone's embeddings.

    ``embeddings``: (n_views, n, D), detached: what representation health is judged by. ``logs`` holds detached scalars
    on the device; reading them makes the host wait.
    """

    loss: Tensor
    logs: dict[str, Tensor]
    embeddings: Tensor


class MethodConfig(config.Settings):
    """Schema of ``configs/methods/*.yaml``; ``views``, ``pairs`` and ``optimizer`` belong to other rooms and stay as
    they are."""

    method: str
    """Name of the registered method."""
    title: str
    paper: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    views: dict[str, Any] = Field(default_factory=dict)
    """The recipe of its views (:mod:`geossl.views.recipe`)."""
    pairs: dict[str, bool | int] = Field(default_factory=dict)
    """Which chips form a positive pair: empty, both views of the same chip; ``max_days: N``, the same tile on another
    date at most N days away, where there is one; ``other_season: true``, the same tile in another season."""
    optimizer: dict[str, Any] = Field(default_factory=dict)
    """Optimiser, rate a 128 chips, weight decay and share of warm-up (:mod:`geossl.training.optim`)."""


class Method(nn.Module):
    """Base of all methods. Parameters with ``requires_grad`` are what the optimiser gets; the rest are copies.

    Everything that must survive a checkpoint (queues, moving averages, counters) is a parameter or a buffer. A copy of
    a network is named after what it copies: ``key_backbone``, ``target_projector``.
    """

    settings_type: ClassVar[type[config.Settings]] = config.Settings
    name: ClassVar[str] = ""
    n_views: int = 2
    """Large views a step takes."""
    takes_small_views: ClassVar[bool] = False
    """Whether a step also learns from the small views of a multi-crop recipe."""
    min_batch: int = 2
    """Fewest chips a step can learn from."""
    needs_epochs: bool = False
    """Whether :meth:`begin_epoch` has something to do; it is not called otherwise, since embedding costs a pass."""

    backbone: nn.Module
    """The network that is kept: (B, bands, H, W) normalised images to (B, ``out_dim``) embeddings."""

    def __init__(self, backbone: nn.Module, settings: config.Settings) -> None:
        super().__init__()
        self.backbone = backbone
        self.settings = settings

    def step(self, views: list[Tensor], progress: float, places: Tensor | None = None) -> StepResult:
        """The loss of one batch.

        Args:
            views: ``n_views`` normalised views (n, bands, size, size) float32, then the recipe's small views
                (n, bands, small_size, small_size) where the method takes them.
            progress: share of the run that is done, 0 to 1.
            places: (n,) int64, which of the training chips (0 to N - 1) each image is. Only methods that keep
                something for every chip need it.
        """
        raise TypeError(f"{type(self).__name__} defines no step")

    def after_step(self, progress: float) -> None:
        """What happens once the optimiser has stepped: moving averages and queues. Nothing by default."""

    def begin_epoch(self, epoch: int, embed: Callable[[nn.Module], Tensor]) -> None:
        """What happens before the first step of an epoch (not after a resume in mid-epoch). Nothing by default.

        ``embed(network)`` gives the (N, d) float32 outputs of ``network`` in evaluation mode and without gradients on
        every training chip, unaugmented, in the order of their places. Called where ``needs_epochs`` is True.
        """

    def chip_weights(self) -> Tensor | None:
        """(N,) float32, how often each training chip is to be drawn in the coming epoch; None: every chip once.

        A function of the buffers alone, so that a resumed run draws the same chips.
        """
        return None

    def kept_projection(self) -> nn.Module | None:
        """First layers of the projection head that are kept with the backbone, (B, out_dim) to (B, d); often None."""
        return None

    def prepare(self, batch_size: int, chips: int) -> None:
        """Called once before training, and before a checkpoint is loaded: fit to the number of training chips.

        Raises:
            InputError: too few chips in a batch or in all for this method.
        """
        if not chips:
            raise InputError(
                "there are no chips to train on", where=self.name, remedy="build tiles, or check period and months"
            )
        if not self.min_batch <= batch_size <= chips:
            raise InputError(
                f"{self.name} cannot train on these batches",
                where="--batch-size",
                expected=f"from {self.min_batch} to the number of training chips ({chips})",
                found=batch_size,
                remedy="choose another batch size, or take more chips (longer period, larger region)",
            )


MethodType = TypeVar("MethodType", bound=type[Method])
_registry: dict[str, type[Method]] = {}


def register(name: str) -> Callable[[MethodType], MethodType]:
    """Class decorator: make a method known by ``name``."""

    def add(method: MethodType) -> MethodType:
        method.name = name
        _registry[name] = method
        return method

    return add


def method_names() -> list[str]:
    """Names of all methods: every module of this package is imported once."""
    package = importlib.import_module("geossl.methods")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"geossl.methods.{module.name}")
    return sorted(_registry)


def load_method(name_or_path: str | Path) -> MethodConfig:
    """A method's configuration: a shipped one by name or a user's own ``.yaml``.

    Raises:
        InputError: unknown name, malformed file, a ``method`` that is not registered, wrong settings, or small views
            for a method that takes none.
    """
    loaded = config.load(MethodConfig, "methods", name_or_path)
    _settings(loaded, name_or_path)
    if loaded.views.get("small_views") and not _registry[loaded.method].takes_small_views:
        raise InputError(
            f"{loaded.method} learns from large views alone",
            where=f"{name_or_path}: views.small_views",
            expected=0,
            found=loaded.views["small_views"],
            remedy="leave small_views out, or use "
            + " or ".join(name for name in method_names() if _registry[name].takes_small_views),
        )
    return loaded


def build_method(name_or_config: str | Path | MethodConfig, backbone: nn.Module, **overrides: Any) -> Method:
    """A method around ``backbone`` (which it trains in place); ``overrides`` replace fields of its settings.

    Raises:
        InputError: as :func:`load_method`.
    """
    loaded = name_or_config if isinstance(name_or_config, MethodConfig) else load_method(name_or_config)
    loaded = loaded.model_copy(update={"settings": {**loaded.settings, **overrides}})
    return _registry[loaded.method](backbone, _settings(loaded, loaded.method))


def _settings(loaded: MethodConfig, where: object) -> config.Settings:
    if loaded.method not in method_names():
        raise unknown_name("method", loaded.method, _registry, where=where)
    return config.parse(_registry[loaded.method].settings_type, loaded.settings, f"{where}: settings")
