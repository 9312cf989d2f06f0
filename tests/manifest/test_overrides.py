"""Changes by --set: each one changes what its path names, or is refused in a sentence that repeats it."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from manifests import outcome, problems_of

from feedline.manifest.reading import parse, read


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


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(
    path=st.lists(st.sampled_from(["spec", "data", "volumes", "0", "train", "steps", "x"]), max_size=5),
    text=st.text(max_size=9),
)
def test_any_override_fits_or_is_refused_in_a_sentence(digits, path, text):
    override = f"{'.'.join(path)}={text}"
    value, problems = outcome(read, digits, [override])
    assert value or problems[0].startswith(f"--set {override}: ")
