"""How far a result may be believed: what seed, processor, number of threads and test images each change, and what would help.

    dvc repro features@mvtec && python benchmarks/spread.py mvtec            # names of benchmarks of params.yaml

Every training is a process. Another processor is imitated: `ONEDNN_MAX_CPU_ISA` and `ATEN_CPU_CAPABILITY` forbid instructions, so that
convolutions and sums are rounded as on a processor that lacks them. `float64` trains the same network in double precision. Writes
`spread_<benchmark>.json` and `.md` after each training; some ten minutes a benchmark on a core.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hardware import hardware
from results import HEADLINES, command, write_results
from torch import Tensor

from invad.config import load_params
from invad.data.split_table import open_split
from invad.devices import make_deterministic, place
from invad.features import FeatureSource, open_features
from invad.features.batches import batch_source
from invad.methods import build_method
from invad.metrics import evaluate
from invad.scoring.score import predictions, resized_masks
from invad.training.loop import Trainer
from invad.workspace import Workspace

METRICS = HEADLINES | {"image_auroc_top": "image AU-ROC, top 1 %"}
TOP = 0.01  # of a map's pixels, whose mean is the score of an image in `image_auroc_top`
PROCESSORS = {  # by the newest instructions that they have
    "as it is": {},
    "AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    "SSE4.1": {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"},
}
NOTES = (
    "Standard deviations in percentage points (sample, n - 1), of the exact protocol and the mean over classes; the first row has the mean "
    "over the seeds in percent. `image AU-ROC, top 1 %` takes the mean of the largest 1 % of a map as the score of an image, where the "
    "method takes the maximum. Maps: the length of the difference of all maps to those of the processor as it is, by the length of these, "
    "of the first seed."
)


@dataclass(frozen=True)
class Variant:
    """A training: its seed, the processor that it thinks it has, threads, and whether it computes in double precision."""

    seed: int
    processor: str = "as it is"
    threads: int = 1
    double: bool = False


class Doubled:
    """The features of a source in double precision."""

    def __init__(self, source: FeatureSource) -> None:
        self._source, self.key, self.images = source, source.key, source.images

    def __len__(self) -> int:
        return len(self._source)

    def batches(self, batches: Iterable[Sequence[int] | np.ndarray], device: torch.device) -> Iterator[list[Tensor]]:
        """Yield what the source yields."""
        for levels in self._source.batches(batches, device):
            yield [level.double() for level in levels]


def train_and_score(name: str, variant: Variant, out: Path) -> None:
    """In a process of its own: train, score the test images, and write maps and metrics to `out`."""
    torch.set_num_threads(variant.threads)
    benchmark, workspace = load_params().benchmark(name).of_seed(variant.seed), Workspace()
    split, folder = open_split(benchmark, workspace), workspace.features(name)
    make_deterministic(variant.seed, torch.device("cpu"))
    source = open_features(folder, "train", split, benchmark.features)
    method = place(build_method(source.key.output, benchmark.train), torch.device("cpu"), benchmark.train)
    if variant.double:
        method, source = method.double(), Doubled(source)
    batches = batch_source(source, method.needs, split, "train", benchmark.features)
    for _ in Trainer(method, batches, benchmark.train).steps():
        pass
    tests = open_features(folder, "test", split, benchmark.features)
    batches = batch_source(tests, method.needs, split, "test", benchmark.features)
    scored = predictions(method.float().eval(), batches, benchmark.score)
    maps, scores = (np.concatenate(part) for part in zip(*scored, strict=True))
    rows = split.phase("test")
    masks = resized_masks(split, rows, benchmark.features.image_size)
    classes, labels = [row.class_name for row in rows], [row.label for row in rows]
    top = np.sort(maps.reshape(len(maps), -1), axis=1)[:, -round(TOP * maps[0].size) :].mean(axis=1)
    found = evaluate(maps, masks, classes, labels, scores, "exact")["mean"]["exact"]
    found["image_auroc_top"] = evaluate(maps, None, classes, labels, top, "exact")["mean"]["exact"]["image_auroc"]
    np.save(out.with_suffix(".npy"), maps)
    out.write_text(json.dumps({key: found[key] for key in METRICS}), encoding="utf-8")


def measure(name: str, variant: Variant, folder: Path) -> tuple[dict[str, float], Path]:
    """Return the metrics of a variant in percent, and the file of its maps."""
    out = folder / f"{len(list(folder.iterdir()))}.json"
    arguments = ["--child", json.dumps(asdict(variant)), "--out", str(out)]
    environment = os.environ | PROCESSORS[variant.processor] | {"OMP_NUM_THREADS": str(variant.threads)}
    subprocess.run([sys.executable, __file__, name, *arguments], env=environment, check=True)
    found = json.loads(out.read_text(encoding="utf-8"))
    return {key: 100 * value for key, value in found.items()}, out.with_suffix(".npy")


def groups(seeds: Sequence[int]) -> dict[str, list[Variant]]:
    """Return the variants of each row of the table; those of a seed are compared with each other."""
    first = Variant(seeds[0])
    return {
        "seeds": [Variant(seed) for seed in seeds],
        "processors": [replace(first, processor=name) for name in PROCESSORS],
        "processors, float64": [replace(first, processor=name, double=True) for name in PROCESSORS],
        "threads": [replace(first, threads=threads) for threads in (1, 2)],
    }


def table(rows: dict[str, list[Variant]], found: dict[Variant, dict[str, Any]]) -> list[list[str]]:
    """Return a row for each group that has two results or more."""
    seeds = [found[variant] for variant in rows["seeds"] if variant in found]
    lines = [["", *METRICS.values(), "maps"]]
    lines.append(["mean over seeds", *(f"{statistics.mean(one[key] for one in seeds):.2f}" for key in METRICS), "-"])
    for name, variants in rows.items():
        known = [found[variant] for variant in variants if variant in found]
        if len(known) > 1:
            deviations = [f"{statistics.stdev(one[key] for one in known):.2f}" for key in METRICS]
            lines.append([f"{name} ({len(known)})", *deviations, f"{max(one['maps'] for one in known):.1e}"])
    return lines


def main() -> None:
    """Measure what the command line asks for, and write a JSON file and a table for each benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("benchmarks", nargs="+")
    parser.add_argument("--seeds", default="42,43,44,45,46", help="with commas between them")
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        train_and_score(options.benchmarks[0], Variant(**json.loads(options.child)), options.out)
        return
    rows = groups([int(seed) for seed in options.seeds.split(",")])
    for name in options.benchmarks:
        found: dict[Variant, dict[str, Any]] = {}
        with tempfile.TemporaryDirectory() as folder:
            maps: dict[bool, np.ndarray] = {}
            for variant in dict.fromkeys(each for variants in rows.values() for each in variants):
                values, path = measure(name, variant, Path(folder))
                own = np.load(path)
                # Of the first variant of each precision; of another seed the difference is that of another model.
                reference = maps.setdefault(variant.double, own)
                difference = float(np.linalg.norm(own - reference) / np.linalg.norm(reference))
                found[variant] = values | {"maps": difference}
                listed = [asdict(each) | result for each, result in found.items()]
                facts = hardware(torch.device("cpu"), 1)
                ran = command(f"spread.py {name}", {"seeds": options.seeds})
                title = f"Spread of {name}: seeds, processors, threads"
                result = {"command": ran, "hardware": facts, "rows": listed}
                write_results(options.out / f"spread_{name}", title, result, table(rows, found), NOTES)


if __name__ == "__main__":
    main()
