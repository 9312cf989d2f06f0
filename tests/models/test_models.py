"""The built-in models learn real digits, and take what they say they take: any shapes, several inputs, weights."""

from pathlib import Path

import numpy as np
import pytest
import yaml

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"
BACKENDS = ["pytorch", "tensorflow", "keras", "keras-on-torch"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory, processes):
    """Return the folder into which `feedline pack` packed the digits, as the example's README says."""
    folder = tmp_path_factory.mktemp("digits")
    options = ("--shape", "8,8", "--scale", "0.0625", "--shuffle-seed", 7)
    packed = processes("torch")("pack", EXAMPLE / "digits.csv.gz", "data", *options, folder=folder)
    assert packed.code == 0, packed.errors
    return folder / "data"


@pytest.mark.parametrize("way", BACKENDS)
def test_the_example_is_learned_by_every_backend(project, digits, way):
    (project.folder / "pipeline.yaml").write_text((EXAMPLE / "pipeline.yaml").read_text())
    arguments = ("--backend", way.partition("-")[0], "--volume", f"digits={digits}", "--report", "report.json")
    ended = project.command("run", "pipeline.yaml", *arguments, way=way)
    assert ended.code == 0, ended.errors
    values = yaml.safe_load((project.folder / "report.json").read_text())["values"]
    assert float(values["val_accuracy"]) > 0.93


# --- what a model takes ------------------------------------------------------------------------------------------------


@pytest.fixture
def trains(project):
    """Return a function that trains the built-in model on arrays of 60 rows by role, and returns how it ended."""

    def trains(way, arrays, *changes):
        roles = {}
        for name, (role, rows) in arrays.items():
            project.save(name, rows)
            roles[name] = role
        project.describe(roles)
        built_in = ("spec.train.entrypoint=feedline.models:train", "spec.train.parameters.hiddenUnits=16")
        return project.run(*built_in, "spec.train.seed=1", *changes, way=way)

    return trains


ROWS = np.arange(60)
NOISE = np.random.default_rng(3).normal(size=(60, 6)).astype(np.float32)
CLASSES = (ROWS % 3).astype(np.int32)

TASKS = {
    "classes of uint8": ({"x": ("Input", NOISE), "y": ("Target", CLASSES.astype(np.uint8))}, True),
    "classes of int64 in a column": ({"x": ("Input", NOISE), "y": ("Target", CLASSES.astype(np.int64)[:, None])}, True),
    "two classes of bool": ({"x": ("Input", NOISE), "y": ("Target", CLASSES > 0)}, True),
    "a value": ({"x": ("Input", NOISE), "y": ("Target", NOISE[:, 0])}, False),
    "a value in a column": ({"x": ("Input", NOISE), "y": ("Target", NOISE[:, :1])}, False),
    "values of shape [2, 3]": ({"x": ("Input", NOISE), "y": ("Target", NOISE.reshape(60, 2, 3))}, False),
    "values of float64": ({"x": ("Input", NOISE), "y": ("Target", NOISE[:, 0].astype(np.float64))}, False),
    "values of float16": ({"x": ("Input", NOISE), "y": ("Target", NOISE[:, 0].astype(np.float16))}, False),
    "inputs of uint8": ({"x": ("Input", (NOISE * 9).astype(np.uint8)), "y": ("Target", CLASSES)}, True),
    "inputs of float64": ({"x": ("Input", NOISE.astype(np.float64)), "y": ("Target", CLASSES)}, True),
    "inputs of bool": ({"x": ("Input", NOISE > 0), "y": ("Target", CLASSES)}, True),
    "an input of one number": ({"x": ("Input", NOISE[:, 0]), "y": ("Target", CLASSES)}, True),
    "two inputs": (
        {"x": ("Input", NOISE), "image": ("Input", NOISE.reshape(60, 2, 3)), "y": ("Target", CLASSES)},
        True,
    ),
    "two inputs and weights": (
        {"x": ("Input", NOISE), "b": ("Input", NOISE[:, 0]), "w": ("Weight", ROWS * 1.0), "y": ("Target", CLASSES)},
        True,
    ),
    "weights in a column": (
        {"x": ("Input", NOISE), "w": ("Weight", NOISE[:, :1] ** 2), "y": ("Target", NOISE[:, 0])},
        False,
    ),
    "weights and values of shape [2, 3]": (
        {"x": ("Input", NOISE), "w": ("Weight", NOISE[:, 0] ** 2), "y": ("Target", NOISE.reshape(60, 2, 3))},
        False,
    ),
}


# Keras compiles each model anew, for seconds; on torch it has the same layers and losses.
EVERY = ["pytorch", "tensorflow", "keras-on-torch"]
BY_KERAS = ["a value", "values of shape [2, 3]", "inputs of uint8", "two inputs and weights", "two classes of bool"]


@pytest.mark.parametrize(
    ("way", "task"), [(way, task) for way in EVERY for task in TASKS] + [("keras", task) for task in BY_KERAS]
)
def test_the_built_in_model_takes(trains, way, task):
    arrays, is_classes = TASKS[task]
    ended = trains(way, arrays, "spec.train.epochs=1")
    assert ended.code == 0, ended.errors
    values = ended.report["values"]
    wanted = {"loss", "accuracy", "val_loss", "val_accuracy"} if is_classes else {"loss", "val_loss"}
    assert set(values) == wanted
    assert float(values["val_loss"]) >= 0


@pytest.mark.parametrize("way", EVERY)
def test_rows_of_weight_0_teach_nothing(trains, way):
    """Two thirds of the rows say the opposite of the others, with weight 0."""
    lies = ROWS % 3 > 0
    x = np.where(ROWS % 2, 1.0, -1.0).astype(np.float32)
    y = np.where(lies, -x, x)
    arrays = {"x": ("Input", x[:, None]), "y": ("Target", y), "w": ("Weight", np.where(lies, 0.0, 1.0))}
    ended = trains(way, arrays, "spec.train.epochs=40", "spec.train.parameters.learningRate=0.02")
    assert ended.code == 0, ended.errors
    # Rows that count are fitted, the others would add a loss of 4 each.
    assert float(ended.report["values"]["loss"]) < 0.1


@pytest.mark.parametrize("way", EVERY)
def test_another_learning_rate_and_network_are_another_training(trains, way):
    arrays = {"x": ("Input", NOISE), "y": ("Target", CLASSES)}
    changes = ["learningRate=0.1", "hiddenLayers=0", "hiddenUnits=3"]
    losses = {
        change: trains(way, arrays, *([f"spec.train.parameters.{change}"] if change else [])).report["values"]["loss"]
        for change in ["", *changes]
    }
    assert len(set(losses.values())) == 4


@pytest.mark.parametrize(
    ("arrays", "changes", "message"),
    [
        pytest.param(
            {"x": ("Input", NOISE), "y": ("Target", CLASSES)},
            ["spec.train.parameters.learnRate=1"],
            "spec.train.parameters.learnRate: the built-in model knows hiddenLayers, hiddenUnits, learningRate",
            id="an unknown parameter",
        ),
        pytest.param(
            {"x": ("Input", NOISE), "y": ("Target", CLASSES)},
            ["spec.train.parameters.learningRate=fast"],
            "spec.train.parameters.learningRate: must be a number (got 'fast')",
            id="a rate of text",
        ),
        pytest.param(
            {"x": ("Input", NOISE), "y": ("Target", CLASSES)},
            ["spec.train.parameters.hiddenUnits=0"],
            "spec.train.parameters.hiddenUnits: must be a whole number from 1 on (got 0)",
            id="no units",
        ),
        pytest.param(
            {"x": ("Input", NOISE), "y": ("Target", CLASSES)},
            ["spec.train.parameters.hiddenLayers=1.5"],
            "spec.train.parameters.hiddenLayers: must be a whole number from 0 on (got 1.5)",
            id="half a layer",
        ),
        pytest.param({"x": ("Input", NOISE)}, [], "takes one Target and at most one Weight", id="no target"),
        pytest.param(
            {"x": ("Input", NOISE), "y": ("Target", CLASSES - 1)}, [], "classes must not be negative", id="negative"
        ),
        pytest.param(
            {"x": ("Input", NOISE), "y": ("Target", (NOISE * 9).astype(np.int32))},
            [],
            "array y: classes must be one integer a row, this has (6,)",
            id="classes of a shape",
        ),
        pytest.param(
            {"x": ("Input", ROWS.astype("S4")), "y": ("Target", CLASSES)},
            [],
            "array x: the built-in model takes numbers, this is |S4",
            id="inputs of text",
        ),
        pytest.param(
            {"x": ("Input", NOISE), "y": ("Target", CLASSES), "w": ("Weight", ROWS.astype("S4"))},
            [],
            "array w: the built-in model takes numbers, this is |S4",
            id="weights of text",
        ),
        pytest.param(
            {"x": ("Input", NOISE), "y": ("Target", CLASSES), "w": ("Weight", NOISE)},
            [],
            "array w: weights must be one number a row, this has (6,)",
            id="weights of a shape",
        ),
    ],
)
def test_what_the_built_in_model_cannot_take_is_one_sentence(trains, arrays, changes, message):
    ended = trains("pytorch", arrays, *changes)
    assert ended.code == 64, ended.errors
    assert message in ended.errors
    assert "Traceback" not in ended.errors


@pytest.mark.parametrize("way", BACKENDS)
def test_validation_rows_of_another_shape_are_one_sentence(trains, project, way):
    project.save("narrow", NOISE[:, :5])
    arrays = {"x": ("Input", NOISE), "y": ("Target", CLASSES)}
    ended = trains(way, arrays, "spec.data.validation.arrays.x.path=data/narrow.npy")
    assert ended.code == 65, ended.errors
    assert "array x: validation has rows of (5,), training of (6,)" in ended.errors
    assert "Traceback" not in ended.errors
