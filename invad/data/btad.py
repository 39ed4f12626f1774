"""BTAD: the layout of MVTec AD in other words, `<class>/{train/ok, test/{ok,ko}, ground_truth/ko}`; a mask has its image's stem."""

from pathlib import Path

from invad.config import FolderSplitConfig
from invad.data.counts import PublishedDataset, parse_counts
from invad.data.listing import inner_folder
from invad.data.mvtec import build_classes
from invad.data.official.store import Archive, Release
from invad.data.own.folders import Kind, Layout
from invad.data.own.table import GOOD
from invad.data.split_table import ANOMALOUS, NORMAL, SplitRow

FOLDER = "BTech_Dataset_transformed"
OK, KO = "ok", "ko"


def _kinds(folder: Path) -> list[Kind]:
    return [
        Kind(folder / "train" / OK, "train", NORMAL, GOOD, ()),
        Kind(folder / "test" / OK, "test", NORMAL, GOOD, ()),
        Kind(folder / "test" / KO, "test", ANOMALOUS, KO, (folder / "ground_truth" / KO,)),
    ]


_LAYOUT = Layout("BTAD", ("train/ok", "test/{ok,ko}", "ground_truth/ko"), "ground_truth", _kinds)


def build_btad(root: Path, config: FolderSplitConfig) -> list[SplitRow]:
    """Return the rows of all classes below `root` or the folder that the archive holds; `InputError` as for `build_classes`."""
    return build_classes(root, inner_folder(root, FOLDER), config, _LAYOUT, "btad")


BTAD = PublishedDataset(
    build=lambda root, config, _out: build_btad(root, config),
    release=Release(
        archives=(
            Archive(
                "btad.zip",
                "https://avires.dimi.uniud.it/papers/btad/btad.zip",
                6_400_000_000,
                "461c9387e515bfed41ecaae07c50cf6b10def647b36c9e31d239ab2736b10d2a",
                size_is_known=False,
                wanted=lambda name: name.startswith(f"{FOLDER}/"),
            ),
        ),
        licence="CC BY-SA 4.0",
        terms="https://github.com/pankajmishra000/VT-ADL",
    ),
    # Listings of the archive; its published description exchanges 02 and 03. The sums are 1,799 + 451 + 290.
    counts=parse_counts("01 400 21 49, 02 399 30 200, 03 1000 400 41"),
    # The last one has a few pixels, if any.
    empty_masks=frozenset({*(f"03/test/ko/{number:04d}" for number in range(28, 38)), "02/test/ko/0145"}),
)
