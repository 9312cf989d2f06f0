"""The type of file system that a file lies on, as the kernel's table of mounts has it."""

import os
from collections.abc import Iterator
from pathlib import Path

from feedline.files.file import File


def file_system(file: File, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """Return the type of file system on which a file lies, such as ext4; empty where the kernel does not say."""
    number = f"{os.major(file.device)}:{os.minor(file.device)}"
    return next((kind for mounted, kind in _mounted(mounts) if mounted == number), "")


def _mounted(mounts: Path) -> Iterator[tuple[str, str]]:
    """Yield device and type of every mount; see proc_pid_mountinfo(5)."""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        fields, _, rest = line.partition(" - ")
        yield fields.split()[2], rest.split()[0]
