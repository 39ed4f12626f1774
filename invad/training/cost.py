"""What a model costs, as a file that says it without loading the model."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from invad.errors import InputError
from invad.files import read_json, write_json


@dataclass(frozen=True)
class Cost:
    """Parameters of encoder and method, those of them that training changes, and the multiply-adds for one image."""

    parameters: int
    trainable: int
    multiply_adds: int


def write_cost(cost: Cost, path: Path) -> None:
    """Write a cost as JSON."""
    write_json(path, asdict(cost))


def read_cost(path: Path) -> Cost:
    """Read a cost; `InputError` when the file is missing or damaged."""
    value = read_json(path)
    names = {item.name for item in fields(Cost)}
    if not isinstance(value, dict) or set(value) != names or not all(type(number) is int for number in value.values()):
        raise InputError(
            f"{path}: not the cost of a model, {', '.join(sorted(names))} in whole numbers; run `dvc repro train`"
        )
    return Cost(**value)
