"""MLflow's own page of the runs, served on this machine."""

import os
import signal
import subprocess
import sys

from invad.tracking.store import answering, connect, experiment_id, tracking_uri, without_password
from invad.workspace import Workspace

# MLflow would start a process for each core, and six more for jobs that nothing here asks for.
_SPARING = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def serve_page(port: int, workspace: Workspace) -> int:
    """Serve the page on 127.0.0.1 until this process is interrupted or terminated, and MLflow with it; return MLflow's exit code.

    The address of the runs goes to standard error.

    Raises:
        InputError: The database cannot be used, or a server does not answer.
    """
    uri = tracking_uri(workspace)
    with answering(uri):
        experiment = experiment_id(connect(uri, workspace), "benchmark", uri, workspace)
    runs = f"#/experiments/{experiment}/runs?workflowType=machine_learning"
    if uri.startswith("http"):
        print(f"The runs are on {without_password(uri).rstrip('/')}/{runs}", file=sys.stderr)
        return 0
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", uri]
    process = subprocess.Popen(command, env=os.environ | _SPARING, start_new_session=True)

    def end(_signal: int, _frame: object) -> None:
        os.killpg(process.pid, signal.SIGTERM)  # the group, since MLflow does not pass it on

    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, end)
    print(f"The runs are on http://127.0.0.1:{port}/{runs} in some seconds (end with Ctrl-C)", file=sys.stderr)
    return max(process.wait(), 0)
