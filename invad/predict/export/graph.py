"""A model folder as one graph without what other runtimes lack: no float64, no reduced precision, nothing compiled."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from invad.config import ScoreConfig
from invad.errors import InputError
from invad.methods.maps import blur_matrix
from invad.predict.detector import Detector, load_calibration, load_detector
from invad.scoring.score import blur_sigma, image_scores
from invad.scoring.thresholds import Calibration
from invad.training.model_folder import ModelConfig, read_config

MOST_MEMORY = 100_000_000  # bytes of what a method has fitted, which the graph holds as a constant
TRACED_BATCH = 2  # of 1 image torch would conclude that there is never another number


class Graph(nn.Module):
    """Images in, scores and raw anomaly maps out.

    Attributes:
        detector: Everything before the blur.
        image_size: The side of images and maps in pixels.
        blur: float32 (image_size, image_size), to be multiplied from both sides; None for no blur.
    """

    blur: Tensor | None

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


class LoadedGraph(NamedTuple):
    """A model folder, ready to be exported: its graph in eval mode on the CPU, and what `invad.load` reads beside it."""

    graph: Graph
    config: ModelConfig
    calibration: Calibration | None
    score: ScoreConfig  # the precision that it names is not the graph's


def load_graph(folder: Path) -> LoadedGraph:
    """Load a model folder as `invad.load` does, but always for the CPU and in float32.

    Raises:
        InputError: The folder is missing, damaged or of another format, its encoder cannot be had, or what its method has fitted has
            more than `MOST_MEMORY`.
    """
    config, calibration = read_config(folder), load_calibration(folder)
    score = ScoreConfig() if calibration is None else calibration.score
    detector = load_detector(folder, score, torch.device("cpu"), plain=True)
    memory = sum(getattr(detector.method, name).nbytes for name in detector.method.fitted)
    if memory > MOST_MEMORY:
        raise InputError(
            f"{folder}: the memory of {config.train.model} has {memory / 1e6:,.0f} MB, and a graph holds {MOST_MEMORY / 1e6:,.0f} MB "
            f"at most; use `predict` or `serve`, or train it with a smaller memory"
        )
    return LoadedGraph(Graph(detector).eval(), config, calibration, score)


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
