"""Data for pods: the digits, packed by feedline itself, on a volume of the node."""

import os
import subprocess
import sys
from pathlib import Path

from cluster.api import ApiCluster
from cluster.operators import ROOT

TRAINER = 65532
"""The user of the trainer's images, who owns what trainers write: a hostPath knows no fsGroup."""


def pack_digits(folder: Path) -> Path:
    """Pack the digits into `folder`, readable for every user, and return it."""
    source = ROOT / "examples" / "digits" / "digits.csv.gz"
    options = ["--shape", "8,8", "--scale", "0.0625", "--shuffle-seed", "7", "--overwrite"]
    subprocess.run(
        [Path(sys.executable).with_name("feedline"), "pack", source, folder, *options], check=True, capture_output=True
    )
    share(folder)
    return folder


def share(folder: Path) -> None:
    """Let every user read a folder and the files in it."""
    folder.chmod(0o755)
    for file in folder.iterdir():
        file.chmod(0o644)


def claim(cluster: ApiCluster, namespace: str, folder: Path, name: str = "digits", mode: str = "ReadOnlyMany") -> None:
    """Make a folder of the node a PersistentVolumeClaim of a namespace."""
    volume = f"{name}-{namespace}"
    common = {"accessModes": [mode], "storageClassName": "", "volumeName": volume}
    cluster.apply(
        [
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": volume},
                "spec": {
                    "capacity": {"storage": "1Gi"},
                    "accessModes": [mode],
                    "claimRef": {"namespace": namespace, "name": name},
                    "hostPath": {"path": str(folder), "type": "Directory"},
                },
            },
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {**common, "resources": {"requests": {"storage": "1Gi"}}},
            },
        ]
    )


def output(cluster: ApiCluster, namespace: str, folder: Path, name: str = "runs") -> Path:
    """Make a folder that the trainers may write to, and a claim of it; return the folder."""
    folder.mkdir()
    os.chown(folder, TRAINER, TRAINER)
    claim(cluster, namespace, folder, name, mode="ReadWriteMany")
    return folder
