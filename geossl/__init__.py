"""geossl: from an archive of satellite scenes and a handful of labels to maps.

Each verb of the command line is one function here: ``index_source``, ``open_cube``, ``create_sandbox``,
``build_tiles``, ``open_chips``, ``pretrain``, ``load_encoder``, ``finetune``, ``make_map``. They are loaded when
first used, so ``import geossl`` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_VERBS = {
    "open_cube": "geossl.cube.connect",
    "index_source": "geossl.cube.index",
    "cube_status": "geossl.cube.status",
    "create_sandbox": "geossl.sandbox.create",
    "build_tiles": "geossl.chips.build",
    "open_chips": "geossl.chips.open",
    "pretrain": "geossl.training.pretrain",
    "load_encoder": "geossl.encoders.saved",
    "finetune": "geossl.tasks.finetune",
    "evaluate": "geossl.tasks.evaluate",
    "distill": "geossl.tasks.distill",
    "make_map": "geossl.maps.make",
    "make_index_map": "geossl.maps.index",
    "make_task_map": "geossl.maps.task_map",
    "map_areas": "geossl.maps.areal",
    "draw_sample": "geossl.maps.areal",
    "embed": "geossl.maps.embed",
    "map_level": "geossl.maps.level",
    "label_template": "geossl.tasks.template",
    "check_labels": "geossl.tasks.labels_check",
    "suggest_labels": "geossl.tasks.labels_suggest",
    "examine": "geossl.doctor.examine",
}

if TYPE_CHECKING:
    from geossl.chips.build import build_tiles as build_tiles
    from geossl.chips.open import open_chips as open_chips
    from geossl.cube.connect import open_cube as open_cube
    from geossl.cube.index import index_source as index_source
    from geossl.cube.status import cube_status as cube_status
    from geossl.doctor.examine import examine as examine
    from geossl.encoders.saved import load_encoder as load_encoder
    from geossl.maps.areal import draw_sample as draw_sample
    from geossl.maps.areal import map_areas as map_areas
    from geossl.maps.embed import embed as embed
    from geossl.maps.index import make_index_map as make_index_map
    from geossl.maps.level import map_level as map_level
    from geossl.maps.make import make_map as make_map
    from geossl.maps.task_map import make_task_map as make_task_map
    from geossl.sandbox.create import create_sandbox as create_sandbox
    from geossl.tasks.distill import distill as distill
    from geossl.tasks.evaluate import evaluate as evaluate
    from geossl.tasks.finetune import finetune as finetune
    from geossl.tasks.labels_check import check_labels as check_labels
    from geossl.tasks.labels_suggest import suggest_labels as suggest_labels
    from geossl.tasks.template import label_template as label_template
    from geossl.training.pretrain import pretrain as pretrain

__all__ = ["__version__", *_VERBS]


def __getattr__(name: str) -> Any:
    if name in _VERBS:
        return getattr(import_module(_VERBS[name]), name)
    raise AttributeError(f"module 'geossl' has no attribute '{name}'")
