"""Events: ours, and those of others."""

import asyncio

from simulation.clock import simulate
from simulation.documents import pipeline

from feedline_operator.events import EventReader, event_body
from feedline_operator.reconcile import Transition, Warned
from feedline_operator.store import Key

KEY = Key("team", "digits")


def test_an_event_is_about_the_pipeline_and_has_one_name_however_often_it_is_told():
    told = Transition("Warning", "DataInvalid", "features.npy row 7: truncated")
    body = event_body(pipeline(), told, "feedline-operator", "replica-1")
    assert body["metadata"]["namespace"] == "team"
    assert body["metadata"]["name"].startswith("digits.")
    assert body["involvedObject"]["uid"] == pipeline()["metadata"]["uid"]
    assert (body["type"], body["reason"], body["message"]) == (told.kind, told.reason, told.message)
    again = event_body(pipeline(), told, "feedline-operator", "replica-2")
    assert again["metadata"]["name"] == body["metadata"]["name"]


def test_another_turn_is_another_event():
    told = Transition("Warning", "Retrying", "words")
    names = {
        event_body(document, transition, "c", "i")["metadata"]["name"]
        for document in (pipeline(), pipeline(metadata={"resourceVersion": "2"}), pipeline(metadata={"uid": "later"}))
        for transition in (told, Transition("Warning", "InputBound", "words"))
    }
    assert len(names) == 6


class Listed:
    def __init__(self, **events):
        self.events = events
        self.calls = 0

    async def list_events(self, namespace, uid):
        self.calls += 1
        return self.events.get(uid, [])


def event(reason, message, last=None, **more):
    return {"reason": reason, "message": message, "lastTimestamp": last, **more}


def read(listed, *uids):
    """Return what the first reading of Events finds."""
    return simulate(EventReader(listed).read(KEY, uids))[0]


def test_the_newest_of_each_kind_counts_the_newest_first():
    listed = Listed(
        job=[
            event("FailedCreate", "old", "2026-01-01T10:00:01Z"),
            event("FailedCreate", "new", "2026-01-01T10:00:09Z"),
        ],
        pod=[
            event("FailedMount", "a\nb", "2026-01-01T10:00:05Z"),
            event("Newer", "c", None, eventTime="2026-01-01T10:00:20.000000Z"),
            event("Newest", "d", "2026-01-01T10:00:00Z", series={"lastObservedTime": "2026-01-01T10:00:30.000000Z"}),
        ],
    )
    assert read(listed, "job", "pod") == (
        Warned("Newest", "d"),
        Warned("Newer", "c"),
        Warned("FailedCreate", "new"),
        Warned("FailedMount", "a b"),
    )


def test_what_failed_comes_before_the_time_outs_that_follow_from_it():
    waits = "Unable to attach or mount volumes: unmounted volumes=[data-0]: timed out waiting for the condition"
    attach = 'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) other-0'
    listed = Listed(
        pod=[
            event("FailedAttachVolume", attach, "2026-01-01T10:00:01Z"),
            event("FailedMount", waits, "2026-01-01T10:05:00Z"),
        ]
    )
    assert read(listed, "pod") == (Warned("FailedAttachVolume", attach), Warned("FailedMount", waits))


def test_of_one_kind_what_failed_counts_and_not_a_newer_time_out():
    waits = "Unable to attach or mount volumes: unmounted volumes=[data-0]: context deadline exceeded"
    listed = Listed(
        pod=[
            event("FailedMount", "no such export", "2026-01-01T10:00:01Z"),
            event("FailedMount", waits, "2026-01-01T10:05:00Z"),
        ]
    )
    assert read(listed, "pod") == (Warned("FailedMount", "no such export"),)


def test_what_the_pods_status_says_better_is_left_out():
    listed = Listed(pod=[event(reason, "words") for reason in ("FailedScheduling", "Failed", "BackOff", "Other")])
    assert read(listed, "pod") == (Warned("Other", "words"),)


def test_a_flood_of_kinds_is_bounded_and_odd_events_are_read():
    listed = Listed(pod=[event(f"Kind{n}", "words") for n in range(50)])
    assert len(read(listed, "pod")) == 5
    assert read(Listed(pod=[{}]), "pod") == (Warned("", ""),)
    assert read(Listed(), "pod") == ()


def test_they_are_asked_for_ever_more_rarely():
    async def main():
        listed = Listed()
        reader, delays = EventReader(listed), []
        for _ in range(6):
            warnings, again = await reader.read(KEY, ("pod",))
            assert warnings == ()
            delays.append(again)
            assert (await reader.read(KEY, ("pod",)))[0] is None, "too soon"
            await asyncio.sleep(again)
        assert delays == [30, 60, 120, 240, 300, 300]
        assert listed.calls == 6
        reader.forget(KEY)
        assert (await reader.read(KEY, ("pod",)))[1] == 30

    simulate(main())


def test_a_crowd_of_pipelines_is_asked_about_a_few_at_a_time():
    async def main():
        listed = Listed()
        reader = EventReader(listed)
        keys = [KEY._replace(name=f"p-{number}") for number in range(100)]
        answers = [await reader.read(key, ("job", "pod")) for key in keys]
        assert listed.calls == 10
        assert all(1 <= again <= 5 for warnings, again in answers if warnings is None)
        await asyncio.sleep(2)
        assert (await reader.read(keys[-1], ("job", "pod")))[0] == ()

    simulate(main())
