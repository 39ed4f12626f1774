"""MLflow: the only module that knows it.

One run for each benchmark, in the experiment `benchmark`, from its training to its report. The run's id is kept in the workspace's
private folder, outside DVC's outputs, beside the digest of the model it belongs to: when the model came back from DVC's cache instead,
a new run is started and says so.
"""

import hashlib
import json
import logging
import os
import platform
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from invad.config import BenchmarkConfig
from invad.files import read_json, write_json
from invad.workspace import CONFIG_FILE, WEIGHTS_FILE, Workspace

EXPERIMENT = "benchmark"
PACKAGES = ("dvc", "invad", "mlflow", "numpy", "pyarrow", "ray", "timm", "torch", "torchvision")
_BATCH = 1000  # metrics that MLflow takes in one call

logger = logging.getLogger(__name__)
logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # the tables of a new database, one by one


class BenchmarkRun:
    """The MLflow run of one benchmark."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._client = client
        self.run_id = run_id

    def log_curve(self, name: str, values: Iterable[tuple[int, float]]) -> None:
        """Log (step, value) pairs as the metric `name`."""
        now = _now_ms()
        self._log([Metric(name, value, now, step) for step, value in values])

    def log_metrics(self, metrics: Mapping[str, float | None]) -> None:
        """Log final values; one that is not available (None) is left out, never logged as NaN."""
        now = _now_ms()
        self._log([Metric(name, value, now, 0) for name, value in metrics.items() if value is not None])

    def _log(self, metrics: Sequence[Metric]) -> None:
        for start in range(0, len(metrics), _BATCH):
            self._client.log_batch(self.run_id, metrics=metrics[start : start + _BATCH])

    def log_table(self, columns: Mapping[str, list[Any]], name: str) -> None:
        """Log a table (equal-length columns) as the artifact `name`.json, which MLflow's UI shows as a table."""
        self._client.log_dict(
            self.run_id,
            {"columns": list(columns), "data": [list(row) for row in zip(*columns.values(), strict=True)]},
            f"{name}.json",
        )
        tag = [{"path": f"{name}.json", "type": "table"}]
        self._client.set_tag(self.run_id, "mlflow.loggedArtifacts", json.dumps(tag))

    def tag(self, name: str, value: str) -> None:
        """Set a tag."""
        self._client.set_tag(self.run_id, name, value)

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Log a file as an artifact."""
        self._client.log_artifact(self.run_id, str(path), folder)

    def has_metrics(self) -> bool:
        """Return whether any metric of a protocol is there (a loss curve is none)."""
        return any(not name.startswith("train/") for name in self._client.get_run(self.run_id).data.metrics)

    def has_files(self, folder: str) -> bool:
        """Return whether the artifact folder holds anything."""
        return bool(self._client.list_artifacts(self.run_id, folder))

    def finish(self, *, failed: bool = False) -> None:
        """Mark the run as ended."""
        self._client.set_terminated(self.run_id, "FAILED" if failed else "FINISHED")


def start_run(benchmark: BenchmarkConfig, workspace: Workspace) -> BenchmarkRun:
    """Start a run that holds the benchmark's settings and where code and data came from."""
    client = _client(workspace)
    run = client.create_run(
        _experiment_id(client, workspace), run_name=benchmark.name, tags=_tags(benchmark, workspace)
    )
    settings = asdict(benchmark)
    params = [Param(key, str(value)) for key, value in _flatten(settings).items()]
    client.log_batch(run.info.run_id, params=params)
    client.log_dict(run.info.run_id, settings, "config.json")
    return BenchmarkRun(client, run.info.run_id)


def remember_run(run: BenchmarkRun, benchmark: BenchmarkConfig, workspace: Workspace) -> None:
    """Keep the id of the run that trained the present model, for the stages that follow."""
    value = {"run_id": run.run_id, "uri": tracking_uri(workspace), "model_sha256": _model_sha256(benchmark, workspace)}
    write_json(_run_file(benchmark, workspace), value)


def continue_run(benchmark: BenchmarkConfig, workspace: Workspace) -> BenchmarkRun:
    """Return the run that trained the present model, or a new one when that is not known here."""
    path = _run_file(benchmark, workspace)
    known = read_json(path) if path.exists() else {}
    expected = (tracking_uri(workspace), _model_sha256(benchmark, workspace))
    if (known.get("uri"), known.get("model_sha256")) == expected:
        client = _client(workspace)
        try:
            client.get_run(known["run_id"])
            return BenchmarkRun(client, known["run_id"])
        except MlflowException:
            logger.warning("MLflow no longer has run %s of %s; a new one is started", known["run_id"], benchmark.name)
    run = start_run(benchmark, workspace)
    run.tag("invad.model_from_cache", "true")
    run.finish()
    remember_run(run, benchmark, workspace)
    return run


def tracking_uri(workspace: Workspace) -> str:
    """Return MLFLOW_TRACKING_URI, or the SQLite database of the workspace."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{workspace.root.absolute() / 'mlflow.db'}"


def _client(workspace: Workspace) -> MlflowClient:
    return MlflowClient(tracking_uri=tracking_uri(workspace))


def _experiment_id(client: MlflowClient, workspace: Workspace) -> str:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is not None:
        return experiment.experiment_id
    local = tracking_uri(workspace).startswith("sqlite")  # a server knows by itself where its artifacts go
    artifacts = (workspace.root.absolute() / "mlruns").as_uri() if local else None
    return client.create_experiment(EXPERIMENT, artifact_location=artifacts)


def _now_ms() -> int:
    return int(time.time() * 1000)


def _flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            flat |= _flatten(item, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = item
    return flat


def _tags(benchmark: BenchmarkConfig, workspace: Workspace) -> dict[str, str]:
    tags = {
        "invad.benchmark": benchmark.name,
        "git.commit": _git(workspace, "rev-parse", "HEAD"),
        "git.dirty": str(bool(_git(workspace, "status", "--porcelain", "--untracked-files=no"))).lower(),
        "dvc.split": _dvc_md5(workspace, f"splits@{benchmark.name}"),
        "dvc.features": _dvc_md5(workspace, f"features@{benchmark.name}"),
        "dvc.experiment": os.environ.get("DVC_EXP_NAME", ""),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        **{f"package.{name}": version(name) for name in PACKAGES},
    }
    return {name: value for name, value in tags.items() if value}


def _git(workspace: Workspace, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=workspace.root, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git on this machine
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _dvc_md5(workspace: Workspace, stage: str) -> str:
    """Return the hash that `dvc.lock` records for the (only) output of a stage, which DVC writes as soon as the stage has ended."""
    path = workspace.root / "dvc.lock"
    if not path.exists():
        return ""
    lock = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    outs = lock.get("stages", {}).get(stage, {}).get("outs", [])
    return outs[0]["md5"] if outs else ""


def _model_sha256(benchmark: BenchmarkConfig, workspace: Workspace) -> str:
    digest = hashlib.sha256()
    folder = workspace.model(benchmark.name)
    for path in (folder / CONFIG_FILE, folder / WEIGHTS_FILE):  # not the calibration, which changes without a training
        if not path.exists():
            continue
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _run_file(benchmark: BenchmarkConfig, workspace: Workspace) -> Path:
    return workspace.private / "runs" / f"{benchmark.name}.json"
