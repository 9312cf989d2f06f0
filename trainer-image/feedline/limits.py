"""What this process may use: CPUs and memory as its cgroup (v1 or v2) and its affinity allow, not as the host has.

Every function takes the root of the file system it reads, so that tests can show it any machine; no number is
cached, because limits of a running pod may be changed in place.
"""

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

_ROOT = Path("/")


def cpu_count(root: Path = _ROOT) -> float:
    """Return the CPUs this process may use: the smaller of its affinity and its cgroups' quotas."""
    cpus = float(len(os.sched_getaffinity(0)))
    for folder in _cgroup_folders(root, "cpu"):
        quota, period = _cpu_quota(folder)
        if quota > 0 and period > 0:
            cpus = min(cpus, quota / period)
    return cpus


def limited_cpus(root: Path = _ROOT) -> int | None:
    """Return the CPUs that this process is held to, rounded up; None where it may use all that the host has."""
    cpus = math.ceil(cpu_count(root))
    return cpus if cpus < (os.cpu_count() or 1) else None


def computing_threads(root: Path = _ROOT) -> int:
    """Return how many threads compute side by side without taking the feed's CPU: one less than there are, at least 1.

    OpenMP's threads spin while they wait for each other. A step whose partner has no CPU then waits for whole time
    slices: measured on 2 cores with one busy, 70 ms instead of 2 ms (2026-11).
    """
    return max(1, math.ceil(cpu_count(root)) - 1)


def thread_variables(environment: Mapping[str, str], root: Path = _ROOT) -> dict[str, str]:
    """Return variables for libraries that start a thread for each CPU of the host, whatever this process is held to.

    Nothing where it may use all CPUs, and none that `environment` has. What the libraries read when they are loaded:
    OpenMP, and with it torch, OpenBLAS, MKL, numexpr and Arrow, go by OMP_NUM_THREADS unless a variable of their own
    says otherwise, which is left to the user; numba does not.
    """
    if limited_cpus(root) is None:
        return {}
    names = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
    return {name: str(computing_threads(root)) for name in names if name not in environment}


def memory_bytes(root: Path = _ROOT) -> int:
    """Return the bytes of memory this process may use: the smallest limit of its cgroups, or the machine's memory."""
    limits = [_machine_memory(root)]
    for folder in _cgroup_folders(root, "memory"):
        limits += [
            value for file in ("memory.max", "memory.limit_in_bytes") if (value := _number(folder / file)) is not None
        ]
    return min(limits)


def anonymous_bytes(root: Path = _ROOT) -> int:
    """Return the bytes of memory of this process that no file stands for: what the kernel cannot give up."""
    return next(
        (
            int(line.split()[1]) * 1024
            for line in (root / "proc/self/status").read_text().splitlines()
            if line.startswith("RssAnon:")
        ),
        0,
    )


def default_threads(root: Path = _ROOT, processes: int = 1) -> int:
    """Return how many gather threads a feed takes when it is asked for 0: the CPU limit, from 1 to 4.

    Of several processes of a machine each takes its part of them.
    """
    return max(1, min(4, int(cpu_count(root))) // processes)


def _cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """Yield the cgroup folders that bind this process, its own first, then their parents."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / (controller if controllers else "")
        folder = mount / path.lstrip("/")
        # Inside a container the path may be the host's; the mount is then the container's own cgroup.
        while folder != mount and not folder.is_dir():
            folder = folder.parent
        yield folder
        while folder != mount:
            folder = folder.parent
            yield folder


def _cpu_quota(folder: Path) -> tuple[float, float]:
    """Return quota and period in microseconds; a quota of 0 where there is none."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return (0.0 if quota == "max" else float(quota)), float(period)
    except (OSError, ValueError):
        pass
    return float(_number(folder / "cpu.cfs_quota_us") or 0), float(_number(folder / "cpu.cfs_period_us") or 0)


def _machine_memory(root: Path) -> int:
    for line in (root / "proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _number(file: Path) -> int | None:
    """Return the integer in a cgroup file; None where there is no file or no limit."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None
