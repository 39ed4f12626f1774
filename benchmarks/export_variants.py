"""The ONNX files that the benchmarks of exports compare: those that `invad-pipe export` writes, and what it might write instead."""

import numpy as np
from numpy.typing import NDArray
from onnxruntime.transformers.float16 import convert_float_to_float16

from invad.predict.export.onnx_file import OnnxModel, onnx_bytes, quantized

FLOAT32, INT8 = "float32", "int8"
INT8_ENCODER, FLOAT16 = "int8, encoder too", "float16"
VARIANTS = (FLOAT32, INT8, INT8_ENCODER, FLOAT16)
# In halves these would overflow or lose the difference between features and their reconstructions.
FLOAT32_OPERATORS = [
    "Div",
    "InstanceNormalization",
    "MatMul",
    "Pow",
    "ReduceL2",
    "ReduceMax",
    "ReduceSum",
    "Resize",
    "Sqrt",
]


def onnx_variant(name: str, model: OnnxModel, normal_bhwc: NDArray[np.uint8]) -> bytes:
    """Return a variant of a model as a file, without metadata; `normal_bhwc` are the images that int8 takes its ranges from."""
    match name:
        case "int8":
            proto = quantized(model, normal_bhwc)
        case "int8, encoder too":
            proto = quantized(_with_encoder(model), normal_bhwc)
        case "float16":
            proto = type(model.proto)()
            proto.CopyFrom(model.proto)
            proto = convert_float_to_float16(proto, keep_io_types=True, op_block_list=FLOAT32_OPERATORS)
        case _:
            proto = model.proto
    return onnx_bytes(proto, {})


def _with_encoder(model: OnnxModel) -> OnnxModel:
    """Return the same model, all of it but the map being taken for the method."""
    names = [node.name for node in model.proto.graph.node]
    last = max(index for index, name in enumerate(names) if name in model.method_nodes)
    return OnnxModel(model.proto, frozenset(names[: last + 1]))
