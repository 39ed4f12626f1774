"""What reduced precision costs an exported model in AU-ROC, on the test images of a benchmark.

    python benchmarks/export_accuracy.py                      # of models/mvtec, after `dvc repro`
    python benchmarks/export_accuracy.py --benchmark visa

Ranges for int8 are taken from training images. Writes `export_accuracy_<benchmark>.json` and `.md`.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from export_variants import FLOAT32, VARIANTS, onnx_variant
from hardware import hardware
from results import command, number, write_results

from invad.config import load_params
from invad.data.images import read_image
from invad.data.split_table import Split, SplitRow, open_split
from invad.metrics import evaluate
from invad.predict.export.model import Runtime, exported_program, load_graph
from invad.predict.export.onnx_file import onnx_model, onnx_runtime
from invad.scoring.score import resized_masks
from invad.workspace import Workspace

METRICS = {"image_auroc": "Image AU-ROC", "pixel_auroc": "Pixel AU-ROC", "region_aupro": "AU-PRO"}
BATCH = 16
HEADING = (
    "Precision",
    *METRICS.values(),
    "Maps differ, mean",
    "at most",
    "Scores differ, at most",
    "Other decisions",
    "MB",
)
NOTES = (
    "Metrics of all test images, the mean over the classes in percent, protocol exact, by ONNX Runtime. Differences are from float32; a "
    "decision is the score against the calibrated threshold of all classes. `invad-pipe export` offers float32 and int8."
)


def measure(model: Path, split: Split, images: int) -> dict[str, Any]:
    """Return the numbers of each variant of the model; int8 takes its ranges from so many `images` of training."""
    loaded = load_graph(model)
    size, threshold = loaded.graph.image_size, loaded.calibration and loaded.calibration.all.image_threshold
    train, test = split.phase("train"), split.phase("test")
    chosen = [train[index] for index in np.unique(np.linspace(0, len(train) - 1, images).round().astype(int))]
    normal, tested = (_read(split, rows, size) for rows in (chosen, test))
    masks = resized_masks(split, test, size)
    translated = onnx_model(exported_program(loaded.graph))
    found: dict[str, Any] = {}
    maps: dict[str, np.ndarray] = {}
    for name in VARIANTS:
        data = onnx_variant(name, translated, normal)
        maps[name] = _maps(onnx_runtime(data), tested)
        result = evaluate(
            maps[name], masks, [row.class_name for row in test], [row.label for row in test], protocol="exact"
        )
        difference = np.abs(maps[name] - maps[FLOAT32])
        scores, reference = maps[name].max(axis=(1, 2)), maps[FLOAT32].max(axis=(1, 2))
        found[name] = {
            "megabytes": len(data) / 1e6,
            "metrics": {key: result["mean"]["exact"][key] for key in METRICS},
            "per_class": {
                label: {key: values["exact"][key] for key in METRICS} for label, values in result["per_class"].items()
            },
            "maps_mean": float(difference.mean()),
            "maps_largest": float(difference.max()),
            "scores_largest": float(np.abs(scores - reference).max()),
            "decisions": None if threshold is None else int(((scores > threshold) != (reference > threshold)).sum()),
        }
    return {"images": {"test": len(test), "ranges": len(normal)}, "variants": found}


def _read(split: Split, rows: list[SplitRow], size: int) -> np.ndarray:
    return np.stack([read_image(split.image_path(row), size) for row in rows])


def _maps(run: Runtime, images: np.ndarray) -> np.ndarray:
    return np.concatenate([run(images[start : start + BATCH])[1] for start in range(0, len(images), BATCH)])


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", default="mvtec", help="of params.yaml, with a trained and calibrated model")
    parser.add_argument("--images", type=int, default=128, help="of training, that int8 takes its ranges from")
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"), help="folder of the results")
    options = parser.parse_args()
    workspace, benchmark = Workspace(), load_params(Path("params.yaml")).benchmark(options.benchmark)
    measured = measure(workspace.model(benchmark.name), open_split(benchmark, workspace), options.images)
    result = {
        "benchmark": "export accuracy",
        "command": command("export_accuracy.py", vars(options)),
        "hardware": hardware(torch.device("cpu"), torch.get_num_threads()),
        **measured,
    }
    rows = [
        (
            name,
            *(f"{100 * values['metrics'][key]:.2f}" for key in METRICS),
            *(number(values[key], 2) for key in ("maps_mean", "maps_largest", "scores_largest")),
            "-" if values["decisions"] is None else f"{values['decisions']} of {measured['images']['test']}",
            number(values["megabytes"], 2),
        )
        for name, values in measured["variants"].items()
    ]
    path = options.out / f"export_accuracy_{benchmark.name}"
    write_results(path, f"Reduced precision of an exported model on {benchmark.name}", result, [HEADING, *rows], NOTES)
    print(path.with_name(f"{path.name}.md").read_text())


if __name__ == "__main__":
    main()
