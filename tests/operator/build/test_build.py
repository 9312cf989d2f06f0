"""The Job of a pipeline: one that uses every field, as a file, and what holds for any."""

import copy
import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from mergepatch import merge
from projects import skip_without
from simulation.documents import SPEC, pipeline

from feedline import contract
from feedline.manifest.schema import pipeline_schema
from feedline.manifest.yamlread import read_yaml
from feedline_operator.build import build_job, build_service, lost_image_volumes, manifest_text

DATA = Path(__file__).parent / "data"
IMAGE = "trainer.example/pytorch:1"
FULL = read_yaml((DATA / "full_pipeline.yaml").read_text(), "full_pipeline.yaml")[0]
ARRAYS = [{"name": "features", "path": "d/features.npy", "role": "Input"}]


def build(document, **options):
    defaults = {"image": IMAGE, "retries": 3, "active_deadline_seconds": None, "security": {}}
    return build_job(document, **{**defaults, **options})


def built(**spec):
    """Return the Job of a pipeline with these fields of the spec changed."""
    return build(pipeline(spec=spec))


def pod_of(job):
    return job["spec"]["template"]["spec"]


def container_of(job):
    (container,) = pod_of(job)["containers"]
    return container


def test_the_full_pipeline_is_one_that_the_api_server_takes():
    document = copy.deepcopy(FULL)
    pipeline_schema().apply_defaults(document)
    assert pipeline_schema().problems(document) == []
    every = pipeline_schema().root["properties"]["spec"]["properties"]["pod"]["properties"]
    assert set(FULL["spec"]["pod"]) == set(every), "a field of spec.pod that the test has not"


def test_the_full_pipeline_makes_the_job_of_the_file():
    job = build(FULL, retries=2, active_deadline_seconds=3600)
    assert job == yaml.safe_load((DATA / "full_job.yaml").read_text())


def test_the_same_pipeline_makes_the_same_job():
    assert build(FULL) == build(copy.deepcopy(FULL))


def test_the_job_is_the_pipelines_and_has_its_name():
    job = built()
    assert job["metadata"]["name"] == "digits"
    (owner,) = job["metadata"]["ownerReferences"]
    assert owner["uid"] == pipeline()["metadata"]["uid"]
    assert owner["controller"]
    assert "blockOwnerDeletion" not in owner


def test_fatal_exit_codes_end_the_job_and_disruptions_do_not_count():
    ignore, fail = built()["spec"]["podFailurePolicy"]["rules"]
    assert (ignore["action"], ignore["onPodConditions"]) == ("Ignore", [{"type": "DisruptionTarget", "status": "True"}])
    assert fail["action"] == "FailJob"
    assert fail["onExitCodes"] == {"containerName": "trainer", "operator": "In", "values": [64, 65, 66, 70, 78]}


def test_the_jobs_deadline_comes_after_the_operators():
    assert "activeDeadlineSeconds" not in built()["spec"]
    assert build(pipeline(), active_deadline_seconds=10)["spec"]["activeDeadlineSeconds"] == 70


def test_labels_of_a_queue_are_copied_to_the_job_and_no_others():
    labels = {"kueue.x-k8s.io/queue-name": "gpus", "kueue.x-k8s.io/priority-class": "high", "team": "a", "x-kueue": "b"}
    job = build(pipeline(metadata={"labels": labels}))
    own = {"feedline.dev/pipeline", "feedline.dev/backend"}
    assert {key for key in job["metadata"]["labels"] if "app.kubernetes.io" not in key} == own | set(labels) - {
        "team",
        "x-kueue",
    }
    assert "kueue.x-k8s.io/queue-name" not in job["spec"]["template"]["metadata"]["labels"]


def test_labels_and_annotations_of_ones_own_do_not_take_the_place_of_ours():
    own = {"feedline.dev/pipeline": "other", "feedline.dev/manifest": "{}", "team": "a"}
    metadata = built(pod={"labels": own, "annotations": own})["spec"]["template"]["metadata"]
    assert metadata["labels"]["feedline.dev/pipeline"] == "digits"
    assert metadata["labels"]["team"] == "a"
    assert metadata["annotations"]["feedline.dev/manifest"] != "{}"


VOLUMES = {
    "a claim": (
        {"persistentVolumeClaim": {"claimName": "c"}},
        {"persistentVolumeClaim": {"claimName": "c", "readOnly": True}},
    ),
    "an image": ({"image": {"reference": "example/data@sha256:0"}}, {"image": {"reference": "example/data@sha256:0"}}),
    "an image that is pulled always": (
        {"image": {"reference": "example/data:1", "pullPolicy": "Always"}},
        {"image": {"reference": "example/data:1", "pullPolicy": "Always"}},
    ),
    "a driver": (
        {"csi": {"driver": "d.example", "fsType": "ext4", "nodePublishSecretRef": {"name": "s"}}},
        {"csi": {"driver": "d.example", "fsType": "ext4", "nodePublishSecretRef": {"name": "s"}, "readOnly": True}},
    ),
}


@pytest.mark.parametrize(("source", "made"), VOLUMES.values(), ids=VOLUMES)
def test_data_is_mounted_read_only(source, made):
    job = built(data={"volumes": [{"name": "d", **source}], "train": {"arrays": ARRAYS}})
    assert pod_of(job)["volumes"][0] == {"name": "data-0", **made}
    mount = container_of(job)["volumeMounts"][0]
    assert mount == {"name": "data-0", "mountPath": "/data/d", "readOnly": True}


def test_volumes_may_have_the_names_of_ours():
    names = ["tmp", "shm", "feedline-manifest", "feedline-code", "d" * 63]
    volumes = [{"name": name, "image": {"reference": "example/data:1"}} for name in names]
    job = built(data={"volumes": volumes}, train={"source": {"configMap": {"name": "code"}}})
    given_names = [volume["name"] for volume in pod_of(job)["volumes"]]
    assert len(set(given_names)) == len(given_names) == 9
    assert {mount["name"] for mount in container_of(job)["volumeMounts"]} == set(given_names)
    assert len({mount["mountPath"] for mount in container_of(job)["volumeMounts"]}) == 9


OUTPUTS = {
    "a claim": {"persistentVolumeClaim": {"claimName": "runs"}},
    "a driver": {"csi": {"driver": "d.example", "volumeAttributes": {"bucket": "b"}}},
}


@pytest.mark.parametrize("source", OUTPUTS.values(), ids=OUTPUTS)
@pytest.mark.parametrize(("path", "folder"), [({}, ""), ({"path": "team/a"}, "team/a/")], ids=["the root", "a path"])
def test_the_output_can_be_written_to_and_has_a_folder_for_this_very_pipeline(source, path, folder):
    job = built(output={**source, **path})
    assert {"name": "output", **source} in pod_of(job)["volumes"]
    assert {"name": "output", "mountPath": "/output"} in container_of(job)["volumeMounts"]
    told = {each["name"]: each.get("value") for each in container_of(job)["env"]}
    uid = pipeline()["metadata"]["uid"]
    assert told["FEEDLINE_OUTPUT"] == f"/output/{folder}digits-{uid[:8]}"
    assert told["FEEDLINE_RUN"] == uid


def test_without_an_output_nothing_is_said_of_one():
    job = built()
    assert not {"FEEDLINE_OUTPUT", "FEEDLINE_RUN"} & {each["name"] for each in container_of(job)["env"]}
    assert "output" not in {volume["name"] for volume in pod_of(job)["volumes"]}


def test_the_trainer_reads_output_objective_and_checkpoint():
    spec = {
        "output": OUTPUTS["a claim"],
        "objective": {"value": "loss", "goal": "Minimize"},
        "train": {"checkpoint": {"keep": 1}},
        "stop": {"message": "for the operator"},
    }
    text = manifest_text(pipeline(spec=spec)["spec"])
    read = json.loads(text)
    assert (read["output"], read["objective"]) == (spec["output"], spec["objective"])
    assert read["train"]["checkpoint"] == {"keep": 1}
    assert "stop" not in read


def test_only_tmp_and_shared_memory_can_be_written_to():
    writable = [mount["mountPath"] for mount in container_of(build(FULL))["volumeMounts"] if not mount.get("readOnly")]
    assert writable == ["/tmp", "/dev/shm"]


def test_code_of_ones_own_is_mounted():
    job = built(train={"source": {"configMap": {"name": "my-code"}}})
    assert {"name": "feedline-code", "configMap": {"name": "my-code"}} in pod_of(job)["volumes"]
    assert "feedline-code" not in [volume["name"] for volume in pod_of(built())["volumes"]]


MEMORY = {"a quantity": "8Gi", "an integer": 8589934592, "none": None}


@pytest.mark.parametrize("memory", MEMORY.values(), ids=MEMORY)
def test_shared_memory_is_bounded_by_the_pods_memory(memory):
    job = built(resources={"memory": memory})
    (volume,) = [volume for volume in pod_of(job)["volumes"] if volume["name"] == "shm"]
    assert volume["emptyDir"] == {"medium": "Memory", **({} if memory is None else {"sizeLimit": memory})}
    limits = container_of(job)["resources"].get("limits", {})
    assert limits.get("memory") == memory


def test_requests_are_limits_and_accelerators_have_any_name():
    resources = {"cpu": 4, "memory": "8Gi", "accelerator": {"resourceName": "amd.com/gpu", "count": 2}}
    found = container_of(built(resources=resources))["resources"]
    assert found["limits"] == {"cpu": 4, "memory": "8Gi", "amd.com/gpu": 2}
    assert found["requests"] == found["limits"]
    assert container_of(built())["resources"] == {}


def environment_of(job):
    """Return the container's variables that have a value; no name is there twice."""
    listed = container_of(job)["env"]
    named = {variable["name"]: variable.get("value") for variable in listed}
    assert len(named) == len(listed)
    return named


def test_a_user_that_no_image_knows_has_a_name_a_home_and_places_to_write_to():
    assert environment_of(built()) == {
        "USER": "feedline",
        "LOGNAME": "feedline",
        "HOME": "/tmp",
        "XDG_CACHE_HOME": "/tmp/.cache",
        "TORCHINDUCTOR_CACHE_DIR": "/tmp/.cache/torchinductor",
        "TRITON_CACHE_DIR": "/tmp/.cache/triton",
        "NUMBA_CACHE_DIR": "/tmp/.cache/numba",
        "CUDA_CACHE_PATH": "/tmp/.nv/ComputeCache",
        "KERAS_HOME": "/tmp/.keras",
        "MPLCONFIGDIR": "/tmp/.config/matplotlib",
        "FEEDLINE_PIPELINE": "digits",
    }


def test_variables_of_ones_own_come_after_ours_and_take_their_place():
    secret = {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    own = [{"name": name, "value": "/data"} for name in environment_of(built()) if name != "FEEDLINE_PIPELINE"]
    listed = container_of(built(pod={"env": [*own, secret]}))["env"]
    assert listed == [{"name": "FEEDLINE_PIPELINE", "value": "digits"}, *own, secret]


# What libraries make of the pod's variables where no passwd knows the user, as in an image that sets some by itself.
PLACES = """
import pwd


def getpwuid(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")


pwd.getpwuid = getpwuid

import getpass
from pathlib import Path

print(getpass.getuser())
print(Path.home())

from torch._inductor.runtime.cache_dir_utils import cache_dir

print(cache_dir())

from torch.hub import get_dir

print(get_dir())
"""


def test_libraries_find_the_user_and_write_below_tmp(python, tmp_path):
    skip_without("pytorch")
    image = {"HOME": "/home/image", "XDG_CACHE_HOME": "/home/image/.cache"}
    given = {name: value.replace("/tmp", str(tmp_path)) for name, value in environment_of(built()).items()}
    ended = python(PLACES, **{**image, **given})
    assert ended.code == 0, ended.errors
    user, *places = ended.output.splitlines()
    assert user == "feedline"
    assert places == [str(tmp_path / below) for below in (".", ".cache/torchinductor", ".cache/torch/hub")]


@pytest.mark.parametrize("name", ["FEEDLINE_PIPELINE", "FEEDLINE_VOLUMES", "FEEDLINE_"])
def test_variables_of_feedline_are_not_ones_own(name):
    document = merge(FULL, {"spec": {"pod": {"env": [{"name": name, "value": "x"}]}}})
    pipeline_schema().apply_defaults(document)
    (problem,) = pipeline_schema().problems(document)
    assert "must not begin with FEEDLINE_" in problem


def test_the_manifest_is_what_the_trainer_reads_and_no_more():
    spec = merge(SPEC, {"train": {"parameters": {"name": "größe"}}})
    text = manifest_text(spec)
    assert "größe" in text
    assert set(yaml.safe_load(text)) == {"backend", "data", "loader", "train"}
    annotation = build(pipeline(spec=spec))["spec"]["template"]["metadata"]["annotations"][contract.ANNOTATION_MANIFEST]
    assert annotation == text


def test_volumes_that_the_server_left_out_are_found():
    job = build(FULL)
    left = copy.deepcopy(job)
    pod_of(left)["volumes"] = [volume for volume in pod_of(left)["volumes"] if "image" not in volume]
    assert lost_image_volumes(job, left)
    assert not lost_image_volumes(job, job)


NAMES = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
SOURCES = st.one_of(
    NAMES.map(lambda name: {"persistentVolumeClaim": {"claimName": name}}),
    NAMES.map(lambda name: {"image": {"reference": name}}),
    NAMES.map(lambda name: {"csi": {"driver": name, "volumeAttributes": {name: name}}}),
)
PODS = st.fixed_dictionaries(
    {},
    optional={
        "nodeSelector": st.dictionaries(NAMES, NAMES, max_size=2),
        "labels": st.dictionaries(NAMES, NAMES, max_size=2),
        "serviceAccountName": NAMES,
        "securityContext": st.fixed_dictionaries(
            {},
            optional={"runAsUser": st.integers(1, 9), "fsGroup": st.integers(1, 9), "supplementalGroups": st.just([7])},
        ),
        # What no schema lets through, and no pod gets.
        "hostNetwork": st.just(True),
        "hostPID": st.just(True),
        "volumes": st.just([{"name": "x", "hostPath": {"path": "/"}}]),
        "initContainers": st.just([{"name": "x"}]),
        "restartPolicy": st.just("Always"),
    },
)
SPECS = st.builds(
    lambda sources, pod, code, memory: merge(
        SPEC,
        {
            "data": {"volumes": [{"name": f"v{index}", **source} for index, source in enumerate(sources)]},
            "pod": pod,
            "train": {"source": {"configMap": {"name": code}}} if code else {},
            "resources": {"memory": memory},
        },
    ),
    st.lists(SOURCES, min_size=1, max_size=4),
    PODS,
    st.one_of(st.none(), NAMES),
    st.one_of(st.none(), st.integers(1, 2**40), st.just("8Gi")),
)
# https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
RESTRICTED_VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"),
    "image",
}
POD_FIELDS = {
    *("restartPolicy", "automountServiceAccountToken", "enableServiceLinks", "nodeSelector", "tolerations", "affinity"),
    *("priorityClassName", "runtimeClassName", "imagePullSecrets", "serviceAccountName"),
    *("terminationGracePeriodSeconds", "securityContext", "containers", "volumes"),
}


def test_the_operators_user_and_groups_hold_where_the_pipeline_names_none():
    document = pipeline(spec={"pod": {"securityContext": {"runAsUser": 7}}})
    context = pod_of(build(document, security={"runAsUser": 1000, "fsGroup": 2000}))["securityContext"]
    assert context["runAsUser"] == 7
    assert context["fsGroup"] == 2000
    assert context["runAsNonRoot"] is True


@settings(max_examples=60)
@given(SPECS)
def test_every_pod_is_restricted_and_has_typed_fields_alone(spec):
    job = build(pipeline(spec=spec))
    pod = pod_of(job)
    assert set(pod) <= POD_FIELDS
    assert pod["restartPolicy"] == "Never"
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["securityContext"].get("runAsUser", 1) > 0
    assert container_of(job)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not [port for port in container_of(job)["ports"] if "hostPort" in port]
    for volume in pod["volumes"]:
        assert set(volume) - {"name"} <= RESTRICTED_VOLUMES
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", volume["name"])
    assert {mount["name"] for mount in container_of(job)["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }


def test_several_processes_are_told_to_the_pod_and_how_long_they_wait_for_each_other():
    def told(**spec):
        environment = {each["name"]: each.get("value") for each in container_of(built(**spec))["env"]}
        return [environment.get(name) for name in (contract.ENV_PROCESSES, contract.ENV_PEER_TIMEOUT)]

    assert told() == [None, None]
    assert told(resources={"processes": 1}, policy={"peerTimeoutSeconds": 60}) == [None, None]
    assert told(resources={"processes": 4}) == ["4", "300"]
    assert told(resources={"processes": 4}, policy={"peerTimeoutSeconds": 60}) == ["4", "60"]


def test_pods_that_train_together_are_told_where_they_find_each_other():
    variables = {each["name"]: each for each in container_of(built(resources={"nodes": 2}))["env"]}
    assert variables[contract.ENV_NODES]["value"] == "2"
    assert variables[contract.ENV_PROCESSES]["value"] == "1"
    assert variables[contract.ENV_PEERS]["value"] == "digits-peers:29400"
    assert variables[contract.ENV_NODE]["valueFrom"] == {"fieldRef": {"fieldPath": "spec.nodeName"}}
    alone = {each["name"] for each in container_of(built(resources={"nodes": 1, "processes": 4}))["env"]}
    assert not alone & {contract.ENV_NODES, contract.ENV_PEERS, contract.ENV_NODE}


def test_the_service_is_of_the_first_pod_and_goes_with_the_pipeline():
    document = pipeline(spec={"resources": {"nodes": 2}})
    service = build_service(document)
    assert service["metadata"]["name"] == "digits-peers"
    assert service["metadata"]["ownerReferences"] == build(document)["metadata"]["ownerReferences"]
    assert service["spec"]["selector"] == {contract.LABEL_PIPELINE: "digits", contract.LABEL_INDEX: "0"}
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["ports"] == [{"name": "peers", "port": 29400, "targetPort": 29400}]
    assert "clusterIP" not in service["spec"]
