"""A pipeline whose rows are windows: what a run trains and validates on, in one process and in several."""

import json

import numpy as np
import pytest

CODE = """
import json

def train(run):
    rows = {"trained": [], "validated": []}
    for epoch in run.epochs():
        for split, batches in (("trained", run.train), ("validated", run.validation)):
            for batch in batches:
                rows[split] += [[*past, coming] for past, coming in zip(batch["past"].tolist(), batch["coming"].tolist())]
    with open(f"rows-{run.rank}-of-{run.world}.json", "w") as file:
        json.dump(rows, file)
"""
PAST = {"name": "past", "path": "data/series-*.npy", "role": "Input", "window": {"length": 5, "stride": 2}}
COMING = {"name": "coming", "path": "data/series-*.npy", "role": "Target", "window": {"stride": 2, "start": 7}}


@pytest.fixture
def series(project):
    """Return a project over a series of 60 numbers in two files, the last 25 of which are validated on."""
    for number, part in enumerate(np.split(np.arange(60.0, dtype=np.float32), [32])):
        np.save(project.data / f"series-{number}.npy", part)
    document = json.loads((project.folder / "pipeline.yaml").read_text())
    data = document["spec"]["data"]
    data["train"] |= {"arrays": [PAST, COMING], "rows": {"start": 0, "stop": 35}}
    data["validation"] |= {"arrays": [PAST, COMING], "rows": {"start": 35}}
    document["spec"]["loader"] = {"batchSize": 4, "shuffle": {"mode": "Full", "seed": 3}}
    document["spec"]["train"] |= {"epochs": 1, "entrypoint": "own:train"}
    (project.folder / "pipeline.yaml").write_text(json.dumps(document))
    (project.folder / "own.py").write_text(CODE)
    return project


@pytest.mark.parametrize("count", [1, 2])
def test_windows_are_of_one_split_and_one_file(series, count):
    data = f"data={series.data}"
    ended = series.command("run", "pipeline.yaml", "--volume", data, "--processes", str(count))
    assert ended.code == 0, ended.errors
    ranks = [json.loads(path.read_text()) for path in series.folder.glob("rows-*.json")]
    assert len(ranks) == count
    rows = {split: np.array(sorted(row for rank in ranks for row in rank[split])) for split in ranks[0]}
    for split in rows.values():
        np.testing.assert_array_equal(split, split[:, :1] + [0, 1, 2, 3, 4, 7])
    # Of the first file 13 windows lie within the 35 elements, one of which is left over, and of the second none.
    trained, validated = (rows[split][:, 0].tolist() for split in ("trained", "validated"))
    assert len(trained) == 12
    assert set(trained) < set(range(0, 25, 2))
    assert validated == list(range(35, 52, 2))


@pytest.mark.parametrize("count", [1, 2])
def test_windows_lie_between_boundaries(series, count):
    np.save(series.data / "begins.npy", np.array([10, 48]))
    settings = [
        word
        for split in ("train", "validation")
        for word in ("--set", f"spec.data.{split}.rows.boundaries=data/begins.npy")
    ]
    data = ("--volume", f"data={series.data}")
    ended = series.command("run", "pipeline.yaml", *data, *settings, "--processes", str(count))
    assert ended.code == 0, ended.errors
    ranks = [json.loads(path.read_text()) for path in series.folder.glob("rows-*.json")]
    begins = {split: sorted(row[0] for rank in ranks for row in rank[split]) for split in ranks[0]}
    # A window has eight numbers, of which those from 4 to 8 and from 41 to 47 are divided.
    assert set(begins["trained"]) < {0, 2, *range(10, 25, 2)}
    assert begins["validated"] == [35, 37, 39, 49, 51]
    checked = series.command("check", "pipeline.yaml", *data, *settings)
    assert "train: 10 rows, windows every 2 between the boundaries in data/begins.npy, " in checked.output


def test_check_tells_of_them_and_classic_refuses_them(series):
    ended = series.command("check", "pipeline.yaml", "--volume", f"data={series.data}")
    assert ended.code == 0, ended.errors
    assert "train: 13 rows, windows every 2, " in ended.output
    refused = series.run("spec.loader.engine=Classic")
    assert refused.code == 64
    assert "Classic makes no windows, past is series-*.npy: use Feed" in refused.errors


def test_windows_longer_than_the_rows_are_one_sentence(series):
    refused = series.run("spec.data.train.rows.stop=7")
    assert refused.code == 65
    assert "past: a window takes 8 elements, and no file has more than 7 in use" in refused.errors
