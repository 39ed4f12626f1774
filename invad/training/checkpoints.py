"""The newest checkpoints of a training, each written whole or not at all."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from invad.features.weights import read_tensors
from invad.files import atomic_path, remove

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoints:
    """The folder of a run's checkpoints, `checkpoint-<step>.pt`; the newest two stay."""

    folder: Path

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state after `step`, counted from 1: tensors and plain values; then remove what is too old."""
        # To an open file: given a path, torch does not say that the disk is full.
        with atomic_path(self.folder / f"checkpoint-{step:08d}.pt") as temporary, temporary.open("wb") as file:
            torch.save(state, file)
        for path in self.paths()[2:]:
            remove(path)

    def paths(self) -> list[Path]:
        """Return the files, newest first."""
        return sorted(self.folder.glob("checkpoint-*.pt"), reverse=True)

    def newest(self) -> dict[str, Any] | None:
        """Return the newest state that can be read, on the CPU; None when there is none. A damaged one is named in the log."""
        for path in self.paths():
            try:
                return read_tensors(path)
            except Exception as error:  # whatever torch and zipfile raise
                reason = str(error).strip().split("\n", 1)[0]
                logger.warning("%s: damaged checkpoint (%s); the one before is used", path, reason)
        return None


def newest_step(folder: Path) -> int:
    """Return the step of the newest checkpoint in `folder`, by its name; 0 when there is none."""
    return max((int(path.stem.rpartition("-")[2]) for path in Checkpoints(folder).paths()), default=0)
