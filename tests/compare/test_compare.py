"""The comparison: which ways there are, that they deliver the same rows, and what it says where they do not."""

import json
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from feedline import manifest
from feedline.compare import work
from feedline.compare.cells import Cell, Result

command = import_module("feedline.cli.compare")  # its name is that of the function, too

BUILT_IN = "spec.train.entrypoint=feedline.models:train"
WAYS = [("Feed", "Mapped"), ("Feed", "Memory"), ("Classic", "Mapped"), ("Classic", "Memory")]


@pytest.fixture
def compared(project):
    """Return a function that runs `feedline compare` on the project."""

    def compared(*arguments, changes=(), code="", before=""):
        (project.folder / "own.py").write_text(code)
        sets = [part for change in changes for part in ("--set", change)]
        given = ["compare", "pipeline.yaml", "--volume", f"data={project.data}", *sets, *arguments]
        ended = project.command(*given, before=before)
        assert "Traceback" not in ended.errors
        return ended

    return compared


# --- which ways ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "chosen", "backends"),
    [
        pytest.param([BUILT_IN], ["pytorch"], ["pytorch"], id="one backend that was asked for"),
        pytest.param([BUILT_IN], ["tensorflow", "pytorch"], ["tensorflow", "pytorch"], id="two that were asked for"),
        pytest.param([], [], ["pytorch"], id="an own function has the backend of the manifest"),
        pytest.param(["spec.backend=keras"], [], ["keras"], id="an own function for keras"),
    ],
)
def test_every_backend_is_fed_in_every_way(project, changes, chosen, backends):
    document = manifest.parse(manifest.read(project.folder / "pipeline.yaml", changes))
    cells = command._cells(document, chosen)
    assert cells == [Cell(backend, *way) for backend in backends for way in WAYS]


def test_the_built_in_model_is_compared_in_every_backend_that_is_installed(project, monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda package: None if package == "tensorflow" else object())
    document = manifest.parse(manifest.read(project.folder / "pipeline.yaml", [BUILT_IN]))
    assert list(dict.fromkeys(cell.backend for cell in command._cells(document, []))) == ["keras", "pytorch"]


@pytest.mark.parametrize(
    "changes",
    [
        ["spec.data.train.arrays.features.path=data/parts/*.npy"],
        ["spec.data.train.arrays.features.path=data/features.npz"],
        [f"spec.data.train.arrays.features.{each}" for each in ("format=Raw", "dtype=float32", "shape=[4]")],
    ],
    ids=["many files", "another format by its name", "another format"],
)
def test_what_classic_engines_cannot_read_is_compared_by_the_feed_alone_and_that_is_said(project, changes, capsys):
    document = manifest.parse(manifest.read(project.folder / "pipeline.yaml", [BUILT_IN, *changes]))
    assert command._cells(document, ["pytorch"]) == [Cell("pytorch", *way) for way in WAYS[:2]]
    assert "the classic engines read one .npy file for each array, and are left out" in capsys.readouterr().out


def test_block_shuffle_is_compared_by_the_feed_alone_and_that_is_said(project, capsys):
    changes = [BUILT_IN, "spec.loader.shuffle={mode: Block, blockRows: 4}"]
    document = manifest.parse(manifest.read(project.folder / "pipeline.yaml", changes))
    cells = command._cells(document, ["pytorch"])
    assert cells == [Cell("pytorch", *way) for way in WAYS[:2]]
    assert "the classic engines know no block shuffle, and are left out" in "".join(capsys.readouterr())
    for cell in cells:
        made = manifest.parse(manifest.read(project.folder / "pipeline.yaml", [*changes, *cell.overrides]))
        assert (made.loader.shuffle, made.loader.block_rows) == ("block", 4)


def test_a_cell_is_the_changes_that_make_it(project):
    changes = Cell("keras", "Classic", "Memory").overrides
    document = manifest.parse(manifest.read(project.folder / "pipeline.yaml", changes))
    assert (document.backend, document.loader.engine, document.loader.residency) == ("keras", "Classic", "memory")


# --- what is measured ------------------------------------------------------------------------------------------------------


def test_all_ways_deliver_the_same_rows_and_are_measured_in_every_round(project, compared):
    # More rows than are hashed, and a batch larger than that.
    rows = 5000
    project.save("features", np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32))
    project.save("labels", np.arange(rows, dtype=np.int32) % 3)
    project.save("names", np.arange(rows).astype("S8"))
    document = yaml.safe_load((project.folder / "pipeline.yaml").read_text())
    document["spec"]["data"]["train"]["rows"]["stop"] = 4800
    document["spec"]["data"]["validation"]["rows"]["start"] = 4800
    (project.folder / "pipeline.yaml").write_text(yaml.safe_dump(document))
    changes = [BUILT_IN, "spec.loader.batchSize=4500", "spec.loader.threads=1"]
    arguments = ("--backend", "pytorch", "--rounds", "2", "--steps", "2", "--json", "--plot", "out.png")
    ended = compared(*arguments, changes=changes)
    assert ended.code == 0, ended.errors
    cells = json.loads(ended.output)
    assert [(cell["backend"], cell["engine"], cell["residency"]) for cell in cells] == [
        ("pytorch", *way) for way in WAYS
    ]
    assert len({cell["rows_hash"] for cell in cells}) == 1
    assert [len(cell["rates"]) for cell in cells] == [2, 2, 2, 2]
    assert [len(cell["wait_permille"]) for cell in cells] == [2, 2, 2, 2]
    assert all(rate > 0 for cell in cells for rate in cell["rates"])
    # The whole training runs once for each backend.
    assert ["val_accuracy" in cell["values"] for cell in cells] == [True, False, False, False]
    assert (project.folder / "out.png").read_bytes().startswith(b"\x89PNG")


def rows_hash(*batches):
    """Return the hash of a run that delivers batches of (features, labels)."""
    run = SimpleNamespace(
        train=[dict(zip(("features", "labels"), map(np.asarray, batch), strict=True)) for batch in batches]
    )
    return sum(work._row_hashes(run)) & work._MASK


@pytest.mark.parametrize(
    ("batches", "same"),
    [
        pytest.param([([1.0, 2.0], [1, 2]), ([3.0], [3])], True, id="the same batches"),
        pytest.param([([3.0, 1.0, 2.0], [3, 1, 2])], True, id="the same rows in another order"),
        pytest.param([([1.0, 2.0], [2, 1]), ([3.0], [3])], False, id="labels swapped"),
        pytest.param([([1.0, 2.0], [1, 2])], False, id="a row less"),
        pytest.param([([1.0, 2.0], [1, 2]), ([2.0], [2])], False, id="a row twice for another"),
        pytest.param([([1.0, 2.0], [1, 2]), ([3.5], [3])], False, id="a value changed"),
    ],
)
def test_the_hash_is_that_of_the_set_of_rows(batches, same):
    assert (rows_hash(*batches) == rows_hash(([1.0, 2.0], [1, 2]), ([3.0], [3]))) is same


@pytest.mark.parametrize(
    "text",
    [np.array([b"ab", b"c"]), np.array(["ab", "c"]), np.array([b"ab", b"c"], object), ["ab", "c"], [b"ab", b"c"]],
    ids=["bytes", "text", "tensors of text", "lists of text", "lists of bytes"],
)
def test_text_is_the_same_row_whatever_a_framework_makes_of_it(text):
    assert work._rows(text) == [b"ab", b"c"]


RESULTS = {
    Cell("pytorch", "Feed", "Mapped"): Result("aa", [1000, 3000, 2000], [100, 300, 200], {"val_accuracy": "0.97"}),
    Cell("keras", "Classic", "Memory"): Result("aa", [500, 700, 600]),
}


@pytest.fixture
def shown(compared):
    """Return a function that shows results that were not measured."""

    def shown(results):
        before = (
            "from unittest.mock import patch; from feedline.compare import Cell, Result; "
            f"stack.enter_context(patch('feedline.compare.compare', lambda *a, **k: {results!r}))"
        )
        return compared("--backend", "pytorch", changes=[BUILT_IN], before=before)

    return shown


def test_the_table_has_median_spread_and_waiting(shown):
    ended = shown(RESULTS)
    assert ended.code == 0, ended.errors
    feed, classic = (line for line in ended.output.splitlines() if "Mapped" in line or "Memory" in line)
    for told in ("pytorch", "2.0 k", "1.0 k - 3.0 k", "20 %", "0.97"):
        assert told in feed
    for told in ("keras", "600", "500 - 700", "not seen"):
        assert told in classic
    assert feed.count("█") > classic.count("█") > 0
    assert "All of them delivered the same rows (hash aa)." in ended.output


def test_ways_that_deliver_other_rows_are_named_and_fail(shown):
    first, second = RESULTS
    ended = shown({first: RESULTS[first], second: Result("bb", [500], [])})
    assert ended.code == 1
    assert "pytorch Feed Mapped: rows hash aa" in ended.output
    assert "keras Classic Memory: rows hash bb" in ended.output
    assert "the ways did not deliver the same rows" in ended.errors


# --- what goes wrong -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "changes", "code", "message"),
    [
        pytest.param(["--backend", "caffe"], [BUILT_IN], 64, "--backend caffe: must be one of", id="unknown backend"),
        pytest.param([], ["spec.train.command=[python]"], 64, "compare needs an entrypoint", id="a program"),
        pytest.param(["--rounds", "0"], [], 64, "--rounds", id="no rounds"),
        pytest.param(["--steps", "1"], [], 64, "--steps", id="a single step"),
    ],
)
def test_a_wrong_use_is_told(compared, arguments, changes, code, message):
    ended = compared(*arguments, changes=changes)
    assert ended.code == code
    assert message in ended.errors


def test_what_goes_wrong_in_a_worker_ends_the_comparison_with_its_code(project, compared):
    (project.data / "labels.npy").unlink()
    ended = compared("--backend", "pytorch", changes=[BUILT_IN])
    assert ended.code == 66
    assert f"{project.data}/labels.npy" in ended.errors
