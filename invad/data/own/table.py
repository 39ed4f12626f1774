"""Tables of images: a CSV that a user brings, the one that an import leaves in `data/import`; and the split that they give."""

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Literal

from invad.config import ReadingConfig, TableSplitConfig, reading_of
from invad.data.images import check_mask_size, image_size
from invad.data.split_table import ANOMALOUS, NORMAL, OF_VIEWS, Phase, SplitRow, chosen
from invad.errors import InputError

COLUMNS = ("image", "class", "phase", "label", "defect_type", "mask")
PHASES: tuple[Phase | Literal[""], ...] = ("train", "labelled", "test", "")  # who holds images out is the splits stage
GOOD, ANY_DEFECT = "good", "anomaly"  # defect types: of every normal image, and of an anomalous one where none is given
LABELS = {
    **dict.fromkeys(("0", "good", "normal", "ok"), NORMAL),
    **dict.fromkeys(("1", "bad", "anomalous", "anomaly", "defect"), ANOMALOUS),
}


@dataclass(frozen=True)
class ImportRow:
    """One image; paths are relative to the images' folder, `phase` is empty where the splits stage decides, `mask` None without one.

    `group` and `view` as in the split table. `origin` is the file and line that a message names, empty for an image found in a folder.
    """

    image: str
    class_name: str
    phase: Phase | Literal[""]
    label: int
    defect_type: str
    mask: str | None
    origin: str = field(default="", compare=False)
    group: str = ""
    view: str = ""

    def problem(self, text: str) -> InputError:
        """Return the error that `text`, which names the file, is wrong with this row."""
        return InputError(f"{self.origin}: {text}" if self.origin else text)

    @property
    def unit(self) -> str:
        """What the splits stage gives one phase as a whole: the object that the image is a view of, or the image alone."""
        return self.group or self.image


def read_csv(path: Path, needed: Iterable[str]) -> list[tuple[str, dict[str, str]]]:
    """Return of each row of a CSV file its name for messages and its cells by column, whose names are in lower case.

    `InputError`: it is missing, damaged or without rows, or lacks a column that is `needed`.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a CSV file in UTF-8 (byte {error.start}); save it as such") from None
    if "\0" in text:
        raise InputError(f"{path}: not a CSV file in UTF-8, it has a NUL byte")
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = [name.strip().lower() for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        records = [(f"{path}: line {reader.line_num}", cells) for cells in reader]
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.reader.line_num}: not a CSV file ({error})") from None
    if missing := [column for column in needed if column not in columns]:
        raise InputError(f"{path}: the columns {', '.join(missing)} are missing; it has {', '.join(columns) or 'none'}")
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        raise InputError(f"{path}: the column {twice[0]!r} occurs twice")
    if not records:
        raise InputError(f"{path}: has no rows; line 1 names the columns, each further line is an image")
    for origin, cells in records:
        if None in cells or None in cells.values():  # of DictReader: more cells, and fewer
            raise InputError(f"{origin}: does not have {len(columns)} cells, as the header has")
    return records


def read_table(path: Path, root: Path, class_name: str) -> list[ImportRow]:
    """Return the rows of a table; whether the files are there is not looked at. `InputError` as for what it calls.

    Only the column `image` is needed, unknown ones are ignored. An image without a class is of `class_name`; without the column `label`,
    an image with a mask is anomalous and any other normal.
    """
    rows = [parse_row(cells, origin, root, class_name) for origin, cells in read_csv(path, ("image",))]
    check_rows(rows)
    return rows


def parse_row(cells: Mapping[str, str], origin: str, root: Path, class_name: str = "") -> ImportRow:
    """Return the row of one line of a table of the images in `root`; `InputError` for a cell that is wrong by itself."""
    image, mask = (_relative(cells.get(column, ""), column, root, origin) for column in ("image", "mask"))
    phase, word = cells.get("phase", "").strip().lower(), cells.get("label", "1" if mask else "0").strip()
    class_name = cells.get("class", "").strip() or class_name
    group, view = (cells.get(column, "").strip() for column in OF_VIEWS)
    if phase not in PHASES:
        raise InputError(f"{origin}: phase must be train, labelled, test or empty, not {phase!r}")
    if view and not group:
        raise InputError(f"{origin}: group is empty, but the view {view!r} is one of an object; name the object in it")
    if (label := LABELS.get(word.lower())) is None:
        raise InputError(f"{origin}: label must be one of {', '.join(LABELS)}, not {word!r}")
    if not image or not class_name:
        raise InputError(f"{origin}: {'class' if image else 'image'} is empty")
    defect_type = GOOD if label == NORMAL else cells.get("defect_type", "").strip() or ANY_DEFECT
    return ImportRow(image, class_name, phase, label, defect_type, mask or None, origin, group, view)


def check_rows(rows: Iterable[ImportRow]) -> None:
    """Raise `InputError` where the cells of a row contradict each other or those of the same object, or an image is listed twice."""
    seen: dict[str, str] = {}
    phase_of: dict[tuple[str, str], str] = {}
    for row in rows:
        if row.label == ANOMALOUS and row.phase == "train":
            raise row.problem(f"{row.image}: an anomalous image in train; only normal images are trained on")
        if row.label == ANOMALOUS and row.defect_type == GOOD:
            raise row.problem(f"{row.image}: an anomalous image of the defect type {GOOD}, which normal images have")
        if row.label == NORMAL and row.mask is not None:
            raise row.problem(f"{row.image}: a normal image with a mask; leave the mask empty, or make the label 1")
        if row.image in seen:
            raise row.problem(f"{row.image}: this image is listed before, in {seen[row.image]}")
        seen[row.image] = row.origin
        if row.group and (phase := phase_of.setdefault((row.class_name, row.group), row.phase)) != row.phase:
            phases = " and ".join(each or "(none)" for each in (phase, row.phase))
            raise row.problem(f"{row.image}: the views of {row.group} have the phases {phases}; give them one")


def write_import_table(rows: Iterable[ImportRow], path: Path) -> None:
    """Write the rows to `path`, sorted by class and image, so that the same data give the same bytes."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        rows = sorted(rows, key=lambda row: (row.class_name, row.image))
        has_views = any(row.group for row in rows)
        writer.writerow([*COLUMNS, *OF_VIEWS] if has_views else COLUMNS)
        for row in rows:
            cells = [row.image, row.class_name, row.phase, row.label, row.defect_type, row.mask or ""]
            writer.writerow([*cells, row.group, row.view] if has_views else cells)


def build_table(root: Path, table: Path, config: TableSplitConfig, dataset: str) -> list[SplitRow]:
    """Return the rows of all images of `table`, as `split_rows` does; `InputError` as for it and `read_table`."""
    rows = with_phases(read_table(table, root, dataset), config)
    return split_rows(root, rows, reading_of(config), dataset, str(table))


def split_rows(root: Path, rows: list[ImportRow], reading: ReadingConfig, dataset: str, source: str) -> list[SplitRow]:
    """Return `rows`, all with a phase, sorted by class, phase (test last), group and image; `source` of them is for messages.

    `InputError`: a file is missing or no image, a mask has another size than its image, or a class has nothing to train or to test on.
    """
    present = defaultdict(set)
    for row in rows:
        present[row.class_name].add(row.phase)
    for class_name in sorted(present):
        for phase, needed in (("train", "normal image to train on"), ("test", "image to test on")):
            if phase not in present[class_name]:
                raise InputError(f"{source}: the class {class_name} has no {needed}")
    split = [_split_row(root, row, dataset, reading) for row in rows]
    return sorted(split, key=lambda row: (row.class_name, row.phase == "test", row.group, row.image))


def with_phases(rows: list[ImportRow], config: TableSplitConfig) -> list[ImportRow]:
    """Return the rows, all with a phase: where there is none, anomalous images are for the test, and so is `config.test_share` of a class.

    It is rounded up, but one image at least is left to train on; they are chosen by a hash of `config.seed` and their names. The views of
    an object stay together: all are for the test where one is anomalous, and objects are chosen then, by their names.
    """
    test = {(row.class_name, row.unit) for row in rows if row.label == ANOMALOUS and not row.phase}
    to_train_on = {row.class_name for row in rows if row.phase == "train"}
    undecided = defaultdict(dict)
    for row in rows:
        if not row.phase and (row.class_name, row.unit) not in test:
            undecided[row.class_name][row.unit] = None
    for class_name, units in undecided.items():
        # exact, where 0.07 * 100 is above 7 in floats
        share = math.ceil(Fraction(str(config.test_share)) * len(units))
        most = len(units) if class_name in to_train_on else len(units) - 1
        test |= {(class_name, unit) for unit in chosen(units, min(share, most), f"{config.seed}/")}
    return [
        row if row.phase else replace(row, phase="test" if (row.class_name, row.unit) in test else "train")
        for row in rows
    ]


def _split_row(root: Path, row: ImportRow, dataset: str, reading: ReadingConfig) -> SplitRow:
    image, phase = root / row.image, row.phase or "test"
    try:
        width, height = image_size(image, reading)
        if row.mask is not None:
            check_mask_size(root / row.mask, image, (width, height))
    except InputError as error:
        raise row.problem(str(error)) from None
    cells = (row.image, row.class_name, phase, row.label, row.defect_type, row.mask, width, height, dataset)
    return SplitRow(*cells, row.group, row.view)


def _relative(cell: str, column: str, root: Path, origin: str) -> str:
    """Return a path relative to `root`, also of an absolute one inside it; `InputError` for one that leaves it."""
    path = PurePosixPath(cell)
    if path.is_absolute():
        inside = [folder for folder in (root.absolute(), root.resolve()) if path.is_relative_to(folder)]
        path = path.relative_to(inside[0]) if inside else path
    if path.is_absolute() or ".." in path.parts:
        raise InputError(f"{origin}: {column} {cell!r} leaves the images' folder; it must be relative, without '..'")
    return path.as_posix() if cell else ""
