"""ONNX: a traced graph as the bytes of one file."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from onnxruntime import InferenceSession
from onnxscript import optimizer
from torch.export import ExportedProgram

from invad import __version__
from invad.predict.export.check import Outputs, Runtime

IMAGES, SCORES, MAPS = "images", "scores", "maps"
_METHOD = "'detector.method."  # of `Graph`; in the scopes of a node
_ANY_SIZE = 2**40  # bytes of constants that are computed now rather than by every runtime


@dataclass(frozen=True)
class OnnxModel:
    """A model in float32.

    Attributes:
        proto: The model: input `images` uint8 (batch, S, S, 3), outputs `scores` float32 (batch,) and `maps` float32 (batch, S, S).
        method_nodes: The names of the nodes of the method's network: neither the encoder's nor those that make maps of features.
    """

    proto: onnx.ModelProto
    method_nodes: frozenset[str]


@torch.no_grad()
def onnx_model(program: ExportedProgram) -> OnnxModel:
    """Translate a traced graph; nothing in the result names a file of this machine, and the same graph gives the same bytes."""
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
    scopes = {node.name: node.metadata_props.get("pkg.torch.onnx.name_scopes", "") for node in model.graph}
    ClearMetadataAndDocStringPass()(model)  # stack traces among it
    graph = model.graph
    values = (*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs))
    for part in (model, *values):
        part.metadata_props.clear()
    model.producer_name, model.producer_version = "invad", __version__
    return OnnxModel(ir.to_proto(model), frozenset(name for name, scope in scopes.items() if name and _METHOD in scope))


def onnx_bytes(proto: onnx.ModelProto, metadata: Mapping[str, str]) -> bytes:
    """Return the file of a model, with its metadata and all weights."""
    del proto.metadata_props[:]
    for key, value in metadata.items():
        proto.metadata_props.add(key=key, value=value)
    return proto.SerializeToString(deterministic=True)


def onnx_runtime(data: bytes) -> Runtime:
    """Return a file that ONNX Runtime runs on the CPU."""
    session = InferenceSession(data, providers=["CPUExecutionProvider"])

    def run(images_bhwc: NDArray[np.uint8]) -> Outputs:
        scores, maps = session.run([SCORES, MAPS], {IMAGES: images_bhwc})
        return np.asarray(scores), np.asarray(maps)

    return run
