"""What a run removes of others that nobody goes on with: room on a disk, and nothing that tells of them."""

import os
import shutil
import threading

import numpy as np
import pytest
from manifests import document
from safetensors.numpy import save

from feedline import manifest
from feedline.checkpoints import packed
from feedline.training import Output, is_in_use, lock, make_fresh, remove_weights

pytestmark = pytest.mark.unit


class Model:
    is_model = True

    def get(self):
        return {"weight": np.ones(3)}


DOCUMENT = manifest.parse(document())
WEIGHTS = packed("model", Model())


@pytest.fixture
def left(tmp_path):
    """Return a function that makes the folder of a run that has ended."""

    def make(name, *, is_a_run=True):
        folder = tmp_path / name
        (folder / "checkpoints" / "step-8").mkdir(parents=True)
        for file in ("model.safetensors", "checkpoints/step-8/model.safetensors", "history.csv", "report.json"):
            (folder / file).write_bytes(WEIGHTS if file.endswith(".safetensors") else b"{}")
        if is_a_run:
            (folder / "run.json").write_text('{"run": "another"}')
        return folder

    return make


def weighs(folder):
    return bool(list(folder.rglob("*.safetensors")))


@pytest.mark.parametrize("has_checkpoints", [True, False])
def test_only_weights_of_the_run_go(tmp_path, left, has_checkpoints):
    folder = left("lr-1")
    (folder / "model.best.safetensors").write_bytes(WEIGHTS)
    (folder / "mine.safetensors").write_bytes(save({"a": np.ones(3)}))
    if not has_checkpoints:
        shutil.rmtree(folder / "checkpoints")
    remove_weights(folder)
    assert {path.name for path in folder.iterdir()} == {"run.json", "history.csv", "report.json", "mine.safetensors"}


def test_a_link_to_where_checkpoints_lie_is_followed_and_only_they_go(tmp_path, left):
    folder, elsewhere = left("lr-1"), tmp_path / "elsewhere"
    (elsewhere / "another project").mkdir(parents=True)
    (elsewhere / "step-000000000008").mkdir()
    shutil.rmtree(folder / "checkpoints")
    (folder / "checkpoints").symlink_to(elsewhere)
    make_fresh(folder)
    assert [path.name for path in folder.iterdir()] == ["checkpoints"]
    assert [path.name for path in elsewhere.iterdir()] == ["another project"]


def test_weights_go_and_what_is_told_stays(tmp_path, left):
    ended, other = left("lr-1-0a1b2c3d"), left("lr-2-0a1b2c3e")
    output = Output(tmp_path / "lr-3-0a1b2c3f", "mine", discards=[ended.name, "lr-9-gone", ""])
    output.begin(DOCUMENT)
    output.close()
    assert {path.name for path in ended.iterdir()} == {"run.json", "history.csv", "report.json"}
    assert weighs(other)


@pytest.mark.parametrize("name", ["../outside", ".", "sub/lr-1", "lr-1\n", "not-a-run", "a-link"])
def test_nothing_else_is_removed(tmp_path, left, name):
    folders = [left("outside"), left("runs/sub/lr-1"), left("runs/lr-1"), left("runs/not-a-run", is_a_run=False)]
    (tmp_path / "runs" / "a-link").symlink_to(tmp_path / "outside")
    output = Output(tmp_path / "runs" / "lr-3", "mine", discards=[name])
    output.begin(DOCUMENT)
    output.close()
    assert all(map(weighs, folders))


def test_who_only_looks_whether_a_folder_is_in_use_is_in_nobody_s_way(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    descriptor = lock(folder)
    timer = threading.Timer(0.05, os.close, [descriptor])
    timer.start()
    output = Output(folder, "mine")
    output.begin(DOCUMENT)
    output.close()
    timer.join()


def test_a_run_that_still_writes_is_let_alone(tmp_path, left):
    ending = left("lr-1-0a1b2c3d")
    descriptor = lock(ending)
    try:
        assert is_in_use(ending)
        output = Output(tmp_path / "lr-3", "mine", discards=[ending.name])
        output.begin(DOCUMENT)
        output.close()
    finally:
        os.close(descriptor)
    assert weighs(ending)
