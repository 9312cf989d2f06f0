"""A run, as `feedline run` makes it: its limits, its seeds, and every way of loading, in every backend."""

import numpy as np
import pytest

BACKENDS = ["pytorch", "tensorflow", "keras", "keras-on-torch"]
ENGINES = ["Feed", "Classic"]

BUILT_IN = ("spec.train.entrypoint=feedline.models:train", "spec.train.parameters.hiddenUnits=8")


def assert_completed(ended):
    assert ended.code == 0, ended.errors
    assert ended.report["message"] == "completed"


# --- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("way", BACKENDS)
@pytest.mark.parametrize(
    ("limit", "epochs", "steps"),
    [
        pytest.param("spec.train.epochs=2", 2, 12, id="two epochs"),
        pytest.param("spec.train.steps=7", 1, 7, id="steps that are no whole epochs"),
        pytest.param("spec.train.steps=6", 1, 6, id="steps that are one epoch"),
        pytest.param("spec.train.steps=2", 0, 2, id="steps within an epoch"),
    ],
)
def test_a_limit_is_kept_to_the_step(project, way, engine, limit, epochs, steps):
    ended = project.run(limit, f"spec.loader.engine={engine}", way=way)
    assert_completed(ended)
    counted = {name: ended.report[name] for name in ("epochs", "steps", "targetSteps", "samples")}
    assert counted == {"epochs": epochs, "steps": steps, "targetSteps": steps, "samples": 8 * steps}


@pytest.mark.parametrize("way", BACKENDS)
def test_a_limit_of_time_ends_the_run_and_is_no_number_of_steps(project, way):
    ended = project.run("spec.train.seconds=1", way=way)
    assert_completed(ended)
    assert ended.report["steps"] > 0
    assert ended.report["targetSteps"] == 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("way", BACKENDS)
def test_a_kept_last_batch_counts_with_the_rows_it_has(project, way, engine):
    changes = ("spec.loader.batchSize=9", "spec.loader.lastBatch=Keep", f"spec.loader.engine={engine}")
    ended = project.run(*changes, way=way)
    assert_completed(ended)
    assert (ended.report["epochs"], ended.report["steps"], ended.report["samples"]) == (2, 12, 96)


def test_a_loop_that_leaves_its_epochs_early_still_gets_all_its_steps(project):
    code = """
        def train(run):
            for epoch in run.epochs():
                for number, batch in enumerate(run.train):
                    if number == 2:
                        break
    """
    ended = project.run("spec.train.steps=20", code=code)
    assert_completed(ended)
    assert ended.report["steps"] == 20


def test_epochs_are_numbered_from_0_and_validation_counts_for_no_limit(project):
    code = """
        def train(run):
            seen = []
            for epoch in run.epochs():
                seen.append(epoch)
                rows = sum(len(batch["labels"]) for batch in run.validation)
                assert rows == 12, rows
                for batch in run.train:
                    pass
            assert seen == [0, 1, 2], seen
            assert run.validation.steps == 6, run.validation.steps  # 8 rows and 4, three times
    """
    assert_completed(project.run("spec.train.epochs=3", code=code))


def test_validation_is_in_the_files_order_and_takes_no_batch_larger_than_its_rows(project):
    code = """
        def train(run):
            for epoch in run.epochs():
                for batch in run.train:
                    pass
                names = [name for batch in run.validation for name in batch["names"].tolist()]
                assert names == [f"row {row}".encode() for row in range(48, 60)], names
    """
    assert_completed(project.run("spec.loader.batchSize=24", code=code))


def test_a_run_says_what_it_is(project):
    code = """
        def train(run):
            assert (run.pipeline, run.backend, run.engine) == ("small", "pytorch", "Feed")
            assert (run.inputs, run.targets, run.weights, run.extras) == (["features"], ["labels"], [], ["names"])
            assert run.parameters == {"learningRate": 0.25, "name": "x"}
            assert str(run.device) in ("cpu", "cuda:0")
            assert (len(run.train), run.steps_per_epoch, run.max_epochs, run.target_steps) == (6, 6, 2, 12)
            assert run.train.arrays["features"].row_shape == (4,)
            for epoch in run.epochs():
                for batch in run.train:
                    assert batch["features"].device == run.device
    """
    changes = ("spec.train.parameters.learningRate=0.25", "spec.train.parameters.name=x")
    assert_completed(project.run(*changes, code=code))


# --- what is reported --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reported", "values"),
    [
        pytest.param("loss=0.5, accuracy=1", {"loss": "0.5", "accuracy": "1"}, id="numbers"),
        pytest.param("loss=float('nan')", {"loss": "NaN"}, id="NaN"),
        pytest.param("loss=-float('inf')", {"loss": "-Infinity"}, id="minus infinity"),
        pytest.param("loss=torch.tensor(0.25), b=numpy.float16(2)", {"loss": "0.25", "b": "2"}, id="tensors"),
        pytest.param("**{f'v{i}': i for i in range(16)}", {f"v{i}": str(i) for i in range(16)}, id="16 names"),
    ],
)
def test_reported_values_are_decimal_strings(project, reported, values):
    ended = project.run(code=f"import numpy, torch\n{LOOP_THAT}\n    run.report({reported})\n")
    assert_completed(ended)
    assert ended.report["values"] == values


LOOP_THAT = """
def train(run):
    for epoch in run.epochs():
        for batch in run.train:
            pass
"""


@pytest.mark.parametrize(
    ("reported", "message"),
    [
        pytest.param("loss=[1, 2]", "run.report: loss must be a number (got list)", id="a list"),
        pytest.param("loss='low'", "run.report: loss must be a number (got str)", id="text"),
        pytest.param("**{f'v{i}': i for i in range(17)}", "run.report: at most 16 names", id="17 names"),
    ],
)
def test_what_cannot_be_reported_is_one_sentence(project, reported, message):
    ended = project.run(code=f"{LOOP_THAT}\n    run.report({reported})\n")
    assert ended.code == 64
    assert message in ended.errors
    assert "Traceback" not in ended.errors


# --- seeds -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", BACKENDS)
def test_a_seed_makes_runs_equal_bit_for_bit_and_another_seed_does_not(project, way):
    seeds = {name: (*BUILT_IN, f"spec.train.seed={seed}") for name, seed in (("a", 1), ("b", 1), ("c", 2))}
    runs = {name: project.run(*changes, way=way) for name, changes in seeds.items()}
    for ended in runs.values():
        assert_completed(ended)
    values = {name: ended.report["values"] for name, ended in runs.items()}
    assert set(values["a"]) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert values["a"] == values["b"]
    assert values["a"]["loss"] != values["c"]["loss"]


# --- ways of loading ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("residency", ["Mapped", "Read", "Memory"])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("way", BACKENDS)
def test_every_way_of_loading_trains_the_built_in_model(project, way, engine, residency):
    ended = project.run(
        *BUILT_IN, f"spec.loader.engine={engine}", f"spec.loader.residency={residency}", "spec.train.steps=4", way=way
    )
    assert_completed(ended)
    assert (ended.report["engine"], ended.report["steps"]) == (engine, 4)
    assert float(ended.report["values"]["val_loss"]) > 0


@pytest.mark.parametrize(("way", "residency"), [*((way, "Mapped") for way in BACKENDS), ("pytorch", "Memory")])
def test_many_files_are_read_as_one_array(project, way, residency):
    rows = np.load(project.data / "features.npy")
    for number, part in enumerate(np.split(rows, [7, 8, 20, 45])):
        project.save(f"parts/{number}", part)
    changes = [f"spec.data.{split}.arrays.features.path=data/parts/*.npy" for split in ("train", "validation")]
    whole = project.run(*BUILT_IN, "spec.train.seed=3", way=way)
    parts = project.run(*BUILT_IN, "spec.train.seed=3", *changes, f"spec.loader.residency={residency}", way=way)
    assert_completed(parts)
    assert parts.report["values"] == whole.report["values"]


def test_the_classic_ways_say_that_they_read_one_file_for_each_array(project):
    changes = [f"spec.data.{split}.arrays.features.path=data/*.npy" for split in ("train", "validation")]
    ended = project.run("spec.loader.engine=Classic", *changes)
    assert ended.code == 65  # features, labels and names are no one array
    project.save("parts/0", np.load(project.data / "features.npy"))
    changes = [f"spec.data.{split}.arrays.features.path=data/parts/*.npy" for split in ("train", "validation")]
    ended = project.run("spec.loader.engine=Classic", *changes)
    assert ended.code == 64
    assert "loader.engine: Classic reads one file for each array, features is *.npy: use Feed" in ended.errors


@pytest.mark.parametrize("engine", ENGINES)
def test_more_memory_than_there_is_is_refused_with_both_sizes(project, engine):
    ended = project.run(
        f"spec.loader.engine={engine}",
        "spec.loader.residency=Memory",
        before="from unittest.mock import patch\n"
        "stack.enter_context(patch('feedline.training.sources.memory_bytes', lambda: 1000))",
    )
    assert ended.code == 78
    assert "loader.residency: Memory needs 1.3 kB of 1.0 kB" in ended.errors
    assert "Traceback" not in ended.errors
