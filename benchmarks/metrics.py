"""Speed and memory of `invad.metrics.evaluate` against scikit-learn and a direct AU-PRO, and how both grow with the number of maps.

    python benchmarks/metrics.py                             # 320 maps for the comparison; 300, 1000 and 4952 maps streamed

All ways get the same arrays, each in a process of its own, and take turns. What they compute is compared as well. Writes
`metrics_<maps>.json` and `.md`.
"""

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from children import Child
from hardware import hardware
from results import command, markdown_table, number, write_results
from scipy import ndimage
from skimage.measure import label, regionprops
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from invad.files import write_text
from invad.metrics import bootstrap, evaluate

SIZE, GRID = 256, 64  # pixels of a map, and of the features that it comes from
DIRECT_THRESHOLDS = 100
ANSWER_SECONDS = 900

HEADING = ("Way", "Seconds", "CPU seconds", "Times ours", "Memory above the arrays (MB)")
NOTES = (
    "Median seconds of the rounds, of the clock and of all threads, and the most anonymous memory that the process took above what it held "
    "before; the arrays are there. "
    '"Everything" is all eleven metrics and four averages in both protocols. The direct way is what scripts of the field do: scikit-learn '
    "for the pixel and image metrics, F1 and IoU at fixed thresholds, and a loop over 100 thresholds and all regions that scikit-image "
    "finds (labelled once) for AU-PRO."
)
SHIFTS = {"of one sign": 0.0, "around zero": -0.3}  # of the scores in the tests with ever more maps
SCALING_HEADING = ("Maps", "Scores", "Way", "Seconds", "CPU seconds", "Milliseconds a map", "Memory above (MB)")
SCALING_NOTES = (
    "Everything, by `evaluate` on memory-mapped files, one class, and with the intervals of `bootstrap`, 1,000 replicates; the files were "
    "read before, so the disk is not timed."
)


def write_maps(count: int, folder: Path, seed: int = 0, shift: float = 0.0) -> None:
    """Write `maps.npy` (float32) and `masks.npy` (uint8), (count, 256, 256): smooth maps with up to five regions, brighter on average.

    `shift` is added to all scores, which lie around 0.3.
    """
    rng = np.random.default_rng(seed)
    maps = np.lib.format.open_memmap(folder / "maps.npy", "w+", np.float32, (count, SIZE, SIZE))
    masks = np.lib.format.open_memmap(folder / "masks.npy", "w+", np.uint8, (count, SIZE, SIZE))
    rows, columns = np.ogrid[:SIZE, :SIZE]
    for i in range(count):
        for _ in range(int(rng.integers(0, 6))):
            (row, column), (height, width) = rng.integers(0, SIZE, 2), rng.integers(6, 70, 2)
            masks[i] |= ((rows - row) / height) ** 2 + ((columns - column) / width) ** 2 < 1
        coarse = rng.gamma(6, 0.05, (GRID, GRID)) + 0.1 * masks[i, :: SIZE // GRID, :: SIZE // GRID]
        smooth = ndimage.zoom(ndimage.gaussian_filter(coarse, 1.5), SIZE // GRID, order=1)
        maps[i] = smooth + shift


@contextmanager
def anonymous_memory() -> Generator[Callable[[], float]]:
    """Yield a function that returns by how many bytes the anonymous memory of this process has grown at most (mapped files are none)."""
    done, base, peak = threading.Event(), _anonymous_bytes(), _anonymous_bytes()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, _anonymous_bytes())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lambda: peak - base
    finally:
        done.set()
        thread.join()


def _anonymous_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


class Way:
    """One way to compute metrics of the maps in a folder; lives in a process of its own."""

    def __init__(self, name: str, folder: str, count: int | None) -> None:
        self.compute = WAYS[name]
        mode = None if count is None else "r"
        self.maps, self.masks = (
            np.load(Path(folder) / f"{part}.npy", mmap_mode=mode)[:count] for part in ("maps", "masks")
        )
        for part in (self.maps, self.masks):
            part.max()  # in memory, or in the cache of the disk

    def run(self) -> dict[str, Any]:
        """Return seconds, those of all cores, bytes of memory and the metrics."""
        with anonymous_memory() as grown:
            started, used = time.perf_counter(), time.process_time()
            values = self.compute(self.maps, self.masks)
            seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - used
        return {"seconds": seconds, "cpu_seconds": cpu_seconds, "bytes": grown(), "values": values}


def everything(maps: np.ndarray, masks: np.ndarray) -> dict[str, float | None]:
    """All of ours."""
    return evaluate(maps, masks)["mean"]["exact"]


def with_intervals(maps: np.ndarray, masks: np.ndarray) -> dict[str, float | None]:
    """All of ours, and the intervals of the exact protocol from 1,000 replicates."""
    evaluation = evaluate(maps, masks)
    bootstrap(maps, masks, evaluation=evaluation)
    return evaluation["mean"]["exact"]


def two_pixel_metrics(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """AU-ROC and AP of the flattened pixels by scikit-learn."""
    truth, scores = masks.ravel(), maps.ravel()
    return {"pixel_auroc": roc_auc_score(truth, scores), "pixel_ap": average_precision_score(truth, scores)}


def direct(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """Everything the direct way."""
    truth, scores = masks.max(axis=(1, 2)), maps.max(axis=(1, 2))
    values = two_pixel_metrics(maps, masks)
    values |= {"image_auroc": roc_auc_score(truth, scores), "image_ap": average_precision_score(truth, scores)}
    for level, arguments in (("image", (truth, scores)), ("pixel", (masks.ravel(), maps.ravel()))):
        precision, recall, _ = precision_recall_curve(*arguments)
        values[f"{level}_f1_max"] = float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12)))
    scaled, anomalous = (maps - maps.min()) / (maps.max() - maps.min()), masks.astype(bool)
    f1, recalls, ious = [], [], []
    for threshold in np.arange(0.2, 0.81, 0.1):
        positive = scaled > threshold
        tp, fp = np.sum(positive & anomalous), np.sum(positive & ~anomalous)
        fn = np.sum(~positive & anomalous)
        f1.append(2 * tp / (2 * tp + fp + fn))
        recalls.append(tp / (tp + fn))
        ious.append(tp / (tp + fp + fn))
    values |= {"pixel_mf1": np.mean(f1), "pixel_macc": np.mean(recalls), "pixel_miou": np.mean(ious)}
    values["region_aupro"] = direct_aupro(maps, anomalous)
    return {key: float(value) for key, value in values.items()}


def direct_aupro(maps: np.ndarray, anomalous: np.ndarray) -> float:
    """AU-PRO up to a false positive rate of 0.3, by equally spaced thresholds."""
    regions = [(i, *region.coords.T) for i, mask in enumerate(anomalous) for region in regionprops(label(mask))]
    rates, overlaps = [], []
    for threshold in np.linspace(maps.min(), maps.max(), DIRECT_THRESHOLDS, endpoint=False):
        positive = maps > threshold
        overlaps.append(np.mean([positive[region].mean() for region in regions]))
        rates.append(positive[~anomalous].mean())
    rates, overlaps = np.array(rates)[::-1], np.array(overlaps)[::-1]
    inside = rates < 0.3
    return float(np.trapezoid(overlaps[inside], rates[inside] / rates[inside].max()))


WAYS = {
    "everything": everything,
    "with_intervals": with_intervals,
    "two_pixel_metrics": two_pixel_metrics,
    "direct": direct,
}
LABELS = {
    "everything": "Everything, ours",
    "with_intervals": "With intervals, ours",
    "two_pixel_metrics": "Two pixel metrics, scikit-learn",
    "direct": "Everything, the direct way",
}


def compare(folder: str, rounds: int) -> dict[str, dict[str, Any]]:
    """Let the ways take turns on the arrays of a folder."""
    children = {name: Child(Way, name, folder, None) for name in WAYS}
    try:
        turns = [{name: child.ask("run", ANSWER_SECONDS) for name, child in children.items()} for _ in range(rounds)]
    finally:
        for child in children.values():
            child.close()
    measured = {}
    for name, child in children.items():
        if child.failure is not None:
            raise SystemExit(f"{LABELS[name]}: {child.failure}")
        measured[name] = {
            "seconds": statistics.median(turn[name]["seconds"] for turn in turns),
            "cpu": statistics.median(turn[name]["cpu_seconds"] for turn in turns),
            "mb": max(turn[name]["bytes"] for turn in turns) / 1e6,
            "all_seconds": [turn[name]["seconds"] for turn in turns],
            "values": turns[0][name]["values"],
        }
    return measured


def scale(folder: str, counts: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """Let ours read ever more of the maps of a folder from the disk, without and with intervals."""
    found = []
    for count, way in product(counts, ("everything", "with_intervals")):
        child = Child(Way, way, folder, count)
        runs = [child.ask("run", ANSWER_SECONDS) for _ in range(rounds)]
        child.close()
        if child.failure is not None:
            raise SystemExit(f"{count} maps: {child.failure}")
        medians = {key: statistics.median(run[key] for run in runs) for key in ("seconds", "cpu_seconds")}
        memory = max(run["bytes"] for run in runs) / 1e6
        all_seconds = [run["seconds"] for run in runs]
        found.append({"maps": count, "way": way, **medians, "mb": memory, "all_seconds": all_seconds})
    return found


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", type=int, default=320, help="in the comparison")
    parser.add_argument("--scale", default="300,1000,4952", help="numbers of maps to stream")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    options = parser.parse_args()
    counts = [int(count) for count in options.scale.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        write_maps(options.maps, Path(folder))
        ways = compare(folder, options.rounds)
        scaling = []
        for scores, shift in SHIFTS.items():
            write_maps(max(counts), Path(folder), shift=shift)
            scaling += [{"scores": scores, **run} for run in scale(folder, counts, options.rounds)]
    ours = ways["everything"]
    table = [HEADING] + [
        (LABELS[name], *map(number, (way["seconds"], way["cpu"], way["seconds"] / ours["seconds"], way["mb"])))
        for name, way in ways.items()
    ]
    rows = [SCALING_HEADING] + [
        (
            str(run["maps"]),
            run["scores"],
            LABELS[run["way"]],
            number(run["seconds"]),
            number(run["cpu_seconds"]),
            number(1000 * run["seconds"] / run["maps"]),
            number(run["mb"]),
        )
        for run in scaling
    ]
    threads = torch.get_num_threads()
    result = {
        "hardware": hardware(torch.device("cpu"), threads),
        "command": command("metrics.py", vars(options)),
        "ways": ways,
        "scaling": scaling,
    }
    path = options.out / f"metrics_{options.maps}"
    title = f"Metrics of {options.maps} maps of {SIZE} x {SIZE} pixels"
    write_results(path, title, result, table, NOTES)
    markdown = path.with_name(f"{path.name}.md")
    lines = ["", "## More maps, from the disk", "", *markdown_table(rows), "", SCALING_NOTES, ""]
    write_text(markdown, markdown.read_text() + "\n".join(lines))
    print(markdown.read_text())


if __name__ == "__main__":
    main()
