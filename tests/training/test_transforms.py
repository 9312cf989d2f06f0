"""A pipeline whose rows become others on their way: what each framework gets, what is told of it, what is wrong."""

import json

import numpy as np
import pytest
from projects import LOOP

CHANGED = """
import numpy as np

def shift(batch, context):
    amount = context.uniform() < 0.5 if context.is_training else np.zeros(len(context.rows), bool)
    return {**batch, "features": batch["features"] + amount[:, None].astype("float32"), "shifted": amount}
"""
TRAIN = """
import numpy as np

def train(run):
    spec = {name: (each.dtype.name, each.row_shape) for name, each in run.train.element_spec.items()}
    print("spec", spec)
    print("roles", run.inputs, run.targets, run.extras)
    for epoch in run.epochs():
        for split in (run.train, run.validation):
            batches = [{name: np.asarray(value) for name, value in batch.items()} for batch in split]
            joined = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
            shifted = joined["shifted"]
            least = joined["features"][:, 2]
            print(split.name, bool(((least >= 0.5) == shifted).all()), 0 < shifted.sum() < len(shifted), len(shifted))
        run.report(classes=float(joined["labels"].sum()))
"""
SCALED = [
    {"select": {"array": "features", "columns": [3, 1]}},
    {"scale": {"array": "weight", "by": 0.25}},
    {"concat": {"name": "features", "arrays": ["features", "weight"]}},
    {"oneHot": {"array": "labels", "classes": 3}},
]


@pytest.fixture
def transformed(project):
    """Return a project whose features end with a column from 0 to 0.25, and whose labels are one-hot."""
    project.save("weight", (np.arange(60) % 2).astype(np.uint8))
    project.describe({"features": "Input", "weight": "Input", "labels": "Target", "names": "Extra"})
    change(project, SCALED)
    return project


def change(project, transforms, function="own:shift"):
    path = project.folder / "pipeline.yaml"
    document = json.loads(path.read_text())
    document["spec"]["data"]["transforms"] = transforms
    if function is not None:
        document["spec"]["train"]["transform"] = function
    path.write_text(json.dumps(document))


@pytest.mark.parametrize("way", ["pytorch", "tensorflow", "keras"])
def test_each_framework_gets_what_becomes_of_the_rows(transformed, way):
    ended = transformed.run(way=way, code=TRAIN + CHANGED)
    assert ended.code == 0, ended.errors
    lines = ended.output.splitlines()
    spec = {
        "features": ("float32", (3,)),
        "labels": ("float32", (3,)),
        "names": ("bytes64", ()),
        "shifted": ("bool", ()),
    }
    assert f"spec {spec}" in lines
    assert "roles ['features'] ['labels'] ['names', 'shifted']" in lines
    assert lines.count("train True True 48") == 2
    assert lines.count("validation True False 12") == 2
    assert ended.report["values"] == {"classes": "12"}
    assert 0 < ended.report["transformPermille"] <= 1000
    assert "of the feed's time in transforms" in ended.output


def test_fit_trains_on_them(project):
    change(project, [{"oneHot": {"array": "labels", "classes": 3}}, {"scale": {"array": "features", "by": 2}}], None)
    code = """
    import keras
    import numpy as np

    def train(run):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
        steps, epochs = run.steps_per_epoch, run.max_epochs
        model.fit(run.dataset, epochs=epochs, steps_per_epoch=steps, callbacks=run.callbacks, verbose=0)
        inputs, targets = next(iter(run.validation_dataset))
        print("targets", np.asarray(targets).shape, np.asarray(inputs).dtype)
    """
    ended = project.run(way="keras", code=code)
    assert ended.code == 0, ended.errors
    assert "targets (8, 3) float32" in ended.output


def test_a_run_that_goes_on_gets_the_same_rows(transformed):
    code = (
        CHANGED
        + """
def train(run):
    run.checkpoint(nothing=Nothing())
    for epoch in run.epochs():
        for batch in run.train:
            print("batch", batch["features"].tolist())
            if STOP and run.train.steps == 4:
                raise KeyboardInterrupt

class Nothing:
    def state_dict(self): return {"a": 1}
    def load_state_dict(self, state): pass
"""
    )
    whole = transformed.run(code=f"STOP = False\n{code}", arguments=("--output", "whole"))
    assert whole.code == 0, whole.errors

    def batches(ended):
        return [line for line in ended.output.splitlines() if line.startswith("batch")]

    every = ("spec.train.checkpoint={everySteps: 3}", "spec.output={persistentVolumeClaim: {claimName: runs}}")
    first = transformed.run(*every, code=f"STOP = True\n{code}", arguments=("--output", "parts"))
    assert first.code == 130, first.errors
    second = transformed.run(*every, code=f"STOP = False\n{code}", arguments=("--output", "parts", "--resume"))
    assert second.code == 0, second.errors
    assert batches(first)[:3] + batches(second)[-9:] == batches(whole)
    change(transformed, [SCALED[0], {"scale": {"array": "weight", "by": 0.5}}, *SCALED[2:]])
    refused = transformed.run(*every, code=f"STOP = False\n{code}", arguments=("--output", "parts", "--resume"))
    assert refused.code == 64
    assert "transforms was" in refused.errors


def test_statistics_are_those_of_the_training_rows_alone(project):
    features = np.arange(60 * 4, dtype=np.float32).reshape(60, 4)
    features[48:] = 1e6  # the rows of the validation
    project.save("features", features)
    change(project, [{"standardize": {"array": "features", "statistics": "data/statistics.npz"}}], None)
    volume = ("--volume", f"data={project.data}")

    refused = project.run(code=LOOP)
    assert refused.code == 66
    assert "statistics.npz: cannot be read (No such file or directory): write it with feedline stats" in refused.errors

    ended = project.command("stats", "pipeline.yaml", *volume)
    assert ended.code == 0, ended.errors
    assert "statistics.npz: features, 48 rows, 4 means\n  mean 94 to 97\n" in ended.output
    with np.load(project.data / "statistics.npz") as found:
        assert (found["mean"] == features[:48].mean(0, dtype=float)).all()
        assert found["std"] == pytest.approx(features[:48].std(0, dtype=float))
        assert (found["min"].tolist(), found["max"].tolist()) == (features[0].tolist(), features[47].tolist())
    code = """
    import numpy as np

    def train(run):
        for epoch in run.epochs():
            rows = np.concatenate([batch["features"].numpy() for batch in run.train])
            run.report(mean=abs(rows.mean()), deviation=rows.std())
    """
    ended = project.run(code=code)
    assert ended.code == 0, ended.errors
    assert float(ended.report["values"]["mean"]) < 1e-6
    assert float(ended.report["values"]["deviation"]) == pytest.approx(1, abs=1e-5)
    checked = project.command("check", "pipeline.yaml", *volume)
    assert checked.code == 0, checked.errors

    features[:, 2] = 5
    project.save("features", features)
    refused = project.command("stats", "pipeline.yaml", *volume)
    assert refused.code == 65
    assert "the standard deviation at [2] is 0, the same value in every row: leave that column out" in refused.errors
    features[30, 2] = np.nan
    project.save("features", features)
    refused = project.command("stats", "pipeline.yaml", *volume)
    assert refused.code == 65
    assert "array features: row 30 holds nan: correct it, or leave the row out" in refused.errors
    refused = project.command("stats", "pipeline.yaml", *volume, "--axis", "1")
    assert refused.code == 64
    assert "axis: rows of shape [4] have no axis 1" in refused.errors
    change(
        project, [{"standardize": {"array": each, "statistics": "data/s.npz"}} for each in ("features", "labels")], None
    )
    refused = project.command("stats", "pipeline.yaml", *volume)
    assert refused.code == 64
    assert "two standardize have the file data/s.npz: name one for each" in refused.errors
    change(project, [], None)
    refused = project.command("stats", "pipeline.yaml", *volume)
    assert refused.code == 64
    assert "spec.data.transforms: has no standardize" in refused.errors


WRONG = """
import numpy as np

def raises(batch, context):
    raise KeyError("weight")

def raises_later(batch, context):
    if context.step == 4:
        raise KeyError("weight")
    return batch

def halves(batch, context):
    return {name: value[: len(value) // 2] for name, value in batch.items()}

def leaves(batch, context):
    raise SystemExit(0)

def without_inputs(batch, context):
    return {"labels": batch["labels"]}
"""


@pytest.mark.parametrize(
    ("function", "code", "told"),
    [
        ("raises", 70, "spec.train.transform: own:raises raised KeyError('weight')"),
        ("raises_later", 70, "KeyError: 'weight'"),
        ("halves", 70, "the transform own:halves returned 1 rows of 'features' for 2: return as many (epoch 0, step 0"),
        (
            "without_inputs",
            64,
            "spec.train.transform: own:without_inputs returns labels, and no array of the role Input",
        ),
        (
            "leaves",
            70,
            "the transform own:leaves raised SystemExit(0): return a batch, or raise an error (epoch 0, step 0",
        ),
        ("absent", 78, "spec.train.transform: own has no function absent"),
    ],
)
def test_a_function_that_is_wrong_is_told_of(project, function, code, told):
    ended = project.run(f"spec.train.transform=own:{function}", code=LOOP + WRONG)
    assert ended.code == code
    *_, last = ended.errors.strip().splitlines()
    assert last.startswith("feedline: ")
    assert told in last
    assert ended.report["exitCode"] == code
    is_theirs = function.startswith("raises")
    assert ('raise KeyError("weight")' in ended.errors) == is_theirs
    assert "fault of feedline" not in ended.errors
    if is_theirs:
        assert "raised by the transform own:" in ended.errors
        assert f"(epoch 0, step {0 if function == 'raises' else 4}, rows " in ended.errors


def test_a_module_that_is_not_there_is_told_of(project):
    refused = project.run("spec.train.transform=nowhere:augment")
    assert refused.code == 78
    assert "spec.train.transform: nowhere:augment cannot be imported: there is no module nowhere" in refused.errors
    checked = project.command("check", "pipeline.yaml", "--set", "spec.train.transform=nowhere:augment")
    assert checked.code == 0
    assert "warning: spec.train.transform: there is no module nowhere beside pipeline.yaml" in checked.output


def test_a_declared_transform_that_does_not_fit_is_told_by_check(project):
    change(project, [{"select": {"array": "features", "columns": [4]}}], None)
    checked = project.command("check", "pipeline.yaml", "--volume", f"data={project.data}")
    assert checked.code == 64
    assert "select of features: there is no column 4, only 0 to 3" in checked.errors
    change(project, [{"concat": {"name": "all", "arrays": ["labels", "features"]}}], None)
    for command in ("check", "run"):
        checked = project.command(command, "pipeline.yaml", "--volume", f"data={project.data}")
        assert checked.code == 64
        assert "spec.data.transforms: they make all, names, and no array of the role Input" in checked.errors


def test_the_built_in_model_takes_them(project):
    change(
        project, [{"cast": {"array": "labels", "dtype": "int64"}}, {"scale": {"array": "features", "by": 0.5}}], None
    )
    ended = project.run("spec.train.entrypoint=feedline.models:train")
    assert ended.code == 0, ended.errors
    assert {"loss", "val_accuracy"} <= set(ended.report["values"])


def test_compare_leaves_the_classic_engines_out(project):
    change(project, [{"cast": {"array": "labels", "dtype": "int64"}}], "ours:same")
    (project.folder / "ours.py").write_text("def same(batch, context): return batch")
    (project.folder / "own.py").write_text(LOOP)
    volume = ("--volume", f"data={project.data}", "--rounds", "1", "--steps", "4")
    ended = project.command("compare", "pipeline.yaml", *volume)
    assert ended.code == 0, ended.errors
    assert "the classic engines hand rows out as they are stored, and are left out" in ended.output
    refused = project.run("spec.loader.engine=Classic")
    assert refused.code == 64
    assert "spec.loader.engine: must be Feed where there are transforms" in refused.errors
