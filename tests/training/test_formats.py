"""A pipeline over files that are no `.npy`: the same batches in the same order, from the manifest on."""

import json

import h5py
import numpy as np

CODE = """
def train(run):
    for epoch in run.epochs():
        for batch in run.train:
            print("batch", batch["labels"].tolist(), batch["features"].tolist())
        run.report(rows=sum(len(batch["labels"]) for batch in run.validation))
"""


def other_formats(project):
    """Write the arrays of a project once more, and return its pipeline over these."""
    features, labels, names = (np.load(project.data / f"{name}.npy") for name in ("features", "labels", "names"))
    with h5py.File(project.data / "all.h5", "w") as file:
        file["group/features"] = features
    np.savez(project.data / "labels.npz", labels)
    (project.data / "names.bin").write_bytes(b"head" + names.tobytes())
    document = json.loads((project.folder / "pipeline.yaml").read_text())
    listed = [
        {"name": "features", "path": "data/all.h5", "member": "group/features", "role": "Input"},
        {"name": "labels", "path": "data/labels.npz", "role": "Target"},
        {"name": "names", "path": "data/names.bin", "role": "Extra", "format": "Raw", "dtype": "uint8"},
    ]
    listed[2] |= {"shape": [8], "offset": 4}
    for split in ("train", "validation"):
        document["spec"]["data"][split]["arrays"] = listed
    return document


def batches(ended):
    """Return what a run has printed of its batches."""
    return [line for line in ended.output.splitlines() if line.startswith("batch")]


def test_a_run_over_other_files_is_that_over_npy_files(project):
    before = project.run(code=CODE)
    assert before.code == 0, before.errors
    (project.folder / "pipeline.yaml").write_text(json.dumps(other_formats(project)))
    after = project.run(code=CODE)
    assert after.code == 0, after.errors
    assert batches(after) == batches(before)
    assert len(batches(after)) == 12
    assert (after.report["samples"], after.report["values"]) == (96, {"rows": "12"})


def test_check_opens_them_and_classic_refuses_them(project):
    (project.folder / "pipeline.yaml").write_text(json.dumps(other_formats(project)))
    ended = project.command("check", "pipeline.yaml", "--volume", f"data={project.data}")
    assert ended.code == 0, ended.errors
    assert "names            |u1    [8]              8 bytes a row" in ended.output
    refused = project.run("spec.loader.engine=Classic")
    assert refused.code == 64
    assert "Classic reads .npy files alone, features is all.h5: use Feed" in refused.errors


def test_a_member_that_is_not_there_is_one_sentence(project):
    document = other_formats(project)
    document["spec"]["data"]["train"]["arrays"][0]["member"] = "group/feature"
    (project.folder / "pipeline.yaml").write_text(json.dumps(document))
    ended = project.run()
    assert ended.code == 66
    assert "all.h5: has no dataset group/feature, but group/features" in ended.errors
    assert "Traceback" not in ended.errors
