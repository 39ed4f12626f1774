"""MLflow: the only package that knows it.

One run for each training, in the experiment of its kind: `benchmark`, from its training to its report; `ablation` and `tune`, as trials
of a study. What is known of it is a record in the workspace's private folder, outside DVC's outputs, with the digest of its model.

A stage logs when it ends. MLflow that is down or slow holds nobody up: what it has not is logged later, from the record and the files.
"""

from invad.tracking.origin import data_sets, environment_tags
from invad.tracking.results import log_evaluation, log_report, log_training, loss_curves, sync_runs
from invad.tracking.run import Content, Files, Run, continue_run, known_run, start_run
from invad.tracking.show import fetch_run, list_runs, show_run
from invad.tracking.store import tracking_uri
