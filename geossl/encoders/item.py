"""The STAC item of an encoder directory, with the machine learning model (MLM) extension, version 1.4.

It makes an encoder findable beside the scenes it learnt from: input bands and normalisation, output, architecture,
how it was trained, and where and when its training chips lie. The fields are made by pystac's classes, which refuse
what the extension does not know. (https://github.com/stac-extensions/mlm)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pystac
import shapely
import torch
from pystac.extensions.mlm import (
    AssetGeneralMLMExtension,
    Hyperparameters,
    InputStructure,
    MLMExtension,
    ModelInput,
    ModelOutput,
    ResultStructure,
    TaskType,
    ValueScaling,
    ValueScalingType,
)
from pystac.extensions.raster import DataType

from geossl.encoders.bands import wavelengths

if TYPE_CHECKING:
    import pandas as pd

    from geossl.encoders.saved import Encoder

ITEM = "item.json"
_FAMILIES = {"resnet18": "ResNet-18", "resnet50": "ResNet-50", "resnet152": "ResNet-152"}
_FAMILIES |= {"vit-s": "ViT-S/16", "vit-b": "ViT-B/16"}
_ALWAYS = (datetime(1900, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
"""What the extension recommends for a model that is bound to no dates."""
_TRAINING = ("method", "config", "seed", "steps", "epochs", "pairs", "view_px", "resolution_m", "precision")


def training_extent(table: pd.DataFrame) -> dict[str, Any] | None:
    """Where and when chips lie, for the ``extent`` of an encoder: GeoJSON in EPSG:4326 (convex hull), first and last
    date (None where the chips have no dates).

    ``table`` is a chip set's (columns ``geometry`` and ``datetime``). None where no chip has an outline.
    """
    outlines = [one for one in table["geometry"] if one is not None]
    if not outlines:
        return None
    hull = shapely.convex_hull(shapely.union_all(outlines))
    dates = table["datetime"].dropna()
    return {
        "geometry": shapely.geometry.mapping(shapely.set_precision(hull, 1e-6)),
        "start": dates.min().isoformat() if len(dates) else None,
        "end": dates.max().isoformat() if len(dates) else None,
    }


def encoder_item(encoder: Encoder, facts: Mapping[str, Any], weights: str, name: str) -> dict[str, Any]:
    """The item as a dictionary, addresses relative to the encoder's directory.

    Args:
        encoder: what is saved.
        facts: its manifest: ``method``, ``chips``, ``metrics``, ``extent`` (see :func:`training_extent`), …
        weights: file name of the weights.
        name: id of the item: the directory's name.
    """
    properties = {"description": _description(encoder, facts), "geossl:metrics": facts.get("metrics") or {}}
    item = item_of(name, facts.get("extent") or {}, properties)
    method = str(facts.get("method", "not said"))
    trained = method != "random"
    hyperparameters = {key: facts[key] for key in _TRAINING if facts.get(key) is not None}
    bytes_of = sum(tensor.numel() * tensor.element_size() for tensor in encoder.state_dict().values())
    MLMExtension.ext(item, add_if_missing=True).apply(
        name=name,
        architecture=family(encoder),
        tasks=[TaskType.SIMILARITY_SEARCH],
        input=[reflectance_input(encoder)],
        output=[_output(encoder)],
        framework="PyTorch",
        framework_version=torch.__version__.partition("+")[0],
        memory_size=bytes_of,
        total_parameters=sum(one.numel() for one in encoder.parameters()),
        pretrained=trained,
        pretrained_source=_source(facts) if trained else None,
        accelerator_constrained=False,
        hyperparameters=Hyperparameters.create(**hyperparameters) if hyperparameters else None,
    )
    add_files(item, encoder, weights, "Weights, with the normalisation as buffers", "geossl.load_encoder")
    written: dict[str, Any] = item.to_dict(include_self_link=False, transform_hrefs=False)
    return written


def add_files(item: pystac.Item, encoder: Encoder, weights: str, title: str, entrypoint: str) -> None:
    """Give an item of a model its weights, which the function named ``entrypoint`` loads, and the manifest."""
    asset = pystac.Asset(
        href=f"./{weights}",
        title=title,
        media_type="application/octet-stream; framework=pytorch; format=safetensors",
        roles=["mlm:model", "mlm:weights"],
        extra_fields={"bands": bands_of(encoder.bands)},
    )
    item.add_asset("weights", asset)
    AssetGeneralMLMExtension.ext(asset).apply(artifact_type="safetensors.torch.save_file", entrypoint=entrypoint)
    item.add_asset("manifest", pystac.Asset("./manifest.json", "Manifest", None, "application/json", ["metadata"]))


def item_of(name: str, extent: Mapping[str, Any], properties: dict[str, Any]) -> pystac.Item:
    """An item over a training extent (:func:`training_extent`; empty: no place and all times)."""
    geometry = extent.get("geometry")
    start, end = (_when(extent.get(key), other) for key, other in zip(("start", "end"), _ALWAYS, strict=True))
    return pystac.Item(
        id=name,
        geometry=geometry,
        bbox=None if geometry is None else list(shapely.geometry.shape(geometry).bounds),
        datetime=None,
        start_datetime=start,
        end_datetime=end,
        properties=properties,
    )


def family(encoder: Encoder) -> str:
    """The architecture as papers name it."""
    return _FAMILIES.get(encoder.backbone.name, encoder.backbone.name)


def reflectance_input(encoder: Encoder) -> ModelInput:
    """Reflectance of the encoder's bands, and how it is scaled inside."""
    structure = InputStructure.create(
        shape=[-1, len(encoder.bands), -1, -1],
        dim_order=["batch", "channel", "height", "width"],
        data_type=DataType.FLOAT32,
    )
    made = ModelInput.create(
        name="reflectance",
        bands=list(encoder.bands),
        input=structure,
        description="Reflectance (1 = all light) of every band; invalid pixels hold the band's mean. The encoder "
        "subtracts the mean and divides by the standard deviation itself.",
    )
    scaling = [
        ValueScaling.create(type=ValueScalingType.Z_SCORE, mean=mean, stddev=std).to_dict()
        for mean, std in zip(encoder.mean.tolist(), encoder.std.tolist(), strict=True)
    ]
    # The extension has one scaling a band; pystac's setter takes a single one.
    made.properties["value_scaling"] = [{key: one[key] for key in ("type", "mean", "stddev")} for one in scaling]
    return made


def _output(encoder: Encoder) -> ModelOutput:
    result = ResultStructure.create(
        shape=[-1, encoder.out_dim], dim_order=["batch", "feature"], data_type=DataType.FLOAT32
    )
    maps = ", ".join(f"{width} at stride {s}" for width, s in zip(encoder.channels, encoder.strides, strict=True))
    return ModelOutput.create(
        name="embedding",
        tasks=[TaskType.SIMILARITY_SEARCH],
        result=result,
        description=f"One vector an image; the method features() gives maps instead (channels: {maps}).",
    )


def bands_of(names: Sequence[str]) -> list[dict[str, Any]]:
    """Common names with their wavelengths (µm), as ``bands`` of an asset."""
    known = wavelengths()
    return [{"name": name} | ({"eo:center_wavelength": known[name]} if name in known else {}) for name in names]


def _source(facts: Mapping[str, Any]) -> str:
    """The data it was trained on, or where its weights were taken from."""
    weights, chips = facts.get("initial_weights"), (facts.get("chips") or {}).get("name")
    parts = [f"weights {weights['source']}" if weights else "", f"chips {chips}" if chips else ""]
    return ", ".join(part for part in parts if part) or "not said"


def _description(encoder: Encoder, facts: Mapping[str, Any]) -> str:
    return (
        f"Encoder {encoder.backbone.name} for {len(encoder.bands)} bands, learnt by {facts.get('method', 'not said')}"
    )


def _when(text: str | None, otherwise: datetime) -> datetime:
    return otherwise if text is None else datetime.fromisoformat(text)
