"""Runs that people compare, and what became of some of them."""

import pytest
from manifests import document

from feedline import manifest
from feedline.cli.runs import runs
from feedline.errors import InputMissingError

pytestmark = pytest.mark.unit
DAMAGED = {
    "no YAML": "x: [",
    "no spec": "apiVersion: feedline.dev/v1alpha1\nkind: TrainingPipeline\nmetadata: {name: a}\n",
    "an objective without a name": manifest.to_yaml(document()) + "  objective: {goal: Maximize}\n",
}


def left(folder, text):
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"run": "a"}')
    (folder / "pipeline.yaml").write_text(text)


@pytest.mark.parametrize("case", DAMAGED)
def test_a_manifest_that_was_damaged_is_left_out(tmp_path, capsys, case):
    left(tmp_path / "runs" / "a", DAMAGED[case])
    with pytest.raises(InputMissingError, match="none of its runs has a manifest that can be read"):
        runs([tmp_path / "runs"])
    left(tmp_path / "runs" / "b", manifest.to_yaml(document()))
    runs([tmp_path / "runs"])
    told = capsys.readouterr()
    assert "1 runs" in told.out
    assert told.err.count("left out") == 2


def test_what_people_named_is_no_markup(tmp_path, capsys):
    left(tmp_path / "runs", manifest.to_yaml(document()))
    (tmp_path / "runs" / "history.csv").write_text("step,epoch,seconds,a[/b]\n1,0,1,0.5\n")
    runs([tmp_path / "runs"], value="a[/b]")
    assert "more of a[/b] is better" in capsys.readouterr().out
