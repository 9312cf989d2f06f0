"""The claim on the machine: one node cluster at a time, because its addresses and its cgroup are the same everywhere.

The claim is an abstract Unix socket. It ends with the process that holds it, leaves no file, and tells who that is.
"""

import contextlib
import socket
import struct

from cluster.errors import ClusterError

_NAME = "\0feedline-node-cluster"


def claim() -> socket.socket:
    """Return the claim, held until it is closed.

    Raises
    ------
    ClusterError
        Another process holds it; the message says which.
    """
    held = socket.socket(socket.AF_UNIX)
    try:
        held.bind(_NAME)
    except OSError:
        held.close()
        raise ClusterError(
            f"Process {holder()} runs a node cluster, and a machine can have one: end that process, or, if it is the one "
            "of make cluster, run make cluster-down."
        ) from None
    held.listen()
    return held


def holder() -> int | None:
    """Return the pid of the process that has a node cluster, if there is one."""
    with socket.socket(socket.AF_UNIX) as visitor, contextlib.suppress(ConnectionRefusedError):
        visitor.connect(_NAME)
        size = struct.calcsize("3i")
        return struct.unpack("3i", visitor.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[0]
    return None
