"""The generated MVTec AD, VisA, BTAD and VAD: the files, laid out on disk as the real ones."""

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

from invad.data.embedded.catalogue import DEFECTS, draw_product
from invad.files import atomic_path, write_text

GOOD = "good"
BTAD_FOLDER, VAD_FOLDER = "BTech_Dataset_transformed", "vad"  # that the archives hold


def generate_mvtec(root: Path, *, seed: int, train_images: int, test_images: int, image_size: int) -> None:
    """Write an MVTec AD root below `root`: of each class so many square RGB PNGs of `image_size` pixels; masks have 8 bits, 0 or 255.

    A third of the test images has the one defect, a third the other. The same seed gives the same bytes, and more images leave the
    earlier ones alone.
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
    """Write a VisA root below `root`: of each class so many JPEGs of 4:3 whose longer edge is `image_size`, and `split_csv/1cls.csv`.

    Half of the test images (rounded down) are anomalous, their defect types taken in turn. Masks are 8-bit and hold 0 or the number of
    the defect type (1, 2, 3), as the real ones do. The same seed gives the same bytes, and more images leave the earlier ones alone.
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


def generate_btad(root: Path, *, seed: int, train_images: int, test_images: int, image_size: int) -> None:
    """Write a BTAD root below `root`: of each class so many images, half of the test images (rounded down) `ko`.

    With its oddities: 01 in BMP with masks in PNG, 02 smaller and all in PNG, 03 of 4:3 and all in BMP; a number that is missing where one
    is in the real set, numbers that begin anew in each folder, and the mask of `03/test/ko/0001` is empty. The same seed gives the same
    bytes, and more images leave the earlier ones alone.
    """
    suffixes = {"01": ("bmp", "png"), "02": ("png", "png"), "03": ("bmp", "bmp")}
    small, low = round(image_size * 0.75), (image_size, round(image_size * 0.75))
    sizes = {"01": (image_size, image_size), "02": (small, small), "03": low}
    counts = {"train/ok": train_images, "test/ok": test_images - test_images // 2, "test/ko": test_images // 2}
    for name, (of_images, of_masks) in suffixes.items():
        for folder, count in counts.items():
            phase, kind = folder.split("/")
            for index in range(count):
                number = index + (index >= 2 and f"{name}/{folder}" in ("01/test/ko", "02/train/ok"))
                picture, mask = draw_product("btad", seed, name, phase, kind, index, sizes[name])
                _save(picture, root / BTAD_FOLDER / name / folder / f"{number:04d}.{of_images}")
                if kind == "ko":
                    mask &= (name, number) != ("03", 1)
                    path = root / BTAD_FOLDER / name / "ground_truth" / kind / f"{number:04d}.{of_masks}"
                    _save(Image.fromarray(mask.astype(np.uint8) * 255), path)


def generate_vad(root: Path, *, seed: int, train_images: int, test_images: int, image_size: int) -> None:
    """Write a VAD root below `root`: so many square PNGs in `train/good`, half as many in `train/bad`, and so many to test on.

    Half of the test images (rounded down) are anomalous, every fifth of these of the kind that `train/bad` does not have. Each of the two
    keys of `low_shot_train.json` names a quarter of `train/bad`. A number stands in one folder only, and there are no masks. The same seed
    gives the same bytes, and more images leave the earlier ones alone.
    """
    bad = test_images // 2
    unseen = max(1, bad // 5)
    counts = {
        "train/good": train_images,
        "train/bad": train_images // 2,
        "test/good": test_images - bad,
        "test/bad": bad - unseen,
        "test/bad_unseen_defects": unseen,
    }
    for place, (folder, count) in enumerate(counts.items()):
        phase, kind = folder.split("/")
        for index in range(count):
            picture, _ = draw_product("vad", seed, "vad", phase, kind, index, (image_size, image_size))
            _save(picture, root / VAD_FOLDER / folder / f"{len(counts) * index + place}.png")
    names = [f"{len(counts) * index + 1}.png" for index in range(counts["train/bad"])]
    share = max(1, len(names) // 4)
    low_shot = {str(key): names[key * share : (key + 1) * share] for key in (0, 1)}
    write_text(root / VAD_FOLDER / "low_shot_train.json", json.dumps(low_shot))


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, compress_level=1, quality=94)  # of PNG and of JPEG
