"""The programs of the system that a real node and its images need, and the Debian packages they come in."""

import os
import shutil
import subprocess
from pathlib import Path

from cluster.errors import ClusterError, NotHereError

# What a node needs: by a program or a header that shows that the package is there.
NODE = {
    "gcc": "gcc",
    "ip": "iproute2",
    "nft": "nftables",
    "openssl": "openssl",
    "pkg-config": "pkg-config",
    "unshare": "util-linux",
    "/usr/include/seccomp.h": "libseccomp-dev",
}
IMAGES = {"buildah": "buildah", "debootstrap": "debootstrap"}


def missing(needed: dict[str, str]) -> list[str]:
    """Return the packages of `needed` that are not installed."""
    return [
        package
        for name, package in needed.items()
        if not (Path(name).exists() if name.startswith("/") else shutil.which(name))
    ]


def require(needed: dict[str, str], what: str) -> None:
    """Raise NotHereError with the command that installs what is missing."""
    packages = missing(needed)
    if packages:
        raise NotHereError(f"{what} needs {', '.join(packages)}: sudo apt-get install -y {' '.join(packages)}")


def install() -> list[str]:
    """Install what is missing by apt-get, as root, and return the packages.

    Raises
    ------
    ClusterError
        apt-get failed or cannot be used.
    """
    packages = missing({**NODE, **IMAGES})
    if not packages:
        return []
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ClusterError(f"Installing {', '.join(packages)} takes root and apt-get: sudo {' '.join(command)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (["apt-get", "update"], command):
        done = subprocess.run(step, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ClusterError(f"{' '.join(step)} failed: {done.stderr.strip()}")
    return packages
