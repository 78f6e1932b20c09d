"""The kinds of sandbox (``layout`` of its YAML): what is made of the seed, and how scenes, truth and labels follow.

A world holds the static layers in memory; ``create`` asks it for scenes one by one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from geossl.sandbox import aquatic, labels, labels_coast, labels_lake, preview, preview_water, truth, truth_water
from geossl.sandbox.dates import Acquisition
from geossl.sandbox.landscape import make_landscape
from geossl.sandbox.levels import make_levels
from geossl.sandbox.render import Rendered, render
from geossl.sandbox.seasons import make_seasons, rain_pattern
from geossl.sandbox.spec import Frame, LabelCounts, SandboxSpec, WaterSettings
from geossl.sandbox.surface import make_surface
from geossl.sandbox.waterscape import make_waterscape


class World(Protocol):
    """What ``create`` needs of a layout."""

    def write_static(self, root: Path) -> None:
        """The truth that no scene is needed for; ``truth/classes.json`` last."""

    def make(self, root: Path, scene: Acquisition) -> Rendered:
        """Render a scene and write the truth of its date."""

    def finish(self, root: Path, scenes: list[Acquisition]) -> None:
        """Draw the labels and the preview of a sandbox whose scenes are all there."""


class Farmland:
    """Fields, forests, lakes and towns; drought."""

    def __init__(self, spec: SandboxSpec, frame: Frame, counts: LabelCounts) -> None:
        self.spec, self.frame, self.counts = spec, frame, counts
        self.land = make_landscape(frame.padded, spec.seed)
        self.seasons = make_seasons(spec)

    def write_static(self, root: Path) -> None:
        """See :class:`World`."""
        truth.write_static_truth(root, self.spec, self.frame, self.land)

    def make(self, root: Path, scene: Acquisition) -> Rendered:
        """See :class:`World`."""
        rain = rain_pattern(self.land.side, self.spec.seed, scene.datetime.year)
        rendered = render(self.land, self.seasons, rain, scene, self.spec.seed)
        truth.write_dated_truth(root, self.frame, scene, rendered)
        return rendered

    def finish(self, root: Path, scenes: list[Acquisition]) -> None:
        """See :class:`World`."""
        labels.write_labels(root, self.spec, self.counts, self.frame, self.land, scenes)
        preview.write_preview(root, self.spec, self.frame, scenes)


class Waters:
    """A lake or an archipelago: levels that move the water's edge, a bed seen through the water, plants."""

    def __init__(self, spec: SandboxSpec, frame: Frame, settings: WaterSettings) -> None:
        self.spec, self.frame, self.settings = spec, frame, settings
        terrain, self.scape = make_waterscape(frame.padded, spec.seed, spec.layout, settings)
        self.land = make_landscape(frame.padded, spec.seed, terrain)
        self.seasons = make_seasons(spec)
        self.levels = make_levels(spec, settings)
        self.stands = aquatic.make_stands(self.scape, spec.seed) if spec.layout == "lake" else None

    def write_static(self, root: Path) -> None:
        """See :class:`World`."""
        truth_water.write_static(root, self.spec, self.frame, self.land, self.scape, self.stands, self.levels)

    def make(self, root: Path, scene: Acquisition) -> Rendered:
        """See :class:`World`."""
        level = self.levels.on(scene.datetime.date())
        surface = make_surface(self.scape, self.stands, self.settings, scene, level, self.spec.seed)
        rain = rain_pattern(self.land.side, self.spec.seed, scene.datetime.year)
        rendered = render(self.land, self.seasons, rain, scene, self.spec.seed, surface)
        truth_water.write_dated(root, self.frame, scene, rendered, surface)
        return rendered

    def finish(self, root: Path, scenes: list[Acquisition]) -> None:
        """See :class:`World`."""
        truth_water.gather_optics(root, scenes)
        args = (root, self.spec, self.settings, self.frame, self.scape)
        if self.stands is not None:
            labels_lake.write_labels(*args, self.stands, self.levels, scenes)
        else:
            labels_coast.write_labels(*args, self.levels, scenes)
        preview_water.write_preview(root, self.spec, self.frame, scenes)


def make_world(spec: SandboxSpec, frame: Frame) -> World:
    """The world of a sandbox's layout."""
    if spec.water is not None and spec.layout != "farmland":
        return Waters(spec, frame, spec.water)
    if spec.labels is not None:
        return Farmland(spec, frame, spec.labels)
    raise ValueError(f"{spec.layout} without its section")  # SandboxSpec refuses such settings
