"""A `Result` from what MLflow keeps of a run; where the files come from is not this module's business."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from invad.config import BenchmarkConfig
from invad.config.loading import parse_benchmark
from invad.errors import InputError
from invad.files import read_json
from invad.metrics import KEYS, PROTOCOL_VERSION
from invad.report.collect import read_loss, read_metrics
from invad.report.evidence import read_evidence
from invad.report.labels import SOURCES, UNKNOWN
from invad.report.results import Result
from invad.training.cost import Cost
from invad.workspace import CONFIG_FILE, EVIDENCE_FOLDER

_SECTIONS = ("splits", "calibration", "features", "train", "score")
_OF_TRIALS = "trials of a study are evaluated by the protocol paper alone"


def result_of_run(folder: Path, metrics: Mapping[str, float], source: str | None) -> Result:
    """Return the result of a run.

    Args:
        folder: Its artifacts `config.json`, `<benchmark>.json` (metrics), `<benchmark>.csv` (loss) and `evidence/`; all but the first
            may be missing.
        metrics: What MLflow has by name; `paper/<key>` is used where the file of metrics is missing, as for a trial.
        source: Kind of data, key of `labels.SOURCES`; used where there is no evidence, and `unknown` where it is none of them.

    Raises:
        InputError: The settings or the metrics are missing, or a file is damaged.
    """
    config = _config(folder / CONFIG_FILE)
    path = folder / f"{config.name}.json"
    content = read_metrics(path) if path.exists() else _means(config.name, metrics)
    evidence = read_evidence(folder / EVIDENCE_FOLDER) if (folder / EVIDENCE_FOLDER).is_dir() else None
    return Result(
        config=config,
        source=evidence.source if evidence else source if source in SOURCES else UNKNOWN,
        metrics_by_seed={config.train.seed: content},
        cost=evidence.cost if evidence else _counted(config),
        counts=evidence.counts if evidence else None,
        tests=evidence.tests if evidence else None,
        curves=evidence.curves if evidence else {},
        loss=read_loss(folder / f"{config.name}.csv"),
    )


def _counted(config: BenchmarkConfig) -> Cost:
    """Return the cost of the model that these settings build."""
    from invad.training.cost import model_cost  # with torch

    return model_cost(config)


def _config(path: Path) -> BenchmarkConfig:
    value = read_json(path)
    lacking = [key for key in ("name", "dataset", *_SECTIONS) if not isinstance(value, dict) or key not in value]
    if lacking:
        raise InputError(f"{path.name}: not the settings of a benchmark, {', '.join(lacking)} missing")
    return parse_benchmark(value["name"], value["dataset"], {key: value[key] for key in _SECTIONS}, f"{path.name}: ")


def _means(name: str, metrics: Mapping[str, float]) -> dict[str, Any]:
    """Return what a file of metrics would hold of a run that has logged means alone."""
    paper = {key: metrics.get(f"paper/{key}") for key in KEYS}
    if set(paper.values()) == {None}:
        raise InputError("no metrics of test images: not evaluated, or a trial of `invad-pipe tune`")
    lacking = [key for key, value in paper.items() if value is None]
    notes = [f"mean, protocol exact: {', '.join(KEYS)}: not available: {_OF_TRIALS}"]
    if lacking:
        notes.append(f"mean, protocol paper: {', '.join(lacking)}: not available: the evaluation gave no value")
    return {
        "benchmark": name,
        "per_class": {},
        "mean": {"paper": paper, "exact": dict.fromkeys(KEYS)},
        "notes": notes,
        "protocol_version": PROTOCOL_VERSION,
    }
