"""MVTec AD: `<class>/{train/good, test/<defect>, ground_truth/<defect>}`; a mask belongs to the image of the same name."""

from pathlib import Path

from invad.config import FolderSplitConfig, reading_of
from invad.data.counts import PublishedDataset, deviate, parse_counts
from invad.data.listing import named, subfolders
from invad.data.official.store import Archive, Release
from invad.data.own.folders import MVTEC, Layout, read_class
from invad.data.own.table import split_rows
from invad.data.split_table import ANOMALOUS, SplitRow
from invad.errors import InputError


def build_mvtec(root: Path, config: FolderSplitConfig) -> list[SplitRow]:
    """Return the rows of all classes below `root`; `InputError` as for `build_classes`."""
    return build_classes(root, root, config, MVTEC, "mvtec")


def build_classes(root: Path, base: Path, config: FolderSplitConfig, layout: Layout, dataset: str) -> list[SplitRow]:
    """Return the rows of all classes in `base`, a folder in `root` or itself, read by `read_class` as one's own folders are.

    `InputError` as for it and `split_rows`; with `strict` also for an anomalous image without a mask and a mask without an image.
    """
    classes = [folder for folder in subfolders(base) if (folder / "train").is_dir()]
    if not classes:
        title = "BTAD" if dataset == "btad" else "MVTec AD"
        raise InputError(f"{base}: no {title} root, it has no <class>/train folder")
    rows, masks = [], []
    for folder in classes:
        of_class, unmatched = read_class(root, folder.name, folder, layout)
        rows += of_class
        masks += unmatched
    usable = [row for row in rows if row.label != ANOMALOUS or row.mask is not None]
    split = split_rows(root, usable, reading_of(config), dataset, str(root))
    images = sorted({row.image for row in rows} - {row.image for row in usable})
    if masks or images:
        message = f"{root}: {len(images)} anomalous images without a mask and {len(masks)} masks without an image: "
        deviate(f"{message}{named(masks + images)}; without `strict` they are left out", strict=config.strict)
    return split


MVTEC_AD = PublishedDataset(
    build=lambda root, config, _out: build_mvtec(root, config),
    release=Release(
        archives=(
            Archive(
                "mvtec_anomaly_detection.tar.xz",
                "https://www.mydrive.ch/shares/150996/b52ecdcbf521176e9db9c731f2304b27/download/420938113-1629960298/"
                "mvtec_anomaly_detection.tar.xz",
                5_264_982_680,
                "cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d",
            ),
        ),
        licence="CC BY-NC-SA 4.0, no commercial use",
        terms="https://www.mvtec.com/company/research/datasets/mvtec-ad",
        accept=True,
    ),
    # The data set's page; the sums are 3,629 + 467 + 1,258.
    counts=parse_counts("""
        bottle 209 20 63, cable 224 58 92, capsule 219 23 109, carpet 280 28 89, grid 264 21 57, hazelnut 391 40 70, leather 245 32 92,
        metal_nut 220 22 93, pill 267 26 141, screw 320 41 119, tile 230 33 84, toothbrush 60 12 30, transistor 213 60 40,
        wood 247 19 60, zipper 240 32 119
    """),
)
