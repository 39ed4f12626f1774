"""What a model costs: counted, and as a file that says it without loading the model or torch."""

import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic.dataclasses import dataclass

from invad.config import STRICT, BenchmarkConfig, ScoreConfig, parse
from invad.files import read_json

if TYPE_CHECKING:
    from invad.methods import Method


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


def count_multiply_adds(run: Callable[[], object]) -> int:
    """Return the multiply-adds of `run()` without those of modules called `blur`, which the published numbers of InvAD leave out."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
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
