"""What a model costs: counted, and as a file that says it without loading the model or torch."""

import re
import resource
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic.dataclasses import dataclass

from invad.config import STRICT, BenchmarkConfig, ScoreConfig, TrainConfig, parse
from invad.files import read_json

if TYPE_CHECKING:
    from invad.methods import EncoderOutput, Method
    from invad.methods.base import TrainingPhase


@dataclass(frozen=True, config=STRICT)
class Cost:
    """Parameters of encoder and method, those of them that training changes, and the multiply-adds for one image."""

    parameters: int
    trainable: int
    multiply_adds: int


def read_cost(path: Path) -> Cost:
    """Read a cost; `InputError` when the file is missing or damaged."""
    return parse(Cost, read_json(path), f"{path}: not the cost of a model, run `dvc repro train`: ")


def model_cost(benchmark: BenchmarkConfig, trained: "Method | None" = None, views: int = 1) -> Cost:
    """Return the cost of a benchmark's encoder and method at its image size; `trained` tells how much the method has fitted.

    `views`: so many images the method takes at a time, as those of one object; the cost is that of each. Multiply-adds are those of
    convolutions and matrix products alone, without the blur.
    """
    import torch

    from invad.features.batches import Batch
    from invad.features.encoder import hollow_encoder
    from invad.methods import build_method
    from invad.methods.base import load_fitted

    side = benchmark.features.image_size
    encoder = hollow_encoder(benchmark.features)
    output = encoder.output(side)
    with torch.device("meta"):  # shapes without values
        method = build_method(output, benchmark.train).eval()
        if trained is not None:
            load_fitted(method, {name: tensor.to("meta") for name, tensor in trained.state_dict().items()})
        image = torch.empty(1, 3, side, side)
        features = tuple(torch.empty(views, *output.shapes[level]) for level in method.needs.tensors(output))
    images = image.expand(views, -1, -1, -1) if method.needs.images else None
    batch = Batch(features, images, views=views)
    multiply_adds = count_multiply_adds(lambda: method.predict(batch, ScoreConfig())) // views
    if features:
        multiply_adds += count_multiply_adds(lambda: encoder(image))
    beside = [] if benchmark.train.ENCODER == "own" else encoder.parameters()
    parameters = [*beside, *method.parameters()]
    trainable = sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad)
    return Cost(sum(parameter.numel() for parameter in parameters), trainable, multiply_adds)


def painted_training_multiply_adds(output: "EncoderOutput", config: TrainConfig, images: int) -> int:
    """Return the multiply-adds of all steps, backward passes among them, of a method that trains on images with synthetic anomalies.

    images: to train on; `InputError` where they are less than a batch.
    """
    from invad.training.loop import steps_per_epoch

    per_epoch = steps_per_epoch(images, config)
    return sum(phase.length(per_epoch) * config.batch_size * adds for phase, adds in _painted_phases(output, config))


@cache
def _painted_phases(output: "EncoderOutput", config: TrainConfig) -> "Sequence[tuple[TrainingPhase, int]]":
    """Return the phases of such a training, and the multiply-adds of the first step of each, for an image."""
    import torch

    from invad.features.batches import Batch
    from invad.methods import build_method
    from invad.methods.base import Position

    side, counted = output.image_size, []
    with torch.device("meta"):  # two images: batch normalisation takes no single one
        method, image, mask = build_method(output, config), torch.empty(2, 3, side, side), torch.empty(2, 1, side, side)
    batch = Batch(images=image, corrupted=image, masks=mask, seeds=((0,), (1,)))
    for number, phase in enumerate(method.phases()):
        method.train().requires_grad_(True)
        for name in phase.frozen:
            method.get_submodule(name).eval().requires_grad_(False)
        start = Position(number, 0, phase.length(1), 0, phase.length(1))
        adds = count_multiply_adds(lambda at=start: method(batch, at).backward(), gradients=True) // 2
        counted.append((phase, adds))
    return counted


def count_multiply_adds(run: Callable[[], object], *, gradients: bool = False) -> int:
    """Return the multiply-adds of `run()`, which may need `gradients`.

    Those of modules called `blur` are left out, as in the published numbers of InvAD.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter, torch.set_grad_enabled(gradients):
        run()
    flops = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
    return (flops["Global"] - sum(count for name, count in flops.items() if name.endswith(".blur"))) // 2


def forget_peak_memory() -> None:
    """Let `peak_memory` of this process begin anew, where the system can (Linux): a study's trials follow each other in one process."""
    if (path := Path("/proc/self/clear_refs")).exists():
        path.write_text("5", encoding="ascii")


def peak_memory() -> int:
    """Return the most bytes of main memory that this process, or the largest of its finished children, has held."""
    unit = 1 if sys.platform == "darwin" else 1024
    children, own = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF))
    if (path := Path("/proc/self/status")).exists():  # Linux lets a new process begin with the peak of its parent
        own = int(re.findall(r"VmHWM:\s+(\d+) kB", path.read_text(encoding="ascii"))[0])
    return unit * max(children, own)
