"""The parameters of the flows: one type each, with the text that the server's form and the command line show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler


@dataclass(frozen=True)
class Described:
    """What a parameter is, in its JSON schema. (Prefect overwrites the description of a pydantic ``Field``.)"""

    text: str

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The schema of the type, with the description."""
        return {**handler(schema), "description": self.text}


Region = Annotated[str, Described("A shipped region, a vector file, or west,south,east,north in degrees.")]
MaybeRegion = Annotated[str | None, Described("A shipped region, a vector file, or west,south,east,north in degrees.")]
Product = Annotated[str | None, Described("ODC product; needed where several fit.")]
Period = Annotated[
    str | None, Described("2018, 2018-07 or 2018-05-01/2018-09-30 (both ends included); without it all.")
]
Months = Annotated[str | None, Described("Months of the year to use: 5-9 or 4,6,8.")]
Source = Annotated[
    str | None, Described("Where new scenes come from: a STAC API, a STAC file, or a folder of GeoTIFFs.")
]
Sandbox = Annotated[str | None, Described("Instead of a source: a sandbox, simulated where it is not there.")]
Profile = Annotated[str | None, Described("Product profile of the source, by name or .yaml file.")]
MaxChips = Annotated[int, Described("Draw at most so many chips."), Field(ge=1)]
Chips = Annotated[str | None, Described("A chip store or an index of ready chips.")]
Block = Annotated[str | None, Described("The block of the ready chips to join to one map.")]
Out = Annotated[str | None, Described("Directory for the result; without it a place under GEOSSL_HOME.")]
Seed = Annotated[int, Described("Seed of everything random.")]
Task = Annotated[str, Described("A shipped task, or the .yaml of one's own.")]
Encoder = Annotated[str, Described("An encoder's directory.")]
Head = Annotated[str, Described("A head's directory.")]
MaybeHead = Annotated[str | None, Described("A head's directory; without it heads/<task>-<region> under GEOSSL_HOME.")]
Labels = Annotated[str | None, Described("Vector file or raster of labels.")]
LabelsPerClass = Annotated[int | None, Described("Use only so many labels of each class."), Field(ge=1)]
Method = Annotated[str, Described("Self-supervised method.")]
Epochs = Annotated[int | None, Described("Passes over the chips."), Field(ge=1)]
MaxMinutes = Annotated[float | None, Described("Stop training after so many minutes."), Field(gt=0)]
Every = Annotated[Literal["day", "month", "year"], Described("What one layer stands for.")]
Newest = Annotated[
    int, Described("Keep the newest so many periods that have scenes up to date; older ones stay."), Field(ge=1)
]
Gauge = Annotated[
    str | None, Described("For water levels: CSV of dates and levels in metres; without it the sandbox's own gauge.")
]
Webhook = Annotated[
    str | None, Described("http(s) address that gets a JSON message when a layer is published; none: nobody.")
]
Log = Annotated[str | None, Described("File that gets one line for each published layer; none: no file.")]
