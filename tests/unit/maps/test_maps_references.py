"""Maps show heads the same departures from other years that training has shown them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from maps_fakes import BANDS, Chips, cut_chips

from geossl.errors import InputError
from geossl.maps.plan import make_plan
from geossl.maps.references import ReferenceSource
from geossl.maps.windows import Window
from geossl.tasks.anomaly import plane_count
from geossl.tasks.examples import ChipData
from geossl.tasks.spec import TaskSpec

SIDE = 32
DAYS = ("2016-06-10", "2017-06-12", "2018-06-11", "2018-09-01")


def chips_of_years(missing: bool = False) -> Chips:
    """One tile of 32 pixels on four dates, some of it under cloud."""
    generator = np.random.default_rng(0)
    picture = generator.integers(1500, 6000, (4, SIDE * len(DAYS), SIDE)).astype(np.uint16)
    flags = (generator.random((SIDE * len(DAYS), SIDE)) < 0.2).astype(np.uint8)
    chips = cut_chips(picture, flags, side=SIDE)
    number = chips.table["row"] // SIDE
    chips.table["datetime"] = [pd.Timestamp(DAYS[place], tz="UTC") for place in number]
    chips.table["top"] += 10.0 * SIDE * number
    chips.table["tile"] = "t0"
    if missing:
        chips.table.loc[3, "left"] += 10.0 * SIDE  # a date beside the others
    return chips


class Head:
    """Wants references, and is never asked."""

    id = "head"
    bands = BANDS
    task = TaskSpec(name="dry", title="Dry", kind="segmentation", classes=({"name": "no"}, {"name": "yes"}),
                    references=("ndvi",), season_days=20)  # fmt: skip

    def predict(self, values: object, clear: object) -> None:
        raise AssertionError


def test_a_map_reads_the_planes_that_training_has_read() -> None:
    chips = chips_of_years()
    pieces = make_plan(Head(), chips=chips, block="b1", period="2018-06")
    assert isinstance(pieces.pixels, ReferenceSource)
    assert len(pieces.plan.days) == 1
    assert pieces.pixels.bands == (*BANDS, *(f"anomaly_{number}" for number in range(plane_count(["ndvi"]))))
    found = pieces.pixels.read(Window(0, 0, 0, 0, SIDE, SIDE), (0,))
    rows = np.arange(len(chips.table))
    taught = ChipData(chips, rows, rows.astype(str), rows.astype(str), ("ndvi",), 20).load(np.array([2]))[0][0].numpy()
    seen = found.clear[0]
    assert 0.5 < seen.mean() < 0.95
    np.testing.assert_allclose(found.values[0][len(BANDS) :][:, seen], taught[len(BANDS) :][:, seen], atol=1e-5)
    part = pieces.pixels.read(Window(0, 0, 8, 4, 16, 20), (0,))
    np.testing.assert_allclose(part.values[0], found.values[0][:, 8:24, 4:24], atol=1e-5, err_msg="whatever the window")


def test_scenes_of_other_years_belong_to_the_identity_of_the_layer() -> None:
    pieces = make_plan(Head(), chips=chips_of_years(), block="b1", period="2018-06")
    assert len(pieces.plan.inputs["scenes"]) == len(DAYS)


def test_chips_of_other_years_that_lie_elsewhere_are_refused() -> None:
    with pytest.raises(InputError, match="do not cover what is mapped"):
        make_plan(Head(), chips=chips_of_years(missing=True), block="b1", period="2018-06")
