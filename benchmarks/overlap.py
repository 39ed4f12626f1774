"""What extraction and scoring take beyond their networks: beside these alone, and beside a device that takes a fixed time for each batch.

    python benchmarks/overlap.py                             # resnet34 and InvAD-lite at 256 pixels
    python benchmarks/overlap.py --threads 1 --rounds 1

The device sleeps and needs no core, as a GPU; everything else is real. Writes `overlap_<encoder>.json` and `.md`.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the stages have it; torch reads it when it is imported

import torch
from hardware import hardware
from results import command, number, write_results
from torch import Tensor
from workload import METHODS, Settings, Workload

from invad.config import BenchmarkConfig
from invad.devices import place
from invad.features import LiveFeatures
from invad.features.ahead import cores
from invad.features.batches import Batch
from invad.features.extract import Extraction, Shard, ShardWriter
from invad.scoring import score
from invad.training.model_folder import load_model

SHARD = 64  # images
EXTRACTION, STORED, LIVE = "extraction", "scoring, stored features", "scoring, live features"
NOTES = (
    "Alone: encoder, decoder, map and blur on images or features that lie ready in memory; of the simulated device, its fixed time "
    "for each batch and network. The loops go from JPEGs of 640x480 pixels or stored features to files that are written, without "
    "their start. One after the other, ahead: their time without and with threads that read ahead and write behind, divided by "
    "alone's. CPU: the same of processor time, with the threads; beside the simulated device, which needs none, the cores that the "
    "rest of the loop keeps busy. The stages take the threads beside a GPU, and on a CPU where torch leaves a core. Medians of rounds, "
    "in which the ways of a row take turns. On a busy machine only processor time and the simulated device say something: {busy}"
)
Times = tuple[float, float]  # seconds, and seconds of processor time


def timed(run: Callable[[], object]) -> Times:
    """Return what `run()` takes, all threads together."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


@contextmanager
def threads_ahead(wanted: bool) -> Generator[None]:
    """Let the loops have their threads, or not, however many cores there are."""
    with patch("invad.features.ahead.leaves_cores", lambda device: wanted):
        yield


def extract(work: Workload) -> Times:
    """Extract as the stage does, in a folder that is removed; without building the encoder."""
    with tempfile.TemporaryDirectory(dir=work.folder) as folder:
        with patch("invad.features.extract.configured_encoder", lambda config: work.encoder):
            writer = ShardWriter(Extraction(work.extracted, work.features("float32"), folder), work.device)
        starts = range(0, work.settings.extracted, SHARD)
        shards = [Shard("train", s // SHARD, s, min(s + SHARD, work.settings.extracted)) for s in starts]
        return timed(lambda: list(writer.write_all(shards)))


def score_images(work: Workload, live: bool) -> Times:
    """Score as the stage does, in a folder that is removed; without loading the model."""
    benchmark = work.benchmark("float32", live)
    features = work.features_folder(benchmark.features)
    with (
        patch("invad.features.source.configured_encoder", lambda config: work.encoder),
        tempfile.TemporaryDirectory(dir=work.folder) as folder,
    ):
        scored = score.phase_predictions(benchmark, work.scored, "test", features, work.model, label="")
        out, size = Path(folder) / "scores", benchmark.features.image_size
        return timed(lambda: score.write_phase(scored, work.scored, "test", size, out))


LOOPS: dict[str, Callable[[Workload], Times]] = {
    EXTRACTION: extract,
    STORED: partial(score_images, live=False),
    LIVE: partial(score_images, live=True),
}


class Networks:
    """Encoder and method on what is ready in memory: a batch of images, its features, maps and scores."""

    def __init__(self, work: Workload) -> None:
        self._work = work
        self._score = self._benchmark.score
        source = LiveFeatures(work.scored, "test", self._benchmark.features, work.encoder)
        rows = work.batches(work.scored)[:1]
        with patch.object(work.encoder, "forward", self._keep):
            self._levels = next(source.batches(rows, work.device))
        self._method = place(load_model(work.model)[0], work.device, self._score)
        self._maps, self._scores = self.finish()

    @property
    def _benchmark(self) -> BenchmarkConfig:
        return self._work.benchmark("float32", live=True)

    def _keep(self, images: Tensor) -> list[Tensor]:
        self._images = images
        return self._work.encoder.levels(images)

    @torch.no_grad()
    def finish(self) -> tuple[Tensor, Tensor]:
        """Return the maps and scores of the batch."""
        return score.finished(self._method, self._method.predict, Batch(tuple(self._levels)), self._score)

    def alone(self, task: str) -> Times:
        """Return what the networks of a loop take for as many batches as the loop has."""
        encodes, finishes = task != STORED, task != EXTRACTION

        def run() -> None:
            for _ in range(batches_of(self._work, task)):
                if encodes:
                    self._work.encoder(self._images)
                if finishes:
                    self.finish()

        return timed(run)

    @contextmanager
    def simulated(self, seconds: float) -> Generator[None]:
        """Put a device that sleeps in the place of both networks."""

        def encode(images: Tensor) -> list[Tensor]:
            time.sleep(seconds)
            return [level[: len(images)] for level in self._levels]

        def finish(method: object, predict: object, batch: Batch, config: object) -> tuple[Tensor, Tensor]:
            time.sleep(seconds)
            return self._maps[: batch.size], self._scores[: batch.size]

        with patch.object(self._work.encoder, "forward", encode), patch.object(score, "finished", finish):
            yield


def batches_of(work: Workload, task: str) -> int:
    """Return how many batches a loop has."""
    return len(work.batches(work.extracted if task == EXTRACTION else work.scored))


def compare(alone: Callable[[], Times], loop: Callable[[], Times], rounds: int) -> dict[str, float]:
    """Return the seconds of the networks alone, and of the loop without and with threads as times of them, medians of the rounds."""
    turns = []
    for _ in range(rounds):
        (wall, cpu), turn = alone(), {}
        for name, wanted in (("one_after_the_other", False), ("ahead", True)):
            with threads_ahead(wanted):
                seconds, used = loop()
            turn |= {name: seconds / wall, f"{name}_cpu": used / (cpu or seconds)}
        turns.append({"alone_s": wall, **turn})
    return {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each loop with each number of threads, and beside the simulated device."""
    rows = []
    sizes = options.image_size, options.encoder, options.model, options.batch
    for threads in map(int, options.threads.split(",")):
        torch.set_num_threads(threads)
        with tempfile.TemporaryDirectory() as folder:
            images = options.images
            work = Workload(Settings(images, images, *sizes, threads=threads, workers=1, device="cpu"), Path(folder))
            networks = Networks(work)
            for task, loop in LOOPS.items():
                ways = compare(partial(networks.alone, task), partial(loop, work), options.rounds)
                rows.append({"loop": task, "device": f"CPU, torch on {threads}", "images": images, **ways})
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        images = options.simulated
        work = Workload(Settings(images, images, *sizes, threads=1, workers=1, device="cpu"), Path(folder))
        networks = Networks(work)
        work.features_folder(work.features("float32"))
        for task, loop in LOOPS.items():
            seconds = options.seconds * batches_of(work, task) * (2 if task == LIVE else 1)
            with networks.simulated(options.seconds):
                ways = compare(lambda seconds=seconds: (seconds, 0.0), partial(loop, work), options.rounds)
            rows.append({"loop": task, "device": "simulated", "images": images, **ways})
    return rows


def main() -> None:
    """Measure what the command line asks for, and write a JSON file and a table."""
    options = parse_options()
    before = os.getloadavg()[0]
    rows = measure(options)
    load = (before + os.getloadavg()[0]) / 2
    heading = ["loop", "device", "images", "alone (s)", "one after the other", "ahead", "CPU"]
    keys = ("alone_s", "one_after_the_other", "ahead", "ahead_cpu")
    table = [heading, *([r["loop"], r["device"], str(r["images"]), *(number(r[key]) for key in keys)] for r in rows)]
    result = {
        "command": command("overlap.py", vars(options)),
        "hardware": hardware(torch.device("cpu"), max(map(int, options.threads.split(",")))),
        "load_average": round(load, 1),
        "rows": rows,
    }
    title = f"Loops of {options.encoder} and {options.model} at {options.image_size} pixels beside their networks, batch {options.batch}"
    busy = f"here {load:.0f} threads of all programs wanted to run on {cores()} cores."
    write_results(options.out / f"overlap_{options.encoder}", title, result, table, NOTES.format(busy=busy))


def parse_options() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64, help="of a loop whose networks compute")
    parser.add_argument("--simulated", type=int, default=192, help="images of a loop beside the simulated device")
    parser.add_argument("--seconds", type=float, default=0.4, help="that the simulated device takes for a batch")
    parser.add_argument("--image-size", type=int, default=256, help="side of the encoder's input in pixels")
    parser.add_argument("--encoder", default="resnet34", help="of timm")
    parser.add_argument("--model", choices=METHODS, default="invad", help="invad is InvAD-lite")
    parser.add_argument("--batch", type=int, default=16, help="images in a batch")
    parser.add_argument("--threads", default="1,2", help="of torch, separated by commas (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median counts")
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"), help="folder of the results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
