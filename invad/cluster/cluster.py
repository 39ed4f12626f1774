"""Starting Ray, quietly, or joining the cluster that RAY_ADDRESS names; and what there is to compute on."""

import logging
import os
import socket
import tempfile
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from invad.config import ResourcesConfig, WorkersConfig
from invad.errors import InputError

logger = logging.getLogger(__name__)

# The path of a socket has 107 bytes: /ray/session_<date>_<time>_<microseconds>_<process>/sockets/plasma_store takes 70 of them.
_LONGEST_FOLDER = 37
_CONNECT_SECONDS = 5.0
_SLACK = 1e-6  # ten workers of a tenth of a CPU fit on one


@dataclass(frozen=True)
class Cluster:
    """What there is to compute on: the resources of each node as Ray names them, such as CPU and GPU."""

    nodes: tuple[Mapping[str, float], ...]

    def total(self, kind: str) -> float:
        """Return how much of a resource all nodes have."""
        return sum(node.get(kind, 0) for node in self.nodes)

    def fitting(self, each: Mapping[str, float]) -> int:
        """Return how many workers that need `each` fit, none of which can be spread over two nodes."""
        needed = {kind: value for kind, value in each.items() if value > 0}
        return sum(
            int(min(node.get(kind, 0) / value + _SLACK for kind, value in needed.items())) for node in self.nodes
        )

    @property
    def has_real_gpus(self) -> bool:
        """Whether Ray has found the GPUs itself, and was not just told of some."""
        with_gpus = [node for node in self.nodes if node.get("GPU", 0)]
        return bool(with_gpus) and all(any(key.startswith("accelerator_type:") for key in node) for node in with_gpus)

    def text(self) -> str:
        """Say what is there."""
        counts = Counter(map(amounts, self.nodes)).items()
        return "Ray has " + " and ".join(f"{number} node{'s' * (number > 1)} of {each}" for each, number in counts)


def amounts(resources: Mapping[str, float]) -> str:
    """Return resources in words."""
    return f"{resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs"


def needs_cluster(workers: WorkersConfig) -> bool:
    """Return whether the work has to leave this process: there are several workers, or a cluster is named."""
    return workers.workers > 1 or bool(os.environ.get("RAY_ADDRESS"))


def quiet() -> None:
    """Keep Ray's chatter in its log files."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray.data  # noqa: F401  (ray and it set their own levels when first imported, also by way of ray.train)

    for name in ("ray", "ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR if name == "ray.data" else logging.WARNING)


@contextmanager
def ray_session(**local: Any) -> Generator[Cluster]:  # noqa: ANN401
    """Yield the nodes of a Ray of our own, begun with `local`, or of RAY_ADDRESS; `InputError`: that cannot be joined."""
    address = os.environ.get("RAY_ADDRESS") or None
    settings: dict[str, Any] = {}
    if address is not None:
        _check_address(address)
    else:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # else Ray puts a token into the home directory
        folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or tempfile.gettempdir()
        short = {"_temp_dir": "/tmp/ray"} if len(os.fsencode(folder)) > _LONGEST_FOLDER else {}
        settings = {"include_dashboard": False, **short, **local}
    import ray

    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **settings)
    except (ConnectionError, RuntimeError, ValueError) as error:
        if address is None:
            raise
        raise InputError(f"RAY_ADDRESS: {address}: cannot join this cluster ({' '.join(str(error).split())})") from None
    try:
        yield nodes()
    finally:
        ray.shutdown()


def nodes() -> Cluster:
    """Return the nodes of the Ray that has been joined, as far as it has not missed them: that takes it some 15 seconds."""
    import ray

    return Cluster(tuple(node["Resources"] for node in ray.nodes() if node["Alive"]))


def _check_address(address: str) -> None:
    """Raise `InputError` in seconds unless something listens at `address`: Ray itself waits for minutes, and then ends the process."""
    if address in ("auto", "local"):
        return
    try:
        host, port = address.rsplit(":", 1)
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        expected = "HOST:PORT of a running cluster, as `ray start` prints it, or `auto`"
        raise InputError(f"RAY_ADDRESS: cannot reach {address!r} ({error}); expected {expected}") from None


def here() -> Cluster:
    """Return this machine, as far as this process may use it."""
    return Cluster(({"CPU": os.cpu_count() or 1, "GPU": torch.cuda.device_count()},))


def gpus_per_worker(workers: int, resources: ResourcesConfig, cluster: Cluster, section: str) -> float:
    """Return the GPUs of each worker; `InputError` where Ray would wait for ever for what `section` of params.yaml asks for.

    `gpu: auto` is one for each where there are enough, else none; of GPUs that are too few it warns.
    """
    gpus = resources.gpu
    if gpus == "auto":
        with_gpus = cluster.fitting({"CPU": resources.cpu, "GPU": 1.0})
        gpus = float(with_gpus >= workers)
        if not gpus and cluster.total("GPU"):
            told = f"of {workers} workers of {section}, {with_gpus} would have a GPU and {resources.cpu:g} CPUs"
            logger.warning("%s, so all compute on CPUs; %s", told, cluster.text())
    wanted = {"CPU": resources.cpu, "GPU": gpus}
    if (fitting := cluster.fitting(wanted)) < workers:
        key = f"params.yaml: {section}.resources_per_worker"
        raise InputError(f"{key}: of {workers} workers with {amounts(wanted)} each, {fitting} fit; {cluster.text()}")
    return gpus
