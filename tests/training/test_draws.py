"""A pipeline whose rows come by weight: what a run is given, and what is wrong with weights."""

import json

import numpy as np

CODE = """
def train(run):
    for epoch in run.epochs():
        labels = [label for batch in run.train for label in batch["labels"].tolist()]
        print("labels", sorted((label, labels.count(label)) for label in set(labels)))
        run.report(rows=sum(len(batch["labels"]) for batch in run.validation))
"""


def test_labels_come_equally_often_and_validation_as_it_is(project):
    labels = np.array([0] * 36 + [1] * 8 + [2] * 4 + [0] * 12, np.int32)
    project.save("labels", labels)
    ended = project.run("spec.loader.draw.balance=labels", "spec.loader.draw.rows=96", code=CODE)
    assert ended.code == 0, ended.errors
    told = {line for line in ended.output.splitlines() if line.startswith("labels")}
    assert told == {"labels [(0, 32), (1, 32), (2, 32)]"}
    assert ended.report["values"]["rows"] == "12"


def test_weights_are_those_of_the_rows_in_use(project):
    weights = np.zeros(60, np.float32)
    weights[[3, 50]] = 1  # the second is one of the validation
    project.save("weights", weights)
    ended = project.run("spec.loader.draw.weights=data/weights.npy", code=CODE)
    assert ended.code == 0, ended.errors
    told = {line for line in ended.output.splitlines() if line.startswith("labels")}
    assert told == {"labels [(0, 48)]"}


def test_check_tells_of_it(project):
    settings = ("--set", "spec.loader.draw.balance=labels", "--set", "spec.loader.draw.rows=96")
    ended = project.command("check", "pipeline.yaml", "--volume", f"data={project.data}", *settings)
    assert ended.code == 0, ended.errors
    assert "  an epoch draws 96 of them, by the labels in labels" in ended.output


def test_what_are_no_weights_is_one_sentence(project):
    refused = project.run("spec.loader.draw.balance=features")
    assert refused.code == 65
    assert "loader.draw.balance: features: must have one whole number or text for each row (got <f4," in refused.errors
    project.save("weights", np.ones((60, 2)))
    refused = project.run("spec.loader.draw.weights=data/weights.npy")
    assert refused.code == 65
    assert "weights.npy: must have one number for each row (got <f8, rows of shape [2])" in refused.errors
    project.save("weights", np.arange(60.0) - 5)
    refused = project.run("spec.loader.draw.weights=data/weights.npy")
    assert refused.code == 65
    assert "weights: row 0 has weight -5.0: give it one of at least 0" in refused.errors
    document = json.loads((project.folder / "pipeline.yaml").read_text())
    assert "draw" not in document["spec"]["loader"]
