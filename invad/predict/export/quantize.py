"""int8 for the method's network: weights per channel, activations by the ranges that normal images give.

Encoder and map stay float32: what an 8-bit encoder loses is of the size of what an anomaly adds (docs/export.md has the numbers).
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from invad.config import AS_STORED, ReadingConfig
from invad.predict.export.onnx_file import IMAGES, OnnxModel
from invad.predict.inputs import prepare
from invad.predict.sources import ImageSources

MOST_IMAGES = 128  # that ranges are taken from; more take long and change little
# What ONNX Runtime computes in 8 bits on a CPU; others would be converted to and fro.
OPERATORS = frozenset({"Add", "Conv", "LeakyRelu", "Mul", "Relu"})


def calibration_images(inputs: Sequence[str], size: int, reading: ReadingConfig = AS_STORED) -> NDArray[np.uint8]:
    """Return at most `MOST_IMAGES` images of files, folders and patterns, evenly spread, resized, uint8 (n, size, size, 3).

    Raises:
        InputError: An input is not there, has no images, or one of the images cannot be read.
    """
    paths = [image.path for image in ImageSources(inputs)]
    chosen = np.unique(np.linspace(0, len(paths) - 1, MOST_IMAGES).round().astype(int))
    return np.stack([prepare(paths[index], size, reading).pixels for index in chosen])


def quantized(model: OnnxModel, images_bhwc: NDArray[np.uint8]) -> onnx.ModelProto:
    """Return the model with its method's network in int8, as pairs of QuantizeLinear and DequantizeLinear around float operators.

    Args:
        model: In float32; stays as it is.
        images_bhwc: Normal images, uint8 (n, size, size, 3), for the ranges of activations.
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
            _Reader(image[None] for image in images_bhwc),
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
    def __init__(self, batches: Iterable[NDArray[np.uint8]]) -> None:
        self._batches: Iterator[NDArray[np.uint8]] = iter(batches)

    # pyrefly: ignore[bad-override]  (without `None`, which ends the reading, in the base class's type)
    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {IMAGES: batch}
