"""Calls to the API server: the patch of a status, and what an answer means. The server is a real one, of HTTP."""

import asyncio
import json

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from kubernetes.aio import client
from mergepatch import merge

from feedline_operator.cluster import Cluster, merge_patch
from feedline_operator.errors import (
    BusyError,
    ExistsError,
    GoneError,
    InvalidError,
    NotLeadingError,
    RefusedError,
    StaleError,
    UnreachableError,
)
from feedline_operator.ratelimit import TokenBucket

VALUES = st.recursive(
    st.one_of(st.integers(0, 3), st.text("ab", max_size=2), st.lists(st.integers(0, 3), max_size=3)),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)


def leaves(patch, path=()):
    """Return the places that a patch writes to."""
    for field, value in patch.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, field))
        else:
            yield (*path, field)


def at(thing, path):
    for field in path:
        thing = thing.get(field) if isinstance(thing, dict) else None
    return thing


@settings(max_examples=60)
@given(OBJECTS, OBJECTS)
def test_the_patch_turns_one_into_the_other_and_writes_nothing_else(old, new):
    patch = merge_patch(old, new)
    assert merge(old, patch) == new
    assert all(at(old, path) != at(new, path) or (at(old, path) is None) for path in leaves(patch))


@settings(max_examples=30)
@given(OBJECTS)
def test_there_is_no_patch_where_nothing_changed(thing):
    assert merge_patch(thing, thing) == {}


def call(answer, make_call, **options):
    """Return what a call returns or raises, and the request that the server got."""
    requests, observed = [], []

    async def handle(request):
        requests.append((request.method, request.path_qs, request.headers["Content-Type"], await request.text()))
        return answer() if callable(answer) else answer

    async def main():
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        configuration = client.Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}")
        cluster = Cluster(
            client.ApiClient(configuration),
            TokenBucket(1000, 1000),
            observe=lambda *call: observed.append(call),
            **options,
        )
        try:
            return await make_call(cluster)
        except Exception as error:  # noqa: BLE001 - what is raised is the result
            return error
        finally:
            await cluster.close()
            await runner.cleanup()

    return asyncio.run(main()), requests, observed


def refusal(code, reason="", message="words", headers=None, **details):
    body = {"kind": "Status", "reason": reason, "message": message, "details": details}
    return lambda: web.json_response(body, status=code, headers=headers)


JOB = {"metadata": {"namespace": "team", "name": "digits"}}
ERRORS = {
    "not there": (refusal(404), GoneError, None),
    "taken": (refusal(409, "AlreadyExists"), ExistsError, None),
    "changed": (refusal(409, "Conflict"), StaleError, None),
    "invalid": (refusal(422), InvalidError, None),
    "denied by a policy": (
        refusal(422, "Invalid", "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: words"),
        RefusedError,
        None,
    ),
    "denied by a webhook": (
        refusal(422, "Invalid", 'admission webhook "w" denied the request: words'),
        RefusedError,
        None,
    ),
    "forbidden": (refusal(403, "Forbidden"), RefusedError, None),
    "bad": (refusal(400), RefusedError, None),
    "busy, with a header": (refusal(429, headers={"Retry-After": "7"}), BusyError, 7.0),
    "busy, with details": (refusal(429, retryAfterSeconds=3), BusyError, 3.0),
    "busy, for too long": (refusal(503, headers={"Retry-After": "86400"}), BusyError, 60.0),
    "busy, with a date": (refusal(503, headers={"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}), BusyError, 0.0),
    "broken": (refusal(500), BusyError, 0.0),
}


@pytest.mark.parametrize(("answer", "kind", "seconds"), ERRORS.values(), ids=ERRORS)
def test_an_error_says_what_there_is_to_do(answer, kind, seconds):
    error, _, observed = call(answer, lambda cluster: cluster.create_job(JOB))
    assert type(error) is kind
    assert str(error).endswith("words")
    assert getattr(error, "retry_after_seconds", None) == seconds
    assert observed[0][:3] == ("create", "jobs", str(answer().status))


ODD = {
    "no JSON": lambda: web.Response(text="<html>", status=502),
    "a list": lambda: web.json_response([1], status=500),
    "no message": lambda: web.json_response({}, status=500),
}


@pytest.mark.parametrize("answer", ODD.values(), ids=ODD)
def test_an_error_without_words_says_what_was_asked(answer):
    error, _, _ = call(answer, lambda cluster: cluster.create_job(JOB))
    assert isinstance(error, BusyError)
    assert str(error) == f"create jobs team/: HTTP {answer().status}"


def test_an_answer_that_is_no_json_is_none():
    error, _, _ = call(lambda: web.Response(text="<html>"), lambda cluster: cluster.get_job("team", "digits"))
    assert isinstance(error, UnreachableError)


def test_nobody_answers():
    def hang_up():
        raise asyncio.CancelledError

    error, _, observed = call(hang_up, lambda cluster: cluster.get_job("team", "digits"))
    assert isinstance(error, UnreachableError)
    assert observed[0][2] == "0"


def test_who_does_not_lead_writes_nothing():
    error, requests, _ = call(refusal(500), lambda cluster: cluster.create_job(JOB), may_write=lambda: False)
    assert isinstance(error, NotLeadingError)
    assert requests == []


def test_a_status_is_written_as_a_patch_of_what_was_read():
    pipeline = {
        "metadata": {"namespace": "team", "name": "digits", "uid": "u", "resourceVersion": "7"},
        "status": {"failures": 0, "feed": {"steps": 1}},
    }
    answer, requests, _ = call(
        lambda: web.json_response(pipeline),
        lambda cluster: cluster.patch_status("pipeline", pipeline, {"failures": 0, "activeSeconds": 1}),
    )
    ((method, path, content_type, body),) = requests
    assert answer == pipeline
    assert (method, content_type) == ("PATCH", "application/merge-patch+json")
    assert path == "/apis/feedline.dev/v1alpha1/namespaces/team/trainingpipelines/digits/status"
    assert json.loads(body) == {
        "metadata": {"resourceVersion": "7", "uid": "u"},
        "status": {"feed": None, "activeSeconds": 1},
    }


def test_a_delete_names_the_uid():
    _, requests, _ = call(lambda: web.json_response({}), lambda cluster: cluster.delete_job("team", "digits", "u"))
    ((method, path, _, body),) = requests
    assert (method, path) == ("DELETE", "/apis/batch/v1/namespaces/team/jobs/digits")
    assert json.loads(body) == {"propagationPolicy": "Foreground", "preconditions": {"uid": "u"}}


def test_a_list_is_read_page_by_page():
    pages = iter([{"items": [1, 2], "metadata": {"continue": "a/b=="}}, {"items": [3], "metadata": {}}])

    async def read(cluster):
        return [item async for item in cluster.list_all("pod", None)]

    items, requests, _ = call(lambda: web.json_response(next(pages)), read)
    assert items == [1, 2, 3]
    assert [path for _, path, _, _ in requests] == [
        "/api/v1/pods?limit=500&labelSelector=feedline.dev/pipeline",
        "/api/v1/pods?limit=500&labelSelector=feedline.dev/pipeline&continue=a/b%3D%3D",
    ]
