"""MoCo v2: MoCo with a deeper head, a softer temperature and blurred views (Chen et al. 2020, arXiv:2003.04297)."""

from __future__ import annotations

from typing import ClassVar, cast

from lightly.models.modules.heads import MoCoProjectionHead
from pydantic import Field
from torch import nn

from geossl.config import Settings
from geossl.methods.moco1 import MoCo1, MoCo1Settings
from geossl.methods.protocol import register


class MoCo2Settings(MoCo1Settings):
    """``settings:`` of a MoCo v2 YAML."""

    temperature: float = Field(0.2, gt=0)
    hidden_dim: int = Field(2048, ge=1)


@register("moco2")
class MoCo2(MoCo1):
    """:class:`MoCo1` whose head has a hidden layer."""

    settings_type: ClassVar[type[Settings]] = MoCo2Settings

    def head(self, width: int) -> nn.Module:
        """The projection of embeddings (n, width) to (n, ``output_dim``): d - hidden - output, without batch norm."""
        hidden = cast(MoCo2Settings, self.options).hidden_dim
        head: nn.Module = MoCoProjectionHead(width, hidden, self.options.output_dim)
        return head
