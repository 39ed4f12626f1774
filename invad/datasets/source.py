"""Where the files of a data set are: `source.json`, written by the download stage and read by all that follow."""

from dataclasses import dataclass
from pathlib import Path

from invad.errors import InputError
from invad.files import read_json, write_json

SOURCE_FILE = "source.json"


@dataclass(frozen=True)
class Source:
    """A data set in place.

    `source`: `embedded`, `path` or `official`. `root`: the folder laid out as the data set is published. `sha256`: digest of the
    names and sizes of its files, for generated ones of their contents too.
    """

    dataset: str
    source: str
    root: Path
    sha256: str


def write_source(folder: Path, source: Source) -> None:
    """Write `folder/source.json`. A relative `root` is relative to `folder`."""
    value = {"dataset": source.dataset, "source": source.source, "root": str(source.root), "sha256": source.sha256}
    write_json(folder / SOURCE_FILE, value)


def read_source(folder: Path) -> Source:
    """Read `folder/source.json`.

    Raises:
        InputError: It is missing, or the folder that it names is.
    """
    value = read_json(folder / SOURCE_FILE)
    root = folder / value["root"]  # an absolute root stays itself
    if not root.is_dir():
        again = f"`dvc repro -f download@{value['dataset']}`"
        raise InputError(f"{root}: the files of {value['dataset']} are no longer there; mend the path or run {again}")
    return Source(value["dataset"], value["source"], root, value["sha256"])
