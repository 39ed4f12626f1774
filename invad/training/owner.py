"""Which process works in a folder of `.invad`: so that two never write into one, and none is cleaned away under its feet."""

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from invad.errors import InputError
from invad.files import write_text

OWNER_FILE = "pid"


@dataclass(frozen=True)
class Owner:
    """A process: the machine's name, its id there, and since when it works in the folder (seconds since 1970)."""

    host: str
    pid: int
    since: float

    def is_alive(self) -> bool:
        """Return whether it still runs; one of another machine is taken to, since nobody here can tell."""
        return self.host != socket.gethostname() or has_run_since(self.pid, self.since)


def claim(folder: Path) -> None:
    """Write down that this process works in `folder`; `InputError` when another one does, and is alive."""
    other = owner(folder)
    if other is not None and other.pid != os.getpid() and other.is_alive():
        raise InputError(
            f"{folder}: process {other.pid} on {other.host} works there; wait for it, or remove {folder / OWNER_FILE} if it is gone"
        )
    write_text(folder / OWNER_FILE, f"{socket.gethostname()} {os.getpid()}\n")


def owner(folder: Path) -> Owner | None:
    """Return the process that has last claimed `folder`, alive or not; None when there is none."""
    file = folder / OWNER_FILE
    try:
        host, pid = file.read_text(encoding="utf-8").split()
        return Owner(host, int(pid), file.stat().st_mtime)
    except (OSError, ValueError):
        return None


def has_run_since(pid: int, moment: float) -> bool:
    """Return whether the process `pid` of this machine runs, and did at `moment` (seconds since 1970): else another has its id since."""
    try:
        os.kill(pid, 0)
    except PermissionError:  # of another user
        pass
    except (ProcessLookupError, OverflowError):
        return False
    try:
        start = int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):  # a system without /proc
        return True
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - start / os.sysconf("SC_CLK_TCK")
    return time.time() - age <= moment + 1  # the kernel's ticks and the file system's times are coarse
