"""Every example does what its README says: the commands in there are run as they stand, and the models learn."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
READMES = sorted(ROOT.glob("examples/*/README.md"))


# What each of them must reach on rows that it has not seen: the least accuracy, or the greatest loss.
LEARNED = {
    "augment": 0.93,
    "digits": 0.93,
    "folds": 0.93,
    "own-model": 0.93,
    "series": -0.1,
    "sweep": 0.95,
    "tokens": -2.3,
}


def commands(readme, program="feedline"):
    """Return the commands of a program in the code blocks of a README, each as a list of arguments."""
    blocks = re.findall(r"^```(?:sh|console)\n(.*?)^```", readme.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith(f"{program} ")]


def learned(report):
    values = report["values"]
    return float(values["val_accuracy"]) if "val_accuracy" in values else -float(values["val_loss"])


def way_of(arguments):
    return arguments[arguments.index("--backend") + 1] if "--backend" in arguments else "pytorch"


def test_every_example_has_a_readme_with_commands():
    folders = [path for path in (ROOT / "examples").iterdir() if path.is_dir()]
    assert [readme.parent for readme in READMES] == sorted(folders)
    for readme in READMES:
        assert any("run" in arguments[:2] for arguments in commands(readme))


@pytest.mark.parametrize("readme", READMES, ids=lambda readme: readme.parent.name)
def test_the_commands_of_the_readme_run_and_the_models_learn(project, readme):
    # The README is read at the root of the repository, whose folder the test must not write to.
    (project.folder / "examples").symlink_to(ROOT / "examples")
    shutil.rmtree(project.data)
    (project.folder / "LICENSE").symlink_to(ROOT / "LICENSE")
    for arguments in commands(readme, "python"):
        subprocess.run([sys.executable, *arguments], cwd=project.folder, check=True)
    for arguments in commands(readme):
        report = project.folder / "report.json"
        told = ["--report", report.name] if arguments[0] == "run" else []
        fewer = ["--set", "spec.trials=8"] if arguments[:2] == ["sweep", "run"] else []
        ended = project.command(*arguments, *told, *fewer, way=way_of(arguments))
        assert ended.code == 0, (arguments, ended.errors)
        if arguments[:2] == ["sweep", "show"]:
            shown = project.command(*arguments, "--json", way="pytorch")
            assert float(json.loads(shown.output)[0]["best"]) > LEARNED[readme.parent.name]
        if told:
            assert learned(json.loads(report.read_text())) > LEARNED[readme.parent.name], arguments
