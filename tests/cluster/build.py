"""Builds the programs of the cluster from the Go modules that `tools/*/go.mod` pin, once.

Each folder below `tools/` is a Go module of its own, so that no two of them have to agree on a dependency. Those that do
agree share what Go has compiled: helm, CoreDNS, Prometheus and prometheus-operator have client-go and what it needs in
the same versions. A program lies in `.cache/cluster/bin/FOLDER-HASH/`, where the hash covers go.mod, go.sum, the sources
and the flags; it gets there by a rename, so that what is there is whole. Nothing in here knows how the programs are run.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import ClusterError, NotHereError

TOOLS = Path(__file__).parent / "tools"
CACHE = Path(__file__).parents[2] / ".cache" / "cluster"

# With a cold cache, and tests beside it on two cores, the whole of Kubernetes takes about 10 minutes.
BUILD_SECONDS = 3600

# On a large package Go's compiler spends a fifth of its time on collecting garbage, in a process that lives for seconds.
_GARBAGE_PERCENT = "400"


@dataclass(frozen=True)
class Tools:
    """One folder of `tools/` and the packages in it, by the name of the program that they become.

    Who asks for one of the programs `together` gets all of them: they share most of their packages, and while one is
    linked the next is compiled.
    """

    folder: str
    packages: dict[str, str]
    tags: str = ""
    cgo: bool = False
    together: tuple[str, ...] = ()

    @property
    def flags(self) -> list[str]:
        # Nobody debugs these, and what is made for a debugger is a seventh of the compiler's work on a large package.
        # All programs have the same flags, without which none would share a compiled package with another.
        flags = ["-trimpath", "-buildvcs=false", "-mod=readonly", "-gcflags=all=-dwarf=false"]
        if self.tags:
            flags += ["-tags", self.tags]
        return [*flags, "-ldflags", " ".join(["-s", "-w", *self._version_variables()])]

    @property
    def bin(self) -> Path:
        digest = hashlib.sha256(" ".join([*self.flags, str(self.cgo)]).encode())
        for path in sorted((TOOLS / self.folder).iterdir()):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
        return CACHE / "bin" / f"{self.folder}-{digest.hexdigest()[:12]}"

    def _version_variables(self) -> list[str]:
        """Return the linker's assignments without which Kubernetes calls itself v0.0.0 and refuses its own parts."""
        match = re.search(r"k8s\.io/kubernetes v((\d+)\.(\d+)\.\d+)", (TOOLS / self.folder / "go.mod").read_text())
        if match is None:
            return []
        version, major, minor = match.groups()
        values = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor}
        return [f"-X k8s.io/component-base/version.{name}={value}" for name, value in values.items()]


def _kubernetes(version: str, *programs: str) -> Tools:
    packages = {name: f"k8s.io/kubernetes/cmd/{name}" for name in programs}
    return Tools(f"kubernetes-{version}", packages, together=("kube-apiserver", "kube-controller-manager"))


_CONTAINERD = "github.com/containerd/containerd/v2/cmd"
_PLUGINS = "github.com/containernetworking/plugins/plugins"

KUBERNETES = {
    "1.36": _kubernetes(
        "1.36", "kube-apiserver", "kube-controller-manager", "kubectl", "kubelet", "kube-proxy", "kube-scheduler"
    ),
    "1.34": _kubernetes("1.34", "kube-apiserver", "kube-controller-manager"),
}
NEWEST = "1.36"
OLDEST = "1.34"

ETCD = Tools("etcd", {"etcd": "."})
CONTAINERD = Tools(
    "containerd",
    {name: f"{_CONTAINERD}/{name}" for name in ("containerd", "containerd-shim-runc-v2", "ctr")},
    tags="no_devmapper,no_tracing,no_zfs",  # images are unpacked by overlayfs, and nobody collects spans
)
CNI = Tools("cni", {Path(name).name: f"{_PLUGINS}/{name}" for name in ("main/ptp", "ipam/host-local")})
RUNC = Tools("runc", {"runc": "github.com/opencontainers/runc"}, tags="seccomp", cgo=True)
COREDNS = Tools("coredns", {"coredns": "."})
HELM = Tools("helm", {"helm": "helm.sh/helm/v4/cmd/helm"})
KWOK = Tools("kwok", {"kwok": "sigs.k8s.io/kwok/cmd/kwok"})
PAUSE = Tools("pause", {"pause": "."})
PROBE = Tools("probe", {"probe": "."})
PROMETHEUS = Tools(
    "prometheus",
    {name: f"github.com/prometheus/prometheus/cmd/{name}" for name in ("prometheus", "promtool")},
    tags="remove_all_sd,enable_kubernetes_sd",  # all others are clients of clouds; targets by name and files stay
)
PROMETHEUS_OPERATOR = Tools("prometheus-operator", {"prometheus-operator": "."})
SLOWFS = Tools("slowfs", {"slowfs": "."})


def program(name: str, tools: Tools) -> Path:
    """Return the path of one program, built now if it was not.

    Raises
    ------
    NotHereError
        There is no Go here.
    ClusterError
        The build failed.
    """
    return programs(tools, name)[name]


def programs(tools: Tools, *names: str) -> dict[str, Path]:
    """Return the paths of some programs of `tools`, of all of them by default; those that are missing are built."""
    paths = {name: tools.bin / name for name in names or tools.packages}
    if not all(path.exists() for path in paths.values()):
        tools.bin.mkdir(parents=True, exist_ok=True)
        with (tools.bin / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another run may be building the same
            for left in tools.bin.glob(".building-*"):  # by a build that was killed
                shutil.rmtree(left)
            _build(tools, [name for name in _wanted(tools, paths) if not (tools.bin / name).exists()])
    return paths


def module(tools: Tools, path: str) -> Path:
    """Return the folder of a module's source, in Go's module cache.

    Raises
    ------
    NotHereError
        There is no Go here.
    """
    done = subprocess.run(
        [_go(), "mod", "download", "-json", path],
        cwd=TOOLS / tools.folder,
        env={**os.environ, "GOWORK": "off", "GOFLAGS": ""},
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    return Path(json.loads(done.stdout)["Dir"])


def asset(name: str) -> Path | None:
    """Return a program of the folder that KUBEBUILDER_ASSETS names, as users of envtest expect, if it is there."""
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    path = Path(folder or "/nowhere") / name
    return path if path.is_file() else None


def _wanted(tools: Tools, names: Iterable[str]) -> list[str]:
    """Return these names and those of the programs that are built together with them, unless one is there already."""
    wanted = list(names)
    if any(name in tools.together for name in wanted):
        wanted += [name for name in tools.together if name not in wanted and asset(name) is None]
    return wanted


def _build(tools: Tools, names: list[str]) -> None:
    if not names:
        return
    go = _go()
    sys.stderr.write(f"Building {', '.join(names)} (once; kept in {tools.bin})\n")
    with tempfile.TemporaryDirectory(dir=tools.bin, prefix=".building-") as scratch:
        # A folder as -o names each program after its package.
        command = ["nice", go, "build", *tools.flags, "-o", f"{scratch}/", *(tools.packages[name] for name in names)]
        environment = {**os.environ, "CGO_ENABLED": "1" if tools.cgo else "0", "GOWORK": "off", "GOFLAGS": ""}
        environment["GOGC"] = _GARBAGE_PERCENT
        done = subprocess.run(
            command,
            cwd=TOOLS / tools.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
        if done.returncode:
            last = "\n".join(done.stdout.strip().splitlines()[-5:])
            raise ClusterError(f"{' '.join(names)} could not be built by go build in {TOOLS / tools.folder}: {last}")
        for name in names:
            (Path(scratch) / name).rename(tools.bin / name)


def _go() -> str:
    go = shutil.which("go")
    if go is None:
        raise NotHereError(
            "There is no Go here, which builds Kubernetes for these tests: install Go 1.26 or newer (https://go.dev/dl) "
            "and put its bin folder on the PATH."
        )
    return go
