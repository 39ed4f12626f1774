"""ONNX: a traced graph as the bytes of one file, in float32 or with the method's network in int8.

int8 has weights per channel, and activations by the ranges that normal images give. Encoder and map stay float32: what an 8-bit encoder
loses is of the size of what an anomaly adds (docs/export.md has the numbers).
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from onnxruntime import InferenceSession
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.quant_utils import add_pre_process_metadata
from onnxscript import optimizer
from torch.export import ExportedProgram

from invad import __version__
from invad.predict.export.model import Outputs, Runtime

logging.getLogger("onnxscript.optimizer._constant_folding").setLevel(logging.ERROR)  # warns of what it leaves as it is

IMAGES, SCORES, MAPS = "images", "scores", "maps"
_METHOD = "'detector.method."  # of `Graph`; in the scopes of a node
_ANY_SIZE = 2**40  # bytes of constants that are computed now rather than by every runtime
# What ONNX Runtime computes in 8 bits on a CPU; others would be converted to and fro.
OPERATORS = frozenset({"Add", "Conv", "LeakyRelu", "Mul", "Relu"})


class OnnxModel(NamedTuple):
    """A model in float32: input `images` uint8 (batch, S, S, 3), outputs `scores` float32 (batch,) and `maps` float32 (batch, S, S)."""

    proto: onnx.ModelProto
    method_nodes: frozenset[str]  # by name; neither the encoder's nor those that make maps of features


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


def onnx_bytes(proto: onnx.ModelProto, metadata: Mapping[str, Any]) -> bytes:
    """Return the file of a model, with its metadata, each value as JSON, and all weights."""
    del proto.metadata_props[:]
    for key, value in metadata.items():
        proto.metadata_props.add(key=key, value=json.dumps(value, ensure_ascii=False, allow_nan=False))
    return proto.SerializeToString(deterministic=True)


def onnx_runtime(data: bytes) -> Runtime:
    """Return a file that ONNX Runtime runs on the CPU."""
    session = InferenceSession(data, providers=["CPUExecutionProvider"])

    def run(images_bhwc: NDArray[np.uint8]) -> Outputs:
        scores, maps = session.run([SCORES, MAPS], {IMAGES: images_bhwc})
        return np.asarray(scores), np.asarray(maps)

    return run


def quantized(model: OnnxModel, images_bhwc: NDArray[np.uint8]) -> onnx.ModelProto:
    """Return the model with its method's network in int8, as pairs of QuantizeLinear and DequantizeLinear around float operators.

    `images_bhwc`: normal images, uint8 (n, size, size, 3), for the ranges of activations.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    nodes = [node.name for node in proto.graph.node if node.name in model.method_nodes and node.op_type in OPERATORS]
    add_pre_process_metadata(proto)  # its constants are folded, which is what that is for
    with TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantize_static(
            proto,
            path,
            _Reader(images_bhwc),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=nodes,
        )
        result = onnx.load(path)
    result.producer_name, result.producer_version = model.proto.producer_name, model.proto.producer_version
    return result


class _Reader(CalibrationDataReader):
    def __init__(self, images_bhwc: NDArray[np.uint8]) -> None:
        self._batches = iter([{IMAGES: image[None]} for image in images_bhwc])

    # pyrefly: ignore[bad-override]  (without `None`, which ends the reading, in the base class's type)
    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        return next(self._batches, None)
