"""Whether RAY_ADDRESS names a cluster, found out in time: Ray itself waits for minutes, and then ends the process."""

import os
import socket
import subprocess
import sys

from invad.errors import InputError

_CONNECT_SECONDS, _ANSWER_SECONDS = 5.0, 18.0
# In a process of its own, since Ray's client cannot be interrupted. An answer of any kind is one.
_PROBE = """
import sys
from ray._private.services import canonicalize_bootstrap_address_or_die
from ray._raylet import GcsClient
try:
    GcsClient(address=canonicalize_bootstrap_address_or_die(sys.argv[1])).internal_kv_keys(b"", None, 10)
except Exception as error:
    sys.exit(str(error))
"""


def check_address(address: str) -> None:
    """Raise `InputError` within half a minute unless a cluster answers at `address`, which is HOST:PORT, `auto` or `local`."""
    if address == "local":
        return
    what = "it must be HOST:PORT as `ray start` prints it, or `auto`"
    if address != "auto":
        host, _, port = address.rpartition(":")
        if "://" in address or not host or not (port.isdecimal() and 0 < int(port) < 65536):
            raise InputError(f"RAY_ADDRESS: {address!r} is no address of a cluster; {what}")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
        except OSError as error:
            why = error.strerror or str(error)
            raise InputError(f"RAY_ADDRESS: cannot reach {address} ({why}); is the cluster running there?") from None
    command, quiet = [sys.executable, "-c", _PROBE, address], os.environ | {"RAY_BACKEND_LOG_LEVEL": "fatal"}
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_ANSWER_SECONDS, env=quiet
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"RAY_ADDRESS: nothing at {address} answers as Ray does; {what}") from None
    if done.returncode:
        why = (done.stderr.strip() or "no reason given").splitlines()[-1].strip()
        raise InputError(f"RAY_ADDRESS: no Ray found at {address} ({why}); {what}")
