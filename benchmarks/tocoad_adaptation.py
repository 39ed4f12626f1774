"""What ToCoAD's adaptation is worth: the bank of the adapted extractor against that of the frozen one, the same settings and score.

    python benchmarks/tocoad_adaptation.py data/mvtec         # a folder in the layout of MVTec AD

Both are one model for all classes, of each seed. Writes `tocoad_adaptation.json` and `.md`; half an hour for two classes on a core.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from hardware import hardware
from results import HEADLINES, command, write_results

from invad.config import FeaturesConfig, FolderSplitConfig, ScoreConfig, ToCoADConfig
from invad.data.mvtec import build_mvtec
from invad.data.split_table import Split
from invad.devices import best_device, place
from invad.features import extract_features, open_features
from invad.features.batches import batch_source
from invad.metrics import evaluate
from invad.scoring.score import predictions, resized_masks
from invad.training.job import TrainJob, run_job

FEATURES = FeaturesConfig("mobilenetv2_100", image_size=128, mode="live", levels=(4, 8, 16, 32))
SCORE = ScoreConfig(batch_size=16, sigma=2.0)
RECIPE = {"batch_size": 8, "share": 0.1}
STAGES: dict[Literal["none", "both"], str] = {"none": "frozen", "both": "adapted"}
NOTES = (
    "Percent in the exact protocol, mean over classes; mean over seeds and, in brackets, standard deviation. The last row is that of the "
    "differences of each seed. One model has all classes; its bank keeps a tenth of the vectors of each."
)


def measure(split: Split, config: ToCoADConfig, folder: Path) -> dict[str, float]:
    """Train and score, and return the metrics in percent and the seconds of the training."""
    extract_features(split, FEATURES, folder / "features")
    job = TrainJob(
        str(folder / "features"), split, FEATURES, str(folder), config, 100_000, threads=torch.get_num_threads()
    )
    start = time.perf_counter()
    method, _ = run_job(job, best_device())
    seconds = time.perf_counter() - start
    source = open_features(folder / "features", "test", split, FEATURES)
    batches = batch_source(source, method.needs, split, "test", FEATURES)
    parts = zip(*predictions(place(method.eval(), method.device, SCORE), batches, SCORE), strict=True)
    maps, scores = (np.concatenate(part) for part in parts)
    rows = split.phase("test")
    classes, labels = [row.class_name for row in rows], [row.label for row in rows]
    masks = resized_masks(split, rows, FEATURES.image_size)
    found = evaluate(maps, masks, classes, labels, scores, "exact")["mean"]["exact"]
    percent = {key: 100 * value for key in HEADLINES if (value := found[key]) is not None}
    return percent | {"seconds": seconds}


def table(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return the table: a row for each kind of extractor, and one for the differences."""
    found = {stages: [row for row in rows if row["stages"] == stages] for stages in STAGES}
    lines = [["Extractor", *HEADLINES.values()]]
    for stages, name in STAGES.items():
        lines.append([name, *(_spread([row[key] for row in found[stages]]) for key in HEADLINES)])
    pairs = list(zip(found["both"], found["none"], strict=True))
    return [*lines, ["difference", *(_spread([one[key] - two[key] for one, two in pairs], "+") for key in HEADLINES)]]


def _spread(values: Sequence[float], sign: str = "") -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):{sign}.2f} ({deviation:.2f})"


def main() -> None:
    """Measure what the command line asks for, and write a JSON file and a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--seeds", default="0,1,2", help="with commas between them")
    parser.add_argument("--epochs", type=int, default=10, help="of the discriminative network")
    parser.add_argument("--contrast-epochs", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    options = parser.parse_args()
    split = Split(tuple(build_mvtec(options.root, FolderSplitConfig(strict=False))), options.root, options.root)
    rows = []
    for seed in map(int, options.seeds.split(",")):
        for stages in STAGES:
            lengths = {"epochs": options.epochs, "contrast_epochs": options.contrast_epochs}
            with tempfile.TemporaryDirectory() as folder:
                found = measure(split, ToCoADConfig(seed=seed, stages=stages, **lengths, **RECIPE), Path(folder))
            rows.append({"seed": seed, "stages": stages} | found)
    shown = {key: value for key, value in vars(options).items() if key not in ("root", "out")}
    facts = hardware(best_device(), torch.get_num_threads())
    result = {"command": command("tocoad_adaptation.py ROOT", shown), "hardware": facts, "rows": rows}
    classes = len({row.class_name for row in split.rows})
    title = f"ToCoAD's bank of the frozen and of the adapted extractor: {classes} classes, {FEATURES.encoder}, {FEATURES.image_size} pixels"
    write_results(options.out / "tocoad_adaptation", title, result, table(rows), NOTES)


if __name__ == "__main__":
    main()
