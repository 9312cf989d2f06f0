"""The operator without a loop: the real store, the real `reconcile`, and calls to the model of Kubernetes.

At every look the laws that hold for any pipeline are checked, so that whatever a test does, it tests them.
"""

import contextlib
import copy

from feedline_operator.reconcile import (
    CreateJob,
    CreateService,
    DeleteJob,
    DeletePipeline,
    EvictPod,
    Refusal,
    name_taken,
    owned_by,
    reconcile,
)
from feedline_operator.reconcile.conditions import ORDER, SUCCEEDED
from feedline_operator.reconcile.observed import condition
from feedline_operator.store import Key, Store
from simulation import schema
from simulation.documents import POLICY
from simulation.kubernetes import KEY, ConflictError

_ROUNDS = 6


class Operator:
    """One process of the operator; a restart is another one.

    Parameters
    ----------
    kubernetes
        Where it works. What is there is listed, as at a start.
    """

    def __init__(self, kubernetes):
        self._kubernetes = kubernetes
        self.store = Store()
        self.resync()

    def resync(self):
        """Put right what was lost."""
        mark, present = self.store.now(), set()
        for kind, thing in self._kubernetes.list():
            present.add(thing["metadata"]["uid"])
            self.store.put(kind, thing)
        for kind in ("pipeline", "job", "pod"):
            for thing in self.store.missing(kind, present, mark):
                self.store.remove(kind, thing)

    def hear(self, news):
        """Take news from a watch."""
        type_, kind, thing = news
        if type_ == "DELETED":
            self.store.remove(kind, thing)
        else:
            self.store.put(kind, thing)

    def observe(self):
        """Return what is known."""
        return self.store.observe(Key(*KEY))

    def plan(self):
        """Return what is to be done now."""
        observed = self.observe()
        return None if observed is None else reconcile(observed, self._kubernetes.now, POLICY)

    def look(self):
        """Look once and do what is to be done; return whether anything was."""
        observed, plan = self.observe(), self.plan()
        if plan is None:
            return False
        try:
            self._write(observed, plan)
            for action in plan.actions:
                self._act(action)
        except ConflictError:
            # Somebody else was faster; news of it will come.
            return False
        if not plan.actions and plan.status is not None:
            again = self.plan()
            assert again.status is None, "a status that was written is written again"
            assert not again.actions, "a status alone leads to an action"
        return plan.status is not None or bool(plan.actions)

    def die_after_the_status(self):
        """Look, write the status, and end before anything else is done."""
        observed, plan = self.observe(), self.plan()
        if plan is not None:
            with contextlib.suppress(ConflictError):
                self._write(observed, plan)

    def settle(self):
        """Look, and hear what came of it, until there is nothing left to do."""
        for _ in range(_ROUNDS):
            if not self.look():
                return
            self.resync()
        raise AssertionError("the operator does not come to rest")

    def _write(self, observed, plan):
        if plan.status is not None:
            check_status(observed.pipeline.get("status", {}), plan.status)
            self.store.put("pipeline", self._kubernetes.patch_status(observed.pipeline, plan.status))

    def _act(self, action):
        match action:
            case CreateService(body):
                with contextlib.suppress(ConflictError):
                    self._kubernetes.create_service(body)
            case EvictPod(_, uid):
                with contextlib.suppress(ConflictError):
                    self._kubernetes.evict_pod(uid)
            case CreateJob(body):
                self._create(body)
            case DeleteJob(uid):
                self._kubernetes.delete_job(uid)
            case DeletePipeline(uid, version):
                self._kubernetes.delete_pipeline(uid, version)

    def _create(self, body):
        uid = body["metadata"]["ownerReferences"][0]["uid"]
        try:
            job = self._kubernetes.create_job(body)
        except ConflictError:
            job = copy.deepcopy(self._kubernetes.job)
            if not owned_by(job, uid):
                self.store.tell(Key(*KEY), Refusal(name_taken(job)))
                return
        self.store.put("job", job)


def check_status(before, after):
    """Check what holds for each write of a status."""
    assert schema.problems(after) == []
    assert [entry["type"] for entry in after["conditions"]] == list(ORDER)
    for total in ("failures", "activeSeconds"):
        assert after.get(total, 0) >= before.get(total, 0), f"{total} falls"
    for entry in before.get("conditions", ()):
        now = condition({"status": after}, entry["type"])
        assert now["status"] != entry["status"] or now["lastTransitionTime"] == entry["lastTransitionTime"]
    verdict, was = (condition({"status": part}, SUCCEEDED) for part in (after, before))
    if was is not None and was["status"] != "Unknown":
        assert verdict == was, "a finished pipeline does not stay finished"
        assert after.get("completionTime") == before.get("completionTime")
    _check_attempts(before.get("attempts", []), after.get("attempts", []))


def _check_attempts(before, after):
    assert [attempt["index"] for attempt in after] == sorted({attempt["index"] for attempt in after}, reverse=True)
    by_index = {attempt["index"]: attempt for attempt in after}
    oldest = min(by_index, default=0)
    for attempt in before:
        if len(after) == 10 and attempt["index"] < oldest:
            continue
        now = by_index[attempt["index"]]
        # Of several pods, the one that is told of.
        assert now["uid"] in {attempt["uid"], *attempt.get("members", ()), *now.get("members", ())}
        if "endTime" in attempt:
            ended = {field: value for field, value in attempt.items() if field != "members"}
            assert {field: now.get(field) for field in ended} == ended, "the record of an end changes"
    uids = [attempt["uid"] for attempt in after]
    assert len(uids) == len(set(uids)), "a pod is recorded twice"
