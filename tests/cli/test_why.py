"""`feedline why`: what it reads of a namespace, and what it does without where the user may not read it."""

import pytest
from objects import POD_UID, event, job, pipeline, pod

from feedline.cli.cluster import EVENTS, JOBS, PIPELINES, PODS, NotPermittedError
from feedline.cli.explain import explain
from feedline.cli.why import look

HELD = 'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) other-0'
CLAIM = {"data": {"volumes": [{"name": "digits", "persistentVolumeClaim": {"claimName": "digits-data"}}]}}


class Namespace:
    """Stands for a cluster: a pipeline whose pod waits for a volume, and the pod that has it."""

    namespace = "team-a"

    def __init__(self, message, *, may_list=True):
        self.own = pod(claims=["digits-data"])
        self.all = [self.own, pod(name="other-0", node="gpu-3", claims=["digits-data"], of="")]
        self.message, self.may_list, self.listed = message, may_list, 0

    def find(self, kind, name):
        return {PIPELINES: pipeline("Starting", spec=CLAIM), JOBS: job()}.get(kind)

    def pods(self, pipeline):
        return [self.own]

    def find_all(self, kind, *, labels="", fields=""):
        if kind == EVENTS:
            return [event(POD_UID, "FailedAttachVolume", self.message)] if fields.endswith(POD_UID) else []
        assert (kind, labels, fields) == (PODS, "", "")
        self.listed += 1
        if not self.may_list:
            raise NotPermittedError("you may not")
        return self.all

    def version(self):
        return (1, 36)


@pytest.mark.parametrize(
    ("may_list", "where"),
    [
        pytest.param(True, "node gpu-3, where pod other-0 uses it", id="pods may be listed"),
        pytest.param(False, "another node, where pod other-0 uses it", id="pods may not be listed"),
    ],
)
def test_who_has_the_volume_is_told_as_far_as_one_may_read_it(may_list, where):
    namespace = Namespace(HELD, may_list=may_list)
    told = explain(look(namespace, "digits")).sentence
    assert f"volume digits (claim digits-data) is attached to {where}, and ReadWriteOnce" in told
    assert namespace.listed == 1


def test_the_pods_of_a_namespace_are_listed_for_such_a_volume_only():
    namespace = Namespace("AttachVolume.Attach failed: no such volume")
    assert "no such volume" in explain(look(namespace, "digits")).sentence
    assert namespace.listed == 0
