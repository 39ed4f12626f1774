"""Which stages have their outputs already: those that are on disk and, where `dvc.lock` knows them, were made with the present settings.

DVC itself looks at code and data too; asking it takes seconds, and `dvc status` does it.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import TypeAdapter, ValidationError

from invad.config import Params
from invad.datasets.download import store_folder
from invad.datasets.source import read_source
from invad.datasets.split_table import FILE_NAME
from invad.errors import InputError
from invad.features.extract import LIVE_FILE
from invad.score_store import TABLE_FILE
from invad.stage import stage_labels
from invad.workspace import CONFIG_FILE, ENCODER_FILE, WEIGHTS_FILE, Workspace

State = Literal["there", "partly", "to do"]
_SHARDS = ("train-*.arrow", "test-*.arrow")


def stage_states(params: Params, workspace: Workspace) -> dict[str, State]:
    """Return the state of every stage, by the labels of `stage_labels`; a stage is only there when those before it are."""
    locked = _locked_stages(workspace.root / "dvc.lock")
    states: dict[str, State] = {}
    for label in stage_labels(params):
        state = _files_state(label, params, workspace)
        earlier = [states[before] for before in _before(label, params)]
        stale = label in locked and not _is_as_recorded(locked[label], _settings(label, params), workspace)
        if state == "there" and (stale or any(before != "there" for before in earlier)):
            state = "to do"
        states[label] = state
    return states


def _before(label: str, params: Params) -> list[str]:
    """Return the stages whose outputs a stage reads."""
    stage, _, name = label.partition("@")
    order = ("splits", "features", "train", "calibrate")
    if stage == "download":
        return []
    if stage == "report":
        evaluated = [f"evaluate@{name}" for name in params.benchmarks]
        return [*evaluated, *(f"ablate@{module}" for module in params.ablations)]
    if stage == "splits":
        return [f"download@{params.benchmark(name).dataset}"]
    if stage == "ablate":
        return [f"features@{params.ablations[name].benchmark}"]
    if stage == "score":
        return [f"train@{name}"]
    if stage == "evaluate":
        return [f"calibrate@{name}", f"score@{name}"]
    return [f"{order[order.index(stage) - 1]}@{name}"]


def _files_state(label: str, params: Params, workspace: Workspace) -> State:
    """Return whether the outputs of a stage are on disk, all of them or some."""
    stage, _, name = label.partition("@")
    if stage == "download":
        return _download_state(name, params, workspace)
    wanted = _outputs(stage, name, params, workspace)
    there = sum(any(path.parent.glob(path.name)) for path in wanted)
    if there == len(wanted):
        return "there"
    begun = {
        "features": workspace.features(name).parent.glob(f".{name}.*.partial/*.arrow"),
        "train": (workspace.private / "ray").glob(f"{name}-*/checkpoint-*.pt"),
    }
    return "partly" if there or any(begun.get(stage, ())) else "to do"


def _download_state(dataset: str, params: Params, workspace: Workspace) -> State:
    config = params.dataset(dataset)
    try:
        if read_source(workspace.raw(dataset)).source == config.source:
            return "there"
    except InputError:  # none, or the files that it names are gone
        pass
    store = store_folder(dataset, config, workspace)
    begun = config.source == "official" and any(any((store / name).glob("*")) for name in ("archives", "files"))
    return "partly" if begun else "to do"


def _outputs(stage: str, name: str, params: Params, workspace: Workspace) -> list[Path]:
    """Return files, or patterns of file names, that a finished stage has left."""
    match stage:
        case "splits":
            return [workspace.split(name) / FILE_NAME]
        case "features":
            live = params.benchmark(name).features.mode == "live"
            return [workspace.features(name) / file for file in ((LIVE_FILE,) if live else _SHARDS)]
        case "train":
            folder = workspace.model(name)
            return [
                *(folder / file for file in (WEIGHTS_FILE, ENCODER_FILE, CONFIG_FILE)),
                workspace.cost(name),
                workspace.loss(name),
            ]
        case "calibrate":
            return [workspace.calibration(name)]
        case "score":
            return [workspace.scores(name) / TABLE_FILE]
        case "evaluate":
            return [workspace.metrics(name), workspace.summary(name), workspace.curves(name)]
        case "ablate":
            return [workspace.ablations / f"{name}.{kind}" for kind in ("csv", "md", "png", "tex")]
        case _:
            figures = [workspace.reports / "figures" / f"scores_{benchmark}.png" for benchmark in params.benchmarks]
            return [workspace.reports / "index.html", workspace.reports / "tables" / "main.md", *figures]


def _settings(label: str, params: Params) -> dict[str, Any]:
    """Return what a stage depends on, by the keys that `dvc.yaml` names."""
    stage, _, name = label.partition("@")
    match stage:
        case "download":
            return {label.replace("@", "."): params.dataset(name)}
        case "splits":
            calibration = params.benchmark(name).calibration
            return {
                f"splits.{name}": params.benchmark(name).splits,
                f"calibration.{name}.seed": calibration.seed,
                f"calibration.{name}.share": calibration.share,
            }
        case "calibrate":
            return {
                f"calibration.{name}.false_positive_rate": params.benchmark(name).calibration.false_positive_rate,
                f"score.{name}": params.benchmark(name).score,
            }
        case "features" | "score":
            return {f"{stage}.{name}": getattr(params.benchmark(name), stage)}
        case "train":
            return {
                f"train.{name}": params.benchmark(name).train,
                "train.workers": params.training.workers,
                "train.resources_per_worker": params.training.resources_per_worker,
            }
        case "ablate":
            ablation = params.ablations[name]
            benchmark = params.benchmark(ablation.benchmark)
            sections = {f"{key}.{benchmark.name}": getattr(benchmark, key) for key in ("features", "train", "score")}
            return {f"ablations.{name}": ablation, **sections}
        case "report":
            return {"benchmarks": {name: benchmark.dataset for name, benchmark in params.benchmarks.items()}}
        case _:
            return {}


def _is_as_recorded(entry: Mapping[str, Any], settings: Mapping[str, Any], workspace: Workspace) -> bool:
    """Return whether a stage's entry of `dvc.lock` has these settings, and its outputs the sizes that they have on the disk."""
    recorded = entry.get("params", {}).get("params.yaml", {})
    return all(_same(value, recorded.get(key)) for key, value in settings.items()) and all(
        out.get("size") in (None, folder_bytes(workspace.root / out["path"])) for out in entry.get("outs", [])
    )


def folder_bytes(path: Path) -> int:
    """Return the bytes of a file, or of all files of a folder; 0 where there is none."""
    if path.is_file():
        return path.stat().st_size
    return sum((Path(folder) / name).stat().st_size for folder, _, names in os.walk(path) for name in names)


def _same(current: object, recorded: object) -> bool:
    """Return whether a recorded section of params.yaml, whose defaults may be left out, says the same as the present one."""
    if not is_dataclass(current):
        return recorded == current
    try:
        return TypeAdapter(type(current)).validate_json(json.dumps(recorded), strict=True) == current
    except ValidationError:  # recorded by another version
        return False


def _locked_stages(path: Path) -> Mapping[str, Mapping[str, Any]]:
    """Return DVC's record of each stage that it has run here."""
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("stages", {}) if path.exists() else {}
