"""The loss curve as a CSV file, one line for every step."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from invad.files import write_text

CURVE_HEADER = "step,epoch,loss,learning_rate"


@dataclass(frozen=True)
class Step:
    """What one optimiser step did: counted from 1, loss of the global batch before the step. Epochs are counted from 0."""

    step: int
    epoch: int
    loss: float
    learning_rate: float


def curve_csv(steps: Iterable[Step]) -> str:
    """Return a loss curve as CSV with the columns `CURVE_HEADER`; there, epochs are counted from 1."""
    return "".join([f"{CURVE_HEADER}\n", *map(_line, steps)])


def read_curve(path: Path) -> list[Step]:
    """Read the steps of a loss curve; none where there is no file, and a half-written line is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[1:-1]
    rows = (line.split(",") for line in lines)
    return [Step(int(step), int(epoch) - 1, float(loss), float(rate)) for step, epoch, loss, rate in rows]


def append_step(path: Path, step: Step) -> None:
    """Add a line to a curve that `truncate_curve` has begun."""
    with path.open("a", encoding="utf-8") as file:
        file.write(_line(step))


def truncate_curve(path: Path, steps: int) -> None:
    """Begin a curve, or after a resume forget what came behind the checkpoint's `steps`."""
    write_text(path, curve_csv(step for step in read_curve(path) if step.step <= steps))


def _line(step: Step) -> str:
    return f"{step.step},{step.epoch + 1},{step.loss:.9g},{step.learning_rate:.9g}\n"
