"""The folder of a study: what is there of it, who works in it, and how to begin anew."""

import fcntl
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

from invad.errors import InputError
from invad.files import remove
from invad.studies.results import read_result
from invad.studies.trial import is_done, trial_folder


@contextmanager
def only_one(folder: Path) -> Generator[None]:
    """Hold the study's folder against other processes; one that dies lets go of it.

    Raises:
        InputError: Another process works in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder}: another process runs this study; wait for it, or end it") from None
        yield


def prepare(folder: Path, names: Iterable[str], *, resume: bool, restart: bool) -> None:
    """Check that the study may go on in its folder, or empty it.

    Args:
        folder: Of the study, which this process holds.
        names: Of the trials that are asked for.
        resume: Go on with what is there.
        restart: Remove what is there.

    Raises:
        InputError: There are results of these trials, and neither is asked for.
    """
    if restart:
        for path in folder.iterdir():
            if path.name != "lock":
                remove(path)
    names = list(names)
    done = sum(is_done(read_result(trial_folder(folder, name))) for name in names)
    if done and not (resume or restart):
        raise InputError(
            f"a study of these settings has {done} of {len(names)} trials finished; --resume goes on with it, --restart begins anew"
        )
