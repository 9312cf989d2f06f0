"""The operator's settings from the environment."""

import pytest

from feedline_operator import settings
from feedline_operator.settings import SettingsError, read


def test_everything_has_a_default():
    operator = read({})
    assert operator.namespaces == ()
    assert operator.images == {}
    assert operator.lease_namespace == "feedline-system"
    assert operator.status_interval_seconds == 30
    assert operator.port == 8080


def test_two_processes_are_two_candidates():
    assert read({}).identity != read({}).identity
    assert len(read({}).identity) <= 253


def test_in_a_pod_the_lease_is_in_the_pods_namespace(monkeypatch, tmp_path):
    file = tmp_path / "namespace"
    file.write_text("ml-platform\n")
    monkeypatch.setattr(settings, "_NAMESPACE_FILE", file)
    assert read({}).lease_namespace == "ml-platform"
    assert read({"FEEDLINE_LEASE_NAMESPACE": "other"}).lease_namespace == "other"


def test_namespaces_are_separated_by_commas():
    assert read({"FEEDLINE_NAMESPACES": " team-a, team-b ,"}).namespaces == ("team-a", "team-b")


def test_images_are_by_backend():
    images = read({"FEEDLINE_IMAGE_KERAS": "example/keras:1", "FEEDLINE_IMAGE_PYTORCH": " "}).images
    assert images == {"keras": "example/keras:1"}


def test_users_and_groups_are_an_object():
    text = '{"runAsUser": 1000, "supplementalGroups": [7, 8]}'
    assert read({}).security == {}
    assert read({"FEEDLINE_POD_SECURITY_CONTEXT": text}).security == {"runAsUser": 1000, "supplementalGroups": [7, 8]}


BAD = {
    "root": ("FEEDLINE_POD_SECURITY_CONTEXT", '{"runAsUser": 0}', "numbers from 1"),
    "more than ids": ("FEEDLINE_POD_SECURITY_CONTEXT", '{"runAsNonRoot": false}', "runAsUser, runAsGroup and fsGroup"),
    "a truth as an id": ("FEEDLINE_POD_SECURITY_CONTEXT", '{"fsGroup": true}', "numbers from 1"),
    "a group for a list": ("FEEDLINE_POD_SECURITY_CONTEXT", '{"supplementalGroups": 7}', "a list of them"),
    "no JSON": ("FEEDLINE_POD_SECURITY_CONTEXT", "runAsUser: 7", "must be a JSON object"),
    "a word": ("FEEDLINE_WORKERS", "many", "1 to 1000 (got 'many')"),
    "none": ("FEEDLINE_WORKERS", "0", "1 to 1000"),
    "not a number": ("FEEDLINE_STATUS_INTERVAL_SECONDS", "nan", "1 to 3600"),
    "infinite": ("FEEDLINE_CALLS_PER_SECOND", "inf", "0.1 to 10000"),
    "a port beyond the last": ("FEEDLINE_PORT", "65536", "0 to 65535"),
    "no namespace": ("FEEDLINE_NAMESPACES", "Team_A", "'Team_A' is no namespace"),
    "a path": ("FEEDLINE_NAMESPACES", "team/../kube-system", "is no namespace"),
}


@pytest.mark.parametrize(("name", "value", "words"), BAD.values(), ids=BAD)
def test_a_setting_that_cannot_be_used_says_why(name, value, words):
    with pytest.raises(SettingsError) as error:
        read({name: value})
    assert str(error.value).startswith(f"{name}: ")
    assert words in str(error.value)
