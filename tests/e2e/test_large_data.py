"""Data four times the memory of a pod: it trains at the disk's pace, says so, and nobody is killed."""

import os
import shutil

import numpy as np
import pytest
from cluster import data

ROWS, ROW_SHAPE = 1_720_000, (25, 25)
"""4.3 GB, four times what the pod may use."""
CODE = """
def train(run):
    for _ in run.epochs():
        for batch in run.train:
            run.report(last=float(batch["features"][0, 0, 0]))
"""


@pytest.fixture
def large(digits):
    """Yield a folder with the rows and their labels, none of it in memory; a disk holds them only while they are used."""
    folder = digits.parent / "large"
    folder.mkdir()
    chunk = np.random.default_rng(0).random((20_000, *ROW_SHAPE), np.float32)
    with (folder / "features.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (ROWS, *ROW_SHAPE)}
        np.lib.format.write_array_header_1_0(file, header)
        for begin in range(0, ROWS, len(chunk)):
            chunk[: ROWS - begin].tofile(file)
    np.save(folder / "labels.npy", np.arange(ROWS, dtype=np.int32) // (ROWS // 10))
    data.share(folder)
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    yield folder
    shutil.rmtree(folder)


WAYS = {"Full": "Read ahead of need", "Block": "Read past the page cache ahead of need"}


@pytest.mark.parametrize("mode", WAYS)
def test_data_four_times_the_memory_are_trained_on(mode, large, submit, becomes, cluster, namespace):
    data.claim(cluster, namespace, large, "large")
    code = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "code", "namespace": namespace}}
    cluster.apply(code | {"data": {"reader.py": CODE}})
    arrays = [
        {"name": "features", "path": "large/features.npy", "role": "Input"},
        {"name": "labels", "path": "large/labels.npy", "role": "Target"},
    ]
    volumes = [{"name": "large", "persistentVolumeClaim": {"claimName": "large"}}]
    name = submit(
        name=f"large-{mode.lower()}",
        data={
            "volumes": volumes,
            "train": {"arrays": arrays},
            "validation": {"arrays": arrays, "rows": {"stop": 1000}},
        },
        loader={"batchSize": 256, "shuffle": {"mode": mode}},
        train={
            "entrypoint": "reader:train",
            "source": {"configMap": {"name": "code"}},
            "epochs": None,
            "seconds": 20,
        },
        resources={"cpu": "1500m", "memory": "1Gi"},
    )
    done = becomes(name, "Completed", seconds=240)
    status, report = done["status"], done["status"]["report"]
    assert [attempt["exitCode"] for attempt in status["attempts"]] == [0], "nothing was killed"
    assert report["bytes"] > 100 << 20
    assert report["diskSamples"] > report["samples"] // 2
    assert done["conditions"]["InputBound"]["status"] == "True"
    assert done["conditions"]["InputBound"]["reason"] == "Disk"
    assert report["verdict"]["advice"].startswith("The data do not fit into memory")
    assert f"features: {WAYS[mode]}: " in report["paging"]
    assert report["diskRandomLimitPermille"] > 0
    assert report["diskSequentialLimitPermille"] > 0
    log = cluster.kubectl("logs", status["attempts"][0]["pod"], "-n", namespace).stdout
    assert f"train features: {WAYS[mode]}: " in log
    assert ("Block shuffle mixes 64 blocks of 419 rows" in log) == (mode == "Block")
