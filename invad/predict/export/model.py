"""`export_model`: from a model folder to one graph, and to a file of it, which is compared with the model before it is written.

The graph has nothing that other runtimes lack: no float64, no reduced precision, nothing compiled.
"""

import hashlib
import io
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from invad import __version__
from invad.config import ScoreConfig
from invad.config.constants import NO_ENCODER
from invad.errors import InputError
from invad.features.encoder import IMAGENET_MEAN, IMAGENET_STD
from invad.files import atomic_path
from invad.methods.maps import blur_matrix
from invad.metrics.calibration import NOT_CALIBRATED, Thresholds
from invad.predict.detector import Detector, check_single_images, load_calibration, load_detector
from invad.predict.export import Format
from invad.predict.runtimes import Difference, Kept, Outputs, Runtime, compare, onnx_runtime
from invad.scoring.score import blur_sigma, image_scores
from invad.training.model_folder import ModelConfig, read_config
from invad.workspace import WEIGHTS_FILE

METADATA_FILE = "metadata.json"  # among the extra files of a .pt2
MOST_MEMORY = 100_000_000  # bytes of what a method has fitted, which the graph holds as a constant
TRACED_BATCH = 2  # of 1 image torch would conclude that there is never another number

# `invad.data.images.resized`, in the words of Pillow and for those who have another library.
RESIZE = {"interpolation": "bilinear", "antialias": True, "keep_aspect_ratio": False} | {
    "pillow": "Image.Resampling.BILINEAR"
}


class Graph(nn.Module):
    """Images in, scores and raw anomaly maps out, of `image_size` pixels a side; `detector` does everything before the blur."""

    blur: Tensor | None  # float32 (image_size, image_size), to be multiplied from both sides; None for no blur

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector, self.image_size = detector, detector.features.image_size
        self.sigma = blur_sigma(detector.method, detector.score)
        self.register_buffer("blur", blur_matrix(self.image_size, self.sigma).float() if self.sigma else None)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map RGB images, uint8 (B, size, size, 3), to scores, float32 (B,), and raw maps, float32 (B, size, size)."""
        maps, scores = self.detector.sharp(images)
        if self.blur is not None:
            maps = self.blur @ maps @ self.blur.T
        return image_scores(maps, scores, self.detector.score), maps


def load_graph(folder: Path) -> Graph:
    """Load a model folder for the CPU and in float32.

    `InputError` as `load_detector`, for more than `MOST_MEMORY` fitted, or for a model that takes no image by itself.
    """
    config, calibration = read_config(folder), load_calibration(folder)
    check_single_images(config, folder)
    score = ScoreConfig() if calibration is None else calibration.score
    detector = load_detector(folder, score, torch.device("cpu"), plain=True)
    if problem := too_much_memory(detector, config):
        raise InputError(f"{folder}: {problem}; use `predict` or `serve`, or train it with a smaller memory")
    return Graph(detector).eval()


def too_much_memory(detector: Detector, config: ModelConfig) -> str | None:
    """Return what is wrong with a method that has fitted more than `MOST_MEMORY`."""
    memory = sum(getattr(detector.method, name).nbytes for name in detector.method.fitted)
    if memory <= MOST_MEMORY:
        return None
    return f"the memory of {config.train.model} has {memory / 1e6:,.0f} MB, and a graph holds {MOST_MEMORY / 1e6:,.0f} MB at most"


def kept_graph(detector: Detector, by_torch: Runtime) -> Kept:
    """Make the graph of a model, which PyTorch runs as `by_torch`, or say why there is none: no export, or another result."""
    from invad.predict.export.onnx_file import onnx_bytes, onnx_model

    graph = Graph(detector).eval()
    try:
        data = onnx_bytes(onnx_model(exported_program(graph)), {})
        difference = compare(by_torch, onnx_runtime(data), random_batches(graph.image_size))
    except Exception as error:  # of torch, onnxscript or ONNX Runtime, of whatever kind
        return Kept(b"", f"the model does not export ({type(error).__name__}: {' '.join(str(error).split())[:200]})")
    return Kept(data) if difference.is_rounding else Kept(b"", str(difference))


@torch.no_grad()
def exported_program(graph: Graph) -> ExportedProgram:
    """Trace the graph for any number of images; nothing in the result names a file of this machine."""
    images = torch.zeros(TRACED_BATCH, graph.image_size, graph.image_size, 3, dtype=torch.uint8)
    program = torch.export.export(graph, (images,), dynamic_shapes=({0: Dim("batch", min=1)},))
    for module in program.graph_module.modules():
        if isinstance(module, GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
    return program


def torch_runtime(module: nn.Module) -> Runtime:
    """Return a module that PyTorch runs on the CPU."""

    @torch.inference_mode()
    def run(images_bhwc: NDArray[np.uint8]) -> Outputs:
        scores, maps = module(torch.from_numpy(images_bhwc))
        return scores.numpy(), maps.numpy()

    return run


def metadata(graph: Graph, folder: Path) -> dict[str, Any]:
    """Return what a runtime has to know beside the graph; `folder` is that of the model."""
    config, calibration, score = read_config(folder), load_calibration(folder), graph.detector.score
    encoded = config.features.encoder != NO_ENCODER  # others normalise nothing
    per_class = {} if calibration is None else calibration.per_class
    return {
        "invad_version": __version__,
        "model": config.train.model,
        "encoder": config.features.encoder,
        "benchmark": config.benchmark,
        "classes": config.classes,
        "model_sha256": hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest(),
        "encoder_sha256": config.encoder_sha256,
        "precision": "float32",
        "image_size": graph.image_size,
        "resize": RESIZE,
        "colour_order": "RGB",
        "normalisation_inside": True,
        "mean": IMAGENET_MEAN if encoded else None,
        "std": IMAGENET_STD if encoded else None,
        "map_levels": score.map_levels,
        "map_distance": score.map_distance,
        "sigma": graph.sigma,
        **_pair(NOT_CALIBRATED if calibration is None else calibration.all.thresholds),
        "class_thresholds": {name: _pair(held_out.thresholds) for name, held_out in per_class.items()},
        "false_positive_rate": None if calibration is None else calibration.false_positive_rate,
        "calibration_notes": [] if calibration is None else calibration.notes,
    }


def _pair(thresholds: Thresholds) -> dict[str, float | None]:
    return {"image_threshold": thresholds.image, "pixel_threshold": thresholds.pixel}


def export_model(folder: Path, out: Path, format: Format = "onnx") -> Difference:
    """Write a model as one file: input `images`, uint8 (batch, S, S, 3), outputs `scores` (batch,) and `maps` (batch, S, S).

    Returns how far it is from the model. A file that is there is replaced, unless there is an `InputError`: the model cannot be read, or
    the file would compute something else than the model.
    """
    graph = load_graph(folder)
    program, described = exported_program(graph), metadata(graph, folder)
    if format == "onnx":
        from invad.predict.export.onnx_file import onnx_bytes, onnx_model

        data = onnx_bytes(onnx_model(program), described)
        exported = onnx_runtime(data)
    else:
        data, exported = torch_bytes(program, described), torch_runtime(program.module())
    difference = compare(torch_runtime(graph), exported, random_batches(graph.image_size))
    if not difference.is_rounding:
        raise InputError(f"{out}: not written, because it would not compute what {folder} does: {difference}")
    with atomic_path(out) as temporary:
        temporary.write_bytes(data)
    return difference


def random_batches(size: int) -> list[NDArray[np.uint8]]:
    """Return batches of noise, uint8 (B, size, size, 3), always the same, of more than one length."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (length, size, size, 3), np.uint8) for length in (1, 3)]


def torch_bytes(program: ExportedProgram, metadata: Mapping[str, Any]) -> bytes:
    """Return the file of a traced graph: its weights, and `METADATA_FILE` with all metadata as one JSON object."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of weights in its own memory format channels_last, which it keeps
        described = {METADATA_FILE: json.dumps(metadata, indent=2, ensure_ascii=False, allow_nan=False)}
        torch.export.save(program, buffer, extra_files=described)
    return buffer.getvalue()
