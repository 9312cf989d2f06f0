"""The node level: a whole one-node Kubernetes that runs pods, as root on Linux.

To the api level it adds containerd, kubelet, kube-scheduler, kube-proxy and CoreDNS, all of it in a `Sandbox`. Only the
images are kept from one run to the next, in `.cache/cluster/containerd`.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cluster import build, machine, packages, sandbox
from cluster.api import SERVICE_RANGE, ApiCluster
from cluster.errors import ClusterError, NotHereError
from cluster.sandbox import Sandbox
from cluster.scratch import write_image

PAUSE_IMAGE = "localhost/pause:1"
DOMAIN = "cluster.local"

CONTAINERD_CONFIG = """
version = 3
root = "{cache}"
state = "{folder}/containerd"

[grpc]
address = "{folder}/containerd.sock"

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{pause}"

[plugins.'io.containerd.cri.v1.runtime']
# Root may lack CAP_SYS_RESOURCE, as in a container, and cannot lower oom_score_adj then.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{cni}"]
conf_dir = "{folder}/cni"
use_internal_loopback = true

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
options = {{ BinaryName = "{runc}" }}
"""

COREFILE = """
. {{
    bind {address}
    errors
    kubernetes {domain} {{
        kubeconfig {kubeconfig}
        ttl 1
    }}
}}
"""


class NodeCluster(ApiCluster):
    """A Kubernetes with one node, from `with` to the end of the block; a machine can have one at a time.

    The API server and the pods can be reached from the host by their addresses, and a program on the host by the pods
    at `host_address`. Nothing else can be reached from in there.
    """

    level = "node"
    endpoint_reconciler = "lease"
    node_name = "node"
    host_address = sandbox.HOST_ADDRESS

    def __init__(self) -> None:
        super().__init__(build.NEWEST)
        self.address = sandbox.ADDRESS

    # --- life --------------------------------------------------------------------------------------------------------

    def build(self) -> None:
        if sys.platform != "linux" or os.geteuid() != 0:
            raise NotHereError("A node runs containers, which takes root on Linux: run this as root.")
        packages.require(packages.NODE, "A node")
        super().build()
        kubernetes = build.programs(build.KUBERNETES[build.NEWEST], "kubelet", "kube-proxy", "kube-scheduler")
        containerd = build.programs(build.CONTAINERD)
        self._programs = {**kubernetes, **containerd, **build.programs(build.CNI)}
        for name, tools in (("runc", build.RUNC), ("coredns", build.COREDNS), ("pause", build.PAUSE)):
            self._programs[name] = build.program(name, tools)

    def _open(self, stack: contextlib.ExitStack) -> None:
        stack.enter_context(machine.claim())
        super()._open(stack)

    @staticmethod
    def remove_leftovers(folder: Path) -> None:
        """Remove what a run has outside its folder once it is dead: interface, cgroups, mount points."""
        sandbox.remove_leftovers(folder)

    def _start(self) -> None:
        self._sandbox = Sandbox(self.processes)
        self._sandbox.start(SERVICE_RANGE)
        super()._start()
        self._start_containerd()
        self._start_network()
        self._start_kubelet()
        self._wait_for_node()

    # --- what tests use ----------------------------------------------------------------------------------------------

    def import_image(self, archive: Path) -> None:
        """Import an OCI or Docker archive whose image has a full name (registry/name:tag); it stays for later runs."""
        # A layer that is unpacked is not kept packed as well, which would be another 8 GB for the trainers.
        self._ctr("images", "import", "--local", "--discard-unpacked-layers", str(archive))

    def has_image(self, name: str) -> bool:
        """Return whether an image of that full name was imported, now or in an earlier run."""
        return bool(self._ctr("images", "list", "--quiet", f"name=={name}").strip())

    def enter(self, *argv: str) -> list[str]:
        """Return the command line that runs a program of the host in the cluster's network."""
        return self._sandbox.in_network(argv)

    # --- the programs ------------------------------------------------------------------------------------------------

    def _in_network(self, argv: Sequence[str | Path]) -> Sequence[str | Path]:
        return self._sandbox.in_network(argv)

    def _free_port(self) -> int:
        return 6443

    def _start_containerd(self) -> None:
        cache = build.CACHE / "containerd"
        cache.mkdir(parents=True, exist_ok=True)
        config = CONTAINERD_CONFIG.format(
            cache=cache,
            folder=self.folder,
            pause=PAUSE_IMAGE,
            cni=self._programs["ptp"].parent,
            runc=self._programs["runc"],
        )
        (self.folder / "containerd.toml").write_text(config)
        ipam = {
            "type": "host-local",
            "dataDir": f"{self.folder}/addresses",
            "ranges": [[{"subnet": sandbox.POD_RANGE}]],
        }
        ipam["routes"] = [{"dst": "0.0.0.0/0"}]
        network = {"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "ptp", "ipMasq": False, "ipam": ipam}]}
        (self.folder / "cni").mkdir()
        (self.folder / "cni" / "pods.conflist").write_text(json.dumps(network))
        self._run_containerd()
        self._forget_earlier_pods()
        if not self.has_image(PAUSE_IMAGE):
            self.import_image(write_image(self.folder / "pause.tar", PAUSE_IMAGE, self._programs["pause"]))

    def _forget_earlier_pods(self) -> None:
        """Remove from the cache what is not an image: the pods of the run before, which ended with their sandbox."""
        forgot = False
        for kind, *remove in (
            ("containers", "remove"),
            ("sandboxes", "remove", "--force"),  # there is no process left that it could ask to stop
            ("leases", "delete"),
        ):
            for line in self._ctr(kind, "list").splitlines()[1:]:
                if line:
                    self._ctr(kind, *remove, line.split()[0])
                    forgot = True
        if forgot:
            self.processes.kill("containerd")
            self._run_containerd()  # it has read them at its start

    def _run_containerd(self) -> None:
        containerd = self._programs["containerd"]
        path = f"{containerd.parent}:{os.environ['PATH']}"  # where it looks for its shim
        command = [containerd, "--config", self.folder / "containerd.toml", "--log-level", "warn"]
        self.processes.start("containerd", self._sandbox.inside(command), {"PATH": path})
        self.processes.wait_until(self._containerd_answers, "containerd", "containerd answered")

    def _containerd_answers(self) -> bool:
        return (self.folder / "containerd.sock").exists() and self._run_ctr("version").returncode == 0

    def _start_network(self) -> None:
        proxy = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "hostnameOverride": self.node_name,
            "clientConnection": {"kubeconfig": str(self.kubeconfig)},
            "conntrack": {"maxPerCore": 0},  # would be set for the whole machine
        }
        (self.folder / "kube-proxy.json").write_text(json.dumps(proxy))
        names = COREFILE.format(address=self.address, domain=DOMAIN, kubeconfig=self.kubeconfig)
        (self.folder / "Corefile").write_text(names)
        for name, *flags in (
            ("kube-scheduler", f"--kubeconfig={self.kubeconfig}", "--leader-elect=false", "--secure-port=0"),
            ("kube-proxy", f"--config={self.folder}/kube-proxy.json"),
            ("coredns", f"-conf={self.folder}/Corefile"),
        ):
            self.processes.start(name, self._sandbox.in_network([self._programs[name], *flags]))

    def _start_kubelet(self) -> None:
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.address,
            # The API server reaches it for logs and exec; nobody from outside the sandbox's network can.
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "containerRuntimeEndpoint": f"unix://{self.folder}/containerd.sock",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{sandbox.CGROUP}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "enforceNodeAllocatable": [],
            "clusterDomain": DOMAIN,
            "clusterDNS": [self.address],
            "resolvConf": "",
            "podLogsDir": f"{self.folder}/pod-logs",
            "volumePluginDir": f"{self.folder}/volume-plugins",
            "serializeImagePulls": False,
            # A developer's disk is often fuller than a server's: neither evict pods nor delete cached images for it.
            "evictionHard": {"nodefs.available": "0%", "imagefs.available": "0%"},
            "imageGCHighThresholdPercent": 100,
        }
        (self.folder / "kubelet.json").write_text(json.dumps(config))
        token = self._kubelet_token
        kubeconfig = self._write_kubeconfig(self.folder / "kubelet.kubeconfig", token)
        flags = [
            f"--config={self.folder}/kubelet.json",
            f"--kubeconfig={kubeconfig}",
            f"--hostname-override={self.node_name}",
            f"--node-ip={self.address}",
            f"--root-dir={self.folder}/kubelet",
            f"--cert-dir={self.folder}/kubelet/pki",
            # cAdvisor asks containerd by itself which container is whose.
            f"--containerd={self.folder}/containerd.sock",
        ]
        self.processes.start("kubelet", self._sandbox.inside([self._programs["kubelet"], *flags]))

    def _write_secrets(self) -> None:
        super()._write_secrets()
        self._kubelet_token = self._write_user("kubelet", f"system:node:{self.node_name}", "system:nodes")

    def _wait_for_node(self) -> None:
        wait = ("wait", "--for=condition=Ready", "--timeout=1s", f"node/{self.node_name}")
        is_ready = lambda: self.kubectl(*wait, check=False).returncode == 0  # noqa: E731
        self.processes.wait_until(is_ready, "kubelet", "the node was Ready")

    def _ctr(self, *args: str) -> str:
        done = self._run_ctr("--namespace=k8s.io", *args)
        if done.returncode:
            raise ClusterError(f"ctr {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout

    def _run_ctr(self, *args: str) -> subprocess.CompletedProcess[str]:
        command = self._sandbox.inside([self._programs["ctr"], f"--address={self.folder}/containerd.sock", *args])
        return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
