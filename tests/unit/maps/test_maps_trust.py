"""``make_map(trust=True)``: planes beside the map; heads that learnt from other pixels are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
import torch
from maps_fakes import BANDS, PixelHead, cut_chips, task

from geossl.encoders.saved import random_encoder
from geossl.errors import InputError
from geossl.maps.make import make_map, plan_map
from geossl.tasks.conformal import ClassSets, ValueRanges
from geossl.tasks.heads import Head, make_net
from geossl.tasks.outliers import Outliers
from geossl.tasks.spec import TaskSpec
from geossl.tasks.trust import Trust


def head(kind: str = "segmentation", trust: Trust | None = None) -> Head:
    classes = [{"name": "water"}, {"name": "field"}, {"name": "forest"}] if kind == "segmentation" else []
    spec = TaskSpec.model_validate({"name": "cover", "title": "Cover", "kind": kind, "classes": classes, "unit": "m"})
    encoder = random_encoder("resnet18", BANDS, [0.2] * 4, [0.1] * 4, seed=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Head(spec, make_net(spec, encoder), 32, {"resolution_m": 10.0}).eval()
    made.trust = trust
    return made


def outliers() -> Outliers:
    return Outliers(torch.zeros(256), torch.eye(256)[:, :4].contiguous(), torch.zeros(6, 4), 0.05)


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as source:
        return source.read()


def test_a_class_map_has_confidence_set_size_and_distance_as_bands(picture: np.ndarray, tmp_path: Path) -> None:
    sets = ClassSets((0.8, 0.9), np.array([[0.3] * 3, [0.2] * 3]), np.ones((2, 3), bool))
    made = head(trust=Trust("segmentation", 2.0, sets, None, outliers()))
    flags = np.zeros((96, 160), np.uint8)
    flags[:16, :16] = 2
    result = make_map(made, chips=cut_chips(picture, flags), block="b1", out=tmp_path / "map", trust=True)
    with rasterio.open(result.layer / "trust.tif") as source:
        assert source.descriptions == ("confidence", "set_size_90", "unlike") and source.dtypes[0] == "float32"
        confidence, size, unlike = source.read()
    share = read(result.layer / "probability.tif")
    seen = flags == 0
    np.testing.assert_allclose(100 * confidence[seen], share.max(0)[seen], atol=0.51)
    assert np.isnan(confidence[~seen]).all()
    assert (unlike[seen] >= 0).all() and 0 <= size[seen].min() <= size[seen].max() <= 3
    plain = make_map(made, chips=cut_chips(picture, flags), block="b1", out=tmp_path / "plain")
    np.testing.assert_array_equal(read(plain.layer / "class.tif"), read(result.layer / "class.tif"))
    assert "trust.tif" not in plain.files and {"trust.tif", "trust.qml"} <= set(result.files)
    item = pystac.Item.from_dict(json.loads((result.layer / "item.json").read_text()))
    asset = item.assets["trust"]
    assert "above 1: unlike" in (asset.title or "") and asset.extra_fields["bands"][0]["name"] == "confidence"


def test_a_quantity_has_the_half_width_of_its_interval(picture: np.ndarray, tmp_path: Path) -> None:
    ranges = ValueRanges((0.9,), np.array([-1e9]), np.array([[1.0, 2.5]]))
    made = head("regression", Trust("regression", ranges=ranges))
    result = make_map(made, chips=cut_chips(picture), block="b1", out=tmp_path / "map", trust=True)
    widths = read(result.layer / "trust.tif")
    assert widths.shape == (1, 96, 160)
    np.testing.assert_allclose(widths, 2.5, rtol=1e-6)
    assert read(result.layer / "value.tif").shape[0] == 1


def test_heads_without_trust_say_so(picture: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing is known of how far"):
        plan_map(head(), chips=cut_chips(picture), block="b1", out=tmp_path / "map", trust=True)
    with pytest.raises(InputError, match="only a head of geossl finetune"):
        plan_map(PixelHead(task()), chips=cut_chips(picture), block="b1", out=tmp_path / "map", trust=True)


def test_pixels_of_another_size_are_refused_unless_allowed(picture: np.ndarray, tmp_path: Path) -> None:
    made = head()
    made.meta["resolution_m"] = 30.0
    where = {"chips": cut_chips(picture), "block": "b1", "out": tmp_path / "map"}
    with pytest.raises(InputError, match=r"(?s)pixels of another size.*30 m.*10 m.*--other-pixels"):
        plan_map(made, **where)
    assert plan_map(made, **where, other_pixels=True).shape == (96, 160)
