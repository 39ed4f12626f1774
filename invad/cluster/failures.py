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
        self._job, self._cluster = job, cluster
        self._steps: list[int] = []

    def add(self, error: Exception) -> None:
        """Take down that the training has failed; return if it should go on.

        Raises:
            InputError: The failure is the user's mistake, or the workers found no room.
            RepeatedFailureError: It came at the same step as the one before, or is one too many.
        """
        mistake, inner = input_error(error), _inner(error)
        if mistake is None and (problem := disk_problem(error)) is not None:
            mistake = InputError(problem)  # another start would end the same way
        elif mistake is None and type(inner).__name__ == "WorkerGroupStartupTimeoutError":
            mistake = InputError(
                f"params.yaml: train.workers: they did not start, since others hold what they need; "
                f"{self._cluster.text()}, free now: {free_text()}"
            )
        if mistake is not None:
            raise mistake from error
        curve = read_curve(self._job.curve)
        step, cause = (curve[-1].step if curve else 0), _line(inner)
        again = self._steps[-1:] == [step]
        self._steps.append(step)
        if again or len(self._steps) == MOST:
            checkpoint = next(iter(self._job.checkpoints.paths()), None)
            raise RepeatedFailureError(
                f"training failed {f'twice after step {step}' if again else f'{MOST} times'}; this is a bug or a machine that cannot hold "
                f"it, not bad luck. The last failure: {cause}. "
                f"{f'The last checkpoint: {checkpoint}' if checkpoint else 'There is no checkpoint yet'}. Ray's logs: {self._cluster.logs}"
            ) from None
        newest = newest_step(Path(self._job.storage))
        where = f"from the checkpoint of step {newest}" if newest else "from the start, there is no checkpoint yet"
        logger.warning("a worker was lost after step %d (%s); going on %s", step, cause, where)


def _inner(error: BaseException) -> BaseException:
    """Return the exception of a worker, or of what starts them, that Ray Train has wrapped."""
    failures = getattr(error, "worker_failures", None)
    return next(iter(failures.values())) if failures else getattr(error, "controller_failure", None) or error


def _line(error: BaseException) -> str:
    """Return the last line of what Ray says, which has pages of it, or an exception of the worker's with its kind."""
    line = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), "no reason given")
    return line.rstrip(".") if type(error).__module__.startswith("ray.") else f"{type(error).__name__}: {line}"
