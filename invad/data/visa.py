"""VisA: `split_csv/1cls.csv` (columns object, split, label, image, mask) is the split."""

from pathlib import Path

from invad.config import AS_STORED, ReadingConfig, reading_of
from invad.data.counts import PublishedDataset, parse_counts
from invad.data.official.store import Archive, Release
from invad.data.own.table import check_rows, parse_row, read_csv, split_rows
from invad.data.split_table import NORMAL, SplitRow
from invad.errors import InputError

COLUMNS = ("object", "split", "label", "image", "mask")


def build_visa(root: Path, reading: ReadingConfig = AS_STORED) -> list[SplitRow]:
    """Return the rows of the official one-class split; `InputError` as for the tables of one's own, and for an anomaly without a mask."""
    path, rows = root / "split_csv" / "1cls.csv", []
    for origin, cells in read_csv(path, needed=COLUMNS):
        row = parse_row(cells | {"class": cells["object"], "phase": cells["split"]}, origin, root)
        if not row.phase:
            raise InputError(f"{origin}: split must be train or test, not empty")
        if row.label != NORMAL and (row.mask is None or not (root / row.mask).is_file()):
            raise row.problem(f"{row.image}: the mask of this anomalous image is missing")
        rows.append(row)
    check_rows(rows)
    return split_rows(root, rows, reading, "visa", str(path))


VISA = PublishedDataset(
    build=lambda root, config, _out: build_visa(root, reading_of(config)),
    release=Release(
        archives=(
            Archive(
                "VisA_20220922.tar",
                "https://amazon-visual-anomaly.s3.us-west-2.amazonaws.com/VisA_20220922.tar",
                1_929_840_640,
                "2eb8690c803ab37de0324772964100169ec8ba1fa3f7e94291c9ca673f40f362",
            ),
        ),
        licence="CC BY 4.0",
        terms="https://github.com/amazon-science/spot-diff",
    ),
    needs=("split_csv/1cls.csv",),
    # `split_csv/1cls.csv`; the sums are 8,659 + 962 + 1,200.
    counts=parse_counts("""
        candle 900 100 100, capsules 542 60 100, cashew 450 50 100, chewinggum 453 50 100, fryum 450 50 100, macaroni1 900 100 100,
        macaroni2 900 100 100, pcb1 904 100 100, pcb2 901 100 100, pcb3 905 101 100, pcb4 904 101 100, pipe_fryum 450 50 100
    """),
)
