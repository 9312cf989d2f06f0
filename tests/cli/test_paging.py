"""What `feedline check` and `feedline run` say of how rows come into memory, and of what block shuffle costs."""

import importlib
import itertools
import json
import os
import re

import numpy as np
import pytest
from cold import forget, pages, warm

# --- check ---------------------------------------------------------------------------------------------------------------

WIDE = np.random.default_rng(2).integers(0, 256, (60, 100_000), np.uint8)


@pytest.fixture
def cold_project(project):
    """Return a project with `features` of 6 MB, nothing of them in memory."""
    forget(project.save("features", WIDE))
    if pages(project.data / "features.npy").mean() > 0.1:
        assert not os.environ.get("CI"), "temporary files are kept in memory here"
        pytest.skip("temporary files are kept in memory here: set TMPDIR to a folder on a disk")
    return project


def checked(project, *changes):
    """Return what `feedline check` says of a project, line by line."""
    sets = (part for change in changes for part in ("--set", change))
    ended = project.command("check", "pipeline.yaml", "--volume", f"data={project.data}", *sets)
    assert ended.code == 0, ended.errors
    return [line.strip() for line in ended.output.splitlines()]


def ways(told):
    """Return what `check` says of how rows will come in, each with the array above it."""
    return [(above.split()[0], line) for above, line in itertools.pairwise(told) if re.match(r"Read |Taken", line)]


SHARE = r"\d% of the coming rows are in memory"
ONE_BY_ONE = rf"Read ahead of need: {SHARE}\."
TOGETHER = rf"Read past the page cache ahead of need: {SHARE}, and rows that lie together come once\."
FITS = rf"Read in order, and what is due ahead of it: {SHARE}, and all of them fit\."


@pytest.mark.parametrize(
    ("memory", "mode", "train", "validation"),
    [
        pytest.param("2M", "Full", ONE_BY_ONE, TOGETHER, id="too large"),
        pytest.param("2M", "Block", TOGETHER, TOGETHER, id="too large, in blocks"),
        pytest.param("2M", "None", TOGETHER, TOGETHER, id="too large, in order"),
        pytest.param("64M", "Full", FITS, FITS, id="fits"),
        pytest.param("64M", "Block", FITS, FITS, id="fits, in blocks"),
    ],
)
def test_check_says_how_rows_will_come_that_are_not_in_memory(cold_project, memory, mode, train, validation):
    told = ways(checked(cold_project, f"spec.resources.memory={memory}", f"spec.loader.shuffle.mode={mode}"))
    # Of labels and names, which are small, there is nothing to say.
    assert [name for name, _ in told] == ["features", "features"]
    assert re.fullmatch(train, told[0][1])
    assert re.fullmatch(validation, told[1][1])
    # They are looked at and not read.
    assert pages(cold_project.data / "features.npy").mean() < 0.3


def test_check_says_nothing_of_rows_that_are_in_memory(cold_project):
    warm(cold_project.data)
    assert ways(checked(cold_project, "spec.resources.memory=8M")) == []


def test_check_says_that_every_row_will_be_read_where_that_is_asked_for(cold_project):
    way = "Read when it is due, many rows at a time: loader.residency is Read."
    assert ways(checked(cold_project, "spec.loader.residency=Read")) == [("features", way)] * 2


@pytest.mark.parametrize("changes", [["spec.loader.residency=Mapped"], ["spec.loader.engine=Classic"]], ids=str)
def test_check_says_nothing_of_rows_that_are_left_to_the_kernel(cold_project, changes):
    assert ways(checked(cold_project, "spec.resources.memory=8M", *changes)) == []


def test_check_warns_of_data_that_do_not_fit_and_says_where_they_come_from(cold_project):
    told = checked(cold_project, "spec.resources.memory=4M")
    assert "mapped: 6.0 MB of 4.0 MB of memory" in told[-2]
    assert told[-1].startswith("warning: the data do not fit into memory")


BLOCKS = ("spec.loader.shuffle={mode: Block, blockRows: 4, window: 2, seed: 7}",)
PRICE = (
    "Block shuffle mixes 2 blocks of 4 rows: of a batch of 8, 7 pairs of rows come from the same block, in a full "
    "shuffle 1.79"
)


def test_check_says_what_block_shuffle_costs(project):
    (told,) = [line for line in checked(project, *BLOCKS) if line.startswith("Block shuffle")]
    match = re.fullmatch(rf"{PRICE}; its labels have ([\d.]+) bits of entropy, in a full shuffle ([\d.]+)\.", told)
    # 0, 1, 2, 0, … are as mixed in a block as anywhere.
    assert [float(bits) for bits in match.groups()] == [pytest.approx(np.log2(3), abs=0.2)] * 2


def test_labels_that_lie_together_make_block_shuffle_dear(project):
    project.save("labels", np.repeat(np.arange(15, dtype=np.int32), 4))
    (told,) = [line for line in checked(project, *BLOCKS) if line.startswith("Block shuffle")]
    here, full = map(float, re.search(r"labels have ([\d.]+) bits .+ shuffle ([\d.]+)\.$", told).groups())
    # Two lanes of one class a block, of which a batch takes one or two.
    assert 1 <= here < full - 0.5


@pytest.mark.parametrize(
    "labels", [np.zeros(60, np.float32), np.zeros((60, 2), np.int32)], ids=["a regression", "several numbers"]
)
def test_the_entropy_is_left_out_where_targets_are_no_classes(project, labels):
    project.save("labels", labels)
    assert f"{PRICE}." in checked(project, *BLOCKS)


def test_check_says_nothing_of_blocks_where_there_are_none(project):
    assert not [line for line in checked(project) if line.startswith("Block shuffle")]


# --- run -----------------------------------------------------------------------------------------------------------------


def test_a_run_says_once_what_block_shuffle_costs(project):
    ended = project.run(*BLOCKS)
    assert (ended.code, ended.report["steps"]) == (0, 12)
    (told,) = [line for line in checked(project, *BLOCKS) if line.startswith("Block shuffle")]
    assert ended.errors == f"feedline: {told}\n"


def test_block_shuffle_trains_every_backend_on_the_same_rows(project):
    code = """
        import json

        def train(run):
            rows = [list(map(bytes, batch["names"].numpy() if hasattr(batch["names"], "numpy") else batch["names"]))
                    for epoch in run.epochs() for batch in run.train]
            with open("rows.json", "w") as file:
                json.dump([[row.decode() for row in batch] for batch in rows], file)
    """
    seen = []
    for way in ("pytorch", "tensorflow"):
        ended = project.run(*BLOCKS, way=way, code=code)
        assert ended.code == 0, ended.errors
        seen.append(json.loads((project.folder / "rows.json").read_text()))
    assert seen[0] == seen[1]
    for epoch in (seen[0][:6], seen[0][6:]):
        assert sorted(itertools.chain(*epoch)) == sorted(f"row {row}" for row in range(48))


def test_a_run_says_how_rows_come_that_are_not_simply_in_memory(cold_project):
    ended = cold_project.run("spec.loader.residency=Read")
    assert ended.code == 0
    way = r"Read when it is due, many rows at a time: loader\.residency is Read; [\d.e-]+ ms a row, \d+ at a time\."
    told = ended.errors.splitlines()
    assert len(told) == 2, "once for each split, in two epochs"
    for split, line in zip(("train", "validation"), told, strict=True):
        assert re.fullmatch(rf"feedline: {split} features: {way}", line)
    small = "Taken as it lies in memory: it is small, and is read once, in order."
    assert re.fullmatch(rf"features: {way} labels: {small} names: {small}", ended.report["paging"])
    assert 0 <= ended.report["diskSamples"] <= 2 * 48


@pytest.mark.parametrize("changes", [["spec.loader.residency=Mapped"], ["spec.loader.engine=Classic"]], ids=str)
def test_a_run_says_nothing_of_rows_that_are_left_to_the_kernel(cold_project, changes):
    ended = cold_project.run(*changes)
    assert (ended.code, ended.errors) == (0, "")
    assert not {"paging", "diskSamples"} & set(ended.report)


# What is told of an array from one epoch to the next.
CHANGING = """
def train(run):
    from feedline.paging.governor import Choice
    for epoch in run.epochs():
        TOLD.clear()
        TOLD.update(features=Choice(*WAYS[epoch]).in_words(), labels=Choice("resident", "it is small").in_words())
        for batch in run.train:
            pass

TOLD = {}
WAYS = [
    ("resident", "100% of the coming rows are in memory"),
    ("advise", "40% of the coming rows are in memory"),
    ("advise", "50% of the coming rows are in memory"),
    ("resident", "99% of the coming rows are in memory"),
    ("resident", "100% of the coming rows are in memory"),
]
"""
TELLING = """
import dataclasses
from unittest.mock import patch
from feedline import Feed

def stats(feed, known=Feed.stats):
    import own
    return dataclasses.replace(known(feed), paging=dict(own.TOLD))

stack.enter_context(patch("feedline.Feed.stats", stats))
"""


def test_how_rows_come_is_said_again_when_it_changes_and_only_then(project):
    ended = project.run("spec.train.epochs=5", code=CHANGING, before=TELLING)
    assert ended.code == 0
    assert ended.errors.splitlines() == [
        "feedline: train features: Read ahead of need: 40% of the coming rows are in memory.",
        "feedline: train features: Taken as it lies in memory: 99% of the coming rows are in memory.",
    ]


FINISHED = {
    "pipeline": "digits",
    "backend": "pytorch",
    "engine": "Feed",
    "reason": "Completed",
    "epochs": 1,
    "steps": 10,
    "samples": 80,
    "bytes": 800,
    "majorFaults": 3,
    "minorFaults": 4,
    "values": {},
    "verdict": {"inputBound": False, "cause": "None", "advice": "The model is the bottleneck; the data keep up."},
}


def table(capsys, **changed):
    """Return the table at a run's end, as names with what stands beside them."""
    # Not by attribute: there the package has the command of that name.
    importlib.import_module("feedline.cli.run")._show({**FINISHED, **changed})
    lines = [re.split(r"\s*[│┃]\s*", line.strip(" │")) for line in capsys.readouterr().out.splitlines()]
    return {cells[0]: cells[1] for cells in lines if len(cells) == 2}


def test_the_table_says_what_came_from_the_disk_and_how_near_that_was_to_what_it_gives(capsys):
    told = table(capsys, diskSamples=40_000, diskRandomLimitPermille=934, diskSequentialLimitPermille=66)
    assert told["rows read from the disk"] == "40000"
    assert told["of the disk's rows at random"] == "93 %"
    assert told["of the disk's rows in order"] == "7 %"


def test_the_table_says_nothing_of_a_disk_that_had_nothing_to_do(capsys):
    told = table(capsys, diskSamples=0)
    assert told["page faults, major/minor"] == "3 / 4"
    assert not [name for name in told if "disk" in name]
