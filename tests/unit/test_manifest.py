"""From a file or a pod to a Manifest, with every problem said at once."""

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedline.contract import MAX_MANIFEST_BYTES, ExitCode
from feedline.errors import InputMissingError
from feedline.manifest import ArrayRef, Loader, ManifestError, Split, Train, from_pod, parse, read
from feedline.yamlread import read_yaml

DIGITS = """\
apiVersion: feedline.dev/v1alpha1
kind: TrainingPipeline
metadata: {name: digits}
spec:
  backend: pytorch
  data:
    volumes:
    - name: digits
      persistentVolumeClaim: {claimName: digits}
    train:
      arrays:
      - {name: features, path: digits/features/*.npy, role: Input}
      - {name: labels, path: digits/labels.npy, role: Target}
      rows: {stop: 1500}
    validation:
      arrays:
      - {name: features, path: digits/features/*.npy, role: Input}
      - {name: labels, path: digits/labels.npy, role: Target}
      rows: {start: 1500}
  loader: {batchSize: 64, lastBatch: Keep, shuffle: {seed: 7}, threads: 2}
  train:
    entrypoint: feedline.models:train
    parameters: {learningRate: 1e-3, layers: 2.0, name: a, wide: yes}
    seed: 3
    epochs: 5
  resources: {accelerator: {count: 2}, memory: 8Gi}
"""


@pytest.fixture
def digits(tmp_path):
    path = tmp_path / "digits.yaml"
    path.write_text(DIGITS, encoding="utf-8")
    return path


def document():
    (value,) = read_yaml(DIGITS, "digits.yaml")
    return value


def problems_of(function, *args):
    with pytest.raises(ManifestError) as caught:
        function(*args)
    assert str(caught.value) == "\n".join(caught.value.problems)
    assert caught.value.exit_code == ExitCode.USAGE
    return list(caught.value.problems)


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
        parameters={"learningRate": 0.001, "layers": 2, "name": "a", "wide": True},
        seed=3,
        epochs=5,
        steps=None,
        seconds=None,
    )
    assert (manifest.memory, manifest.accelerator_count) == (8 * 2**30, 2)
    assert manifest.document["spec"]["policy"] == {"maxRetries": 3}


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
    value["spec"]["data"]["train"]["arrays"][0]["path"] = "digits/features.npz"
    value["spec"]["train"]["parameters"]["betas"] = [0.9, 0.99]
    assert problems_of(parse, value) == [
        "spec.loader.batchsize: unknown field, did you mean batchSize?",
        "spec.data.train.arrays[0].path: must be VOLUME/FILE, the name of a volume and a file in it that ends in .npy",
        "spec.train: exactly one of epochs, steps, seconds (got epochs, steps)",
        "spec.train.parameters.betas: must be a string, a number or a boolean; write betas: VALUE, or leave it out",
    ]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        pytest.param({"kind": "Job"}, 'kind: must be TrainingPipeline (got "Job")', id="another kind"),
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
    assert problem.startswith("spec: backend, data, loader, train are 13")
    assert problem.endswith("a pod takes at most 131072")


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


# --- overrides


@pytest.mark.parametrize(
    ("overrides", "attribute", "value"),
    [
        pytest.param(["spec.loader.batchSize=128"], "loader.batch_size", 128, id="a number"),
        pytest.param(
            ["spec.loader.batchSize=128", "spec.loader.batchSize=8"], "loader.batch_size", 8, id="the last wins"
        ),
        pytest.param(["spec.loader.batchSize="], "loader.batch_size", 32, id="nothing removes"),
        pytest.param(["spec.train.seed=null"], "train.seed", None, id="null removes"),
        pytest.param(["spec.loader.classic.queue.capacity=2000"], "loader.queue_capacity", 2000, id="maps are made"),
        pytest.param(
            ["spec.train.parameters.learningRate=1e-2"], "train.parameters.learningRate", 0.01, id="a parameter"
        ),
        pytest.param(["spec.train.parameters.x=a=b"], "train.parameters.x", "a=b", id="an equals sign in the value"),
        pytest.param(
            ["spec.data.train.arrays.1.path=digits/l.npy"], "train_data.arrays.1.path", "digits/l.npy", id="by number"
        ),
        pytest.param(
            ["spec.data.train.arrays.labels.path=digits/l.npy"],
            "train_data.arrays.1.path",
            "digits/l.npy",
            id="by name",
        ),
        pytest.param(
            ["spec.data.volumes.0={name: digits, csi: {driver: d}}"],
            "document.spec.data.volumes.0.csi.driver",
            "d",
            id="a whole item",
        ),
        pytest.param(["spec.train.steps=10"], "train.epochs", None, id="steps replace epochs"),
        pytest.param(["spec.train.steps=10", "spec.train.seconds=9"], "train.steps", None, id="seconds replace steps"),
        pytest.param(["spec.train.command=[python, a.py]"], "train.command", ("python", "a.py"), id="a command"),
        pytest.param(
            ["spec.train.command=[python, a.py]"], "train.entrypoint", None, id="a command replaces the entrypoint"
        ),
        pytest.param(
            ["spec.data.volumes.digits.image.reference=r"],
            "document.spec.data.volumes.0",
            {"name": "digits", "image": {"reference": "r"}},
            id="another source of a volume",
        ),
        pytest.param(["spec.train.steps=null"], "train.epochs", 5, id="removing one leaves the others"),
        pytest.param(["spec.loader.shuffle={mode: Block, window: 8}"], "loader.window", 8, id="blocks"),
        pytest.param(["metadata.labels={a: b}"], "document.metadata.labels", {"a": "b"}, id="a map"),
    ],
)
def test_an_override_changes_one_value(digits, overrides, attribute, value):
    result = parse(read(digits, overrides))
    for name in attribute.split("."):
        if isinstance(result, dict):
            result = result[name]
        else:
            result = result[int(name)] if name.isdigit() else getattr(result, name)
    assert result == value


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        pytest.param("spec.loader.batchSize", "must be PATH=VALUE, such as spec.loader.batchSize=64", id="no value"),
        pytest.param("=5", "must be PATH=VALUE", id="no path"),
        pytest.param("spec..loader=5", "must be PATH=VALUE", id="an empty part"),
        pytest.param("spec.backend.name=5", "spec.backend is no map; set it as a whole", id="into a text"),
        pytest.param("spec.backend.name.x=5", "spec.backend is no map; set it as a whole", id="through a text"),
        pytest.param("spec.loader=[", "not valid YAML", id="no YAML"),
        pytest.param("spec.backend=a\n---\nb", "the value is 2 YAML documents; give one", id="two documents"),
        pytest.param(
            "spec.data.train.arrays.names.path=x",
            'no item "names" in a list of 2; give a number from 0 or one of features, labels',
            id="a name that is not in the list",
        ),
        pytest.param("spec.data.train.arrays.2=x", 'no item "2" in a list of 2', id="a number beyond the list"),
    ],
)
def test_an_override_that_does_not_fit_is_refused(digits, override, problem):
    (said,) = problems_of(read, digits, [override])
    assert said.startswith(f"--set {override}: ")
    assert problem in said


def test_an_override_into_a_list_without_names_says_its_length(digits):
    (said,) = problems_of(read, digits, ["spec.train.command=[python]", "spec.train.command.5=x"])
    assert said.endswith('no item "5" in a list of 1; give a number from 0')


def test_an_override_of_an_unknown_field_is_found_by_parsing(digits):
    value = read(digits, ["spec.loader.batchsize=5"])
    assert problems_of(parse, value) == ["spec.loader.batchsize: unknown field, did you mean batchSize?"]


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


# --- laws


def outcome(function, *args):
    """What a call returns, or the problems of its ManifestError."""
    try:
        return function(*args), ()
    except ManifestError as error:
        return None, error.problems


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


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(
    path=st.lists(st.sampled_from(["spec", "data", "volumes", "0", "train", "steps", "x"]), max_size=5),
    text=st.text(max_size=9),
)
def test_any_override_fits_or_is_refused_in_a_sentence(digits, path, text):
    override = f"{'.'.join(path)}={text}"
    value, problems = outcome(read, digits, [override])
    assert value or problems[0].startswith(f"--set {override}: ")


def test_importing_the_module_does_not_load_the_checkers():
    code = "import sys, feedline.manifest; print(sorted({'cel', 'jsonschema'} & sys.modules.keys()))"
    folder = str(Path(sys.modules["feedline.manifest"].__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": folder}
    )
    assert done.stdout == "[]\n"
