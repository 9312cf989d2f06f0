"""The real trainer in real pods: each backend, each engine, the ways in which people bring data and code."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from cluster import data
from cluster.images import data_image
from cluster.operators import eventually

OWN = Path(__file__).parents[2] / "examples" / "own-model"
ONE_CPU = {"cpu": "1", "memory": "2Gi"}
HASH = """
import hashlib
import feedline
import numpy as np

def train(run):
    digest = hashlib.sha256()
    for _ in run.epochs():
        for batch in run.train:
            for name in sorted(batch):
                digest.update(np.ascontiguousarray(batch[name]).tobytes())
    run.report(first_batches=int(digest.hexdigest()[:12], 16))
"""


def config_map(cluster, namespace, name, **files):
    cluster.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": files}
    )


@pytest.mark.parametrize("backend", ["pytorch", "tensorflow", "keras"])
def test_the_digits_are_learned_by_the_feed_and_by_the_classic_loader(backend, submit, becomes, cluster, namespace):
    names = {
        engine: submit(
            name=f"{backend}-{engine.lower()}", backend=backend, resources=ONE_CPU, loader={"engine": engine}
        )
        for engine in ("Feed", "Classic")
    }
    for engine, name in names.items():
        done = becomes(name, "Completed", seconds=240)
        report = done["status"]["report"]
        assert (report["backend"], report["engine"]) == (backend, engine)
        accuracy = report["values"].get("val_accuracy") or report["values"]["accuracy"]
        assert float(accuracy) >= 0.93
        assert done["status"]["failures"] == 0
        assert [attempt["exitCode"] for attempt in done["status"]["attempts"]] == [0]
    shown = cluster.kubectl("get", "tp", names["Feed"], "-n", namespace).stdout.splitlines()
    headings = [heading for heading in shown[0].split() if heading != "OBJECTIVE"]  # it has none
    columns = dict(zip(headings, shown[1].split(), strict=True))
    assert columns["STATE"] == "Completed"
    assert int(columns["STEPS"]) == 30 * (1500 // 32)
    assert backend == "keras" or 0 <= int(columns["WAIT‰"]) <= 1000


def test_status_follows_a_running_pipeline(submit, becomes, pipeline, cluster, namespace):
    name = submit(train={"epochs": None, "seconds": 600}, resources=ONE_CPU)
    running = becomes(name, "Running")
    assert running["conditions"]["PodsReady"]["status"] == "True"
    first = eventually(lambda: pipeline(name)["status"].get("feed", {}).get("steps"), "steps are reported", 90)
    eventually(lambda: pipeline(name)["status"]["feed"]["steps"] > first, "the steps go on", 60)
    seen = pipeline(name)
    assert seen["conditions"]["InputBound"]["status"] in {"True", "False"}
    assert 0 <= seen["status"]["feed"]["waitPermille"] <= 1000

    families = _scrape(cluster, seen)
    assert families["feedline_trainer_steps"] > 0
    assert families["feedline_trainer_batch_fetch_duration_seconds"] > 0
    cluster.kubectl("delete", "tp", name, "-n", namespace)


def _scrape(cluster, found):
    import urllib.request

    from prometheus_client.parser import text_string_to_metric_families

    namespace, pod = found["metadata"]["namespace"], found["status"]["attempts"][0]["pod"]
    address = cluster.get("pod", pod, "-n", namespace)["status"]["podIP"]
    with urllib.request.urlopen(f"http://{address}:9464/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        family.name: max((sample.value for sample in family.samples), default=0)
        for family in text_string_to_metric_families(text)
    }


def test_code_of_ones_own_comes_from_a_config_map(submit, becomes, cluster, namespace):
    config_map(cluster, namespace, "my-code", **{path.name: path.read_text() for path in OWN.glob("own_p*.py")})
    source = {"configMap": {"name": "my-code"}}
    function = submit("own-model", name="function", train={"source": source}, resources=ONE_CPU, output=None)
    command = ["python", "/code/own_program.py"]
    train = {"source": source, "entrypoint": None, "command": command}
    program = submit("own-model", name="program", train=train, resources=ONE_CPU, output=None)
    for name in (function, program):
        done = becomes(name, "Completed", seconds=180)
        assert float(done["status"]["report"]["values"]["val_accuracy"]) >= 0.93


def test_an_image_volume_and_a_claim_give_the_same_rows(submit, becomes, cluster, namespace, digits):
    image = "feedline.dev/test-digits:1"
    archive = data_image(digits, image)
    try:
        cluster.import_image(archive)
    finally:
        archive.unlink()
    config_map(cluster, namespace, "hash", **{"hashing.py": HASH})
    train = {
        "entrypoint": "hashing:train",
        "source": {"configMap": {"name": "hash"}},
        "epochs": None,
        "steps": 100,
    }
    claimed = submit(name="claimed", train=train, resources=ONE_CPU)
    volumes = [{"name": "digits", "image": {"reference": image, "pullPolicy": "Never"}}]
    pictured = submit(name="pictured", train=train, data={"volumes": volumes}, resources=ONE_CPU)
    hashes = {becomes(name, "Completed")["status"]["report"]["values"]["first_batches"] for name in (claimed, pictured)}
    assert len(hashes) == 1
    cluster.kubectl("delete", "tp", pictured, "-n", namespace)


def test_bad_data_fails_in_one_attempt_and_names_the_file(
    submit, becomes, cluster, namespace, digits, tmp_path_factory
):
    folder = shutil.copytree(digits, digits.parent / f"bad-{namespace}")
    whole = (folder / "features.npy").read_bytes()
    (folder / "features.npy").write_bytes(whole[: len(whole) // 2])
    data.share(folder)
    data.claim(cluster, namespace, folder, "bad")
    volumes = [{"name": "digits", "persistentVolumeClaim": {"claimName": "bad"}}]
    failed = becomes(submit(data={"volumes": volumes}, resources=ONE_CPU), "DataInvalid")
    assert "features.npy" in failed["conditions"]["Succeeded"]["message"]
    assert [attempt["exitCode"] for attempt in failed["status"]["attempts"]] == [65]
    assert np.load(digits / "features.npy").shape == (1797, 8, 8)
