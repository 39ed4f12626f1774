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
    """A process: the machine's name, its id there, and when it started in ticks of the kernel (0 where that cannot be told)."""

    host: str
    pid: int
    start: int

    def is_alive(self) -> bool:
        """Return whether it still runs; one of another machine is taken to, since nobody here can tell."""
        if self.host != socket.gethostname():
            return True
        return _runs(self.pid) and _start(self.pid) in (self.start, 0)  # else another process has got the id since


def claim(folder: Path) -> None:
    """Write down that this process works in `folder`; `InputError` when another one does, and is alive."""
    other = owner(folder)
    if other is not None and other.pid != os.getpid() and other.is_alive():
        raise InputError(
            f"{folder}: process {other.pid} on {other.host} works there; wait for it, or remove {folder / OWNER_FILE} if it is gone"
        )
    write_text(folder / OWNER_FILE, f"{socket.gethostname()} {os.getpid()} {_start(os.getpid())}\n")


def owner(folder: Path) -> Owner | None:
    """Return the process that has last claimed `folder`, alive or not; None when there is none."""
    try:
        host, pid, start = (folder / OWNER_FILE).read_text(encoding="utf-8").split()
        return Owner(host, int(pid), int(start))
    except (OSError, ValueError):
        return None


def has_run_since(pid: int, moment: float) -> bool:
    """Return whether the process `pid` of this machine runs, and did at `moment` (seconds since 1970): else another has its id since."""
    if not _runs(pid):
        return False
    start = _start(pid)
    if not start:
        return True
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - start / os.sysconf("SC_CLK_TCK")
    return time.time() - age <= moment + 1  # the kernel's ticks and the file system's times are coarse


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:  # of another user
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _start(pid: int) -> int:
    """Return when a process started, in ticks since the machine did; 0 on systems without /proc."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0
