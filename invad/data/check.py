"""Check the images and masks of a benchmark: decode every file and look for what would spoil or bias its results."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from invad.config import AS_STORED, ReadingConfig
from invad.config.constants import EMPTY_MASK_UNKNOWN
from invad.data.counts import Counts, count_images
from invad.data.datasets import DATASETS
from invad.data.images import anomalous_pixels, decoded_image, decoded_mask, is_rotated, turned_size
from invad.data.parallel import parallel_map
from invad.data.split_table import ANOMALOUS, NORMAL, Split, SplitRow
from invad.errors import InputError
from invad.text import aligned

MOST_COVERED = 0.5  # of an image, in the mean over the masks of a class
_SHOWN = 10  # findings of a kind, and files of a finding, that the summary shows


@dataclass(frozen=True)
class Finding:
    """Something that is wrong (error) or that one should know: a stable `kind`, paths of the split table, a line without them."""

    severity: Literal["error", "warning"]
    kind: str
    files: tuple[str, ...]
    message: str


error, warning = partial(Finding, "error"), partial(Finding, "warning")


@dataclass(frozen=True)
class CheckReport:
    """Counts of each class and how many of its rows name a mask, by name; errors before warnings, by kind, files and message."""

    classes: Mapping[str, tuple[Counts, int]]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> int:
        """Number of findings that are errors."""
        return sum(finding.severity == "error" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary that JSON can hold: `errors`, `warnings`, `classes`, `findings` (all files are listed)."""
        classes = [{"name": name, **counts._asdict(), "masks": masks} for name, (counts, masks) in self.classes.items()]
        counts = {"errors": self.errors, "warnings": len(self.findings) - self.errors}
        return {**counts, "classes": classes, "findings": [asdict(finding) for finding in self.findings]}

    def summary(self) -> str:
        """Return the table of classes, the findings by kind (ten of each, with ten files each), and a last line of totals."""
        rows: list[tuple[Any, ...]] = [(name, *counts, masks) for name, (counts, masks) in self.classes.items()]
        if len(rows) > 1:
            rows.append(("all", *(sum(column) for column in list(zip(*rows, strict=True))[1:])))
        header = ["class", "train", "test normal", "test anomalous", "masks"]
        lines = aligned([header, *([str(cell) for cell in row] for row in rows)])
        for (severity, kind), group in groupby(self.findings, key=lambda finding: (finding.severity, finding.kind)):
            findings = list(group)
            lines += ["", f"{severity}: {kind} ({len(findings)})"]
            lines += [f"  {_shown(finding.files)}{finding.message}" for finding in findings[:_SHOWN]]
            if len(findings) > _SHOWN:
                lines.append(f"  and {len(findings) - _SHOWN} more")
        totals = ((self.errors, "error"), (len(self.findings) - self.errors, "warning"))
        total = ", ".join(f"{count or 'no'} {noun}{'s' * (count != 1)}" for count, noun in totals)
        return "\n".join([*lines, "", total])


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is kept of a file; small, because it is kept of every file of a benchmark."""

    problem: str = ""  # why it does not decode
    missing: bool = False
    size: tuple[int, int] = (0, 0)  # (width, height) in pixels
    sha256: bytes = b""  # of an image's bytes
    covered: float = 0.0  # the share of a mask's pixels that are anomalous
    notes: tuple[tuple[str, str], ...] = ()  # kind and text of the warnings about it


_FactsOf = Mapping[str, _Facts]  # by the path in the split table


def check_split(split: Split, *, workers: int | None = None, label: str) -> CheckReport:
    """Decode all images and masks of `split` in parallel and report what is wrong with them; `label` names the progress bar (on stderr).

    An empty mask of an anomalous image is an error, but a warning where no user can mend it: it was drawn from annotations (COCO-AD), or
    the published data set has such (BTAD); those that are known to be there are named as such.
    """
    rows = split.rows
    image_paths = {row.image: split.image_path(row) for row in rows}
    mask_paths = {row.mask: path for row in rows if row.mask and (path := split.mask_path(row))}
    files = [(_image_facts, path) for path in image_paths.values()]
    files += [(_mask_facts, path) for path in mask_paths.values()]
    facts = list(parallel_map(partial(_inspect, reading=split.reading), files, label, unit="file", workers=workers))
    images = dict(zip(image_paths, facts[: len(image_paths)], strict=True))
    masks = dict(zip(mask_paths, facts[len(image_paths) :], strict=True))
    given = Counter(row.class_name for row in rows if row.mask is not None)
    classes = count_images(rows)
    findings = [
        *_class_findings(classes),
        *_unreadable("image", images),
        *_unreadable("mask", masks),
        *_row_findings(rows, images, masks, drawn=split.mask_root != split.image_root),
        *_duplicates(rows, images),
        *_notes(rows, images, masks),
        *_coverage(rows, masks),
        *_known_empty(rows, masks),
    ]
    findings.sort(key=lambda finding: (finding.severity, finding.kind, finding.files, finding.message))
    return CheckReport({name: (counts, given[name]) for name, counts in classes.items()}, tuple(findings))


def _inspect(item: tuple[Any, Path], reading: ReadingConfig = AS_STORED) -> _Facts:
    facts_of, path = item
    try:
        return facts_of(path, reading)
    except (InputError, OSError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else str(problem).removeprefix(f"{path}: ")
        missing = not os.path.exists(path)  # noqa: PTH110  (never raises)
        return _Facts(reason or type(problem).__name__, missing)


def _image_facts(path: Path, reading: ReadingConfig) -> _Facts:
    notes = []
    with decoded_image(path, reading) as image:
        size = turned_size(image, reading)
        if is_rotated(image) and not reading.exif_rotation:
            notes.append(("image-rotated", "with a rotation in EXIF: it is not applied, the stored pixels are used"))
        if image.mode != "RGB":
            notes.append(("image-mode", f"of the pixel format {image.mode}, converted to RGB without alpha"))
    return _Facts(size=size, sha256=hashlib.sha256(path.read_bytes()).digest(), notes=tuple(notes))


def _mask_facts(path: Path, _reading: ReadingConfig) -> _Facts:
    notes = ()
    with decoded_mask(path) as mask:
        if mask.format in ("JPEG", "MPO"):
            notes = (("mask-lossy", "stored as JPEG: almost black pixels count as anomalous too; save masks as PNG"),)
        return _Facts(size=mask.size, covered=float(anomalous_pixels(mask).mean()), notes=notes)


def _unreadable(role: str, facts: _FactsOf) -> Iterator[Finding]:
    for name, fact in facts.items():
        if fact.problem:
            yield error(f"{role}-{'missing' if fact.missing else 'unreadable'}", (name,), fact.problem)


def _class_findings(classes: Mapping[str, Counts]) -> Iterator[Finding]:
    if not classes:
        yield error("no-images", (), "the split table is empty")
    for name, counts in classes.items():
        text = f"the class {name} has no"
        if not counts.train:
            yield error("class-without-training", (), f"{text} normal image to train on")
        if not counts.test_normal:
            yield warning("class-without-normal-test", (), f"{text} normal test image: most metrics are undefined")
        if not counts.test_anomalous:
            yield warning("class-without-anomalies", (), f"{text} anomalous test image: most metrics are undefined")


def _row_findings(rows: Iterable[SplitRow], images: _FactsOf, masks: _FactsOf, *, drawn: bool) -> Iterator[Finding]:
    """Images and masks that do not fit each other, their labels or the table."""
    of_image = defaultdict(list)
    for row in rows:
        of_image[row.image].append(f"{row.class_name} {row.phase}")
        listed, image = (row.width, row.height), images[row.image]
        if row.phase in ("train", "calibration") and row.label == ANOMALOUS and not _is_noise(row):
            yield error("train-anomalous", (row.image,), "an anomalous image among those to train on")
        if not image.problem and image.size != listed:
            message = f"has {_pixels(image.size)} pixels, {_pixels(listed)} in the split table; build it again"
            yield error("image-size", (row.image,), message)
        if row.mask is None or masks[row.mask].problem:
            continue
        mask, files, size = masks[row.mask], (row.mask, row.image), listed if image.problem else image.size
        if mask.size != size:
            yield error("mask-size", files, f"the mask has {_pixels(mask.size)} pixels, its image {_pixels(size)}")
        if row.label == NORMAL and mask.covered:
            yield error("mask-on-normal", files, "the mask of a normal image has anomalous pixels")
        if row.label == ANOMALOUS and not mask.covered and not _is_known_empty(row):
            is_unknown = row.dataset in EMPTY_MASK_UNKNOWN
            what = "not known in the exact protocol" if is_unknown else "the paper protocol counts the image as normal"
            message = f"the mask of an anomalous image is empty: {what}"
            yield Finding("warning" if drawn or is_unknown else "error", "mask-empty", files, message)
    for image, where in of_image.items():
        if len(where) > 1:
            message = f"stands in {len(where)} rows of the split table ({', '.join(where)})"
            yield error("image-repeated", (image,), message)


def _is_noise(row: SplitRow) -> bool:
    """Return whether an image to train on may be anomalous: those of Real-IAD's noisy splits are meant to be."""
    return row.dataset == "realiad" and row.phase == "train" and row.label == ANOMALOUS


def _is_known_empty(row: SplitRow) -> bool:
    known = DATASETS[row.dataset].empty_masks if row.dataset in DATASETS else frozenset()
    parts = PurePosixPath(row.image).with_suffix("").parts
    return any("/".join(parts[first:]) in known for first in range(len(parts)))


def _known_empty(rows: Iterable[SplitRow], masks: _FactsOf) -> Iterator[Finding]:
    """One warning for each class of a published data set with masks that are known to be empty or almost so."""
    of_class = defaultdict(list)
    for row in rows:
        if row.mask is not None and _is_known_empty(row) and not masks[row.mask].covered:
            of_class[row.class_name].append(row.image)
    for name, images in of_class.items():
        message = f"the masks of these anomalous images of class {name} are empty, as they are published: not known in the exact protocol"
        yield warning("mask-empty-published", tuple(sorted(images)), message)


def _duplicates(rows: Iterable[SplitRow], images: _FactsOf) -> Iterator[Finding]:
    """Files of the same content; a file that stands in several rows is no duplicate of itself."""
    same = defaultdict(list)
    for row in rows:
        if not images[row.image].problem:
            same[images[row.image].sha256].append(row)
    for group in same.values():
        files = tuple(sorted({row.image for row in group}))
        if len(files) < 2:
            continue
        phases = {row.phase for row in group}
        across, labels = len(phases) > 1, len({row.label for row in group}) > 1
        if phases == {"train", "calibration"}:
            message = "the same content to train on and to calibrate on: thresholds come out too low"
            yield warning("duplicate-held-out", files, message)
        elif across and "test" not in phases:
            message = (
                "the same content with a label and without one: the trees see maps of what a detector was trained on"
            )
            yield warning("duplicate-held-out", files, message)
        elif across:
            yield error("duplicate-across-phases", files, "the same content to train on and to test on")
        if labels:
            yield error("duplicate-labels", files, "the same content, labelled normal and anomalous")
        if not across and not labels:
            yield warning("duplicate-within-phase", files, f"the same content, several times in {group[0].phase}")


def _notes(rows: Iterable[SplitRow], images: _FactsOf, masks: _FactsOf) -> Iterator[Finding]:
    """One warning for all files that are peculiar in the same way."""
    files = defaultdict(list)
    for name, facts in (*images.items(), *masks.items()):
        for note in facts.notes:
            files[note].append(name)
    files["mask-not-given", "anomalous without a mask: pixel metrics leave them out"] = [
        row.image for row in rows if row.phase == "test" and row.label == ANOMALOUS and row.mask is None
    ]
    files["train-noise", "anomalous ones to train on, the noise of this split"] = [
        row.image for row in rows if _is_noise(row)
    ]
    for (kind, message), names in files.items():
        if names:
            yield warning(kind, tuple(sorted(names)), f"{len(names)} {message}")


def _coverage(rows: Iterable[SplitRow], masks: _FactsOf) -> Iterator[Finding]:
    """Classes whose masks mark most of their images: inverted, or drawn around the object instead of the defect."""
    of_class = defaultdict(dict)
    for row in rows:
        if row.label == ANOMALOUS and row.mask is not None and not masks[row.mask].problem:
            of_class[row.class_name][row.mask] = masks[row.mask].covered
    for name, covered in of_class.items():
        mean = sum(covered.values()) / len(covered)
        if mean > MOST_COVERED:
            message = f"the masks of the class {name} cover {mean:.0%} of their images in the mean: 0 must stand for normal pixels"
            yield warning("mask-covers", tuple(sorted(covered)), message)


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _shown(files: tuple[str, ...]) -> str:
    more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
    return f"{', '.join(files[:_SHOWN])}{more}: " if files else ""
