"""MLflow: the only package that knows it.

One run for each training, in the experiment of its kind: `benchmark`, from its training to its report; `ablation` and `tune`, as trials
of a study. A benchmark's run id is kept in the workspace's private folder, outside DVC's outputs, beside the digest of the model it
belongs to: when the model came back from DVC's cache instead, a new run is started and says so.

What is logged goes to an outbox on the disk first. A server that is down or slow holds nobody up, and `sync` sends what it missed.
"""

from invad.tracking.continued import continue_run, known_tags, remember_run
from invad.tracking.fetch import FetchedRun, fetch_run
from invad.tracking.names import flatten_result, flatten_settings
from invad.tracking.provenance import environment_tags
from invad.tracking.run import Run, open_run, start_run, tag_outputs
from invad.tracking.show import list_runs, show_run
from invad.tracking.store import tracking_uri
from invad.tracking.sync import pending, sync

__all__ = [
    "FetchedRun",
    "Run",
    "continue_run",
    "environment_tags",
    "fetch_run",
    "flatten_result",
    "flatten_settings",
    "known_tags",
    "list_runs",
    "open_run",
    "pending",
    "remember_run",
    "show_run",
    "start_run",
    "sync",
    "tag_outputs",
    "tracking_uri",
]
