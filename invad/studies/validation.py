"""The validation split: normal training images that training does not see, and the same with synthetic defects.

The defects are another kind than those of `invad.features.synthesis`: what has learned to see a generator must not be judged by it.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from invad.config import CalibrationConfig
from invad.data.images import read_image
from invad.data.split_table import ANOMALOUS, NORMAL, Split, SplitRow, hold_out, read_split_table, write_split_table
from invad.errors import InputError
from invad.features.synthesis import blended
from invad.files import atomic_path

AREA = (0.005, 0.1)  # least and largest share of the image
VISIBLE = 16  # grey values: the least mean change within a defect
_SIDES = (16, 640)  # pixels: what a defect needs at least, and what is enough to see it
_TABLE = "split.parquet"
_TRIES = 20


def validation_split(split: Split, share: float, seed: int, folder: Path) -> Split:
    """Return held-out images, and copies with defects, in phase `test`, as PNGs in `folder`; `InputError`: a class has but one."""
    if not (folder / _TABLE).exists():
        kept = set(rows_for_training(split, share, seed))
        held_out = [row for index, row in enumerate(split.phase("train")) if index not in kept]
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            write_split_table(_write_images(split, held_out, seed, temporary), temporary / _TABLE, {})
    rows, _ = read_split_table(folder / _TABLE)
    return Split(tuple(rows), folder, folder)


def rows_for_training(split: Split, share: float, seed: int) -> tuple[int, ...]:
    """Return which training images stay when `share` of each class's normal ones is held out; `InputError`: there is but one."""
    held = hold_out(split.phase("train"), CalibrationConfig(share, 0.01, seed))
    normal = {row.class_name for row in held if row.label == NORMAL}
    single = normal - {row.class_name for row in held if row.phase == "calibration"}
    if share and single:
        only = "image" if not any(row.group for row in held) else "object"
        raise InputError(f"class {min(single)!r}: has a single normal training {only}; to validate on some takes two")
    return tuple(index for index, row in enumerate(held) if row.phase == "train")


def _write_images(split: Split, normal: list[SplitRow], seed: int, folder: Path) -> list[SplitRow]:
    """Write each image twice, as it is and with a defect, and return their rows."""
    rows = []
    for number, row in enumerate(normal):
        rng = np.random.default_rng([seed, number])
        image = _read(split, row)
        other = _read(split, normal[int(rng.integers(len(normal)))])
        defective, mask = add_defect(image, other, rng)
        height, width = mask.shape
        new = replace(row, phase="test", width=width, height=height, mask=None)
        # Features are known by the names of images: those of another seed are others.
        good, bad, marked = (f"{name}-{seed}/{number:05d}.png" for name in ("good", "defect", "mask"))
        for name, pixels in ((good, image), (bad, defective), (marked, mask.astype(np.uint8) * 255)):
            (folder / name).parent.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(folder / name, "PNG")
        rows.append(replace(new, image=good, label=NORMAL))
        group = row.group and f"{row.group}-defect"
        rows.append(replace(new, image=bad, label=ANOMALOUS, defect_type="synthetic", mask=marked, group=group))
    return rows


def _read(split: Split, row: SplitRow) -> np.ndarray:
    image = Image.fromarray(read_image(split.image_path(row), reading=split.reading))
    scale = min(1.0, _SIDES[1] / max(image.size))
    width, height = (max(_SIDES[0], round(side * scale)) for side in image.size)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def add_defect(image: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return an image, uint8 (H, W, 3), with a blob that shows another place of `other` in other colours, and its mask, bool (H, W)."""
    height, width = image.shape[:2]
    source = np.asarray(Image.fromarray(other).resize((width, height), Image.Resampling.BILINEAR))
    for _ in range(_TRIES):
        moved = np.roll(source, rng.integers((height, width)).tolist(), axis=(0, 1))
        layer = (moved - moved.mean()) * rng.uniform(0.7, 1.3) + moved.mean() + rng.uniform(-50, 50, 3)
        mask = _blob((height, width), rng)
        defective = np.clip(np.rint(blended(image, layer, mask, rng.uniform(0, 0.5))), 0, 255).astype(np.uint8)
        # What can hardly be seen is no defect: a white patch on a white ground.
        changed = np.abs(defective.astype(int) - image).max(axis=-1)
        mask = mask & (changed > 0)
        if AREA[0] <= mask.mean() <= AREA[1] and changed[mask].mean() >= VISIBLE:
            return defective, mask
    mask = _blob((height, width), rng)  # in the other half of the grey values, which shows on any ground
    return np.where(mask[..., None], image ^ np.uint8(128), image), mask


def _blob(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """(H, W) bool: where smooth noise, weighted towards some place, is highest; a random share of the image within `AREA`."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), min(shape) / 12)
    ys, xs = np.ogrid[: shape[0], : shape[1]]
    top, left = rng.uniform(0.2, 0.8, 2)
    weighted = noise / noise.std() - 25 * ((ys / shape[0] - top) ** 2 + (xs / shape[1] - left) ** 2)
    share = np.exp(rng.uniform(*np.log((AREA[0] * 1.5, AREA[1] * 0.9))))
    return weighted > np.quantile(weighted, 1 - share)
