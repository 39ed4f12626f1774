"""MLflow: the only package that knows it.

One run for each training, in the experiment of its kind: `benchmark`, from its training to its report; `ablation` and `tune`, as trials
of a study. What is known of it is a record in the workspace's private folder, outside DVC's outputs, with the digest of its model.

A stage logs when it ends. MLflow that is down or slow holds nobody up: what it has not is logged later, from the record and the files.
"""

from invad.tracking.data import data_sets
from invad.tracking.fetch import FetchedRun, fetch_run
from invad.tracking.names import flatten_result, flatten_settings
from invad.tracking.provenance import environment_tags, model_tags
from invad.tracking.run import Run
from invad.tracking.runs import continue_run, known_run, open_run, remember_model, start_run, sync_records
from invad.tracking.show import list_runs, show_run
from invad.tracking.store import tracking_uri

__all__ = [
    "FetchedRun",
    "Run",
    "continue_run",
    "data_sets",
    "environment_tags",
    "fetch_run",
    "flatten_result",
    "flatten_settings",
    "known_run",
    "list_runs",
    "model_tags",
    "open_run",
    "remember_model",
    "show_run",
    "start_run",
    "sync_records",
    "tracking_uri",
]
