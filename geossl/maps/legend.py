"""What the values of a map mean and how they are drawn: class names and colours, or the range and unit of a quantity.

The legend is drawn in three places from here: the colour table of the raster, the QGIS style file, the quick-look.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import quoteattr

NODATA = 255
MASKED_COLOUR = "#b5b5b5"
UNSEEN = "no answer (cloud, no data, not applicable)"
PALETTE = (
    "#4477aa", "#ccbb44", "#228833", "#ee6677", "#66ccee", "#aa3377", "#999933", "#882255", "#44aa99", "#ddcc77",
    "#332288", "#cc6677", "#117733", "#88ccee", "#661100", "#6699cc", "#aa4466", "#4d9221", "#e08214",
)  # fmt: skip
"""Colours for classes that name none: Tol's qualitative schemes, told apart by colour-blind people too."""
NATURAL = (
    ("sea", "#2b5c9e"), ("ocean", "#2b5c9e"), ("river", "#5aa0d8"), ("water", "#4f8fd0"), ("lake", "#4f8fd0"),
    ("salt marsh", "#9b86c9"), ("marsh", "#7c6bb0"), ("peat", "#5f4b8b"), ("bog", "#5f4b8b"), ("wetland", "#7c6bb0"),
    ("coniferous", "#1f5c34"), ("broad-leaved", "#67b04c"), ("mixed forest", "#3d8a45"), ("woodland", "#9cc069"),
    ("forest", "#2f7d3c"), ("tree", "#2f7d3c"), ("shrub", "#9cc069"), ("natural vegetation", "#c9c26a"),
    ("pasture", "#cfe08a"), ("grass", "#cfe08a"), ("meadow", "#cfe08a"), ("permanent crop", "#d98f3d"),
    ("arable", "#eedf7a"), ("crop", "#eedf7a"), ("agric", "#d9c65c"), ("industrial", "#8d5a8a"),
    ("highway", "#6f6f6f"), ("urban", "#d0554a"), ("residential", "#d0554a"), ("settlement", "#d0554a"),
    ("bare", "#b59f86"), ("rock", "#a09890"), ("snow", "#e6f2fa"), ("ice", "#e6f2fa"),
)  # fmt: skip
"""Colours that readers of land-cover maps expect, by a part of the class name; the first that is free is taken."""
RAMP = ("#ffffd9", "#c7e9b4", "#41b6c4", "#225ea8", "#081d58")
"""Colours of a quantity from low to high (ColorBrewer YlGnBu)."""


@dataclass(frozen=True)
class LegendClass:
    """One value of a class map."""

    value: int
    name: str
    colour: str

    @property
    def rgba(self) -> tuple[int, int, int, int]:
        """The colour as four bytes."""
        red, green, blue = (int(self.colour[place : place + 2], 16) for place in (1, 3, 5))
        return red, green, blue, 255


@dataclass(frozen=True)
class Legend:
    """The meaning of a map: its classes, or (no classes) a quantity with a unit."""

    title: str
    kind: str
    classes: tuple[LegendClass, ...]
    unit: str = ""
    ramp: tuple[str, ...] = RAMP
    """Colours of a quantity from low to high."""
    limits: tuple[float, float] | None = None
    """The values that the ends of the ramp stand for; without them the 2nd and 98th percentile of the map."""
    ordinal: bool = False
    """The classes are steps of one quantity: the map has ``index.tif`` too, the expected step from 0 to 1."""
    planes: tuple[str, ...] = ()
    """What the bands of ``value.tif`` are, where there are several numbers a pixel; the first is drawn."""
    trust: tuple[str, ...] = ()
    """Bands of ``trust.tif``: how far to trust each pixel (:mod:`geossl.maps.trusted`)."""
    unseen: str = UNSEEN
    """Why a pixel inside the map may have no value."""

    @property
    def channels(self) -> int:
        """Channels that the head predicts, those of its trust last."""
        return (len(self.classes) or len(self.planes) or 1) + len(self.trust)

    @property
    def colours(self) -> dict[int, tuple[int, int, int, int]]:
        """Colour table of the class raster; nodata is transparent, values without a meaning too."""
        table = dict.fromkeys(range(256), (0, 0, 0, 0))
        return {**table, **{entry.value: entry.rgba for entry in self.classes}}

    @property
    def names(self) -> dict[int, str]:
        """Value → class name."""
        return {entry.value: entry.name for entry in self.classes}


def make_legend(task: Any) -> Legend:
    """The legend of a task (:class:`geossl.tasks.spec.TaskSpec`): class ``k`` of the head is value ``k`` of the map."""
    taken: set[str] = set()
    classes = []
    for value, entry in enumerate(task.classes):
        colour = getattr(entry, "colour", None) or _free_colour(str(entry.name), taken)
        taken.add(colour.lower())
        classes.append(LegendClass(value, str(entry.name), colour.lower()))
    return Legend(
        str(task.title),
        str(task.kind),
        tuple(classes),
        str(getattr(task, "unit", None) or ""),
        ordinal=bool(getattr(task, "ordinal", False)) and len(classes) > 1,
        unseen=_unseen(task),
    )


def _unseen(task: Any) -> str:
    """Why pixels of a task's map are empty; of a sea bed that light does not reach nothing is known."""
    rules = [rule.reason for rule in getattr(task, "not_applicable", ())]
    deep = getattr(task, "not_seen", None)
    if deep is None:
        return f"no answer (cloud, no data, {', '.join(rules)})" if rules else UNSEEN
    return f"no answer (cloud, no data, {', '.join([*rules, deep.reason])}: {deep.reason} is not absent)"


def _free_colour(name: str, taken: set[str]) -> str:
    """A colour for a class that names none: one that suits it, else one of the palette, unlike those taken."""
    suited = [colour for part, colour in NATURAL if re.search(rf"\b{part}", name.lower())]
    free = [colour for colour in (*suited, *PALETTE) if colour not in taken]
    return free[0] if free else PALETTE[len(taken) % len(PALETTE)]


def qml_classes(legend: Legend) -> str:
    """A QGIS style (QML) for the class raster: one paletted entry a class, nodata transparent."""
    entries = "\n".join(
        f'        <paletteEntry value="{entry.value}" color="{entry.colour}" alpha="255"'
        f" label={quoteattr(entry.name)}/>"
        for entry in legend.classes
    )
    return _qml(
        '    <rasterrenderer type="paletted" band="1" opacity="1" nodataColor="" alphaBand="-1">\n'
        "      <rasterTransparency/>\n"
        f"      <colorPalette>\n{entries}\n      </colorPalette>\n"
        "    </rasterrenderer>"
    )


def qml_quantity(legend: Legend, low: float, high: float) -> str:
    """A QGIS style (QML) for a raster of values: interpolated colours from ``low`` to ``high``."""
    steps = [low + (high - low) * place / (len(legend.ramp) - 1) for place in range(len(legend.ramp))]
    unit = f" {legend.unit}" if legend.unit else ""
    items = "\n".join(
        f'            <item value="{step:.6g}" color="{colour}" alpha="255" label={quoteattr(f"{step:.4g}{unit}")}/>'
        for step, colour in zip(steps, legend.ramp, strict=True)
    )
    return _qml(
        '    <rasterrenderer type="singlebandpseudocolor" band="1" opacity="1" alphaBand="-1" '
        f'classificationMin="{low:.6g}" classificationMax="{high:.6g}">\n'
        "      <rasterTransparency/>\n"
        "      <rastershader>\n"
        '        <colorrampshader colorRampType="INTERPOLATED" classificationMode="1" clip="0" '
        f'minimumValue="{low:.6g}" maximumValue="{high:.6g}">\n'
        f"{items}\n"
        "        </colorrampshader>\n"
        "      </rastershader>\n"
        "    </rasterrenderer>"
    )


def _qml(renderer: str) -> str:
    return (
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
        '<qgis version="3.34" styleCategories="Symbology">\n'
        "  <pipe>\n"
        f"{renderer}\n"
        '    <brightnesscontrast brightness="0" contrast="0" gamma="1"/>\n'
        '    <huesaturation colorizeOn="0" saturation="0" grayscaleMode="0"/>\n'
        "    <rasterresampler/>\n"
        "  </pipe>\n"
        "  <blendMode>0</blendMode>\n"
        "</qgis>\n"
    )
