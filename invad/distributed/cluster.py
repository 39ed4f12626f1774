"""Starting Ray, quietly, or joining the cluster that RAY_ADDRESS names; and what its failures mean."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from invad.config import ResourcesConfig, WorkersConfig
from invad.errors import InputError


def needs_cluster(workers: WorkersConfig) -> bool:
    """Return whether the work has to leave this process: there are several workers, or a cluster is named."""
    return workers.workers > 1 or "RAY_ADDRESS" in os.environ


def quiet() -> None:
    """Keep Ray's chatter in its log files."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray.data  # noqa: F401  (ray and it set their own levels when first imported, also by way of ray.train)

    for name in ("ray", "ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR if name == "ray.data" else logging.WARNING)


@contextmanager
def ray_session() -> Iterator[Mapping[str, float]]:
    """Yield the resources of a Ray of this machine's own that ends with the block, or of the cluster of RAY_ADDRESS."""
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # else Ray puts a token into the home directory
    import ray

    local = {} if address else {"include_dashboard": False}
    ray.init(address=address, logging_level="ERROR", log_to_driver=False, **local)
    try:
        yield ray.cluster_resources()
    finally:
        ray.shutdown()


def here() -> Mapping[str, float]:
    """Return the resources of this process."""
    return {"CPU": os.cpu_count() or 1, "GPU": torch.cuda.device_count()}


def gpus_per_worker(workers: int, resources: ResourcesConfig, available: Mapping[str, float], section: str) -> float:
    """Return the GPUs of each worker.

    Raises:
        InputError: The cluster does not have what `section` of params.yaml asks for; Ray would wait for ever.
    """
    gpus = available.get("GPU", 0)
    per_worker = (1 if gpus >= workers else 0) if resources.gpu == "auto" else resources.gpu
    for kind, each in (("cpu", resources.cpu), ("gpu", per_worker)):
        there = available.get(kind.upper(), 0)
        if each * workers > there:
            raise InputError(
                f"params.yaml: {section}.resources_per_worker.{kind}: {workers} x {each:g} asked for, Ray has {there:g} {kind.upper()}s"
            )
    return per_worker


def input_error(error: BaseException | None) -> InputError | None:
    """Return the user's mistake behind a failure that Ray has wrapped, or None."""
    while error is not None:
        if isinstance(error, InputError):
            return error
        failures = getattr(error, "worker_failures", None)  # of Ray Train, by worker
        error = next(iter(failures.values())) if failures else getattr(error, "cause", None) or error.__cause__
    return None
