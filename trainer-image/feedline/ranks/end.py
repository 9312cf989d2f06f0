"""How a process is ended together with the one that has started it; on Linux, and nothing elsewhere."""

import contextlib
import ctypes
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # of linux/prctl.h


def end_with_parent(by: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel end this process, by a signal, when the one that has started it is gone, as by SIGKILL.

    A rank has a session of its own, and would train on and keep its output locked.
    """
    prctl(_PR_SET_PDEATHSIG, by)


def prctl(option: int, value: int | bytes) -> None:
    """Set something of this process that Python has no function for."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
