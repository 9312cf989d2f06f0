"""What a measurement ran on: processor, memory, kernel, and the versions of the packages it compares."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from feedline.limits import cpu_count, memory_bytes

_PACKAGES = ("feedline", "numpy", "torch", "tensorflow", "keras", "grain", "spdl-core")


def describe() -> dict[str, Any]:
    """Return the machine as JSON; CPUs and memory are what this process may use."""
    return {
        "cpu": _cpu_model(),
        "cpus": cpu_count(),
        "memoryBytes": memory_bytes(),
        "kernel": f"{platform.system()} {platform.release()}",
        "load": round(os.getloadavg()[0], 1),
    }


def versions() -> dict[str, str]:
    """Return the version of Python and of each package that is installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()
    return platform.machine()
