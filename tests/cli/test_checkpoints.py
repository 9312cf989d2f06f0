"""`feedline checkpoints NAME`, and what `status` and `why` tell of them, against a real API server."""

import pytest
from standins import FEED, NOW

OUTPUT = {"persistentVolumeClaim": {"claimName": "runs"}, "path": "vision"}
SAVED = {"step": 800, "epoch": 3, "time": NOW, "bytes": 12_000_000, "milliseconds": 900}
AIM = {"value": "0.9", "best": "0.93", "bestStep": 640}
ATTEMPTS = [{"index": 2, "pod": "digits-0-b", "uid": "b", "startTime": NOW, "node": "gpu-7", "fromStep": 400}]


@pytest.fixture
def kept(feedline, cluster, namespace, standins):
    """Return a pipeline that has an output, and saves itself."""
    from standins import DIGITS

    output = "spec.output={persistentVolumeClaim: {claimName: runs}, path: vision}"
    assert (
        feedline("submit", DIGITS, "--set", output, "--set", "spec.objective={value: accuracy, goal: Maximize}").code
        == 0
    )
    standins.status(
        "digits", "Running", feed={**FEED, "fromStep": 400}, checkpoint=SAVED, objective=AIM, attempts=ATTEMPTS
    )
    return cluster.get("tp", "digits", "-n", namespace)


def folder(kept):
    return f"vision/digits-{kept['metadata']['uid'][:8]} on the claim runs"


def test_the_newest_checkpoint_and_where_they_lie_are_told(feedline, kept):
    told = feedline("checkpoints", "digits").output
    assert "digits: step 800, 12 MB, saved " in told
    assert "best 0.93 at step 640" in told
    assert f"in {folder(kept)}" in told


def test_status_and_why_tell_what_it_goes_on_from(feedline, kept):
    shown = feedline("status", "digits").output
    for told in ("step 800, ", "accuracy 0.93 at step 640", folder(kept), "FROM STEP", "400"):
        assert told in shown
    assert "(gone on from step 400)" in feedline("why", "digits").output


def test_why_names_what_keeps_it_from_saving_itself(feedline, standins, kept):
    standins.status("digits", "Running", feed=FEED, checkpoint=SAVED)
    conditions = [
        {"type": kind, "status": status, "reason": reason, "message": said, "lastTransitionTime": NOW}
        for kind, status, reason, said in (
            ("Succeeded", "Unknown", "Running", "Training on node gpu-7."),
            ("CheckpointsHealthy", "False", "Failing", "Since noon no checkpoint can be written: no space."),
        )
    ]
    standins.patch("tp", "digits", {"status": {"conditions": conditions}}, "--subresource=status")
    told = feedline("why", "digits").output
    assert "but cannot save itself: Since noon no checkpoint can be written: no space." in told


def test_a_suspended_one_says_where_it_will_go_on(feedline, standins, kept):
    standins.patch("tp", "digits", {"spec": {"suspend": True}})
    standins.status("digits", "Suspended", checkpoint=SAVED)
    assert "suspended by its own spec.suspend; it will go on from step 800." in feedline("why", "digits").output


def test_a_pipeline_without_an_output_is_told_of(feedline, digits):
    assert "digits has no spec.output: what it makes is gone with its pod" in feedline("checkpoints", digits).output


def test_a_folder_that_is_not_there_is_one_sentence(feedline):
    ended = feedline("checkpoints", "./nowhere")
    assert ended.code == 66
    assert "nowhere: there is no such folder" in ended.errors
