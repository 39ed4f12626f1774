"""How often the 95 % intervals of `invad.metrics.bootstrap` hold the value that all images there could be would have.

    python benchmarks/intervals.py                           # 500 test sets of each size; minutes

Image scores are drawn from two normal distributions whose AU-ROC is known, as many normal as anomalous ones. An interval from a test
set of a few images is too short, more so where the value is near 1. Writes `intervals.json` and `.md`.
"""

import argparse
import math
from pathlib import Path
from statistics import NormalDist, fmean

import numpy as np
import torch
from hardware import hardware
from results import command, number, write_results

from invad.metrics import bootstrap

HEADING = ("AU-ROC", "Images of each kind", "Within the interval", "Mean length")
NOTES = "The share of test sets whose interval, of 1,000 replicates, holds the true AU-ROC; 0.95 would be right."


def coverage(auroc: float, images: int, tests: int) -> tuple[float, float]:
    """Return the share of intervals that hold the true AU-ROC, and their mean length."""
    rng, distance = np.random.default_rng(0), math.sqrt(2) * NormalDist().inv_cdf(auroc)
    labels, found = np.arange(2 * images) % 2, []
    maps = np.zeros((2 * images, 1, 1), np.float32)
    for seed in range(tests):
        scores = rng.normal(size=2 * images) + distance * labels
        interval = bootstrap(maps, None, labels=labels, image_scores=scores, seed=seed)["mean"]["image_auroc"]
        found.append(interval or [math.nan, math.nan])
    return fmean(low <= auroc <= high for low, high in found), fmean(high - low for low, high in found)


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=int, default=500)
    parser.add_argument("--images", default="8,15,30,100", help="of each kind in a test set")
    parser.add_argument("--auroc", default="0.9,0.98")
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    options = parser.parse_args()
    cases = [(float(auroc), int(images)) for auroc in options.auroc.split(",") for images in options.images.split(",")]
    rows = []
    for auroc, images in cases:
        share, length = coverage(auroc, images, options.tests)
        rows.append({"auroc": auroc, "images": images, "within": share, "length": length})
        print(rows[-1])
    facts = hardware(torch.device("cpu"), torch.get_num_threads())
    result = {"hardware": facts, "command": command("intervals.py", vars(options)), "coverage": rows}
    table = [HEADING, *(tuple(number(value) for value in row.values()) for row in rows)]
    write_results(options.out / "intervals", "What bootstrap intervals hold", result, table, NOTES)


if __name__ == "__main__":
    main()
