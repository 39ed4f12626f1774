"""MLflow: the only package that knows it.

One run for each training, in the experiment of its kind: `benchmark`, `ablation`, `tune` or `supervised`. What is known of it is a record
in the private folder, with the digest of its model: what MLflow that is down or slow has not is logged later, from the record and files.
"""

from invad.tracking.origin import data_sets, environment_tags
from invad.tracking.results import log_evaluation, log_report, log_supervised, log_training, loss_curves, sync_runs
from invad.tracking.run import Content, Files, Run, continue_run, known_run, start_run
from invad.tracking.show import fetch_run, list_runs, show_run
from invad.tracking.store import tracking_uri
