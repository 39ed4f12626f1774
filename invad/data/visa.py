"""VisA: `split_csv/1cls.csv` (columns object, split, label, image, mask) is the split."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from invad.config import AS_STORED, ReadingConfig
from invad.data.images import check_mask_size, image_size
from invad.data.own.rows import read_csv
from invad.data.split_table import ANOMALOUS, NORMAL, SplitRow
from invad.errors import InputError

COLUMNS = ("object", "split", "label", "image", "mask")
_LABELS = {"normal": NORMAL, "anomaly": ANOMALOUS}


def build_visa(root: Path, reading: ReadingConfig = AS_STORED) -> list[SplitRow]:
    """Return the rows of the official one-class split, sorted by class, phase and image.

    Raises:
        InputError: The CSV is missing, damaged or lacks a column; a row has an unknown split or label, an anomaly without mask, or
            a file that is not there; a mask has another size than its image; a class has no normal training or no test image.
    """
    path = root / "split_csv" / "1cls.csv"
    _, records = read_csv(path, needed=COLUMNS)
    rows = [_row(root, cells, reading, origin) for origin, cells in records]
    for class_name in sorted({row.class_name for row in rows}):
        for phase in ("train", "test"):
            if not any(row.class_name == class_name and row.phase == phase for row in rows):
                raise InputError(f"{path}: the class {class_name} has no {phase} image")
    return sorted(rows, key=lambda row: (row.class_name, row.phase == "test", row.image))


def _row(root: Path, line: Mapping[str, str], reading: ReadingConfig, where: str) -> SplitRow:
    phase, label = line["split"], _LABELS.get(line["label"])
    if phase not in ("train", "test"):
        raise InputError(f"{where}: split must be train or test, not {phase!r}")
    if label is None or (label == ANOMALOUS and phase == "train"):
        raise InputError(f"{where}: label must be normal or (test only) anomaly, not {line['label']!r}")
    mask = (line["mask"] or None) if label == ANOMALOUS else None
    for column in ("image", "mask"):
        path = PurePosixPath(line[column])
        if path.is_absolute() or ".." in path.parts:
            raise InputError(f"{where}: {column} {line[column]!r} leaves the data set's folder")
    if label == ANOMALOUS and (mask is None or not (root / mask).is_file()):
        raise InputError(f"{root / line['image']}: the mask of this anomalous image is missing ({where})")
    width, height = image_size(root / line["image"], reading)
    if mask is not None:
        check_mask_size(root / mask, root / line["image"], (width, height))
    defect_type = "anomaly" if label == ANOMALOUS else "good"
    return SplitRow(line["image"], line["object"], phase, label, defect_type, mask, width, height, "visa")
