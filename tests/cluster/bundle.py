"""A program in an unpacked image, under the limits of a pod: an OCI runtime bundle for runc.

The bundle says what Pod Security *restricted* and a read-only root say: the image's user, no capability, no new
privilege, /tmp alone to be written; besides, no network.
"""

import contextlib
import json
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def make(root: Path, config: Mapping[str, Any], command: Sequence[str]) -> Iterator[Path]:
    """Yield a folder with the bundle that runs a command over `root`, an image's files.

    Parameters
    ----------
    root
        Where the files lie; nothing is written there.
    config
        The image's configuration: User, as numbers, Env, WorkingDir.
    command
        The program and its arguments.
    """
    user, group = (int(part) for part in config["User"].split(":"))
    document = {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": user, "gid": group},
            "args": list(command),
            "env": list(config["Env"]),
            "cwd": config.get("WorkingDir") or "/",
            "noNewPrivileges": True,
            "capabilities": {},
        },
        "root": {"path": str(root), "readonly": True},
        "mounts": [
            _mount("/proc", "proc", "nosuid", "noexec", "nodev"),
            _mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=64k"),
            _mount("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777"),
            _mount("/sys", "sysfs", "nosuid", "noexec", "nodev", "ro"),
            _mount("/tmp", "tmpfs", "nosuid", "nodev", "mode=1777"),
        ],
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")]},
    }
    with tempfile.TemporaryDirectory(prefix="feedline-bundle-") as folder:
        Path(folder, "config.json").write_text(json.dumps(document))
        yield Path(folder)


def command(runtime: Path, folder: Path) -> tuple[str, ...]:
    """Return what runs a bundle by runc in the foreground: it hands signals on, and the exit code back."""
    name = f"feedline-{uuid.uuid4().hex[:12]}"
    return (str(runtime), "--root", str(folder / "state"), "run", "--bundle", str(folder), name)


def _mount(path: str, kind: str, *options: str) -> dict[str, Any]:
    return {"destination": path, "type": kind, "source": kind, "options": list(options)}
