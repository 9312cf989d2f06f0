"""The classes of a run: as many as a model can have, and the same numbers in both splits, known before it starts."""

import json

import numpy as np
import pytest

BUILT_IN = ("spec.train.entrypoint=feedline.models:train", "spec.train.parameters.hiddenUnits=8")


def ended(project, command):
    if command == "run":
        return project.run(*BUILT_IN)
    sets = [part for change in BUILT_IN for part in ("--set", change)]
    return project.command("check", "pipeline.yaml", "--volume", f"data={project.data}", *sets)


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_class_of_a_giant_number_is_refused_before_anything_is_allocated(project, command):
    labels = np.load(project.data / "labels.npy").astype(np.int64)
    labels[3] = 2_000_000_000
    project.save("labels", labels)
    told = ended(project, command)
    assert told.code == 65, told.errors
    assert "array labels: a class is numbered 2000000000, and a model with as many outputs takes" in told.errors
    assert "number the classes from 0 on" in told.errors


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize("classes", ["dog\n", "cat\ndog\n"], ids=["others", "the same"])
def test_splits_that_number_their_classes_otherwise_are_refused(project, command, classes):
    (project.data / "classes.txt").write_text("cat\ndog\n")
    other = project.data / "more"
    other.mkdir()
    document = json.loads((project.folder / "pipeline.yaml").read_text())
    listed = []
    for array in document["spec"]["data"]["train"]["arrays"]:
        np.save(other / f"{array['name']}.npy", np.load(project.data / f"{array['name']}.npy")[:12])
        listed.append({**array, "path": f"data/more/{array['name']}.npy"})
    document["spec"]["data"]["validation"] = {"arrays": listed}
    (project.folder / "pipeline.yaml").write_text(json.dumps(document))
    (other / "classes.txt").write_text(classes)
    told = ended(project, command)
    if classes == "cat\ndog\n":
        assert told.code == 0, told.errors
        return
    assert told.code == 65, told.errors
    assert "array labels: class 0 is cat by" in told.errors
    assert "and dog by" in told.errors
    assert "pack the second set again with --classes" in told.errors
