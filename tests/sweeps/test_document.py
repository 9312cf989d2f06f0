"""A TrainingSweep: what it says, what its trials are, and one sentence for each thing that is wrong with it."""

import json
from pathlib import Path

import pytest

from feedline import manifest
from feedline.manifest import Choice, ManifestError, Numbers


def test_what_it_says(sweep):
    found = sweep()
    assert [each.path for each in found.parameters] == [
        "spec.train.parameters.learningRate",
        "spec.loader.batchSize",
        "spec.train.parameters.optimizer",
    ]
    assert found.parameters[0].space == Numbers(1e-4, 1e-1, is_log=True, is_whole=False)
    assert found.parameters[1].space == Numbers(8, 64, is_log=True, is_whole=True)
    assert found.parameters[2].space == Choice(("sgd", "adamw", True, 1))
    assert (found.algorithm, found.seed, found.trials, found.parallel, found.max_failed) == ("Random", 3, 12, 3, 3)
    assert (found.pruning.rule, found.pruning.warmup, found.pruning.min_trials) == ("None", 1, 5)


def test_a_trial_is_the_template_with_its_values(sweep):
    trial = sweep().pipeline_of(4, {"learningRate": 0.01, "batch": 16, "optimizer": True})
    document = manifest.parse(trial)
    assert document.name == "lr-search-4"
    assert document.train.parameters == {"learningRate": 0.01, "optimizer": True}
    assert document.loader.batch_size == 16
    assert document.objective.value == "val_loss"
    assert manifest.parameters_of(document.document) == {"learningRate": 0.01, "batch": 16, "optimizer": True}
    assert json.loads(trial["metadata"]["annotations"]["feedline.dev/parameters"])["learningRate"] == 0.01


def test_a_grid_is_all_points(sweep):
    parameters = [
        {"name": "batch", "path": "spec.loader.batchSize", "int": {"min": 8, "max": 30, "step": 8}},
        {"name": "optimizer", "choice": {"values": ["sgd", "adamw"]}},
    ]
    found = sweep(parameters=parameters, algorithm={"type": "Grid"}, trials=None)
    assert found.trials == 6
    points = [{"batch": b, "optimizer": o} for b in (8, 16, 24) for o in ("sgd", "adamw")]
    assert [found.point(index) for index in range(6)] == points
    assert sweep(parameters=parameters, algorithm={"type": "Grid"}, trials=4).trials == 4


def parameter(**said):
    return {"parameters": [{"name": "learningRate", **said}]}


WRONG = {
    "no type": (parameter(), "spec.parameters[0]: exactly one of float, int, choice"),
    "two types": (
        parameter(float={"min": "1", "max": "2"}, choice={"values": ["a", "b"]}),
        "spec.parameters[0]: exactly one of float, int, choice",
    ),
    "min above max": (
        parameter(float={"min": "2", "max": "1e0"}),
        "spec.parameters[0].float: min must be less than max",
    ),
    "min equal to max": (parameter(int={"min": 3, "max": 3}), "spec.parameters[0].int: min must be less than max"),
    "log of zero": (
        parameter(float={"min": "0", "max": "1", "scale": "Log"}),
        "spec.parameters[0].float.min: must be more than 0 where scale is Log",
    ),
    "no number": (parameter(float={"min": "low", "max": "1"}), "spec.parameters[0].float.min: must match"),
    "a number that is not whole": (
        {"parameters": [{"name": "batch", "path": "spec.loader.batchSize", "float": {"min": "16", "max": "256"}}]},
        "spec.parameters.batch: 107.67184 is not possible: spec.loader.batchSize: must be an integer",
    ),
    "a batch that the processes do not share": (
        {
            "parameters": [{"name": "batch", "path": "spec.loader.batchSize", "int": {"min": 16, "max": 256}}],
            "template": {"spec": {"resources": {"processes": 2}}},
        },
        "spec.parameters.batch: 17 is not possible: spec",
    ),
    "a step over all": (
        parameter(int={"min": 1, "max": 2, "step": 10}),
        "spec.parameters.learningRate: step 10 leaves one value; take a smaller one",
    ),
    "one choice": (parameter(choice={"values": ["a"]}), "spec.parameters[0].choice.values: must have at least 2 items"),
    "a choice twice": (
        parameter(choice={"values": ["a", "b", "a"]}),
        'spec.parameters[0].choice.values[2]: "a" is given twice; give each value once',
    ),
    "a choice of maps": (
        parameter(choice={"values": ["a", {"b": 1}]}),
        'spec.parameters[0].choice.values[1]: must be a string, a number or a boolean (got {"b": 1})',
    ),
    "a path that is not there": (
        parameter(path="spec.loader.batchSiz", int={"min": 1, "max": 2}),
        "spec.parameters.learningRate: 1 is not possible: spec.loader.batchSiz: unknown field, did you mean batchSize?",
    ),
    "a path that is not allowed": (
        parameter(path="spec.image", choice={"values": ["a", "b"]}),
        "spec.parameters[0].path: spec.image is the same for all trials; say it in the template",
    ),
    "a path to metadata": (
        parameter(path="metadata.name", choice={"values": ["a", "b"]}),
        "spec.parameters[0].path: must match",
    ),
    "a value of another type": (
        parameter(path="spec.loader.batchSize", choice={"values": [8, "many"]}),
        'spec.parameters.learningRate: "many" is not possible: spec.loader.batchSize: must be an integer (got "many")',
    ),
    "a value out of range": (
        parameter(path="spec.loader.batchSize", int={"min": 0, "max": 64}),
        "spec.parameters.learningRate: 0 is not possible: spec.loader.batchSize: must be at least 1 (got 0)",
    ),
    "one field by two": (
        {
            "parameters": [
                {"name": "a", "path": "spec.loader.batchSize", "int": {"min": 1, "max": 2}},
                {"name": "b", "path": "spec.loader.batchSize", "int": {"min": 1, "max": 2}},
            ]
        },
        "spec.parameters[1].path: spec.loader.batchSize is set by a; let each set another field",
    ),
    "a grid of floats": (
        {**parameter(float={"min": "0", "max": "1"}), "algorithm": {"type": "Grid"}},
        "spec.algorithm: a Grid takes parameters of choices, and of integers with a step",
    ),
    "a grid too large": (
        {**parameter(int={"min": 0, "max": 5000, "step": 1}), "algorithm": {"type": "Grid"}, "trials": None},
        "spec.algorithm: the grid has 5001 points, and a sweep at most 1000 trials; take fewer",
    ),
    "two that exclude each other": (
        {
            "parameters": [
                {"name": "a", "path": "spec.train.epochs", "int": {"min": 1, "max": 2}},
                {"name": "b", "path": "spec.train.steps", "int": {"min": 1, "max": 2}},
            ]
        },
        'spec.parameters: {"a": 1, "b": 1} is not possible: a has no effect, since another parameter takes its field away',
    ),
    "further apart than a number": (
        parameter(float={"min": "-1e308", "max": "1e308"}),
        "spec.parameters.learningRate: min and max are further apart than a number can say; take less",
    ),
    "a time to live as a parameter": (
        parameter(path="spec.policy.ttlSecondsAfterFinished", int={"min": 1, "max": 2}),
        "spec.parameters[0].path: spec.policy.ttlSecondsAfterFinished is the same for all trials; say it in the template",
    ),
    "a name with a dot": (
        {"parameters": [{"name": "optimizer.lr", "int": {"min": 1, "max": 2}}]},
        "spec.parameters[0].name: must match",
    ),
    "no trials": ({"trials": None}, "spec.trials: how many trials there are must be said"),
    "a template that is none": (
        {"template": {"spec": {"train": {"epochs": 0}}}},
        "spec.template.spec.train.epochs: must be at least 1 (got 0)",
    ),
    "a template that vanishes": (
        {"template": {"spec": {"policy": {"ttlSecondsAfterFinished": 60}}}},
        "spec.template.spec.policy.ttlSecondsAfterFinished: a trial that vanished would run again; leave it out",
    ),
    "a template that is suspended": (
        {"template": {"spec": {"suspend": True}}},
        "spec.template.spec.suspend: is for a pipeline; leave it out",
    ),
    "an objective in the template": (
        {"template": {"spec": {"objective": {"value": "loss", "goal": "Minimize"}}}},
        "spec.template.spec.objective: is the sweep's to say; leave it out",
    ),
    "another field": ({"trails": 3}, "spec.trails: unknown field, did you mean trials?"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_one_sentence(document, case):
    spec, message = WRONG[case]
    with pytest.raises(ManifestError) as caught:
        manifest.parse_sweep(document(**spec))
    assert [problem for problem in caught.value.problems if problem.startswith(message)], caught.value.problems
    told = [problem.rpartition(" is not possible: ")[2] for problem in caught.value.problems]
    assert len(told) == len(set(told)) <= 2, "what is wrong with all values is told once"


def test_a_grid_of_more_points_than_anybody_counts_is_known_at_once(document):
    huge = {"parameters": [{"name": "x", "int": {"min": 0, "max": 10**12, "step": 1}}], "algorithm": {"type": "Grid"}}
    with pytest.raises(ManifestError, match="the grid has 1000000000001 points"):
        manifest.parse_sweep(document(**huge, trials=None))
    some = manifest.parse_sweep(document(**huge, trials=5))
    assert (some.trials, some.point(4)) == (5, {"x": 4})


def test_the_last_value_is_one_that_a_step_reaches(sweep):
    path = {"name": "batch", "path": "spec.loader.batchSize", "int": {"min": 1, "max": 1048577, "step": 1048570}}
    assert sweep(parameters=[path], algorithm={"type": "Grid"}).trials == 2


@pytest.mark.parametrize("name", ["a" * 48, "3a", "a-", "A"])
def test_a_name_that_no_trial_could_have_is_refused(document, name):
    with pytest.raises(ManifestError, match=r"metadata.name: must be at most 47 lower-case letters"):
        manifest.parse_sweep({**document(), "metadata": {"name": name}})


def test_a_pipeline_is_no_sweep(tmp_path):
    file = tmp_path / "pipeline.yaml"
    file.write_text("apiVersion: feedline.dev/v1alpha1\nkind: TrainingPipeline\n")
    with pytest.raises(ManifestError, match=r'kind: must be TrainingSweep \(got "TrainingPipeline"\)'):
        manifest.read_sweep(file)


@pytest.mark.parametrize(
    "file", sorted((Path(__file__).parents[2] / "examples" / "sweep").glob("*.yaml")), ids=lambda file: file.name
)
def test_the_examples_are_sweeps(file):
    sweep = manifest.parse_sweep(manifest.read_sweep(file))
    assert sweep.trials == {"sweep.yaml": 24, "loader.yaml": 8}[file.name]


def test_ends_that_cannot_be_together_are_told_before_the_first_trial(document):
    engine = {"name": "engine", "path": "spec.loader.engine", "choice": {"values": ["Classic", "Feed"]}}
    shuffle = {"name": "mode", "path": "spec.loader.shuffle.mode", "choice": {"values": ["Full", "Block"]}}
    with pytest.raises(
        ManifestError, match=r'spec.parameters: {"engine": "Classic", "mode": "Block"} is not possible: '
    ):
        manifest.parse_sweep(document(parameters=[engine, shuffle]))
    largest = {"spec": {"loader": {"shuffle": {"seed": 9007199254740991}}}}
    with pytest.raises(ManifestError, match=r"spec\.confirm: a confirmation is not possible: "):
        manifest.parse_sweep(document(confirm={"top": 1, "seeds": 1}, template=largest))
