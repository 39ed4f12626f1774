"""Where the files of a data set are: `source.json`, written by the download stage and read by all that follow."""

from dataclasses import asdict, dataclass
from pathlib import Path

from invad.errors import InputError
from invad.files import read_json, write_json

SOURCE_FILE = "source.json"


@dataclass(frozen=True)
class Source:
    """A data set in place: its `root` is laid out as it is published, or has the user's own images, which `table` lists.

    `sha256`: digest of the files' names and sizes; of generated files, of their contents too; of official archives, their digests.
    """

    dataset: str
    source: str
    root: Path
    sha256: str
    table: Path | None = None


def write_source(folder: Path, source: Source) -> None:
    """Write `folder/source.json`. A relative `root` or `table` is relative to `folder`."""
    write_json(folder / SOURCE_FILE, {key: str(value) for key, value in asdict(source).items() if value is not None})


def read_source(folder: Path) -> Source:
    """Read `folder/source.json`; `InputError` where it is missing, or the folder that it names is."""
    value = read_json(folder / SOURCE_FILE)
    root = folder / value["root"]  # an absolute root stays itself
    if not root.is_dir():
        again = f"`dvc repro -f download@{value['dataset']}`"
        raise InputError(f"{root}: the files of {value['dataset']} are no longer there; mend the path or run {again}")
    table = folder / value["table"] if "table" in value else None
    return Source(value["dataset"], value["source"], root, value["sha256"], table)
