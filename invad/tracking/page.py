"""MLflow's own page of the runs, served on this machine."""

import os
import signal
import subprocess
import sys

from invad.tracking.record import BENCHMARK
from invad.tracking.store import answering, experiment_id, without_password
from invad.workspace import Workspace

# MLflow would start a process for each core, and six more for jobs that nothing here asks for.
_SPARING = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def serve_page(port: int, workspace: Workspace) -> int:
    """Serve the page on 127.0.0.1 until this process is interrupted or terminated, and MLflow with it; return MLflow's exit code.

    The address of the runs goes to standard error. `InputError`: the database cannot be used, or a server does not answer.
    """
    with answering(workspace) as client:
        uri = client.tracking_uri
        runs = f"#/experiments/{experiment_id(client, BENCHMARK, workspace)}/runs?workflowType=machine_learning"
    if uri.startswith("http"):
        print(f"The runs are on {without_password(uri).rstrip('/')}/{runs}", file=sys.stderr)
        return 0
    options = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--backend-store-uri", uri]
    command = [sys.executable, "-m", "mlflow", "server", *options]
    process = subprocess.Popen(command, env=os.environ | _SPARING, start_new_session=True)
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # to the group, since MLflow does not pass it on
        signal.signal(name, lambda *_: os.killpg(process.pid, signal.SIGTERM))
    print(f"The runs are on http://127.0.0.1:{port}/{runs} in some seconds (end with Ctrl-C)", file=sys.stderr)
    return max(process.wait(), 0)
