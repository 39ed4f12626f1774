"""Two nodes of Ray on this machine: real processes with addresses, folders and CPUs of their own, behind a token that nobody else knows."""

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

HEAD, OTHER = "127.0.0.2", "127.0.0.3"  # Ray takes 127.0.0.1 for the machine's own address
CPUS = 2  # of each
_SECONDS = 180
_RAY = "import sys; from ray.scripts.scripts import main; sys.exit(main())"  # `ray` of this interpreter


@dataclass(frozen=True)
class Node:
    """A node: `ray start --block`, and all that it has started."""

    address: str
    process: psutil.Popen

    def kill(self) -> None:
        """End all of its processes at once, as a power cut does, and no others."""
        if not self.process.is_running():
            return
        family = [self.process, *self.process.children(recursive=True)]
        for each in family:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        psutil.wait_procs(family, timeout=30)


@dataclass(frozen=True)
class TwoNodes:
    """Two nodes, and the environment of the processes that work on them."""

    head: Node
    other: Node
    environment: Mapping[str, str]


@contextmanager
def two_nodes(**variables: str) -> Iterator[TwoNodes]:
    """Yield two nodes with these environment variables; what has been started is ended, whatever happens."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp")))  # a socket's path is short
        with socket.socket() as free:
            free.bind((HEAD, 0))
            address = f"{HEAD}:{free.getsockname()[1]}"
        environment = {
            **os.environ,
            "RAY_AUTH_MODE": "token",  # its ports listen on every interface
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_ADDRESS": address,
            "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
            "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # one process less to start
            "RAY_health_check_period_ms": "500",  # a lost node is missed after 2.5 seconds, not 15
            **variables,
        }
        nodes = []
        for name, place in (
            (HEAD, ["--head", f"--port={address.partition(':')[2]}", "--include-dashboard=false"]),
            (OTHER, [f"--address={address}"]),
        ):
            nodes.append(_start(name, place, environment, folder / name[-1]))
            stack.callback(nodes[-1].kill)
            _wait(nodes[-1], folder / name[-1] / "log")
        yield TwoNodes(*nodes, environment)


def _start(name: str, place: list[str], environment: Mapping[str, str], folder: Path) -> Node:
    folder.mkdir()
    options = [
        f"--node-ip-address={name}",
        f"--temp-dir={folder}",
        f"--num-cpus={CPUS}",
        "--object-store-memory=100000000",
    ]
    quiet = ["--include-log-monitor=false", "--dashboard-agent-listen-port=0", "--block"]
    with (folder / "log").open("w") as log:
        command = [sys.executable, "-c", _RAY, "start", *place, *options, *quiet]
        return Node(name, psutil.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT))


def _wait(node: Node, log: Path) -> None:
    end = time.monotonic() + _SECONDS
    while "Ray runtime started" not in log.read_text():
        assert node.process.poll() is None and time.monotonic() < end, log.read_text()
        time.sleep(0.1)
