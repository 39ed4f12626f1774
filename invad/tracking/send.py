"""From the outbox to MLflow: every entry in order and at least once, and no entry changes anything the second time."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModel,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    Run,
    RunTag,
)
from mlflow.exceptions import MlflowException

from invad.tracking.outbox import Entry, Journal, find_journal
from invad.tracking.store import experiment_id, is_gone, with_password
from invad.workspace import Workspace

LOCAL_ID = "invad.run"  # the tag by which a run that MLflow has is found again
PARENT = "invad.parent"
_ENTRY = "invad.entry"  # the same of a model
_BATCH = 1000  # metrics that MLflow takes in one call
_REFUSED = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")  # what the same request will always get


def send_journal(journal: Journal, client: MlflowClient, workspace: Workspace) -> list[Entry]:
    """Send all that MLflow lacks of a run, and return the entries that it refuses.

    Raises whatever MLflow raises when it does not answer; what was not sent stays.
    """
    refused: list[Entry] = []
    with journal.sending():
        if not journal.is_pending():
            return refused
        run_id = _create(journal, client, workspace)
        for entry, end in _merged(journal):
            if "file" in entry and not (journal.folder / entry["file"]).exists():
                journal.update(sent=end)  # a process was killed while it tidied up: MLflow has the file
                continue
            try:
                _apply(entry, run_id, client, journal.folder)
            except MlflowException as error:
                if error.error_code not in _REFUSED:
                    raise
                journal.reject(entry)
                refused.append(entry)
            status = {"ended": entry["status"] != "RUNNING"} if entry["op"] == "status" else {}
            journal.update(sent=end, **status)
            if "file" in entry and entry not in refused:
                journal.drop_file(entry["file"])
        journal.tidy()
    return refused


def _create(journal: Journal, client: MlflowClient, workspace: Workspace) -> str:
    """Return MLflow's id of the run, which is created unless MLflow has it."""
    state = journal.state
    if state["mlflow_id"] is not None and (journal.verified or run_exists(client, state["mlflow_id"])):
        journal.verified = True
        return state["mlflow_id"]
    experiment = experiment_id(client, state["experiment"], with_password(state["uri"], workspace), workspace)
    found = client.search_runs([experiment], f"tags.`{LOCAL_ID}` = '{journal.id}'", max_results=1)
    if found:  # created by a process that did not live to hear of it
        run_id = found[0].info.run_id
    else:
        tags = {**state["tags"], LOCAL_ID: journal.id}
        if state["parent"] is not None:
            tags |= _parent_tags(state["parent"], client, workspace)
        run_id = client.create_run(experiment, state["start"], tags, state["name"]).info.run_id
    client.log_batch(run_id, params=[Param(name, value) for name, value in state["params"].items()])
    journal.update(mlflow_id=run_id)
    return run_id


def run_exists(client: MlflowClient, run_id: str) -> bool:
    """Return whether MLflow has the run, and not in its bin."""
    try:
        return client.get_run(run_id).info.lifecycle_stage == "active"
    except MlflowException as error:
        if is_gone(error):
            return False
        raise


def _parent_tags(parent: str, client: MlflowClient, workspace: Workspace) -> dict[str, str]:
    journal = find_journal(workspace, parent)
    if journal is None:
        return {PARENT: parent}
    with journal.sending():
        return {PARENT: parent, "mlflow.parentRunId": _create(journal, client, workspace)}


def _merged(journal: Journal) -> list[tuple[Entry, int]]:
    """Return what is unsent; metrics that follow each other become one entry, as long as one call takes them."""
    merged: list[tuple[Entry, int]] = []
    for entry, end in journal.unsent():
        last = merged[-1][0] if merged else {"op": None}
        if entry["op"] == last["op"] == "metrics" and len(last["metrics"]) + len(entry["metrics"]) <= _BATCH:
            merged[-1] = ({"op": "metrics", "metrics": last["metrics"] + entry["metrics"]}, end)
        else:
            merged.append((entry, end))
    return merged


def _apply(entry: Entry, run_id: str, client: MlflowClient, folder: Path) -> None:
    match entry["op"]:
        case "metrics":
            metrics = [Metric(name, value, time, step) for name, value, time, step in entry["metrics"]]
            for start in range(0, len(metrics), _BATCH):
                client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
        case "tags":
            client.log_batch(run_id, tags=[RunTag(name, value) for name, value in entry["tags"].items()])
        case "params":
            client.log_batch(run_id, params=[Param(name, value) for name, value in entry["params"].items()])
        case "file":
            client.log_artifact(run_id, str(folder / entry["file"]), entry["folder"])
            if entry["table"]:
                _show_table(entry["file"].rpartition("/")[2], run_id, client)
        case "data":
            client.log_inputs(run_id, [_data_set(value) for value in entry["data"]])
        case "model":
            _send_model(entry, run_id, client, folder)
        case "status":
            client.set_terminated(run_id, entry["status"], entry["time"])


def _show_table(name: str, run_id: str, client: MlflowClient) -> None:
    """Say in the run's tag that an artifact is a table, which makes MLflow's page show it as one."""
    key = "mlflow.loggedArtifacts"
    tables = json.loads(client.get_run(run_id).data.tags.get(key, "[]"))
    table = {"path": name, "type": "table"}
    if table not in tables:
        client.set_tag(run_id, key, json.dumps([*tables, table]))


def _data_set(value: Mapping[str, Any]) -> DatasetInput:
    data = Dataset(value["name"], value["digest"], value["source_type"], value["source"], profile=value["profile"])
    return DatasetInput(data, [InputTag("mlflow.data.context", value["context"])])


def _send_model(entry: Entry, run_id: str, client: MlflowClient, folder: Path) -> None:
    run = client.get_run(run_id)
    model = upload_model(
        folder / entry["file"], run, client, name=entry["name"], params=entry["params"], tag=(_ENTRY, entry["id"])
    )
    outputs = run.outputs.model_outputs if run.outputs is not None else []
    if model.model_id not in {output.model_id for output in outputs}:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])


def upload_model(
    folder: Path, run: Run, client: MlflowClient, *, name: str, params: dict[str, str], tag: tuple[str, str]
) -> LoggedModel:
    """Return the logged model of a run that has the tag, which is made of the MLflow model in `folder` unless it is there already."""
    key, value = tag
    experiment = run.info.experiment_id
    found = client.search_logged_models([experiment], f"tags.`{key}` = '{value}'", max_results=1)
    model = (
        found[0]
        if found
        else client.create_logged_model(experiment, name, run.info.run_id, {key: value}, params, "anomaly-detection")
    )
    if model.status != LoggedModelStatus.READY:
        client.log_model_artifacts(model.model_id, str(folder))
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return model
