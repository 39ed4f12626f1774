"""The rules that a benchmark's images and masks are checked by."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from invad.data.check.files import Facts, ImageFacts, MaskFacts, Role, Unreadable, inspect_file
from invad.data.check.report import CheckReport, Finding
from invad.data.counts import Counts, count_images
from invad.data.own.folders import twins
from invad.data.parallel import parallel_map
from invad.data.split_table import ANOMALOUS, NORMAL, Split, SplitRow

error, warning = partial(Finding, "error"), partial(Finding, "warning")
FactsOf = Mapping[str, Facts]  # by the path in the split table

MOST_COVERED = 0.5  # of an image, in the mean over the masks of a class

_MODES = {
    "1": "black and white",
    "L": "grey",
    "LA": "grey, its alpha channel dropped",
    "I;16": "16-bit grey, scaled as `grey16_white` says",
    "P": "palette",
    "PA": "palette, its alpha channel dropped",
    "RGBA": "RGB with an alpha channel, which is dropped",
    "CMYK": "CMYK",
    "YCbCr": "YCbCr",
}


def check_split(split: Split, *, workers: int | None = None, label: str) -> CheckReport:
    """Decode all images and masks of `split` in parallel and report what is wrong with them; nothing is raised for it.

    `label` names the progress bar (on stderr). An anomalous image whose mask is empty is an error where the mask came with the data,
    and a warning where it was drawn from annotations (COCO-AD), which no user can mend.
    """
    rows = split.rows
    image_paths = {row.image: split.image_path(row) for row in rows}
    mask_paths = {row.mask: path for row in rows if row.mask and (path := split.mask_path(row))}
    files: list[tuple[Role, Path]] = [("image", path) for path in image_paths.values()]
    files += [("mask", path) for path in mask_paths.values()]
    facts = list(parallel_map(partial(inspect_file, reading=split.reading), files, label, unit="file", workers=workers))
    images = dict(zip(image_paths, facts[: len(image_paths)], strict=True))
    masks = dict(zip(mask_paths, facts[len(image_paths) :], strict=True))
    given = Counter(row.class_name for row in rows if row.mask is not None)
    classes = {name: (counts, given[name]) for name, counts in count_images(rows).items()}
    findings = [
        *_unreadable("image", images),
        *_unreadable("mask", masks),
        *_class_findings(count_images(rows)),
        *_row_findings(rows, images),
        *_role_findings(split),
        *_duplicates(rows, images),
        *_note("image-twin", twins(images), "differ from another one in the suffix alone: the same picture twice?"),
        *_mask_findings(rows, images, masks, drawn=split.mask_root != split.image_root),
        *_image_notes(images),
        *_mask_notes(rows, masks),
        *_coverage(rows, masks),
    ]
    findings.sort(key=lambda finding: (finding.severity, finding.kind, finding.files, finding.message))
    return CheckReport(classes, tuple(findings))


def _unreadable(role: str, facts: FactsOf) -> Iterator[Finding]:
    for name, fact in facts.items():
        if isinstance(fact, Unreadable):
            yield error(f"{role}-{'missing' if fact.missing else 'unreadable'}", (name,), fact.reason)


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


def _row_findings(rows: Iterable[SplitRow], images: FactsOf) -> Iterator[Finding]:
    for row in rows:
        fact = images[row.image]
        if row.phase != "test" and row.label == ANOMALOUS:
            yield error("train-anomalous", (row.image,), "an anomalous image among those to train on")
        if isinstance(fact, ImageFacts) and fact.size != (row.width, row.height):
            message = f"has {_pixels(fact.size)} pixels, {_pixels((row.width, row.height))} in the split table; build it again"
            yield error("image-size", (row.image,), message)


def _role_findings(split: Split) -> Iterator[Finding]:
    """Files that stand in the table more than once."""
    image_rows, mask_rows = defaultdict(list), defaultdict(list)
    for row in split.rows:
        image_rows[row.image].append(row)
        if row.mask is not None:
            mask_rows[row.mask].append(row)
    for image, rows in image_rows.items():
        if len(rows) > 1:
            where = ", ".join(f"{row.class_name} {row.phase}" for row in rows)
            yield error("image-repeated", (image,), f"stands in {len(rows)} rows of the split table ({where})")
    image_paths = {split.image_path(row) for row in split.rows}
    for mask, rows in mask_rows.items():
        if split.mask_path(rows[0]) in image_paths:
            yield error("image-as-mask", (mask,), "serves as an image and as a mask")
        users = sorted({row.image for row in rows})
        if len(users) > 1:
            yield warning("mask-shared", (mask, *users), f"one mask for {len(users)} images")


def _duplicates(rows: Iterable[SplitRow], images: FactsOf) -> Iterator[Finding]:
    """Files of the same content; a file that stands in several rows is no duplicate of itself."""
    same = defaultdict(list)
    for row in rows:
        if isinstance(fact := images[row.image], ImageFacts):
            same[fact.sha256].append(row)
    for group in same.values():
        files = tuple(sorted({row.image for row in group}))
        if len(files) < 2:
            continue
        phases = {row.phase for row in group}
        across, labels = len(phases) > 1, len({row.label for row in group}) > 1
        if phases == {"train", "calibration"}:
            message = "the same content to train on and to calibrate on: thresholds come out too low"
            yield warning("duplicate-held-out", files, message)
        elif across:
            yield error("duplicate-across-phases", files, "the same content to train on and to test on")
        if labels:
            yield error("duplicate-labels", files, "the same content, labelled normal and anomalous")
        if not across and not labels:
            yield warning("duplicate-within-phase", files, f"the same content, several times in {group[0].phase}")


def _mask_findings(rows: Iterable[SplitRow], images: FactsOf, masks: FactsOf, *, drawn: bool) -> Iterator[Finding]:
    """Masks that do not fit their images or labels."""
    for row in rows:
        if row.mask is None or not isinstance(mask := masks[row.mask], MaskFacts):
            continue
        image, files = images[row.image], (row.mask, row.image)
        size = image.size if isinstance(image, ImageFacts) else (row.width, row.height)
        if mask.size != size:
            message = f"the mask has {_pixels(mask.size)} pixels, its image {_pixels(size)}"
            yield error("mask-size", files, message)
        if row.label == NORMAL and not mask.empty:
            yield error("mask-on-normal", files, "the mask of a normal image has anomalous pixels")
        if row.label == ANOMALOUS and mask.empty:
            message = "the mask of an anomalous image is empty: the paper protocol counts the image as normal"
            yield Finding("warning" if drawn else "error", "mask-empty", files, message)


def _image_notes(images: FactsOf) -> Iterator[Finding]:
    """What happens to images that are not plain RGB."""
    readable = {name: fact for name, fact in images.items() if isinstance(fact, ImageFacts)}
    cut = [name for name, fact in readable.items() if fact.cut]
    yield from _note("image-cut", cut, "without the end marker of a JPEG: cut or overwritten, perhaps")
    rotated = [name for name, fact in readable.items() if fact.rotated]
    yield from _note("image-rotated", rotated, "with a rotation in EXIF: it is not applied, the stored pixels are used")
    for mode, text in _MODES.items():
        of_mode = [name for name, fact in readable.items() if fact.mode == mode]
        yield from _note("image-mode", of_mode, f"converted to RGB from {text}")


def _mask_notes(rows: Iterable[SplitRow], masks: FactsOf) -> Iterator[Finding]:
    """What is peculiar to how masks are given."""
    without = [row.image for row in rows if row.phase == "test" and row.label == ANOMALOUS and row.mask is None]
    yield from _note("mask-not-given", without, "anomalous without a mask: pixel metrics leave them out")
    readable = {name: fact for name, fact in masks.items() if isinstance(fact, MaskFacts)}
    lossy = [name for name, fact in readable.items() if fact.lossy]
    yield from _note(
        "mask-lossy",
        lossy,
        "stored as JPEG or with its traces: almost black pixels count as anomalous too; save masks as 0 and 255",
    )
    recoloured = [name for name, fact in readable.items() if fact.recoloured]
    message = "with a palette: index 0 counts as normal and all others as anomalous, but black in the palette is something else"
    yield from _note("mask-palette", recoloured, message)


def _coverage(rows: Iterable[SplitRow], masks: FactsOf) -> Iterator[Finding]:
    """Classes whose masks mark most of their images: inverted, or drawn around the object instead of the defect."""
    of_class = defaultdict(dict)
    for row in rows:
        if row.label == ANOMALOUS and row.mask is not None and isinstance(mask := masks[row.mask], MaskFacts):
            of_class[row.class_name][row.mask] = mask.covered
    for name, covered in of_class.items():
        mean = sum(covered.values()) / len(covered)
        if mean > MOST_COVERED:
            message = f"the masks of the class {name} cover {mean:.0%} of their images in the mean: 0 must stand for normal pixels"
            yield warning("mask-covers", tuple(sorted(covered)), message)


def _note(kind: str, files: list[str], message: str) -> Iterator[Finding]:
    """One warning for all the files that it is about, if any."""
    if files:
        yield warning(kind, tuple(sorted(files)), f"{len(files)} {message}")


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
