"""What the values of a map mean and how they are drawn: class names and colours, or the range and unit of a quantity.

The legend is drawn in three places from here: the colour table of the raster, the QGIS style file, the quick-look.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import quoteattr

NODATA = 255
MASKED_COLOUR = "#b5b5b5"
PALETTE = (
    "#4477aa", "#ccbb44", "#228833", "#ee6677", "#66ccee", "#aa3377", "#999933", "#882255", "#44aa99", "#ddcc77",
    "#332288", "#cc6677", "#117733", "#88ccee", "#661100", "#6699cc", "#aa4466", "#4d9221", "#e08214",
)  # fmt: skip
"""Colours for classes that name none: Tol's qualitative schemes, told apart by colour-blind people too."""
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

    @property
    def channels(self) -> int:
        """Channels that the head predicts."""
        return len(self.classes) or 1

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
    classes = tuple(
        LegendClass(
            value, str(entry.name), str(getattr(entry, "colour", None) or PALETTE[value % len(PALETTE)]).lower()
        )
        for value, entry in enumerate(task.classes)
    )
    return Legend(str(task.title), str(task.kind), classes, str(getattr(task, "unit", None) or ""))


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
    steps = [low + (high - low) * place / (len(RAMP) - 1) for place in range(len(RAMP))]
    unit = f" {legend.unit}" if legend.unit else ""
    items = "\n".join(
        f'            <item value="{step:.6g}" color="{colour}" alpha="255" label={quoteattr(f"{step:.4g}{unit}")}/>'
        for step, colour in zip(steps, RAMP, strict=True)
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
