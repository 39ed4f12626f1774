"""MVTec AD: `<class>/{train/good, test/<defect>, ground_truth/<defect>}`; a mask belongs to the image of the same name."""

import logging
from pathlib import Path

from invad.config import FolderSplitConfig
from invad.datasets.images import IMAGE_SUFFIXES, check_mask_size, image_size
from invad.datasets.split_table import ANOMALOUS, NORMAL, Phase, SplitRow
from invad.errors import InputError

logger = logging.getLogger(__name__)

_NAMED = 20  # names of unmatched files that a message lists


def build_mvtec(root: Path, config: FolderSplitConfig) -> list[SplitRow]:
    """Return the rows of all classes below `root`, masks paired with images by name (`000.png`, `000_mask.png`).

    Raises:
        InputError: There is no class, a class has no normal training or no test image, a mask has another size than its image, or
            (`strict`) an anomalous image has no mask or a mask no image; the files are named.
    """
    classes = sorted(folder.parent.name for folder in root.glob("*/train"))
    if not classes:
        raise InputError(f"{root}: no MVTec AD root, it has no <class>/train folder")
    rows: list[SplitRow] = []
    unmatched: list[str] = []
    for class_name in classes:
        class_rows = [
            *_rows(root, class_name, "train", "good", {}, unmatched),
            *(
                row
                for folder in sorted(path for path in (root / class_name / "test").glob("*") if path.is_dir())
                for row in _rows(
                    root, class_name, "test", folder.name, _masks(root, class_name, folder.name), unmatched
                )
            ),
        ]
        for phase in ("train", "test"):
            if not any(row.phase == phase for row in class_rows):
                raise InputError(f"{root / class_name / phase}: the class {class_name} has no usable {phase} image")
        rows += class_rows
    if unmatched:
        _report_unmatched(root, unmatched, strict=config.strict)
    return rows


def _masks(root: Path, class_name: str, defect: str) -> dict[str, Path]:
    """Return the masks of a defect type by the name of the image that each belongs to."""
    return {path.stem.removesuffix("_mask"): path for path in _images(root / class_name / "ground_truth" / defect)}


def _rows(
    root: Path, class_name: str, phase: Phase, defect: str, masks: dict[str, Path], unmatched: list[str]
) -> list[SplitRow]:
    """Return the rows of one folder of images; files without a partner are left out and added to `unmatched`."""
    images = {path.stem: path for path in _images(root / class_name / phase / defect)}
    normal = defect == "good"
    unmatched += [masks[stem].relative_to(root).as_posix() for stem in sorted(masks.keys() - images.keys())]
    rows = []
    for stem, path in sorted(images.items()):
        image = path.relative_to(root).as_posix()
        if not normal and stem not in masks:
            unmatched.append(image)
            continue
        width, height = image_size(path)
        mask = None
        if not normal:
            mask = masks[stem].relative_to(root).as_posix()
            check_mask_size(masks[stem], path, (width, height))
        label = NORMAL if normal else ANOMALOUS
        rows.append(SplitRow(image, class_name, phase, label, defect, mask, width, height, "mvtec"))
    return rows


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in IMAGE_SUFFIXES)


def _report_unmatched(root: Path, unmatched: list[str], *, strict: bool) -> None:
    masks = sum("/ground_truth/" in name for name in unmatched)
    named = ", ".join(unmatched[:_NAMED]) + (f" and {len(unmatched) - _NAMED} more" if len(unmatched) > _NAMED else "")
    message = (
        f"{root}: {len(unmatched) - masks} anomalous images without a mask and {masks} masks without an image: {named}"
    )
    if strict:
        raise InputError(f"{message}; mend the data, or set `strict: false` in its `splits` section to leave them out")
    logger.warning("%s; left out", message)
