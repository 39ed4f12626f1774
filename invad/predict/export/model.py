"""`export_model`: from a model folder to a checked file."""

import io
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.export import ExportedProgram

from invad.errors import InputError
from invad.files import atomic_path
from invad.predict.export import ExportPrecision, Format
from invad.predict.export.check import Difference, compare, metadata, random_batches, torch_runtime
from invad.predict.export.graph import LoadedGraph, exported_program, load_graph

METADATA_FILE = "metadata.json"  # among the extra files of a .pt2
BATCH = 8  # of the images that int8 is compared on


class Export(NamedTuple):
    """A file that was written: the model that it holds, its size in bytes, and how far it is from the model."""

    model: LoadedGraph
    size: int
    difference: Difference


def export_model(
    folder: Path,
    out: Path,
    format: Format = "onnx",
    precision: ExportPrecision = "float32",
    images: Sequence[str] = (),
) -> Export:
    """Write a model as one file: input `images`, uint8 (batch, S, S, 3), outputs `scores` (batch,) and `maps` (batch, S, S).

    Args:
        folder: The model.
        out: The file; one that is there is replaced.
        format: onnx or torch-export.
        precision: Of the method's network; int8 is for onnx.
        images: Files, folders and patterns of normal images, which int8 takes the ranges of activations from.

    Raises:
        InputError: The model or the images cannot be read, the file cannot be written, or it would compute something else than the
            model; what was at `out` is still there then.
    """
    loaded = load_graph(folder)
    data, difference = _onnx(loaded, folder, precision, images) if format == "onnx" else _torch(loaded, folder)
    if precision == "float32" and not difference.is_rounding:
        raise InputError(
            f"{out}: not written, because it would not compute what {folder} does: maps differ by {difference.maps:.2g}, scores by "
            f"{difference.scores:.2g}, which is more than {difference.most:.2g}"
        )
    try:
        with atomic_path(out) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror})") from None
    return Export(loaded, len(data), difference)


def _onnx(
    loaded: LoadedGraph, folder: Path, precision: ExportPrecision, images: Sequence[str]
) -> tuple[bytes, Difference]:
    from invad.predict.export.onnx_file import calibration_images, onnx_bytes, onnx_model, onnx_runtime, quantized

    described, size, threshold = metadata(loaded, folder, precision), loaded.graph.image_size, None
    if precision == "float32":
        batches = random_batches(size)
        proto = onnx_model(exported_program(loaded.graph)).proto
    else:
        normal = calibration_images(images, size, loaded.config.reading)
        batches = np.array_split(normal, -(-len(normal) // BATCH))
        threshold = None if loaded.calibration is None else loaded.calibration.all.image_threshold
        proto = quantized(onnx_model(exported_program(loaded.graph)), normal)
    data = onnx_bytes(proto, described)
    return data, compare(torch_runtime(loaded.graph), onnx_runtime(data), batches, threshold)


def _torch(loaded: LoadedGraph, folder: Path) -> tuple[bytes, Difference]:
    program = exported_program(loaded.graph)
    runtimes = torch_runtime(loaded.graph), torch_runtime(program.module())
    difference = compare(*runtimes, random_batches(loaded.graph.image_size))
    return torch_bytes(program, metadata(loaded, folder, "float32")), difference


def torch_bytes(program: ExportedProgram, metadata: Mapping[str, str]) -> bytes:
    """Return the file of a traced graph: its weights, and `METADATA_FILE` with all metadata as one JSON object."""
    values = {key: json.loads(value) for key, value in metadata.items()}
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of weights in its own memory format channels_last, which it keeps
        described = {METADATA_FILE: json.dumps(values, indent=2, ensure_ascii=False)}
        torch.export.save(program, buffer, extra_files=described)
    return buffer.getvalue()
