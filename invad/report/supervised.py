"""The tables of supervised methods, beside the detectors below them on the same test images."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from invad.errors import InputError
from invad.files import read_json
from invad.report.labels import METRICS, Metric, source_sentences
from invad.report.results import Result
from invad.report.tables import DASH, Row, Table, caption, over_seeds, value_cells

FPR95 = Metric(
    "image_fpr95",
    "Image",
    "FPR95",
    "Share of the normal images that score at least as high as the lowest of 95 % of the anomalous ones; lower is better.",
    best=None,
)
COLUMNS = (*(metric for metric in METRICS if metric.group == "Image"), FPR95)
HEADS = ("Benchmark", "Method", "Data", "Labels", "Segments", "Seeds")
METHODS = {"segad": "SegAD"}
WORDS = (
    "Image metrics in percent, images labelled by the data set; a supervised method has no maps, pixel metrics are those of its detectors. "
    "Rows without labels are the detectors alone, on the same test images. No number is marked as the best: rows that have seen labels do "
    "not compete with rows that have not."
)


def supervised_tables(
    names: Iterable[str], folder: Path, results: Mapping[str, Result]
) -> tuple[list[Table], dict[str, InputError]]:
    """Return the table of the means and that of the classes, none without any result, and why results are left out, by name.

    names: of the section `supervised`; their files lie in `folder`. results: of the benchmarks that are at hand.
    """
    rows, of_classes, left_out, used = [], [], {}, []
    for name in names:
        try:
            found = _read(folder / f"{name}.json", results)
        except InputError as error:
            left_out[name] = error
            continue
        first = results[found["detectors"][0]]
        used.append(first)
        for words, runs in _parts(found, first, results):
            rows.append(Row(words, _cells(runs), block=name))
            classes = runs[0]["per_class"]
            of_classes += [Row({"Class": each} | words, _cells(runs, each), block=f"{name} {each}") for each in classes]
    if not rows:
        return [], left_out
    several = any(len(row.words["Seeds"].split(", ")) > 1 for row in rows)
    spread = "Mean ± sample standard deviation over the seeds." if several else ""
    words = caption(WORDS, spread, source_sentences(result.source for result in used))
    of_classes.sort(key=lambda row: row.block)
    return [
        Table("Supervised methods", words, HEADS, COLUMNS, tuple(rows), "exact"),
        Table("Supervised methods per class", words, ("Class", *HEADS), COLUMNS, tuple(of_classes), "exact"),
    ], left_out


def _read(path: Path, results: Mapping[str, Result]) -> dict[str, Any]:
    found = read_json(path)
    keys = ("method", "detectors", "segments", "labelled", "per_seed", "baselines")
    if not isinstance(found, dict) or any(key not in found for key in keys):
        raise InputError(f"{path}: not a result of a supervised method; `dvc repro supervise` writes it")
    if lacking := [name for name in found["detectors"] if name not in results]:
        raise InputError(f"{path}: there is no result of its detector {lacking[0]}")
    return found


def _parts(
    found: Mapping[str, Any], first: Result, results: Mapping[str, Result]
) -> list[tuple[dict[str, str], Sequence[Mapping[str, Any]]]]:
    """Return words and runs of the supervised method, and then of each detector alone."""
    detectors = [results[name].label for name in found["detectors"]]
    labels = sum(sum(counts.values()) for counts in found["labelled"].values())
    words = {name: first.words[name] for name in ("Benchmark", "Data")}
    supervised = {
        "Method": f"{METHODS[found['method']]} on {' + '.join(detectors)}",
        "Labels": f"supervised, {labels} labels",
        "Segments": found["segments"],
        "Seeds": ", ".join(str(run["seed"]) for run in found["per_seed"]),
    }
    parts = [(words | supervised, found["per_seed"])]
    for name, label in zip(found["detectors"], detectors, strict=True):
        runs = found["baselines"][name]
        runs = runs if found.get("redraw") else runs[:1]  # otherwise all seeds have the same test images
        alone = {"Method": label, "Labels": "none", "Segments": DASH}
        parts.append(
            (
                words | alone | {"Seeds": ", ".join(str(run["seed"]) for run in runs) if found.get("redraw") else DASH},
                runs,
            )
        )
    return parts


def _cells(runs: Sequence[Mapping[str, Any]], class_name: str | None = None) -> Any:  # noqa: ANN401
    return over_seeds(
        [
            value_cells(run["mean"], run["per_class"])
            if class_name is None
            else value_cells(run["per_class"][class_name])
            for run in runs
        ]
    )
