"""The images' programs as a pod starts and stops them: the first process, without rights, on a read-only root."""

import json

import pytest

from cluster import engines, images

pytestmark = pytest.mark.timeout(engines.BUILD_SECONDS)

TRAINERS = pytest.mark.parametrize("image", images.BACKENDS, indirect=True)
OPERATOR = pytest.mark.parametrize("image", ["operator"], indirect=True)

# Makes what a pod is given, and becomes the image's program.
TRAIN = """
import json, numpy, os, pathlib, sys

print("Process", os.getpid(), flush=True)
tmp = pathlib.Path("/tmp")
numpy.save(tmp / "features.npy", numpy.zeros((64, 8), "f4"))
numpy.save(tmp / "labels.npy", numpy.zeros(64, "i4"))
names = {"features": "Input", "labels": "Target"}
manifest = {
    "backend": sys.argv[1],
    "data": {
        "volumes": [{"name": "tmp", "persistentVolumeClaim": {"claimName": "tmp"}}],
        "train": {"arrays": [{"name": n, "path": f"tmp/{n}.npy", "role": role} for n, role in names.items()]},
    },
    "loader": {"batchSize": 8},
    "train": {"entrypoint": "own:train", "seconds": 600},
}
(tmp / "manifest").write_text(json.dumps(manifest))
(tmp / "own.py").write_text(sys.argv[2])
given = {"FEEDLINE_MANIFEST": "/tmp/manifest", "FEEDLINE_VOLUMES": '{"tmp": "/tmp"}', "PYTHONPATH": "/tmp"}
os.environ.update(given, FEEDLINE_METRICS_PORT="")
os.execvp(sys.argv[3], sys.argv[3:])
"""

OWN = """
import time

def train(run):
    for epoch in run.epochs():
        for batch in run.train:
            run.report(loss=0.5)
            if run.train.steps == 3:
                print("It trains", flush=True)
            time.sleep(0.01)
"""

# Has a kubeconfig of a cluster that does not answer, which is tried again for ever, and becomes the image's program.
OPERATE = """
import json, os, sys

print("Process", os.getpid(), flush=True)
kubeconfig = {
    "clusters": [{"name": "none", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "none", "user": {"token": "none"}}],
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
    "current-context": "none",
}
with open("/tmp/kubeconfig", "w") as file:
    json.dump(kubeconfig, file)
os.environ["KUBECONFIG"] = "/tmp/kubeconfig"
os.execvp(sys.argv[1], sys.argv[1:])
"""


def terminated(image, program, *arguments, once):
    """Run a program as the image's first process, send SIGTERM when it has said `once`, and return its exit code."""
    said = []
    with images.running(image, "python", "-c", program, *arguments) as process:
        for line in process.stdout:
            said.append(line)
            if once in line:
                process.terminate()
        code = process.wait(timeout=300)
    assert said[0] == "Process 1\n", "".join(said)
    assert any(once in line for line in said), "".join(said)
    return code, said


@TRAINERS
def test_a_trainer_without_a_manifest_says_so_and_ends_with_64(image):
    done = images.run(image, *images.config(image)["Entrypoint"])
    assert done.returncode == 64
    assert "/etc/feedline/manifest: No such file" in done.stderr


@pytest.mark.parametrize(("image", "backend"), [(name, name) for name in images.BACKENDS], indirect=["image"])
def test_a_trainer_that_is_told_to_stop_reports_and_ends_with_143(image, backend):
    entrypoint = images.config(image)["Entrypoint"]
    code, said = terminated(image, TRAIN, backend, OWN, *entrypoint, once="It trains")
    assert code == 143
    assert json.loads(said[-1])["message"]["reason"] == "Terminated"


@OPERATOR
def test_the_operator_tells_its_version_without_a_cluster(image):
    done = images.run(image, "feedline-operator", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{images.version()}\n", "")


@OPERATOR
def test_the_operator_that_is_told_to_stop_ends_with_0(image):
    code, said = terminated(image, OPERATE, *images.config(image)["Entrypoint"], once="metrics and health on port 8080")
    assert code == 0, "".join(said)
