"""A manifest is read from a file or by a pod, and whatever is none is refused in sentences that name it."""

import json

import pytest
from manifests import DIGITS, document, problems_of

from feedline.contract import MAX_MANIFEST_BYTES
from feedline.errors import InputMissingError
from feedline.manifest.reading import from_pod, parse, read

# --- files


def test_a_missing_file_is_missing_input(tmp_path):
    with pytest.raises(InputMissingError, match=r"none\.yaml: cannot be read \(No such file"):
        read(tmp_path / "none.yaml")


def test_a_folder_is_missing_input(tmp_path):
    with pytest.raises(InputMissingError, match="Is a directory"):
        read(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(b"", "holds 0 documents; a file must hold one TrainingPipeline", id="empty"),
        pytest.param(
            b"a: 1\n---\nb: 2\n", "holds 2 documents; a file must hold one TrainingPipeline", id="two documents"
        ),
        pytest.param(b"\xff\xfe", "not valid text; save it as UTF-8", id="no text"),
        pytest.param(b"a: [", "not valid YAML", id="no YAML"),
        pytest.param(b"- 1\n", "must be a map, a TrainingPipeline with", id="a list"),
        pytest.param(b"kind: Job\n", 'kind: must be TrainingPipeline (got "Job")', id="another kind"),
        pytest.param(b"\x93NUMPY\x01\x00v\x00{'descr'", "not valid text", id="an array"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, content, problem):
    path = tmp_path / "f.yaml"
    path.write_bytes(content)
    for said in problems_of(read, path):
        assert said.startswith(f"{path}: ")
    assert problem in "\n".join(problems_of(read, path))


def test_an_endless_file_ends():
    assert "characters; a manifest has at most" in problems_of(read, "/dev/zero")[0]


def test_a_byte_order_mark_is_no_problem(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + DIGITS.encode())
    assert parse(read(path)).name == "digits"


def test_a_file_in_json_is_read(tmp_path):
    path = tmp_path / "f.json"
    path.write_text(json.dumps(document()), encoding="utf-8")
    assert parse(read(path)) == parse(document())


# --- the pod


def pod_text(**changes):
    spec = parse(document()).document["spec"]
    return json.dumps({name: spec[name] for name in ("backend", "data", "loader", "train")} | changes)


def test_a_pod_reads_what_the_file_said():
    manifest, pod = parse(document()), from_pod(pod_text(), "digits")
    assert (pod.name, pod.train_data, pod.loader, pod.train) == (
        manifest.name,
        manifest.train_data,
        manifest.loader,
        manifest.train,
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("", "the pod's manifest: not valid JSON", id="empty"),
        pytest.param("[]", "spec: must be a map (got [])", id="a list"),
        pytest.param('{"a": 1, "a": 2}', 'the pod\'s manifest: "a" is given twice', id="a key twice"),
        pytest.param(pod_text(trian={}), "spec.trian: unknown field, did you mean train?", id="an unknown field"),
        pytest.param(pod_text(x="y" * MAX_MANIFEST_BYTES), "bytes; it has at most 131072", id="too long"),
    ],
)
def test_a_bad_pod_manifest_is_refused(text, problem):
    assert problem in problems_of(from_pod, text, "digits")[0]
