"""Who else would write into a pipeline's namespace, for tests of commands in a cluster in which nothing runs pods."""

import json

from cluster.operators import ROOT, eventually

CRD = ROOT / "crds" / "trainingpipelines.feedline.dev.yaml"
DIGITS = str(ROOT / "examples" / "digits" / "pipeline.yaml")
NOW = "2026-01-01T00:00:00Z"
FEED = {
    "steps": 812,
    "targetSteps": 2000,
    "samplesPerSecond": 118_000,
    "waitPermille": 341,
    "observedTime": NOW,
    "values": {"loss": "0.12"},
    "verdict": {"inputBound": True, "cause": "PageFaults", "advice": "Try loader.residency: Memory."},
}
"""The status of a run whose data are the bottleneck."""


class StandIns:
    """What operator, kubelet and user would write into the namespace."""

    def __init__(self, cluster, namespace):
        self.cluster, self.namespace = cluster, namespace

    def patch(self, thing, name, change, *arguments):
        change = json.dumps(change)
        self.cluster.kubectl("patch", thing, name, "-n", self.namespace, "--type=merge", "-p", change, *arguments)

    def status(self, name, state, message="the operator's words", succeeded="Unknown", **status):
        """Write a pipeline's status, as the operator does."""
        found = self.cluster.get("tp", name, "-n", self.namespace)
        kinds = {"Succeeded": (succeeded, state, message), "InputBound": ("Unknown", "NoNumbers", "not known")}
        conditions = [
            {"type": kind, "status": each, "reason": reason, "message": said, "lastTransitionTime": NOW}
            for kind, (each, reason, said) in kinds.items()
        ]
        status = {"observedGeneration": found["metadata"]["generation"], "conditions": conditions, **status}
        self.patch("tp", name, {"status": status}, "--subresource=status")

    def job(self, name, *, owner=None, **spec):
        """Make a pipeline's Job, as the operator does, and return it."""
        uid = owner or self.cluster.get("tp", name, "-n", self.namespace)["metadata"]["uid"]
        labels = {"feedline.dev/pipeline": name}
        container = {"name": "trainer", "image": "train:1"}
        self.cluster.apply(
            {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "metadata": {
                    "name": name,
                    "namespace": self.namespace,
                    "labels": labels,
                    "ownerReferences": [
                        {
                            "apiVersion": "feedline.dev/v1alpha1",
                            "kind": "TrainingPipeline",
                            "name": name,
                            "uid": uid,
                            "controller": True,
                        }
                    ],
                },
                "spec": {
                    "completionMode": "Indexed",
                    "completions": 1,
                    "parallelism": 1,
                    **spec,
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": {"containers": [container], "restartPolicy": "Never", **spec.get("template", {})},
                    },
                },
            }
        )
        return self.cluster.get("job", name, "-n", self.namespace)

    def pod(self, name):
        """Return the pod that the Job's controller makes."""
        return eventually(lambda: self.pods(name), f"a pod of {name}", 60)[0]

    def pods(self, name):
        return self.cluster.get("pods", "-n", self.namespace, "-l", f"feedline.dev/pipeline={name}")["items"]

    def refusal(self):
        """Wait for the controller's event about a pod that is refused."""
        events = ("events", "-n", self.namespace, "--field-selector=reason=FailedCreate")
        eventually(lambda: self.cluster.get(*events)["items"], "a pod that is refused", 60)
