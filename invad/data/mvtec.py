"""MVTec AD: `<class>/{train/good, test/<defect>, ground_truth/<defect>}`; a mask belongs to the image of the same name."""

from pathlib import Path

from invad.config import FolderSplitConfig, reading_of
from invad.data.counts import deviate
from invad.data.listing import named, subfolders
from invad.data.own.folders import MVTEC, ClassFiles, read_class
from invad.data.own.rows import ImportRow
from invad.data.own.table import split_rows
from invad.data.split_table import ANOMALOUS, SplitRow
from invad.errors import InputError


def build_mvtec(root: Path, config: FolderSplitConfig) -> list[SplitRow]:
    """Return the rows of all classes below `root`, masks paired with images by name (`000.png`, `000_mask.png`).

    Files are found and paired as by `read_class`, which reads one's own folders of this layout too.

    Raises:
        InputError: There is no class, a class has no normal training or no test image, a mask has another size than its image, an
            image two masks or a mask two images, or (`strict`) an anomalous image has no mask, a mask no image, or two images differ in
            the suffix alone; the files are named.
    """
    classes = [folder for folder in subfolders(root) if (folder / "train").is_dir()]
    if not classes:
        raise InputError(f"{root}: no MVTec AD root, it has no <class>/train folder")
    files = [read_class(root, folder.name, folder, MVTEC) for folder in classes]
    for folder, one in zip(classes, files, strict=True):
        if not any(map(_is_usable, one.rows)):
            raise InputError(f"{folder}: the class {folder.name} has no usable image")
    usable = [row for one in files for row in one.rows if _is_usable(row)]
    rows = split_rows(root, usable, reading_of(config), "mvtec", str(root))
    _report(root, files, strict=config.strict)
    return rows


def _is_usable(row: ImportRow) -> bool:
    return row.label != ANOMALOUS or row.mask is not None


def _report(root: Path, files: list[ClassFiles], *, strict: bool) -> None:
    """Raise or log, one after another, what the published data set has not: files without a partner, and images twice."""
    masks = [mask for one in files for mask in one.unmatched]
    images = [row.image for one in files for row in one.rows if not _is_usable(row)]
    same = [image for one in files for image in one.twins]
    if masks or images:
        message = (
            f"{root}: {len(images)} anomalous images without a mask and {len(masks)} masks without an image: "
            f"{named(masks + images)}"
        )
        deviate(message, "mend the data, or", " to leave them out", "; left out", strict=strict)
    if same:
        message = f"{root}: {len(same)} images differ from another one in the suffix alone: {named(same)}"
        deviate(message, "mend the data, or", " to take all of them", "; all are taken", strict=strict)
