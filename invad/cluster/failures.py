"""What becomes of a training whose workers have failed: it goes on from its checkpoint, unless that cannot help."""

import logging
from pathlib import Path

from invad.cluster.cluster import Cluster, free_text, input_error
from invad.disk import disk_problem
from invad.errors import InputError
from invad.training.checkpoints import newest_step
from invad.training.curve import read_curve
from invad.training.job import TrainJob

MOST = 5

logger = logging.getLogger(__name__)


class RepeatedFailureError(RuntimeError):
    """Workers fail at the same step again and again: a bug, or a machine that cannot hold the work."""


class Failures:
    """The failures of one training, judged as they come."""

    def __init__(self, job: TrainJob, cluster: Cluster) -> None:
        self._job = job
        self._cluster = cluster
        self._steps: list[int] = []

    def add(self, error: Exception) -> None:
        """Take down that the training has failed; return if it should go on.

        Raises:
            InputError: The failure is the user's mistake, or the workers found no room.
            RepeatedFailureError: It came at the same step as the one before, or is one too many.
        """
        if (mistake := input_error(error)) is not None:
            raise mistake from error
        if (problem := disk_problem(error)) is not None:  # another start would end the same way
            raise InputError(problem) from error
        self._check_room(error)
        curve = read_curve(self._job.curve)
        step, cause = (curve[-1].step if curve else 0), _cause(error)
        again = self._steps[-1:] == [step]
        checkpoint = newest_step(Path(self._job.storage))
        self._steps.append(step)
        if again or len(self._steps) == MOST:
            raise RepeatedFailureError(self._report(step, again=again, cause=cause)) from None
        logger.warning(
            "a worker was lost after step %d (%s); going on %s",
            step,
            cause,
            f"from the checkpoint of step {checkpoint}" if checkpoint else "from the start, there is no checkpoint yet",
        )

    def _check_room(self, error: BaseException) -> None:
        """Raise `InputError` when the workers have waited in vain for others to free what is reserved for them."""
        cause = getattr(error, "controller_failure", None)
        if type(cause).__name__ == "WorkerGroupStartupTimeoutError":
            raise InputError(
                f"params.yaml: train.workers: they did not start, since others hold what they need; "
                f"{self._cluster.text()}, free now: {free_text()}"
            ) from error

    def _report(self, step: int, *, again: bool, cause: str) -> str:
        checkpoint = next(iter(self._job.checkpoints.paths()), None)
        what = f"training failed twice after step {step}" if again else f"training failed {MOST} times"
        return (
            f"{what}; this is a bug or a machine that cannot hold it, not bad luck. The last failure: {cause}. "
            f"{f'The last checkpoint: {checkpoint}' if checkpoint else 'There is no checkpoint yet'}. "
            f"Ray's logs: {self._cluster.logs}"
        )


def _cause(error: BaseException) -> str:
    """Return the last line of what Ray says, which has pages of it, or the worker's exception with its kind."""
    failures = getattr(error, "worker_failures", None)
    inner = next(iter(failures.values())) if failures else getattr(error, "controller_failure", None) or error
    lines = [line.strip() for line in str(inner).splitlines() if line.strip()] or ["no reason given"]
    is_rays = type(inner).__module__.startswith("ray.")
    return lines[-1].rstrip(".") if is_rays else f"{type(inner).__name__}: {lines[-1]}"
