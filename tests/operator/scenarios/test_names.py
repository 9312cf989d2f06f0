"""Names and texts: how long, which letters, and whose the name is."""

import json

import pytest
from cluster.errors import ClusterError
from cluster.rest import JOBS

from feedline.contract import ANNOTATION_MANIFEST

LONGEST = "a234567890123456789012345678901234567890123456789-52"
JOB = {
    "metadata": {"name": "digits"},
    "spec": {
        "suspend": True,
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}},
    },
}


def test_a_name_of_52_characters_runs(world):
    world.submit(LONGEST)
    done = world.completes(LONGEST)
    (pod,) = world.pods(LONGEST)
    assert pod["spec"]["hostname"] == f"{LONGEST}-0"
    assert done["status"]["attempts"][0]["pod"] == pod["metadata"]["name"]


@pytest.mark.parametrize("name", [f"{LONGEST}3", "digits.v2", "Digits", "digits-"])
def test_a_name_that_its_pods_could_not_bear_is_refused(world, name):
    with pytest.raises(ClusterError, match=r"at most 52 lower-case letters|RFC 1123"):
        world.submit(name)


def test_unicode_reaches_the_trainer_as_it_was_written(world):
    arrays = [
        {"name": "features", "path": "digits/Größe 2/特徴 [1].npy", "role": "Input"},
        {"name": "labels", "path": "digits/étiquettes.npy", "role": "Target"},
    ]
    parameters = {"optimiser": "アダム", "note": 'a "b" \\ \u2028 🚀', "rate": 0.25, "deep": True, "layers": 3}
    volumes = [{"name": "digits", "persistentVolumeClaim": {"claimName": "digits"}}]
    world.submit(
        data={"volumes": volumes, "train": {"arrays": arrays}},
        train={"entrypoint": "feedline.models:train", "epochs": 1, "parameters": parameters},
        pod={"annotations": {"example.com/owner": "Zoë 🦊"}},
    )
    pod = world.pod_of()
    manifest = json.loads(pod["metadata"]["annotations"][ANNOTATION_MANIFEST])
    assert manifest["data"]["train"]["arrays"] == arrays
    assert manifest["train"]["parameters"] == parameters
    assert pod["metadata"]["annotations"]["example.com/owner"] == "Zoë 🦊"
    world.kubelet.run(pod)
    world.becomes("Running")
    world.ends(pod, 65, message=json.dumps({"reason": "DataInvalid", "exitCode": 65, "message": "特徴 [1].npy: 行 7"}))
    world.becomes("DataInvalid", says="特徴 [1].npy: 行 7")


@pytest.mark.parametrize("there", ["before", "meanwhile"])
def test_a_job_of_that_name_that_is_not_feedline_s_is_told_and_waited_for(world, there):
    jobs = f"{JOBS}/namespaces/{world.namespace}/jobs"
    if there == "before":
        world.rest.do("POST", jobs, JOB)
    else:
        world.submit(suspend=True)
        world.becomes("Suspended")
        world.rest.do("POST", jobs, JOB)
    if there == "before":
        world.submit()
    else:
        world.change(suspend=False)
    pending = world.becomes("Pending", says="A Job digits is there already and is not feedline's: delete it")
    assert pending["conditions"]["Succeeded"]["status"] == "Unknown"
    assert world.job()["metadata"].get("ownerReferences") is None
    world.rest.do("DELETE", f"{jobs}/digits", propagationPolicy="Background")
    world.job_of(seconds=120)
    world.completes()
