"""VisA: `split_csv/1cls.csv` (columns object, split, label, image, mask) is the split."""

from collections.abc import Mapping
from pathlib import Path

from invad.config import AS_STORED, ReadingConfig
from invad.data.own.rows import ImportRow, check_rows, parse_row, read_csv
from invad.data.own.table import split_rows
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
    rows = [_row(root, cells, origin) for origin, cells in records]
    check_rows(rows)
    return split_rows(root, rows, reading, "visa", str(path))


def _row(root: Path, cells: Mapping[str, str], origin: str) -> ImportRow:
    phase, label = cells["split"], _LABELS.get(cells["label"])
    if phase not in ("train", "test"):
        raise InputError(f"{origin}: split must be train or test, not {phase!r}")
    if label is None or (label == ANOMALOUS and phase == "train"):
        raise InputError(f"{origin}: label must be normal or (test only) anomaly, not {cells['label']!r}")
    mask = cells["mask"] if label == ANOMALOUS else ""
    known = {"class": cells["object"], "phase": phase, "label": str(label), "defect_type": "", "mask": mask}
    row = parse_row({"image": cells["image"], **known}, origin)
    if label == ANOMALOUS and (row.mask is None or not (root / row.mask).is_file()):
        raise InputError(f"{root / row.image}: the mask of this anomalous image is missing ({origin})")
    return row
