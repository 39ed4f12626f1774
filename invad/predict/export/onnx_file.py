"""ONNX: a traced graph as the bytes of one file, in float32."""

import json
import logging
from collections.abc import Mapping
from typing import Any

import onnx
import onnx_ir as ir
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from onnxscript import optimizer
from torch.export import ExportedProgram

from invad import __version__
from invad.predict.runtimes import IMAGES, MAPS, SCORES

logging.getLogger("onnxscript.optimizer._constant_folding").setLevel(logging.ERROR)  # warns of what it leaves as it is

_ANY_SIZE = 2**40  # bytes of constants that are computed now rather than by every runtime


@torch.no_grad()
def onnx_model(program: ExportedProgram) -> onnx.ModelProto:
    """Translate a traced graph: input `images` uint8 (batch, S, S, 3), outputs `scores` float32 (batch,), `maps` float32 (batch, S, S).

    Nothing in the result names a file of this machine, and the same graph gives the same bytes.
    """
    translated = torch.onnx.export(
        program,
        input_names=[IMAGES],
        output_names=[SCORES, MAPS],
        dynamic_shapes=({0: "batch"},),
        dynamo=True,
        verbose=False,
    )
    if translated is None:  # only where a file is written
        raise TypeError("torch.onnx.export has returned no program")
    model = optimizer.optimize(translated.model, input_size_limit=_ANY_SIZE, output_size_limit=_ANY_SIZE)
    ClearMetadataAndDocStringPass()(model)  # stack traces among it
    graph = model.graph
    values = (*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs))
    for part in (model, *values):
        part.metadata_props.clear()
    model.producer_name, model.producer_version = "invad", __version__
    return ir.to_proto(model)


def onnx_bytes(proto: onnx.ModelProto, metadata: Mapping[str, Any]) -> bytes:
    """Return the file of a model, with its metadata, each value as JSON, and all weights."""
    del proto.metadata_props[:]
    for key, value in metadata.items():
        proto.metadata_props.add(key=key, value=json.dumps(value, ensure_ascii=False, allow_nan=False))
    return proto.SerializeToString(deterministic=True)
