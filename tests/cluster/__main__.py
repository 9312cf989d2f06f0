"""The cluster from the command line: `PYTHONPATH=tests python -m cluster up | down | demo | images | packages`.

`up` leaves a process of its own behind, which holds the node cluster until `down` ends it.
"""

import os
import signal
import subprocess
import sys
from typing import NoReturn

import psutil

from cluster import build, folders, machine, packages
from cluster.errors import ClusterError
from cluster.node import NodeCluster

# What `up` starts; also how `down` knows it from the cluster of a test run.
KEEPER = "keep"


def up() -> None:
    """Start the node cluster in the background and print what makes kubectl talk to it."""
    pid = machine.holder()
    if pid is None or not _is_keeper(pid):  # a test run's cluster is refused by the claim
        pid = _start_keeper()
    folder = folders.folder_of(NodeCluster.level, pid)
    kubectl = build.program("kubectl", build.KUBERNETES[build.NEWEST])
    helm = build.program("helm", build.HELM)
    values = {
        "KUBECONFIG": f"{folder}/kubeconfig",
        "KUBECACHEDIR": f"{folder}/kubectl-cache",
        "PATH": f"{kubectl.parent}:{helm.parent}:$PATH",
    }
    sys.stdout.write("".join(f"export {name}={value}\n" for name, value in values.items()))


def down() -> None:
    """End the cluster of `up`, and remove what crashed runs left."""
    pid = machine.holder()
    if pid is not None:
        if not _is_keeper(pid):
            raise ClusterError(f"Process {pid} runs the node cluster of its own tests: end that process instead.")
        keeper = psutil.Process(pid)
        try:
            keeper.terminate()
        except psutil.AccessDenied:
            raise ClusterError(f"Process {pid} belongs to {keeper.username()}: run this as that user.") from None
        keeper.wait(timeout=120)
    if os.geteuid() == 0:
        folders.sweep(NodeCluster.level, NodeCluster.remove_leftovers)


def keep() -> None:
    """Hold the node cluster until SIGTERM."""
    signal.signal(signal.SIGTERM, _exit)
    with NodeCluster():
        sys.stdout.write("Ready\n")
        sys.stdout.flush()
        # What was started from a pipe must not keep that pipe open for as long as the cluster is up.
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        while True:
            signal.pause()


def images() -> None:
    """Build the project's images."""
    from cluster.images import build_images

    build_images()


def install_packages() -> None:
    """Install the Debian packages that are missing."""
    installed = packages.install()
    sys.stdout.write(f"Installed {', '.join(installed)}.\n" if installed else "All packages are there.\n")


def demonstrate() -> None:
    """Show the whole story on a cluster of its own."""
    from cluster.demo import demo

    sys.exit(demo())


COMMANDS = {
    "up": up,
    "down": down,
    KEEPER: keep,
    "demo": demonstrate,
    "images": images,
    "packages": install_packages,
}


def main() -> None:
    """Run one command; what goes wrong is one sentence."""
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        sys.exit("usage: python -m cluster up|down|demo|images|packages")
    try:
        COMMANDS[sys.argv[1]]()
    except ClusterError as error:
        sys.exit(f"feedline: {error}")


def _start_keeper() -> int:
    """Start the process that holds the cluster, wait until the node is Ready, and return its pid."""
    command = [sys.executable, "-m", "cluster", KEEPER]
    keeper = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        told = keeper.stdout.readline()
    except KeyboardInterrupt:
        keeper.terminate()
        keeper.wait()
        raise
    if not told:
        sys.exit(keeper.wait())  # it has said why
    return keeper.pid


def _is_keeper(pid: int) -> bool:
    return psutil.Process(pid).cmdline()[-3:] == ["-m", "cluster", KEEPER]


def _exit(*_: object) -> NoReturn:
    raise SystemExit


if __name__ == "__main__":
    main()
