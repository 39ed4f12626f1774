"""Put the raw data of a data set in place and say where they are, in `source.json`.

The files of `embedded` lie beside `source.json`; those of `path` stay where the user has them and are never copied.
"""

import hashlib
import os
from pathlib import Path

from invad.config import DownloadConfig
from invad.datasets.embedded import generate
from invad.datasets.source import Source, read_source, write_source
from invad.errors import InputError
from invad.files import atomic_path

# What must lie in a data set's root; the split builders check the rest.
ROOT_ENTRIES = {
    "coco": ("annotations/instances_train2017.json", "annotations/instances_val2017.json"),
    "mvtec": (),
    "visa": ("split_csv/1cls.csv",),
}


def prepare_dataset(dataset: str, config: DownloadConfig, folder: Path) -> Source:
    """Make `folder/source.json` and, for `embedded`, the files beside it.

    Raises:
        InputError: The user's folder is missing or is not this data set; or the source is not available.
    """
    if config.source == "embedded":
        with atomic_path(folder) as temporary:
            generate(
                dataset,
                temporary,
                seed=config.seed,
                train_images=config.train_images,
                test_images=config.test_images,
                image_size=config.image_size,
            )
            digest = _digest(temporary, contents=True)
            write_source(temporary, Source(dataset, config.source, Path(), digest))
    elif config.source == "path":
        root = _user_root(dataset, config.path or "")
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            write_source(temporary, Source(dataset, config.source, root, _digest(root, contents=False)))
    else:
        raise InputError(
            f"params.yaml: download.{dataset}.source: official is not available in this version; "
            f"fetch the archives yourself, unpack them and use `source: path`"
        )
    return read_source(folder)


def _user_root(dataset: str, path: str) -> Path:
    root = Path(path).expanduser().absolute()
    if not root.is_dir():
        raise InputError(f"params.yaml: download.{dataset}.path: {root} is not a folder")
    for entry in ROOT_ENTRIES[dataset]:
        if not (root / entry).is_file():
            raise InputError(f"params.yaml: download.{dataset}.path: {root} is no {dataset} root, {entry} is missing")
    return root


def _digest(root: Path, *, contents: bool) -> str:
    """SHA-256 over the sorted relative names of all files with their sizes, and with `contents` their bytes."""
    digest = hashlib.sha256()
    files = sorted(Path(folder) / name for folder, _, names in os.walk(root) for name in names)
    for file in files:
        digest.update(f"{file.relative_to(root).as_posix()}\0{file.stat().st_size}\0".encode())
        if contents:
            digest.update(file.read_bytes())
    return digest.hexdigest()
