"""Heads that see several dates at once map them: all dates of the period, their season, and no cloud."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
import torch
from maps_fakes import BANDS, Chips, cut_chips

from geossl.encoders.saved import random_encoder
from geossl.maps.dated import DatedSource
from geossl.maps.make import make_map
from geossl.maps.plan import make_plan
from geossl.maps.windows import Window
from geossl.tasks.decoders import deep_form
from geossl.tasks.heads import Head, make_net
from geossl.tasks.spec import TaskSpec

SIDE = 32
DAYS = ("2018-02-10", "2018-06-11", "2018-09-01")


def chips_of_days() -> Chips:
    """One tile of 32 pixels on three dates, some of it under cloud; its left columns on the second date only."""
    generator = np.random.default_rng(0)
    picture = generator.integers(1500, 6000, (4, SIDE * len(DAYS), SIDE)).astype(np.uint16)
    flags = (generator.random((SIDE * len(DAYS), SIDE)) < 0.2).astype(np.uint8)
    flags[:, :6] = 2
    flags[SIDE : 2 * SIDE, :4] = 0
    chips = cut_chips(picture, flags, side=SIDE)
    number = chips.table["row"] // SIDE
    chips.table["datetime"] = [pd.Timestamp(DAYS[place], tz="UTC") for place in number]
    chips.table["top"] += 10.0 * SIDE * number
    chips.table["tile"] = "t0"
    return chips


def head(temporal: str, pooling: str, decoder: str = "linear") -> Head:
    """Untrained, with attention that prefers some dates to others."""
    spec = TaskSpec(name="crop", title="Crop", kind="segmentation", classes=({"name": "a"}, {"name": "b"}),
                    temporal=temporal, pooling=pooling, decoder=decoder)  # fmt: skip
    encoder = random_encoder("resnet18", BANDS, [0.3] * 4, [0.1] * 4, seed=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = make_net(spec, encoder, deep_form(spec)) if temporal == "series" else make_net(spec, encoder)
        for name, one in net.named_parameters():
            if name.endswith("query") or name == "last.weight":
                torch.nn.init.normal_(one)
    return Head(spec, net, SIDE).eval()


def test_a_head_that_looks_at_the_season_gets_the_day_of_the_year() -> None:
    pixels = make_plan(head("series", "attention"), chips=chips_of_days(), block="b1").pixels
    assert isinstance(pixels, DatedSource) and pixels.bands == (*BANDS, "day_of_year")
    found = pixels.read(Window(0, 0, 4, 8, 16, 20), (2, 0))
    assert found.values.shape == (2, 5, 16, 20)
    assert [np.unique(found.values[place, 4]).tolist() for place in (0, 1)] == [[244], [41]]
    assert not isinstance(make_plan(head("series", "mean"), chips=chips_of_days(), block="b1").pixels, DatedSource)


def test_a_map_is_what_the_head_says_of_all_dates_and_empty_where_none_is_clear(tmp_path: Path) -> None:
    for temporal, pooling, decoder in (
        ("series", "attention", "fpn"),
        ("series", "max", "linear"),
        ("composite", "mean", "linear"),
    ):
        taught, chips = head(temporal, pooling, decoder), chips_of_days()
        out = tmp_path / f"{temporal}-{pooling}"
        result = make_map(taught, chips=chips, block="b1", out=out)
        assert [day.isoformat() for day in result.dates] == list(DAYS)
        stored, flags = chips.load([0, 1, 2])
        values = torch.from_numpy(chips.encoding.decode(stored))[None]
        if taught.task.needs_days:
            days = torch.tensor([41.0, 162.0, 244.0]).reshape(1, 3, 1, 1, 1).expand(1, 3, 1, SIDE, SIDE)
            values = torch.cat([values, days], 2)
        clear = torch.from_numpy(flags == 0)[None]
        said = taught.cpu().predict(values, clear).argmax(1)[0].numpy()
        with rasterio.open(out / "class.tif") as file:
            classes, nodata = file.read(1), file.nodata
        seen = clear[0].any(0).numpy()
        assert (classes[~seen] == nodata).all() and not seen[:, 4:6].any() and seen[:, :4].all()
        assert (classes[seen] == said[seen]).mean() > 0.99
