"""The workflows as a program reads them that knows GitHub's syntax, contexts and expressions."""

import subprocess
from pathlib import Path

import pytest

from cluster import build
from cluster.fixtures import said_where_it_cannot_run

FOLDER = Path(__file__).parents[2] / ".github/workflows"
ACTIONLINT = build.Tools("actionlint", {"actionlint": "github.com/rhysd/actionlint/cmd/actionlint"})


@pytest.fixture(scope="module")
def actionlint():
    """Return a function that checks a workflow, and returns what is wrong."""
    with said_where_it_cannot_run():
        program = build.program("actionlint", ACTIONLINT)

    def actionlint(path):
        # Nothing else that is installed here has a say.
        command = [program, "-no-color", "-oneline", "-shellcheck=", "-pyflakes=", path]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        return done.stdout + done.stderr

    return actionlint


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_a_workflow_has_no_mistake_that_can_be_seen_without_running_it(actionlint, path):
    assert actionlint(path) == ""


def test_a_mistake_would_be_seen(actionlint, tmp_path):
    wrong = (FOLDER / "release.yaml").read_text().replace("steps.build.outputs.digest", "steps.biuld.outputs.digest", 1)
    (tmp_path / "wrong.yaml").write_text(wrong)
    assert 'property "biuld" is not defined' in actionlint(tmp_path / "wrong.yaml")
