"""The outcome of one trial, and its file."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from invad.errors import InputError
from invad.files import read_json, write_json
from invad.report.ablations import TrialResult as ReportedResult

FILE_NAME = "result.json"

Status = Literal["finished", "failed", "stopped"]


@dataclass(frozen=True)
class TrialResult(ReportedResult):
    """What one trial gave, as the report takes it.

    `status`: `stopped` is one that early stopping ended, without metrics; `error` is the one-line reason of a failure.
    `parameters`: of the trained network, without the encoder. `multiply_adds`: of encoder and network for one image, without the blur.
    `seconds`: of the training; `epochs`: how many it ran. `device`: the name of what it ran on.
    `metrics`: the mean over the classes by the paper's protocol, fractions by the keys of `invad.report.labels.METRICS`.
    """

    def to_json(self) -> dict[str, Any]:
        """Return the content of the result's file."""
        return {**asdict(self), "metrics": {key: _number(value) for key, value in self.metrics.items()}}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], where: str = "result") -> "TrialResult":
        """Return what `to_json` was made of.

        Raises:
            InputError: `content` is not a result; `where` is the file that the message names.
        """
        names = {item.name for item in fields(cls)}
        if not isinstance(content, Mapping) or set(content) != names or content["status"] not in get_args(Status):
            raise InputError(f"{where}: not the result of a trial; remove it, and the trial runs again")
        return cls(**content)


def write_result(result: TrialResult, folder: Path) -> None:
    """Write the result of the trial whose folder is `folder`, all of it or nothing."""
    write_json(folder / FILE_NAME, result.to_json())


def read_result(folder: Path) -> TrialResult | None:
    """Return the result of the trial whose folder is `folder`, or None where it has none yet.

    Raises:
        InputError: The file is damaged.
    """
    path = folder / FILE_NAME
    return TrialResult.from_json(read_json(path), str(path)) if path.exists() else None


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
