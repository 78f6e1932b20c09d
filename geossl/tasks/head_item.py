"""The STAC item of a head directory, with the machine learning model (MLM) extension, version 1.4.

What :mod:`geossl.encoders.item` writes for encoders, for a head: its input, the classes or values it gives, and where
and when its training labels lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pystac
import torch
from pystac.extensions.classification import Classification
from pystac.extensions.mlm import (
    Hyperparameters,
    MLMExtension,
    ModelOutput,
    ResultStructure,
    TaskType,
)
from pystac.extensions.raster import DataType

from geossl.encoders.item import add_files, family, item_of, reflectance_input
from geossl.tasks.heads import WEIGHTS, Head
from geossl.tasks.spec import TaskSpec

_TASKS = {
    "segmentation": TaskType.SEMANTIC_SEGMENTATION,
    "classification": TaskType.SCENE_CLASSIFICATION,
    "multilabel": TaskType.CLASSIFICATION,
    "regression": TaskType.REGRESSION,
}


def head_item(head: Head, facts: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The item as a dictionary, addresses relative to the head's directory.

    Args:
        head: what is saved.
        facts: its manifest.
        name: id of the item.
    """
    spec, encoder = head.task, head.net.encoder
    metrics = facts.get("metrics") or {}
    properties = {
        "description": f"{spec.title}: {spec.kind}, read from {encoder.backbone.name}",
        "geossl:task": spec.name,
        "geossl:metrics": {key: metrics.get(key) for key in ("headline", "value", "interval")},
    }
    item = item_of(name, (facts.get("taught") or {}).get("extent") or {}, properties)
    task = _TASKS[spec.kind]
    told = {
        "labels": facts.get("labels"),
        "labels_per_class": facts.get("labels_per_class"),
        "strategy": spec.strategy,
        "decoder": spec.decoder,
        "seed": (facts.get("inputs") or {}).get("seed"),
    }
    MLMExtension.ext(item, add_if_missing=True).apply(
        name=name,
        architecture=family(encoder),
        tasks=[task],
        input=[reflectance_input(encoder)],
        output=[_output(spec, task)],
        framework="PyTorch",
        framework_version=torch.__version__.partition("+")[0],
        memory_size=sum(one.numel() * one.element_size() for one in head.net.state_dict().values()),
        total_parameters=sum(one.numel() for one in head.net.parameters()),
        pretrained=True,
        pretrained_source=f"labels on chips {(facts.get('chips') or {}).get('name', 'not said')}",
        accelerator_constrained=False,
        hyperparameters=Hyperparameters.create(**{key: value for key, value in told.items() if value is not None}),
    )
    add_files(item, encoder, WEIGHTS, "Weights of the encoder and of what reads it", "geossl.tasks.heads.load_head")
    item.add_asset("card", pystac.Asset("./card.md", "Model card", None, "text/markdown", ["metadata"]))
    item.add_asset("report", pystac.Asset("./report.html", "Report", None, "text/html", ["overview"]))
    written: dict[str, Any] = item.to_dict(include_self_link=False, transform_hrefs=False)
    return written


def _output(spec: TaskSpec, task: TaskType) -> ModelOutput:
    pixels = spec.per_pixel
    result = ResultStructure.create(
        shape=[-1, spec.outputs, -1, -1] if pixels else [-1, spec.outputs],
        dim_order=["batch", "class", "height", "width"] if pixels else ["batch", "class"],
        data_type=DataType.FLOAT32,
    )
    classes = [
        Classification.create(value=number, name=_identifier(one.name), title=one.name)
        for number, one in enumerate(spec.classes)
    ]
    what = f"a value in {spec.unit or 'the unit of the labels'}" if not classes else "the probability of each class"
    return ModelOutput.create(
        name=_identifier(spec.name),
        tasks=[task],
        result=result,
        description=f"{'Of every pixel' if pixels else 'Of the chip'}: {what}, once the head's predict() is asked.",
        classes=classes or None,
    )


def _identifier(name: str) -> str:
    """A name as the classification extension wants it: letters, digits, ``-`` and ``_``."""
    return "".join(one if one.isascii() and one.isalnum() else "_" for one in name).strip("_") or "class"
