"""A pipeline over the rows that an index names: folds, and what is wrong with an index."""

import json

import numpy as np
import pytest

CODE = """
def train(run):
    for epoch in run.epochs():
        print("trained on", sorted(int(name.split()[1]) for batch in run.train for name in batch["names"].tolist()))
        run.report(rows=sum(len(batch["labels"]) for batch in run.validation))
"""
SETTINGS = ("spec.data.train.rows.index=data/train.npy", "spec.data.validation.rows.index=data/validation.npy")


@pytest.fixture
def folds(project):
    """Return a project of 60 rows with an index of 40 of them, and a mask of the others."""
    index = np.random.default_rng(1).permutation(60)[:40]
    np.save(project.data / "train.npy", index)
    np.save(project.data / "validation.npy", ~np.isin(np.arange(60), index))
    document = json.loads((project.folder / "pipeline.yaml").read_text())
    for split in ("train", "validation"):
        document["spec"]["data"][split].pop("rows", None)
    (project.folder / "pipeline.yaml").write_text(json.dumps(document))
    return project, index


def test_a_run_trains_on_the_rows_of_its_index(folds):
    project, index = folds
    ended = project.run(*SETTINGS, code=CODE)
    assert ended.code == 0, ended.errors
    trained = [line for line in ended.output.splitlines() if line.startswith("trained on")]
    assert set(trained) == {f"trained on {sorted(index.tolist())}"}
    assert ended.report["values"]["rows"] == "20"


def test_check_tells_of_it_and_classic_refuses_it(folds):
    project, _ = folds
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    ended = project.command("check", "pipeline.yaml", "--volume", f"data={project.data}", *settings)
    assert ended.code == 0, ended.errors
    assert "train: 40 rows, those of data/train.npy, " in ended.output
    refused = project.run(*SETTINGS, "spec.loader.engine=Classic")
    assert refused.code == 64
    assert "Classic reads rows from start to stop, and not those of data/train.npy: use Feed" in refused.errors


def test_an_index_of_other_data_is_one_sentence(folds):
    project, _ = folds
    np.save(project.data / "train.npy", np.array([1, 2, 60]))
    refused = project.run(*SETTINGS)
    assert refused.code == 65
    assert "train.npy: the index names row 60 at place 2, and the arrays have 60 rows" in refused.errors
