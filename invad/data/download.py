"""Put the raw data of a data set in place and say where they are, in `source.json`.

The files of `embedded` lie beside `source.json`; those of `path` stay where the user has them and are never copied; those of `official`
lie in the store.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from invad.config import DownloadConfig
from invad.data.datasets import DATASETS
from invad.data.embedded import GENERATORS
from invad.data.listing import files_below
from invad.data.official.store import put_in_place
from invad.data.own.table import read_table
from invad.data.source import Source, read_source, write_source
from invad.errors import InputError
from invad.files import atomic_path
from invad.workspace import Workspace

TABLE_FILE = "table.csv"


def prepare_dataset(dataset: str, config: DownloadConfig, workspace: Workspace) -> Source:
    """Make `source.json` in the data set's raw folder; `InputError` where the files that it names cannot be had or are others."""
    folder = workspace.raw(dataset)
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        if config.source == "embedded":
            numbers = {"train_images": config.train_images, "test_images": config.test_images}
            GENERATORS[dataset](temporary, seed=config.seed, **numbers, image_size=config.image_size)
            digest = _digest(temporary, files_below(temporary), contents=True)
            source = Source(dataset, "embedded", Path(), digest)
        elif config.source == "official":
            source = _fetch(dataset, config, workspace)
        elif config.table is not None:
            source = _import(dataset, config, config.table, temporary, workspace)
        else:
            root = _user_root(dataset, config)
            source = Source(dataset, "path", root, _digest(root, files_below(root)))
        write_source(temporary, source)
    return read_source(folder)


def store_folder(dataset: str, config: DownloadConfig, workspace: Workspace) -> Path:
    """Return the folder of a data set's official archives and their files."""
    if config.store is None:
        return workspace.store(dataset)
    return (workspace.root / Path(config.store).expanduser()).absolute()


def _fetch(dataset: str, config: DownloadConfig, workspace: Workspace) -> Source:
    release = DATASETS[dataset].release
    root, digest = put_in_place(dataset, release, config, store_folder(dataset, config, workspace))
    if config.store is None:  # beside the raw data: the same source.json on every machine
        root = Path(os.path.relpath(root, workspace.raw(dataset)))
    return Source(dataset, "official", root, digest)


def _import(dataset: str, config: DownloadConfig, name: str, folder: Path, workspace: Workspace) -> Source:
    """Take the user's table, the file `name`, into `folder`; the images stay where they are."""
    root = _user_root(dataset, config)
    table = workspace.root / name
    rows = read_table(table, root, dataset)
    (folder / TABLE_FILE).write_bytes(table.read_bytes())
    files = [root / path for row in rows for path in (row.image, row.mask) if path]
    missing = next((path for path in files if not path.is_file()), None)
    if missing is not None:
        raise InputError(f"{table}: names {missing}, which is not there")
    return Source(dataset, "path", root, _digest(root, files), table=Path(TABLE_FILE))


def _user_root(dataset: str, config: DownloadConfig) -> Path:
    if config.path is None:
        raise InputError(f"params.yaml: download.{dataset}.path: is needed with `source: path`")
    root = Path(config.path).expanduser().absolute()
    if not root.is_dir():
        raise InputError(f"params.yaml: download.{dataset}.path: {root} is not a folder")
    for entry in DATASETS[dataset].needs if dataset in DATASETS else ():
        if not (root / entry).is_file():
            raise InputError(f"params.yaml: download.{dataset}.path: {root} is no {dataset} root, {entry} is missing")
    return root


def _digest(root: Path, files: Iterable[Path], *, contents: bool = False) -> str:
    """SHA-256 over the sorted relative names of `files` with their sizes, and with `contents` their bytes."""
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.relative_to(root).as_posix()}\0{file.stat().st_size}\0".encode())
        if contents:
            digest.update(file.read_bytes())
    return digest.hexdigest()
