"""The validation split: normal training images that training does not see, and the same with synthetic defects. No test image is read."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from invad.config import CalibrationConfig
from invad.data.hold_out import hold_out
from invad.data.images import read_image
from invad.data.split_table import ANOMALOUS, NORMAL, Split, SplitRow, read_split_table, write_split_table
from invad.errors import InputError
from invad.files import atomic_path
from invad.studies.defects import add_defect

_TABLE = "split.parquet"
_LEAST = 16  # pixels a side that a defect needs


@dataclass(frozen=True)
class ValidationSplit:
    """`train_rows`: of `split.phase("train")`, those that stay for training. `split`: phase `test` holds normal and defective images."""

    train_rows: tuple[int, ...]
    split: Split


def validation_split(split: Split, share: float, seed: int, folder: Path, max_side: int = 640) -> ValidationSplit:
    """Hold out `share`, in (0, 1), of each class's normal training images, one at least and never all, and draw defects into copies.

    Images and masks are written to `folder` as PNG files, once, all or none: the same split and seed give the same bytes. Longer sides
    than `max_side` pixels are scaled to it.

    Raises:
        InputError: A class has a single normal training image, or an image is damaged.
    """
    train = split.phase("train")
    stay = rows_for_training(split, share, seed)
    kept = set(stay)
    if not (folder / _TABLE).exists():
        held_out = [row for index, row in enumerate(train) if index not in kept]
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            rows = _write_images(split, held_out, seed, temporary, max_side)
            write_split_table(rows, temporary / _TABLE, {})
    rows, _ = read_split_table(folder / _TABLE)
    return ValidationSplit(stay, Split(tuple(rows), folder, folder))


def rows_for_training(split: Split, share: float, seed: int) -> tuple[int, ...]:
    """Return which of the training images stay, all where `share` is 0; `InputError` where a class has a single normal one."""
    held = hold_out(split.phase("train"), CalibrationConfig(share, 0.01, seed))
    normal = {row.class_name for row in held if row.label == NORMAL}
    single = normal - {row.class_name for row in held if row.phase == "calibration"}
    if share and single:
        raise InputError(f"class {min(single)!r}: has a single normal training image; to validate on some takes two")
    return tuple(index for index, row in enumerate(held) if row.phase == "train")


def _write_images(split: Split, normal: list[SplitRow], seed: int, folder: Path, max_side: int) -> list[SplitRow]:
    """Write each image twice, as it is and with a defect, and return their rows."""
    rows = []
    for number, row in enumerate(normal):
        rng = np.random.default_rng([seed, number])
        image = _read(split, row, max_side)
        other = _read(split, normal[int(rng.integers(len(normal)))], max_side)
        defective, mask, kind = add_defect(image, other, rng)
        height, width = mask.shape
        new = replace(row, phase="test", width=width, height=height, mask=None)
        good, bad, marked = (f"{name}/{number:05d}.png" for name in ("good", "defect", "mask"))
        for name, pixels in ((good, image), (bad, defective), (marked, mask.astype(np.uint8) * 255)):
            (folder / name).parent.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(folder / name, "PNG")
        rows.append(replace(new, image=good, label=NORMAL))
        rows.append(replace(new, image=bad, label=ANOMALOUS, defect_type=kind, mask=marked))
    return rows


def _read(split: Split, row: SplitRow, max_side: int) -> np.ndarray:
    image = Image.fromarray(read_image(split.image_path(row), reading=split.reading))
    scale = min(1.0, max_side / max(image.size))
    width, height = (max(_LEAST, round(side * scale)) for side in image.size)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
