"""From a document to a Manifest: every field in its place or at its default, and every problem said at once."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from manifests import document, outcome, problems_of

from feedline.contract import MAX_MANIFEST_BYTES
from feedline.manifest.document import ArrayRef, Checkpoint, Loader, Split, Train
from feedline.manifest.reading import parse, read


def test_a_file_becomes_a_manifest(digits):
    manifest = parse(read(digits))
    arrays = (ArrayRef("features", "digits/features/*.npy", "Input"), ArrayRef("labels", "digits/labels.npy", "Target"))
    assert (manifest.name, manifest.backend, manifest.volumes) == ("digits", "pytorch", ("digits",))
    assert manifest.train_data == Split(arrays, 0, 1500)
    assert manifest.validation_data == Split(arrays, 1500, None)
    assert manifest.loader == Loader(
        batch_size=64,
        last_batch="keep",
        shuffle="full",
        block_rows=0,
        window=0,
        seed=7,
        residency="auto",
        threads=2,
        prefetch=4,
        read_ahead=None,
        engine="Feed",
        queue_capacity=1384,
        queue_min_after_dequeue=1000,
    )
    assert manifest.train == Train(
        entrypoint="feedline.models:train",
        command=(),
        transform=None,
        parameters={"learningRate": 0.001, "layers": 2, "name": "a", "wide": True},
        seed=3,
        epochs=5,
        steps=None,
        seconds=None,
        checkpoint=Checkpoint(every_seconds=600, every_steps=0, keep=2),
    )
    assert manifest.objective is None
    assert manifest.grace_seconds == 30
    assert (manifest.memory, manifest.accelerator_count) == (8 * 2**30, 2)
    assert manifest.document["spec"]["policy"] == {"maxRetries": 3, "peerTimeoutSeconds": 300}


def test_what_is_left_out_has_its_default():
    value = document()
    del value["spec"]["loader"], value["spec"]["resources"], value["spec"]["data"]["validation"]
    del value["spec"]["data"]["train"]["rows"]
    manifest = parse(value)
    assert (manifest.loader.batch_size, manifest.loader.last_batch, manifest.loader.seed) == (32, "drop", 0)
    assert (manifest.validation_data, manifest.memory, manifest.accelerator_count) == (None, None, 0)
    assert manifest.train_data == Split(manifest.train_data.arrays, 0, None)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({"shuffle": {"mode": "None"}}, {"shuffle": "none", "block_rows": 0, "window": 0}, id="no shuffle"),
        pytest.param(
            {"shuffle": {"mode": "Block"}},
            {"shuffle": "block", "block_rows": 0, "window": 0, "seed": 0},
            id="blocks for the feed to size",
        ),
        pytest.param(
            {"shuffle": {"mode": "Block", "blockRows": 400, "window": 16, "seed": 7}},
            {"shuffle": "block", "block_rows": 400, "window": 16, "seed": 7},
            id="blocks of a size",
        ),
        pytest.param({"residency": "Read"}, {"residency": "read"}, id="every row read"),
        pytest.param({"residency": "Mapped"}, {"residency": "mapped"}, id="left to the kernel"),
        pytest.param({}, {"residency": "auto", "read_ahead": None}, id="read ahead as far as there is room"),
        pytest.param({"readAheadBatches": 0}, {"read_ahead": 0}, id="nothing read ahead"),
        pytest.param({"readAheadBatches": 40}, {"read_ahead": 40}, id="batches read ahead"),
    ],
)
def test_how_rows_come_is_what_the_loader_says(given, expected):
    value = document()
    value["spec"]["loader"] = given
    loader = parse(value).loader
    assert {name: getattr(loader, name) for name in expected} == expected


def test_parsing_does_not_change_the_document():
    value = document()
    parse(value)
    assert value == document()


def test_what_was_parsed_parses_to_the_same():
    manifest = parse(document())
    assert parse(manifest.document) == manifest


def test_a_manifest_goes_to_another_process():
    manifest = parse(document())
    assert pickle.loads(pickle.dumps(manifest)) == manifest


@pytest.mark.parametrize(
    ("quantity", "size"),
    [
        pytest.param(1000, 1000, id="bytes"),
        pytest.param("1000", 1000, id="bytes as text"),
        pytest.param("2k", 2000, id="k"),
        pytest.param("2Ki", 2048, id="Ki"),
        pytest.param("1.5Gi", 3 * 2**29, id="a fraction"),
        pytest.param("0.001", 1, id="rounded up"),
        pytest.param("3T", 3 * 10**12, id="T"),
        pytest.param("1Ti", 2**40, id="Ti"),
    ],
)
def test_memory_is_in_bytes(quantity, size):
    value = document()
    value["spec"]["resources"]["memory"] = quantity
    assert parse(value).memory == size


def test_all_problems_come_at_once():
    value = document()
    value["spec"]["train"]["steps"] = 5
    value["spec"]["loader"]["batchsize"] = 5
    value["spec"]["data"]["train"]["arrays"][0]["path"] = "digits/features.csv"
    value["spec"]["train"]["parameters"]["betas"] = [0.9, 0.99]
    assert problems_of(parse, value) == [
        "spec.loader.batchsize: unknown field, did you mean batchSize?",
        "spec.data.train.arrays[0].path: must end in .npy, .npz, .h5, .hdf5 or .safetensors, or have a format",
        "spec.train: exactly one of epochs, steps, seconds (got epochs, steps)",
        "spec.train.parameters.betas: must be a string, a number or a boolean; write betas: VALUE, or leave it out",
    ]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        pytest.param({"kind": "Job"}, 'kind: must be TrainingPipeline (got "Job")', id="another kind"),
        pytest.param(
            {"kind": "TrainingSweep"},
            'kind: must be TrainingPipeline (got "TrainingSweep"); feedline sweep run takes it',
            id="a sweep",
        ),
        pytest.param(
            {"apiVersion": "feedline.dev/v1"},
            'apiVersion: must be feedline.dev/v1alpha1 (got "feedline.dev/v1")',
            id="another version",
        ),
        pytest.param({"spec": 5}, "spec: must be a map (got 5)", id="a number as spec"),
        pytest.param({"spec": None}, "spec: required", id="no spec"),
        pytest.param({"metadata": {}}, "metadata.name: required", id="no name"),
        pytest.param({"metadata": 3}, "metadata: must be a map (got 3)", id="a number as metadata"),
        pytest.param({1: 2}, "the manifest: the key 1 is no string; put it in quotes", id="a number as a key"),
    ],
)
def test_a_document_of_another_form_is_refused(change, problem):
    assert problem in problems_of(parse, {**document(), **change})


@pytest.mark.parametrize("train", [5, {"parameters": 5}], ids=["train", "parameters"])
def test_parameters_that_are_no_map_are_refused(train):
    value = document()
    value["spec"]["train"] = train
    assert any(problem.startswith("spec.train") and "must be a map" in problem for problem in problems_of(parse, value))


def test_more_than_64_parameters_are_refused():
    value = document()
    value["spec"]["train"]["parameters"] = {f"p{n}": n for n in range(65)}
    (problem,) = problems_of(parse, value)
    assert problem.startswith("spec.train.parameters: must have at most 64 entries")


def test_what_does_not_fit_into_a_pod_is_refused():
    value = document()
    value["spec"]["train"]["parameters"] = {"text": "x" * MAX_MANIFEST_BYTES}
    (problem,) = problems_of(parse, value)
    assert problem.startswith("spec: backend, data, loader, output, objective, train are 13")
    assert problem.endswith("a pod takes at most 131072")


# --- any document


def places(value, path=()):
    """Every place in a document."""
    yield path
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in members:
        yield from places(item, (*path, key))


JUNK = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        2**31,
        2**63,
        10**400,
        0.5,
        1e300,
        float("inf"),
        "",
        "x",
        "a/b.npy",
        "digits/../x",
        "\x00",
        [],
        {},
        [[]],
        [{}],
        {"": 1},
        {"name": "features"},
        ["x"] * 3,
        {"x": {"x": {"x": 1}}},
        (),
        b"",
        object(),
        "é" * 600,
    ]
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_any_change_is_accepted_or_refused_in_sentences(data):
    value = document()
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from([path for path in places(value) if path]))
        place = value
        for key in path[:-1]:
            place = place[key]
        kind = data.draw(st.sampled_from(["replace", "remove", "add"]))
        if kind == "remove":
            del place[path[-1]]
        elif kind == "add" and isinstance(place, dict):
            place[data.draw(st.text(max_size=5))] = copy.deepcopy(data.draw(JUNK))
        else:
            place[path[-1]] = copy.deepcopy(data.draw(JUNK))
    manifest, problems = outcome(parse, value)
    if manifest:
        assert parse(manifest.document) == manifest
    else:
        assert problems
        assert all(": " in problem for problem in problems)


def test_importing_the_module_does_not_load_the_checkers():
    code = "import sys, feedline.manifest; print(sorted({'cel', 'jsonschema'} & sys.modules.keys()))"
    folder = str(Path(sys.modules["feedline.manifest"].__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": folder}
    )
    assert done.stdout == "[]\n"
