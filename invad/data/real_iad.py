"""Real-IAD: `<folder of a split>/<class>.json` lists the images, of which five are views of one object; the label stands there alone."""

import re
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec

from invad.config import RealIadSplitConfig, reading_of
from invad.data.counts import Counts, PublishedDataset, deviate
from invad.data.listing import entries, named, subfolders
from invad.data.official.store import Release
from invad.data.own.table import GOOD, ImportRow, parse_row, split_rows
from invad.data.split_table import ANOMALOUS, NORMAL, SplitRow
from invad.errors import InputError

JSONS, SINGLE_VIEW = "realiad_jsons", "realiad_jsons_sv"
VIEWS = tuple(f"C{number}" for number in range(1, 6))
RESOLUTIONS = ("realiad_256", "realiad_512", "realiad_1024", "realiad_raw")
CLASSES = 30
# Images of all classes together; nobody has published those of each.
TOTALS = {
    JSONS: Counts(36_465, 63_256, 51_329),
    SINGLE_VIEW: Counts(10_408, 10_387, 9_415),
    **{f"{JSONS}_fuiad_{share}": Counts(57_840, 20_157, 9_843) for share in ("0.0", "0.1", "0.2", "0.4")},
}
NOISE = {
    f"{JSONS}_fuiad_0.1": 3_774,
    f"{JSONS}_fuiad_0.2": 7_605,
    f"{JSONS}_fuiad_0.4": 15_313,
}  # anomalous ones to train on


class _Record(msgspec.Struct, frozen=True, gc=False):
    category: str
    anomaly_class: str
    image_path: str
    mask_path: str | None


class _Meta(msgspec.Struct, frozen=True):
    prefix: str
    normal_class: str


class _Table(msgspec.Struct, frozen=True):
    meta: _Meta
    train: list[_Record]
    test: list[_Record]


def build_real_iad(root: Path, config: RealIadSplitConfig) -> list[SplitRow]:
    """Return the rows of the split that `config` names, `group` the folder of a sample and `view` from C1 to C5.

    The label is the record's, so that a view of a defective object may be normal. Images to train on are normal but in the noisy splits.
    `InputError`: tables or images are not found, several resolutions are there and none is named, a table is damaged; with `strict` also
    a sample without its five views in one phase and an anomalous image without a mask.
    """
    tables = _tables(root, config.variant)
    rows = []
    for path in tables:
        table = _read(path)
        folder = _folder(root, table.meta.prefix, config.resolution)
        rows += _rows(root, folder, path, table)
    _check_samples(rows, root, config)
    return split_rows(root, rows, reading_of(config), "realiad", str(tables[0].parent))


def _tables(root: Path, variant: str) -> list[Path]:
    """Return the JSON tables of a split; the folder of them may lie in one of its own name, in that of another split, or be `root`."""
    folders = [root / variant, root / variant / variant, root / JSONS / variant, *([root] if variant == JSONS else [])]
    for folder in folders:
        if tables := [path for path in entries(folder) if path.suffix == ".json"]:
            return tables
    raise InputError(f"{root}: no Real-IAD root, {variant}/<class>.json is missing; realiad_jsons.zip holds it")


def _read(path: Path) -> _Table:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Table)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except msgspec.DecodeError as error:
        raise InputError(f"{path}: not a table of Real-IAD ({error})") from None


def _folder(root: Path, prefix: str, resolution: str | None) -> Path:
    """Return the folder of a class's images, which its archive holds as a folder, at the only resolution or the one that is named."""
    if not re.fullmatch(r"[A-Za-z0-9_]+/?", prefix):
        raise InputError(f"{root}: the prefix {prefix!r} of a table is not the name of a folder")
    known = [resolution] if resolution else [each for each in RESOLUTIONS if (root / each).is_dir()]
    if len(known) > 1:
        raise InputError(f"{root}: has {' and '.join(known)}; set `resolution` in the `splits` section to one of them")
    bases = [root / each for each in known] or [root]
    for folder in (path for base in bases for path in (base / prefix, base / prefix / prefix)):
        if {each.name for each in subfolders(folder)} & {"OK", "NG"}:
            return folder
    raise InputError(f"{bases[0] / prefix}: has no folder OK or NG; unpack the images of this class there")


def _rows(root: Path, folder: Path, path: Path, table: _Table) -> list[ImportRow]:
    rows, of_images = [], folder.relative_to(root)
    phases: dict[Literal["train", "test"], list[_Record]] = {"train": table.train, "test": table.test}
    for phase, records in phases.items():
        for number, record in enumerate(records):
            name, is_normal = PurePosixPath(record.image_path), record.anomaly_class == table.meta.normal_class
            # The mask of a normal image would be empty.
            mask = "" if is_normal or record.mask_path is None else str(of_images / record.mask_path)
            parts = name.stem.split("_")
            cells = {
                "image": str(of_images / name),
                "class": path.stem,
                "phase": phase,
                "label": str(NORMAL if is_normal else ANOMALOUS),
                "mask": mask,
                "defect_type": GOOD if is_normal else record.anomaly_class,
                "group": str(name.parent),
                "view": parts[-2] if len(parts) > 1 else "",
            }
            rows.append(parse_row(cells, f"{path}: {phase}, record {number}", root))
    return rows


def _check_samples(rows: list[ImportRow], root: Path, config: RealIadSplitConfig) -> None:
    views, phases = defaultdict(list), defaultdict(set)
    for row in rows:
        views[row.class_name, row.group].append(row.view)
        phases[row.class_name, row.group].add(row.phase)
    expected = 1 if config.variant == SINGLE_VIEW else len(VIEWS)
    odd = [
        f"{class_name}/{group}"
        for (class_name, group), found in views.items()
        if len(set(found) & set(VIEWS)) != expected or len(found) != expected or len(phases[class_name, group]) != 1
    ]
    if odd:
        what = f"{len(odd)} samples do not have {expected} of the views {VIEWS[0]} to {VIEWS[-1]} in one phase"
        deviate(f"{root}: {config.variant}: {what}: {named(odd)}", strict=config.strict)
    without = [row.image for row in rows if row.label == ANOMALOUS and row.mask is None]
    if without:
        message = f"{root}: {config.variant}: {len(without)} anomalous images without a mask: {named(without)}"
        deviate(message, strict=config.strict)


def check_real_iad(rows: list[SplitRow], root: Path, config: RealIadSplitConfig) -> None:
    """Raise `InputError` where the images of all classes together are not as many as published, or without `strict` log it.

    A folder with only some of the classes is not compared.
    """
    if len({row.class_name for row in rows}) < CLASSES:
        return
    images = Counter((row.phase == "test", row.label) for row in rows)
    found = Counts(images[False, NORMAL] + images[False, ANOMALOUS], images[True, NORMAL], images[True, ANOMALOUS])
    noise = NOISE.get(config.variant, 0)
    if (found, images[False, ANOMALOUS]) != (TOTALS[config.variant], noise):
        deviate(
            f"{root}: {config.variant} has {' + '.join(map(str, found))} images (train, test normal, test anomalous) with "
            f"{images[False, ANOMALOUS]} anomalous ones to train on, published {' + '.join(map(str, TOTALS[config.variant]))} with {noise}",
            strict=config.strict,
        )


REAL_IAD = PublishedDataset(
    build=lambda root, config, _out: build_real_iad(root, config),
    # Gated: an account has to accept the conditions, and no address works without it.
    release=Release(
        archives=(),
        licence="CC BY-NC-SA 4.0, no commercial use",
        terms="https://realiad4ad.github.io/Real-IAD",
        accept=True,
    ),
    check=check_real_iad,
)
