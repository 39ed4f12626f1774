"""`invad-pipe plan`: what `dvc repro` will download, store, hold in memory and compute, said before it does."""

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from invad.config import Params
from invad.planning.stage_plan import StagePlan
from invad.planning.stages import plan_stages
from invad.text import aligned
from invad.workspace import Workspace

__all__ = ["StagePlan", "plan_stages", "plan_text"]

_COLUMNS = ("stage", "download", "disk", "memory", "images", "steps", "state")
_UNITS = ("B", "kB", "MB", "GB", "TB")


def plan_text(params: Params, workspace: Workspace) -> str:
    """Return the plan of all stages as text: a table, totals beside what the machine has, and what the numbers leave open.

    Raises:
        InputError: As for `plan_stages`.
    """
    plans = plan_stages(params, workspace)
    return "\n".join([*_table(plans), "", *_disks(plans), *_memory(plans), *_notes(plans)])


def size_text(size: float | None) -> str:
    """Return a number of bytes for people, three digits and a unit (1 GB = 10^9 bytes); `?` for None."""
    if size is None:
        return "?"
    unit = 0
    while round(size, 0 if size >= 100 else 1) >= 1000 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    digits = 0 if unit == 0 or size >= 99.95 else 1
    return f"{size:.{digits}f} {_UNITS[unit]}"


def _table(plans: Sequence[StagePlan]) -> list[str]:
    rows = [_COLUMNS, *map(_row, plans)]
    memory = max((plan.memory for plan in plans if plan.memory is not None), default=None)
    sums = (_sum_text(plan.download for plan in plans), _sum_text(plan.disk for plan in plans))
    rows.append(("total (memory: largest)", *sums, size_text(memory), "", "", ""))
    return aligned(rows, left=(0, len(_COLUMNS) - 1))


def _row(plan: StagePlan) -> tuple[str, ...]:
    counts = ("-" if count is None else f"{count:,}" for count in (plan.images, plan.steps))
    download = "-" if plan.download == 0 else size_text(plan.download)
    return (plan.stage, download, size_text(plan.disk), size_text(plan.memory), *counts, plan.done)


def _sum_text(sizes: Iterable[int | None]) -> str:
    values = list(sizes)
    known = size_text(sum(value for value in values if value is not None))
    return f"> {known}" if None in values else known


def _disks(plans: Sequence[StagePlan]) -> list[str]:
    """Return a line for each disk that is written to, and a warning where it has too little room."""
    needed: dict[int, int] = {}
    folders: dict[int, Path] = {}
    for plan in plans:
        for folder, size in plan.writes.items():
            place = _existing(folder)
            disk = place.stat().st_dev
            needed[disk] = needed.get(disk, 0) + size
            folders.setdefault(disk, place)
    unknown = any(plan.disk is None for plan in plans)
    lines = []
    for disk, size in needed.items():
        free = shutil.disk_usage(folders[disk]).free
        more = "more than " if unknown else ""
        lines.append(
            f"disk of {folders[disk].absolute()}: {more}{size_text(size)} still to be written, DVC's cache included; {size_text(free)} free"
        )
        if size > free:
            lines.append(f"WARNING: {size_text(size - free)} are lacking on that disk; make room or choose another one")
    return lines


def _existing(folder: Path) -> Path:
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def _memory(plans: Sequence[StagePlan]) -> list[str]:
    memory = max((plan.memory for plan in plans if plan.memory is not None), default=0)
    mapped = max(plan.mapped for plan in plans)
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    lines = [
        f"memory: {size_text(memory)} for the largest process of a run on the CPU; this machine has {size_text(there)}"
    ]
    if memory > there:
        lines.append("WARNING: that is more than this machine has; smaller batches need less")
    return [
        *lines,
        f"features and maps are memory-mapped: up to {size_text(mapped)} more are used while there is room, and given back",
    ]


def _notes(plans: Sequence[StagePlan]) -> list[str]:
    """Return what the numbers leave open; stages with the same note share a line."""
    stages: dict[str, list[str]] = {}
    for plan in plans:
        for note in plan.notes:
            stages.setdefault(note, []).append(plan.stage)
    return [
        "not planned: GPU memory, time, MLflow's records; `dvc status` says what DVC would run again for other reasons",
        *(f"note: {', '.join(labels)}: {note}" for note, labels in stages.items()),
    ]
