"""Small heads as plain data: what a projection is made of, for a manifest, and the same layers made anew from it."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import nn

from geossl.errors import InputError

_PLAIN: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "identity": nn.Identity}


def describe_layers(module: nn.Module) -> dict[str, Any]:
    """Linear layers, normalisations, activations and sequences of them as JSON; weights are not in it.

    Raises:
        InputError: a layer of another kind.
    """
    if isinstance(module, nn.Sequential):
        return {"layer": "sequence", "parts": [[name, describe_layers(part)] for name, part in module.named_children()]}
    if isinstance(module, nn.Linear):
        bias = module.bias is not None
        return {"layer": "linear", "inputs": module.in_features, "outputs": module.out_features, "bias": bias}
    if isinstance(module, nn.BatchNorm1d | nn.SyncBatchNorm):
        return {"layer": "batchnorm", "width": module.num_features, "affine": module.affine, "eps": module.eps}
    if isinstance(module, nn.LayerNorm):
        return {"layer": "layernorm", "width": module.normalized_shape[0], "eps": module.eps}
    for name, kind in _PLAIN.items():
        if type(module) is kind:
            return {"layer": name}
    raise InputError(
        "this layer cannot be kept with an encoder",
        expected="sequences of linear layers, normalisations and activations",
        found=type(module).__name__,
    )


def build_layers(description: dict[str, Any]) -> nn.Module:
    """Fresh layers of a description that :func:`describe_layers` gave; names in the state dict are the same."""
    kind = description["layer"]
    if kind == "sequence":
        return nn.Sequential(OrderedDict((name, build_layers(part)) for name, part in description["parts"]))
    if kind == "linear":
        return nn.Linear(description["inputs"], description["outputs"], bias=description["bias"])
    if kind == "batchnorm":
        return nn.BatchNorm1d(description["width"], eps=description["eps"], affine=description["affine"])
    if kind == "layernorm":
        return nn.LayerNorm(description["width"], eps=description["eps"])
    if kind not in _PLAIN:
        raise InputError(
            "the manifest names a layer that this geossl does not know", found=kind, remedy="update geossl"
        )
    return _PLAIN[kind]()


def output_width(module: nn.Module, width: int) -> int:
    """Features that come out of these layers where ``width`` go in."""
    linear = [part for part in module.modules() if isinstance(part, nn.Linear)]
    return int(linear[-1].out_features) if linear else width
