"""What a user's folder of images is: an MVTec-like tree, good/bad/masks folders, or the images of a table."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from invad.data.listing import entries, files_below, image_files, is_image, named, subfolders, suffix_counts
from invad.data.own.folders import FLAT, LAYOUTS, FolderNames, Layout, read_class
from invad.data.own.rows import ImportRow
from invad.data.own.user_table import TABLE_SUFFIX, read_user_table
from invad.errors import InputError

_NO_CLASSES = frozenset({"train", "test", "ground_truth", "good", "bad", "masks"})  # the layouts' own folders
_KNOWN = (
    f"known are (a) {', '.join(LAYOUTS[0].parts)} or (b) {', '.join(LAYOUTS[1].parts)}, each in the folder itself or in one "
    "folder for each class, (c) one .csv table with a column image, and (d) a folder of normal images"
)


@dataclass(frozen=True)
class Discovery:
    """What was understood of a user's data.

    `layout`: which one, in words. `root`: the images' folder. `unmatched_masks`: masks without an image, left out, relative to it.
    `notes`: what else was taken how, or left out.
    """

    layout: str
    root: Path
    rows: list[ImportRow]
    unmatched_masks: list[str]
    notes: list[str]


def discover(name: str, images: Path, table: Path | None, names: FolderNames | None = None) -> Discovery:
    """Return what lies in the folder `images`, or what `table` says of it. `images` may also be a table that lies beside its images.

    `name` is that of the class where the data do not name one. With `names`, folders that are called so are the layout.

    Raises:
        InputError: There is no such folder or table; no layout or more than one matches; `names` and a table are given; or as for
            `read_class`, `read_user_table` and `FolderNames.layout`.
    """
    if names is not None:
        return _from_named(name, images, table, names)
    if table is None and images.suffix.lower() == TABLE_SUFFIX and images.is_file():
        images, table = images.parent, images
    if not images.is_dir():
        raise InputError(f"{images}: is not a folder of images")
    if table is not None:
        return _from_table(name, images, table)
    tables = [path for path in entries(images) if path.suffix.lower() == TABLE_SUFFIX and path.is_file()]
    classes = {path.name: path for path in subfolders(images) if path.name not in _NO_CLASSES}
    matches = [
        (layout, folders)
        for layout in LAYOUTS
        for folders in ({name: images}, classes)
        if any((folder / layout.normal).is_dir() for folder in folders.values())
    ]
    if len(matches) > 1:
        where = "leave one of them, or list the images in a table and give it with --table"
        raise InputError(f"{images}: more than one layout matches; {where}; {_KNOWN}")
    if matches:
        return _from_folders(images, *matches[0], tables)
    if len(tables) > 1:
        raise InputError(
            f"{images}: has several tables ({named([path.name for path in tables])}); give one with --table"
        )
    beside = {path.name for path in subfolders(images)} & _NO_CLASSES
    if not tables and not beside and image_files(images):
        flat = _from_folders(images, FLAT, {name: images}, [])
        note = f"no folders are known in it: all images are taken as normal ones of the class {name}"
        return replace(flat, notes=[note, *flat.notes])
    if not tables:
        raise InputError(f"{images}: has no layout that is known; {_KNOWN}")
    return _from_table(name, images, tables[0])


def _from_named(name: str, images: Path, table: Path | None, names: FolderNames) -> Discovery:
    layout = names.layout()
    if table is not None:
        raise InputError(f"--table {table}: says itself what is normal; leave out --normal, --abnormal and --masks")
    if not images.is_dir():
        raise InputError(f"{images}: is not a folder of images")
    own = {PurePosixPath(part).parts[0] for part in layout.parts}
    classes = {path.name: path for path in subfolders(images) if path.name not in own}
    for folders in ({name: images}, classes):
        if any((folder / part).is_dir() for folder in folders.values() for part in names.normal):
            return _from_folders(images, layout, folders, [])
    raise InputError(f"{images}: has no folder {' or '.join(names.normal)}, nor has one of its folders")


def _from_table(name: str, images: Path, table: Path) -> Discovery:
    rows, notes = read_user_table(table, images, name)
    used = {path for row in rows for path in (row.image, row.mask) if path is not None}
    return Discovery(f"table {table}", images, rows, [], notes + _others(images, used))


def _from_folders(root: Path, layout: Layout, folders: dict[str, Path], tables: list[Path]) -> Discovery:
    # A class that lacks its normal images is an error to come, and no reason to leave it out.
    present = {name: folder for name, folder in folders.items() if any(k.folder.is_dir() for k in layout.kinds(folder))}
    files = [read_class(root, name, folder, layout) for name, folder in present.items()]
    rows = [row for one in files for row in one.rows]
    unmatched = [mask for one in files for mask in one.unmatched]
    of_normal = [mask for one in files for mask in one.of_normal]
    notes = [f"{path} is not read; --table {path} would take the images that it lists" for path in tables]
    if of_normal:
        notes.append(f"masks of normal images, left out ({len(of_normal)}): {named(of_normal)}")
    same = [name for one in files for name in one.twins]
    if same:
        notes.append(f"images that differ in the suffix alone, all taken ({len(same)}): {named(same)}")
    used = {*(path for row in rows for path in (row.image, row.mask) if path), *unmatched, *of_normal}
    single = list(folders.values()) == [root]
    parts = ", ".join(layout.parts if single else (f"<class>/{part}" for part in layout.parts))
    return Discovery(f"{layout.title} ({parts})", root, rows, unmatched, notes + _others(root, used))


def _others(root: Path, used: Collection[str]) -> list[str]:
    """Return notes of the images below `root` that are not among the `used` ones, and of files of other formats, if there are any."""
    paths = list(files_below(root))
    unread = [path for path in paths if not is_image(path) and path.suffix.lower() != TABLE_SUFFIX]
    others = sorted({path.relative_to(root).as_posix() for path in paths if is_image(path)} - set(used))
    notes = [f"other images in the folder, left out ({len(others)}): {named(others)}"] if others else []
    if unread:
        notes.append(f"files of formats that are not read, left out ({len(unread)}): {suffix_counts(unread)}")
    return notes
