"""How long one waits until a model has a mAD of 70, 75, 80 or 85: each method, and anomalib's where it is installed.

    python benchmarks/time_to_quality.py data/mvtec                         # a folder in the layout of MVTec AD
    python benchmarks/time_to_quality.py data/mvtec --methods rd,invad-quick --epochs 5,10,20 --anomalib PYTHON

Methods are the variants of `invad-pipe ablate --module method`; `invad-quick` is that of the module `quick` with all changes, in batches
of 8. One model has all classes. Those of anomalib are `anomalib-patchcore` and `anomalib-rd` (ResNets alone), in a PYTHON that has
`anomalib[cpu]`. Each length is a training of its own, to its end. Seeds are the rounds, in which the trainings take turns. Writes
`time_to_quality_<encoder>_<pixels>.json` and `.md`; twenty minutes for two classes on two cores.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hardware import hardware
from results import DASH, HEADLINES, command, write_results
from safetensors.torch import save_file

import invad
from invad.config import TRAIN_CONFIGS, CalibrationConfig, FeaturesConfig, FolderSplitConfig, ScoreConfig
from invad.data.mvtec import build_mvtec
from invad.data.split_table import Split
from invad.features.weights import read_weights
from invad.metrics import evaluate
from invad.scoring.score import resized_masks
from invad.studies.modules import module_named

QUICK = "invad-quick"
TARGETS = (70, 75, 80, 85)
PEERS = {"anomalib-patchcore": "patchcore", "anomalib-rd": "reverse_distillation"}
SHOWN = {"mad": HEADLINES["mad"]} | HEADLINES  # mAD first
NOTES = (
    "Seconds from the image files to the trained model, the encoder's features included, the imports not: the median over the seeds of the "
    "shortest training whose mean mAD over them reaches it. mAD is the mean of the seven usual metrics, exact, percent. Where a method has "
    "epochs, each number of them is a training of its own with its own schedule; the last columns are those of the best. CPU seconds are "
    "those of all threads, and of the training process alone; anomalib reads images in another one."
)


@dataclass(frozen=True)
class Training:
    """A method, and the epochs and the seed of one training of it; None where it has no epochs."""

    method: str
    epochs: int | None
    seed: int


@dataclass(frozen=True)
class Task:
    """What all methods see: images, their sections `features` and `score`, threads, and the Python of anomalib."""

    split: Split
    features: FeaturesConfig
    threads: int
    anomalib: str | None

    @property
    def images(self) -> list[str]:
        """The files of the test images."""
        return [str(self.split.image_root / row.image) for row in self.split.phase("test")]

    def measure(self, training: Training) -> dict[str, Any]:
        """Train, score the test images, and return seconds and metrics in percent."""
        run = self._peer if training.method in PEERS else self._own
        maps, scores, seconds = run(training)
        rows = self.split.phase("test")
        masks = resized_masks(self.split, rows, self.features.image_size)
        labels, classes = [row.label for row in rows], [row.class_name for row in rows]
        found = evaluate(maps, masks, classes, labels, scores, "exact")["mean"]["exact"]
        return seconds | {key: 100 * value for key in SHOWN if (value := found[key]) is not None}

    def _own(self, training: Training) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        settings = sections(training.method)
        if training.epochs is not None:
            settings["train"]["epochs"] = training.epochs
        model = settings["train"].pop("model")
        wall, cpu = time.perf_counter(), time.process_time()
        predictor = invad.train(
            replace(self.split, rows=tuple(self.split.phase("train"))),
            method=model,
            features=replace(self.features, **settings["features"]),
            score=ScoreConfig(**settings["score"]),
            calibration=CalibrationConfig(share=0.0, false_positive_rate=0.01, seed=0),
            seed=training.seed,
            threads=self.threads,
            progress=False,
            device="cpu",
            **settings["train"],
        )
        seconds = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
        found = list(predictor.stream(self.images))
        return np.stack([one.anomaly_map for one in found]), np.array([one.score for one in found]), seconds

    def _peer(self, training: Training) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        folders = {str((self.split.image_root / row.image).parent) for row in self.split.phase("train")}
        with tempfile.TemporaryDirectory() as folder:
            weights, maps = Path(folder) / "weights.safetensors", Path(folder) / "maps.npz"
            save_file(read_weights(self.features.encoder, self.features.weights), weights)
            job = {
                "model": PEERS[training.method],
                "encoder": self.features.encoder,
                "weights": str(weights),
                "image_size": self.features.image_size,
                "batch_size": 16,
                "epochs": training.epochs,
                "seed": training.seed,
                "threads": self.threads,
                "folders": sorted(folders),
                "images": self.images,
                "maps": str(maps),
            }
            script = Path(__file__).with_name("anomalib_fit.py")
            ran = subprocess.run(
                [str(self.anomalib), str(script)], input=json.dumps(job), text=True, capture_output=True, check=False
            )
            if ran.returncode:
                raise RuntimeError(f"{training.method}: {ran.stderr.strip().splitlines()[-1]}")
            with np.load(maps) as arrays:
                return arrays["maps"], arrays["scores"], json.loads(ran.stdout)


def sections(method: str) -> dict[str, dict[str, Any]]:
    """Return the settings of a method by their section: those of its variant in `ablate --module method`, or of `QUICK`."""
    is_quick = method == QUICK
    [variant] = module_named("quick" if is_quick else "method").choose(["all" if is_quick else method])
    settings: dict[str, dict[str, Any]] = {"train": {}, "features": {}, "score": {}}
    if is_quick:
        settings["train"] = {"model": "invad", "batch_size": 8}
    for key, value in variant.changes.items():
        section, name = key.split(".")
        settings[section][name] = value
    return settings


def has_epochs(method: str) -> bool:
    """Return whether a method is trained as long as its setting `epochs` says."""
    if method in PEERS:
        return method == "anomalib-rd"
    config = TRAIN_CONFIGS[sections(method)["train"]["model"]]
    return "epochs" in {field.name for field in fields(config)}


def trainings(methods: Sequence[str], epochs: Sequence[int], seeds: Sequence[int]) -> Iterator[Training]:
    """Yield all trainings, seed by seed, the methods in turn."""
    for seed in seeds:
        for length in epochs:
            for method in methods:
                if has_epochs(method):
                    yield Training(method, length, seed)
                elif length == epochs[0]:
                    yield Training(method, None, seed)


def table(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return a row for each method: seconds until each target, and what its best length reaches."""
    heads = [f"s to {target}" for target in TARGETS]
    lines = [["Method", *heads, "best of epochs", "seconds", "CPU seconds", *SHOWN.values()]]
    for method in dict.fromkeys(row["method"] for row in rows):
        lengths = list(_by_length([row for row in rows if row["method"] == method]))
        until = [next((f"{one['seconds']:.3g}" for one in lengths if one["mad"] >= target), DASH) for target in TARGETS]
        best = max(lengths, key=lambda one: one["mad"])
        spread = f"{best['mad']:.1f} ({best['deviation']:.1f})"
        others = [f"{best[key]:.1f}" for key in SHOWN if key != "mad"]
        epochs = DASH if best["epochs"] is None else str(best["epochs"])
        lines.append([method, *until, epochs, f"{best['seconds']:.3g}", f"{best['cpu_seconds']:.3g}", spread, *others])
    return lines


def _by_length(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the means over seeds of each length, the shortest first; times are medians."""
    for epochs in sorted({row["epochs"] for row in rows}, key=lambda epochs: epochs or 0):
        same = [row for row in rows if row["epochs"] == epochs]
        mads = [row["mad"] for row in same]
        times = {key: statistics.median(row[key] for row in same) for key in ("seconds", "cpu_seconds")}
        deviation = statistics.stdev(mads) if len(mads) > 1 else 0.0
        means = {key: statistics.mean(row[key] for row in same) for key in SHOWN}
        yield {"epochs": epochs, "deviation": deviation} | times | means


def measured(
    task: Task, wanted: Iterable[Training], most_seconds: float
) -> Iterator[tuple[list[dict[str, Any]], list[str]]]:
    """Yield after each training all rows so far, and what could not be measured and why.

    Of a method whose training took more than half of `most_seconds` no longer ones follow.
    """
    rows: list[dict[str, Any]] = []
    failures: dict[str, str] = {}
    longest: dict[str, int] = {}
    for training in wanted:
        if (training.epochs or 0) > longest.get(training.method, sys.maxsize):
            continue
        try:
            found = task.measure(training)
        except RuntimeError as error:  # of the other Python
            failures[training.method], longest[training.method] = str(error), 0
        else:
            rows.append({"method": training.method, "epochs": training.epochs, "seed": training.seed} | found)
            if found["seconds"] > most_seconds / 2:
                longest.setdefault(training.method, training.epochs or 0)
        yield rows, list(failures.values())


def main() -> None:
    """Measure what the command line asks for; what was measured is written after each training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--methods", default="memory-bank,patchcore,rd,invad,invad-quick", help="commas between them")
    parser.add_argument("--epochs", default="5,10,20,40", help="commas between them")
    parser.add_argument("--seeds", default="0,1,2", help="commas between them")
    parser.add_argument("--encoder", default="mobilenetv2_100")
    parser.add_argument("--weights", default="packaged", help="of the encoder: packaged, or a file")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--most-seconds", type=float, default=600, help="nothing longer than a training of half of it")
    parser.add_argument("--anomalib", help="a Python that has anomalib[cpu]")
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    options = parser.parse_args()
    root = options.root.absolute()
    split = Split(tuple(build_mvtec(root, FolderSplitConfig(strict=False))), root, root)
    features = FeaturesConfig(options.encoder, weights=options.weights, image_size=options.image_size)
    task = Task(split, features, options.threads, options.anomalib)
    methods = [*options.methods.split(","), *(PEERS if options.anomalib else ())]
    epochs, seeds = ([int(part) for part in text.split(",")] for text in (options.epochs, options.seeds))
    named = {key: value for key, value in vars(options).items() if key not in ("root", "out")}
    named |= {"anomalib": options.anomalib and "PYTHON", "weights": Path(options.weights).name}
    facts = {
        "command": command("time_to_quality.py ROOT", named),
        "hardware": hardware(torch.device("cpu"), options.threads),
    }
    name = f"time_to_quality_{options.encoder}_{options.image_size}"
    classes = len({row.class_name for row in split.rows})
    title = f"Time to a good model: {classes} classes, {options.encoder}, {options.image_size} pixels"
    for rows, failures in measured(task, trainings(methods, sorted(epochs), seeds), options.most_seconds):
        if rows:
            print(rows[-1], file=sys.stderr)
            result = facts | {"rows": rows, "failures": failures}
            write_results(options.out / name, title, result, table(rows), "\n\n".join([NOTES, *failures]))


if __name__ == "__main__":
    main()
