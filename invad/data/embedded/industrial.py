"""Generated data sets laid out like MVTec AD (hazelnut, metal_nut, wood) and VisA (candle, cashew, pcb1)."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from invad.data.embedded.products import DEFECTS, GOOD, draw_product
from invad.files import atomic_path


def generate_mvtec(root: Path, *, seed: int, train_images: int, test_images: int, image_size: int) -> None:
    """Write an MVTec AD root below `root`: three classes, square 8-bit RGB PNGs of `image_size` pixels.

    `train_images` and `test_images` count per class; the test images are split evenly over the two defect types, the rest
    is good. Masks are 8-bit, 0 or 255. The same seed gives the same bytes, and more images leave the earlier ones alone.
    """
    defective = test_images // 3
    for name, kinds in DEFECTS["mvtec"].items():
        counts = [("train", GOOD, train_images), ("test", GOOD, test_images - 2 * defective)]
        for phase, kind, count in (*counts, *(("test", kind, defective) for kind in kinds)):
            for index in range(count):
                size = (image_size, image_size)
                picture, mask = draw_product("mvtec", seed, name, phase, kind, index, size)
                _save(picture, root / name / phase / kind / f"{index:03d}.png")
                if kind != GOOD:
                    mask_path = root / name / "ground_truth" / kind / f"{index:03d}_mask.png"
                    _save(Image.fromarray(mask.astype(np.uint8) * 255), mask_path)


def generate_visa(root: Path, *, seed: int, train_images: int, test_images: int, image_size: int) -> None:
    """Write a VisA root below `root`: three classes and `split_csv/1cls.csv`; JPEGs of 4:3 whose longer edge is `image_size`.

    `train_images` and `test_images` count per class; half of the test images (rounded down) are anomalous, their defect
    types taken in turn. Masks are 8-bit and hold 0 or the number of the defect type (1, 2, 3), as the real ones do. The
    same seed gives the same bytes, and more images leave the earlier ones alone.
    """
    rows = [("object", "split", "label", "image", "mask")]
    size, anomalous = (image_size, round(image_size * 0.75)), test_images // 2
    for name, kinds in DEFECTS["visa"].items():
        images = f"{name}/Data/Images"
        for phase, count in (("train", train_images), ("test", test_images - anomalous)):
            for index in range(count):
                # even numbers train, odd ones test, so that asking for more of one never renames the other
                path = f"{images}/Normal/{2 * index + (phase == 'test'):04d}.JPG"
                picture, _ = draw_product("visa", seed, name, phase, GOOD, index, size)
                _save(picture, root / path)
                rows.append((name, phase, "normal", path, ""))
        for index in range(anomalous):
            path, mask_path = f"{images}/Anomaly/{index:03d}.JPG", f"{name}/Data/Masks/Anomaly/{index:03d}.png"
            number = index % len(kinds)
            picture, mask = draw_product("visa", seed, name, "test", kinds[number], index, size)
            _save(picture, root / path)
            _save(Image.fromarray(mask.astype(np.uint8) * (number + 1)), root / mask_path)
            rows.append((name, "test", "anomaly", path, mask_path))
    with atomic_path(root / "split_csv" / "1cls.csv") as temporary, temporary.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, compress_level=1, quality=94)  # of PNG and of JPEG
