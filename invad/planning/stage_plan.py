"""What one stage of the pipeline needs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from invad.planning.states import State


@dataclass(frozen=True)
class StagePlan:
    """The needs of a stage; None where a number is not known or (images, steps) the stage has none.

    stage: its label, as in `stage_labels`. done: whether its outputs are there. download: bytes still to fetch. disk: bytes of its
    outputs, archives and fetched images when it is done. memory: peak bytes of main memory of its largest process, without the pages of
    memory-mapped files, which take up to `mapped` bytes more while there is room. images: those that it reads or makes. steps: of the
    training. writes: bytes still to be written below each folder, with the copies that DVC keeps in its cache. notes: which of these
    numbers are estimates or not known.
    """

    stage: str
    done: State
    download: int | None = 0
    disk: int | None = None
    memory: int | None = None
    mapped: int = 0
    images: int | None = None
    steps: int | None = None
    writes: Mapping[Path, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
