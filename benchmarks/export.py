"""Images per second of an exported model: PyTorch, torch.compile, torch.export and ONNX Runtime, from resized images to maps.

    python benchmarks/export.py                                        # mobilenetv2_100 and InvAD at 256 pixels
    python benchmarks/export.py --encoder resnet34 --blocks 4          # resnet34 and InvAD-lite
    python benchmarks/export.py --ways torch,onnx --batches 1 --rounds 3
    python benchmarks/export.py --ways torch,onnx --model patchcore --anomalib PYTHON    # anomalib's PatchCore in OpenVINO, too

`PYTHON` is one in which `anomalib[openvino]` is installed, which is no dependency.
Weights and images are random. Writes `export_<encoder>_cpu.json` and `.md`.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the stages have it; torch reads it when it is imported

import numpy as np
import torch
from hardware import hardware
from results import command, number, write_results
from torch.export import ExportedProgram
from workload import SEED, write_model

from invad.config import FeaturesConfig, InvADConfig, PatchCoreConfig, check_image_size
from invad.config.constants import STRIDES
from invad.features.encoder import build_encoder
from invad.predict.detector import Detector
from invad.predict.export.model import Graph, exported_program, load_graph, torch_runtime
from invad.predict.export.onnx_file import onnx_bytes, onnx_model
from invad.predict.runtimes import Runtime, onnx_runtime

CPU = torch.device("cpu")
LABELS = {
    "torch": "PyTorch",
    "bfloat16": "PyTorch, bfloat16",
    "compile": "PyTorch, compiled",
    "program": "torch.export module",
    "onnx": "ONNX Runtime",
}
ANOMALIB = "anomalib"  # a way that is there where `--anomalib` names a Python
METHODS = ("invad", "patchcore")
NOTES = (
    "From resized images, uint8, in main memory to scores and maps in float32. Latency is the median time of a batch of one, images per "
    "second are batch over median time. The ways take turns, so that a noisy machine is noisy to all alike: compare rows, not tables. The "
    "first run of each way, which compiles where there is something to, does not count."
)


class Ways:
    """The ways to run one model.

    Attributes:
        names: Those that are measured, keys of `LABELS`.
        megabytes: Of the files, for ways that have one.
    """

    def __init__(self, model: Path, names: list[str]) -> None:
        self.names, self._model = names, model
        self.megabytes: dict[str, float] = {}
        self._sessions = self._onnx_sessions()

    def runtimes(self) -> Iterator[tuple[str, Runtime]]:
        """Yield each way, new where it depends on what has been run before."""
        torch._dynamo.reset()  # what was compiled for another batch would be used again, more slowly
        for name in self.names:
            if name in self._sessions:
                yield name, self._sessions[name]
            elif name == "program":
                yield name, torch_runtime(self._program.module())
            else:
                yield name, torch_runtime(self._graph(name))

    def _graph(self, name: str) -> Graph:
        detector = load_graph(self._model).detector
        precision, compile = "bfloat16" if name == "bfloat16" else "float32", name == "compile"
        features = replace(detector.features, precision=precision, compile=compile)
        score = replace(detector.score, precision=precision, compile=compile)
        return Graph(Detector(detector.encoder, detector.method, features, score)).eval()

    @cached_property
    def _program(self) -> ExportedProgram:
        return exported_program(self._graph("program"))

    def _onnx_sessions(self) -> dict[str, Runtime]:
        if "onnx" not in self.names:
            return {}
        data = onnx_bytes(onnx_model(self._program), {})
        self.megabytes = {"onnx": len(data) / 1e6}
        return {"onnx": onnx_runtime(data)}


class Anomalib:
    """anomalib's PatchCore of the same encoder, with as many vectors, in OpenVINO: a process of `python`."""

    def __init__(self, python: str, encoder: str, size: int, vectors: int, threads: int) -> None:
        script = Path(__file__).with_name("anomalib_child.py")
        words = [python, script, encoder, *map(str, (size, vectors, threads))]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    @cached_property
    def label(self) -> str:
        """What it is; waits until the model is there, and is asked for before anything else."""
        found = self._answer()
        named = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
        return f"anomalib's PatchCore of {found['dimensions']} dimensions, OpenVINO ({named})"

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def timed(self, batch: int) -> dict[str, float]:
        """Return the seconds of so many images, by the clock and of all threads."""
        print(batch, file=self._process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def images(count: int, size: int) -> np.ndarray:
    """Return images of noise, uint8 (count, size, size, 3), always the same."""
    return np.random.default_rng(SEED).integers(0, 256, (count, size, size, 3), np.uint8)


def timed(run: Runtime | Anomalib, images_bhwc: np.ndarray) -> dict[str, float]:
    """Return the seconds of a run, by the clock and of all threads."""
    if isinstance(run, Anomalib):
        return run.timed(len(images_bhwc))
    wall, cpu = time.perf_counter(), time.process_time()
    run(images_bhwc)
    return {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}


def measure(
    ways: Ways, batches: list[int], size: int, rounds: int, other: Anomalib | None = None
) -> dict[str, dict[str, Any]]:
    """Return the numbers of each way for each batch."""
    measured: dict[str, dict[str, Any]] = {
        name: {"label": LABELS[name], "megabytes": ways.megabytes.get(name), "batches": {}} for name in ways.names
    }
    if other is not None:
        measured[ANOMALIB] = {"label": other.label, "megabytes": None, "batches": {}}
    for batch in batches:
        given, runs = images(batch, size), {**dict(ways.runtimes()), **({ANOMALIB: other} if other else {})}
        first = {name: timed(run, given) for name, run in runs.items()}
        turns = [{name: timed(run, given) for name, run in runs.items()} for _ in range(rounds)]
        for name in runs:
            measured[name]["batches"][str(batch)] = summary(batch, first[name], [turn[name] for turn in turns])
    return measured


def summary(batch: int, first: Mapping[str, float], turns: list[Mapping[str, float]]) -> dict[str, Any]:
    """Return what the turns of one way and batch say: medians, and every turn's seconds."""
    seconds = [turn["seconds"] for turn in turns]
    median = statistics.median(seconds)
    return {
        "images_per_s": batch / median,
        "median_s": median,
        "cpu_s": statistics.median(turn["cpu_seconds"] for turn in turns),
        "first_s": first["seconds"],
        "all_s": seconds,
    }


def table(measured: Mapping[str, Mapping[str, Any]], batches: list[int]) -> list[list[str]]:
    """Return the heading and a row for each way."""
    heading = ["Way", *(["Latency (ms)"] if 1 in batches else []), *(f"Images/s, batch {batch}" for batch in batches)]
    rows = [[*heading, "CPU ms an image", "File (MB)"]]
    for way in measured.values():
        found = {batch: way["batches"][str(batch)] for batch in batches}
        latency = [number(1000 * found[1]["median_s"])] if 1 in found else []
        rates = [number(values["images_per_s"]) for values in found.values()]
        cpu = number(1000 * found[batches[-1]]["cpu_s"] / batches[-1])
        rows.append([way["label"], *latency, *rates, cpu, number(way["megabytes"], 2)])
    return rows


def main() -> None:
    """Measure and write the results."""
    options, ways, batches = parse_options()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        model, encoder = Path(folder, "model"), build_encoder(options.encoder, "none")
        features = FeaturesConfig(options.encoder, "none", image_size=options.image_size)
        invad = options.model == "invad"
        method = InvADConfig(blocks=options.blocks) if invad else PatchCoreConfig(dimensions=options.dimensions)
        write_model(model, encoder, features, method, options.vectors)
        other = None
        if options.anomalib:
            python, pixels = options.anomalib, options.image_size
            other = Anomalib(python, options.encoder, pixels, options.vectors, options.threads)
            options.anomalib = "PYTHON"  # where it lies says nothing
        measured = measure(Ways(model, ways), batches, options.image_size, options.rounds, other)
        if other:
            other.close()
    result = {
        "benchmark": "export",
        "command": command("export.py", vars(options)),
        "hardware": hardware(CPU, options.threads),
        "settings": {
            "encoder": options.encoder,
            "model": options.model,
            "blocks": options.blocks,
            "vectors": options.vectors,
            "dimensions": options.dimensions,
            "image_size": options.image_size,
            "rounds": options.rounds,
            "seed": SEED,
        },
        "ways": measured,
    }
    size, memory = options.image_size, f"{options.vectors} vectors of {options.dimensions} dimensions"
    path = options.out / f"export_{'' if invad else f'patchcore{options.dimensions}_'}{options.encoder}_cpu"
    of = f"InvAD with {options.blocks} blocks a level" if invad else f"PatchCore with {memory}"
    title = f"Runtimes of {options.encoder} and {of}, {size}x{size} pixels, cpu"
    notes = f"{NOTES} CPU time is that of all threads, batch {batches[-1]}; {options.rounds} rounds."
    write_results(path, title, result, table(measured, batches), notes)
    print(path.with_name(f"{path.name}.md").read_text())


def parse_options() -> tuple[argparse.Namespace, list[str], list[int]]:
    """Return the checked options, the ways and the batches."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="mobilenetv2_100", help="of timm")
    parser.add_argument("--model", choices=METHODS, default="invad")
    parser.add_argument("--vectors", type=int, default=2000, help="of PatchCore's memory")
    parser.add_argument(
        "--dimensions", type=int, default=1024, help="of a vector; anomalib's has the encoder's channels"
    )
    parser.add_argument("--anomalib", help="a Python that has anomalib[openvino], for its PatchCore")
    parser.add_argument("--blocks", type=int, default=2, help="of InvAD per level; InvAD-lite has 4")
    parser.add_argument("--image-size", type=int, default=256, help="a multiple of 16 pixels")
    parser.add_argument("--batches", default="1,8,32", help="separated by commas (default: %(default)s)")
    parser.add_argument("--ways", default=",".join(LABELS), help="separated by commas (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="of which the median counts")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU, for each way")
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"), help="folder of the results")
    options = parser.parse_args()
    if unknown := set(options.ways.split(",")) - set(LABELS):
        parser.error(f"--ways: unknown {', '.join(sorted(unknown))}; there are {', '.join(LABELS)}")
    try:
        batches = [int(batch) for batch in options.batches.split(",")]
        check_image_size(options.image_size, STRIDES[-1])
    except ValueError as error:
        parser.error(str(error))
    counts = ("rounds", "threads", "blocks", "vectors", "dimensions", "image_size")
    if min(*batches, *(getattr(options, name) for name in counts)) < 1:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in ("batches", *counts))
        parser.error(f"{names} are at least 1")
    if options.dimensions % 2:
        parser.error("--dimensions is even")
    return options, options.ways.split(","), batches


if __name__ == "__main__":
    main()
