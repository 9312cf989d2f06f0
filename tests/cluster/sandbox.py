"""The machine within the machine on which the node runs: its own network, mounts and processes.

One process is the sandbox. When it dies, however that comes about, the kernel ends every process in it, drops every
mount and deletes the network with its veth pair; only cgroups and empty mount points are left, for `remove_leftovers`.
Nothing can leave it: it has no default route, and the host's firewall is not touched.
"""

import contextlib
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from cluster.errors import ClusterError
from cluster.processes import Processes

# Few networks use these; the host gets a route to the pods, so that a program on it can talk to them.
HOST_ADDRESS = "10.213.65.1"
ADDRESS = "10.213.65.2"
POD_RANGE = "10.213.64.0/24"
_INTERFACE = "feedline0"

_CGROUPS = Path("/sys/fs/cgroup")
CGROUP = "feedline-node"

# Paths that kubelet, containerd and CNI have no option for: an empty tmpfs hides the host's.
HIDDEN = ("/run/containerd", "/var/lib/cni", "/var/lib/kubelet", "/var/log/containers")

# kubelet sets these for the whole machine unless they already read so: files with its values are mounted over them.
_TUNABLES = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}

# Process 1: it ignores SIGCHLD, so that the kernel reaps what is orphaned here, and hands that down to sleep.
_INIT = """
set -e
mount --make-rshared /
for path in {hidden}; do mount -t tmpfs -o mode=755 tmpfs "$path"; done
for name in {tunables}; do mount --bind "$1/sysctl/$name" "/proc/sys/$name"; done
echo 1 >/proc/sys/net/ipv4/ip_forward
touch "$1/sandbox-is-ready"
trap '' CHLD
exec sleep infinity
"""


class Sandbox:
    """The namespaces of the node, from `start` until the processes are killed and `remove_leftovers` has run."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._folder = processes.folder
        self._pid = 0

    def start(self, service_range: str) -> None:
        """Make the namespaces and join them to the host by a veth pair."""
        self._prepare()
        script = _INIT.format(hidden=" ".join(HIDDEN), tunables=" ".join(_TUNABLES))
        namespaces = ["--net", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
        unshare = self._processes.start(
            "sandbox", ["unshare", *namespaces, "sh", "-c", script, "sandbox", self._folder]
        )
        ready = (self._folder / "sandbox-is-ready").exists
        self._processes.wait_until(ready, "sandbox", "the namespaces were there")
        self._pid = psutil.Process(unshare).children()[0].pid
        self._join(service_range)

    def in_network(self, argv: Sequence[str | Path]) -> list[str]:
        """Return the command line that runs a program of the host in the sandbox's network."""
        return ["nsenter", f"--target={self._pid}", "--net", "--", *map(str, argv)]

    def inside(self, argv: Sequence[str | Path]) -> list[str]:
        """Return the command line that runs a program in the sandbox, which it does not outlive."""
        return ["nsenter", f"--target={self._pid}", "--net", "--mount", "--pid", "--", *map(str, argv)]

    def _prepare(self) -> None:
        made = [path for path in HIDDEN if not Path(path).exists()]
        (self._folder / "mount-points").write_text("\n".join(made))
        for path in made:
            Path(path).mkdir(parents=True)
        for name, value in _TUNABLES.items():
            file = self._folder / "sysctl" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{value}\n")
        for hierarchy in _hierarchies():
            with contextlib.suppress(OSError):  # cgroup v2 only: hand the controllers down, as kubelet would
                for controller in (hierarchy / "cgroup.controllers").read_text().split():
                    (hierarchy / "cgroup.subtree_control").write_text(f"+{controller}")
            (hierarchy / CGROUP).mkdir(exist_ok=True)
        _count_reads(self._folder)

    def _join(self, service_range: str) -> None:
        # The host's first: what is inside cannot come up before the pair is there.
        for line in (
            f"link add {_INTERFACE} type veth peer name eth0 netns {self._pid}",
            f"address add {HOST_ADDRESS}/30 dev {_INTERFACE}",
            f"link set {_INTERFACE} up",
            f"route add {POD_RANGE} via {ADDRESS}",
        ):
            _ip(line)
        for line in (
            "link set lo up",
            f"address add {ADDRESS}/30 dev eth0",
            "link set eth0 up",
            # Without any route, a call to a Service from in here fails before kube-proxy's rules see it.
            f"route add {service_range} dev eth0 src {ADDRESS}",
        ):
            _ip(line, self.in_network([]))


def remove_leftovers(folder: Path) -> None:
    """Remove what is left of a sandbox that is dead: its end of the veth pair, its cgroups, its mount points."""
    subprocess.run(["ip", "link", "delete", _INTERFACE], capture_output=True, timeout=30, check=False)
    deadline = time.monotonic() + 120
    for hierarchy in _hierarchies():
        while (hierarchy / CGROUP).exists():
            _remove_cgroups(hierarchy / CGROUP)
            time.sleep(0.02)
            if time.monotonic() > deadline:
                raise ClusterError(f"{hierarchy / CGROUP} is still in use: a process of an earlier node cluster lives.")
    with contextlib.suppress(FileNotFoundError):
        for path in (folder / "mount-points").read_text().split():
            with contextlib.suppress(OSError):  # not empty: somebody else's by now
                Path(path).rmdir()


def _remove_cgroups(root: Path) -> None:
    """Remove a cgroup and those below it; one whose last process is just ending stays for another try."""
    for path, _, _ in os.walk(root, topdown=False):
        with contextlib.suppress(OSError):
            Path(path).rmdir()


def _count_reads(folder: Path) -> None:
    """Have the kernel count the pods' reads from the disk, as cgroup v1 does only once some limit is set on it."""
    device = folder.stat().st_dev
    with contextlib.suppress(OSError):  # cgroup v2 counts anyway, and some disks have no number of their own
        limit = _CGROUPS / "blkio" / CGROUP / "blkio.throttle.read_bps_device"
        limit.write_text(f"{os.major(device)}:{os.minor(device)} {2**60}")


def _hierarchies() -> list[Path]:
    """Return the roots of the cgroup hierarchies: one in version 2, one for each controller in version 1."""
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS]
    return sorted(path for path in _CGROUPS.iterdir() if path.is_dir() and not path.is_symlink())


def _ip(line: str, prefix: Sequence[str] = ()) -> None:
    command = [*prefix, "ip", *line.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise ClusterError(f"ip {line}: {done.stderr.strip()}; does another network here use that address?")
