"""The models of a benchmark's further seeds, and earlier states of all of them, in a folder: what spread and learning curves come from."""

from pathlib import Path

from pydantic.dataclasses import dataclass

from invad.config import STRICT, BenchmarkConfig, parse
from invad.errors import InputError
from invad.files import read_json

INDEX_FILE, CURVE_FILE = "snapshots.json", "loss.csv"


@dataclass(frozen=True, config=STRICT)
class Snapshot:
    """The weights of one seed after `step` of `steps` steps, `epoch` epochs; its model folder, without encoder, has the name `folder`."""

    folder: str
    seed: int
    step: int
    steps: int
    epoch: float

    @property
    def is_last(self) -> bool:
        """Whether this is what the training gave in the end."""
        return self.step == self.steps

    def end(self, seed: int) -> "Snapshot":
        """Return the last state of a training of as many steps; it has no folder."""
        return Snapshot("", seed, self.steps, self.steps, self.epoch * self.steps / self.step)


def snapshot_steps(benchmark: BenchmarkConfig, steps: int) -> list[int]:
    """Return the steps, ascending, after which weights are kept to score test images, the last of `steps` not among them.

    `InputError`: the method learns something without gradients, after all steps, and cannot be looked at before.
    """
    from invad.methods import METHODS, Method

    shares = benchmark.trainings.evaluate_at
    if shares and METHODS[benchmark.train.model].fit is not Method.fit:
        raise InputError(f"evaluate_at: `model: {benchmark.train.model}` has no maps before its end; remove it")
    return sorted({max(1, round(share * steps)) for share in shares} - {steps})


def read_snapshots(folder: Path) -> list[Snapshot]:
    """Return which snapshots a folder has; `InputError` where it is missing or damaged."""
    path = folder / INDEX_FILE
    return parse(list[Snapshot], read_json(path), f"{path}: not an index of snapshots, run `dvc repro train`: ")
