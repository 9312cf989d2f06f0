"""The commands of the how-to guides that need no cluster run as they stand, one page after the other."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from codeblocks import ROOT, blocks
from projects import FOLDERS
from shellcommands import commands

OWN_DATA = ROOT / "docs" / "how-to" / "own-data.md"
OWN_MODEL = ROOT / "docs" / "how-to" / "own-model.md"
EXAMPLE = ROOT / "examples" / "own-model" / "README.md"
# One process for all commands of a page: importing a framework takes longer than what they do.
DRIVER = """
import contextlib, io, json, sys
from feedline.cli import main

for arguments in json.loads(sys.argv.pop()):
    sys.argv[1:], output, code = arguments, io.StringIO(), 0
    with contextlib.redirect_stdout(output):
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
    print(json.dumps({"code": code, "output": output.getvalue()}), flush=True)
"""


def feedline_commands(page):
    """Return the `feedline` commands of a page, each with what the page shows that it prints."""
    found = (each for each in commands(page) if each.text.startswith("feedline "))
    return [(each.text, [line for line in each.output if line]) for each in found]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with the sources that own-data.md packs, and its pipeline."""
    pytest.importorskip("pyarrow")
    pillow = pytest.importorskip("PIL.Image")
    from pyarrow import parquet, table

    here = tmp_path_factory.mktemp("own-data")
    draw = np.random.default_rng(1)
    rows = [f"{draw.random():.3f},{draw.random():.3f},{'xyz'[number % 3]}" for number in range(50)]
    (here / "iris.csv").write_text("\n".join(["length,width,species", *rows]) + "\n")
    for name in ("flowers", "more"):
        (here / f"{name}.csv").write_text("\n".join(["length,width,species", *rows[:9]]) + "\n")
    for part in (1, 2):
        names = [f"row-{part}-{number}" for number in range(50)]
        columns = {"id": names, "a": draw.random(50), "species": ["x", "y"] * 25}
        parquet.write_table(table(columns), here / f"part-{part}.parquet")
    np.savez(
        here / "measurements.npz",
        signal=draw.random((100, 4), np.float32),
        picture=draw.integers(0, 255, (100, 8, 8), np.uint8),
        target=draw.integers(0, 3, 100),
        weight=draw.random(100, np.float32),
    )
    for name in ("cat", "dog"):
        (here / "photos" / name).mkdir(parents=True)
        for number in range(3):
            pixels = draw.integers(0, 255, (20, 30, 3), np.uint8)
            pillow.fromarray(pixels).save(here / "photos" / name / f"{number}.jpg")
    (pipeline,) = [block.text for block in blocks(OWN_DATA, "yaml") if "kind: TrainingPipeline" in block.text]
    (here / "pipeline.yaml").write_text(pipeline)
    return here


def arguments_of(command, folder):
    """Return the arguments of a command as a shell would give them that knows "*" and nothing else."""
    words = [sorted(path.name for path in folder.glob(word)) or [word] for word in shlex.split(command)[1:]]
    return [word for expanded in words for word in expanded]


@pytest.mark.trainer
def test_the_commands_of_own_data_run_and_print_what_the_page_shows(folder: Path):
    given = feedline_commands(OWN_DATA)
    assert [command.split()[1] for command, _ in given] == ["pack"] * 6 + ["split", "check", "run"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(FOLDERS), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps([arguments_of(command, folder) for command, _ in given])],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(given), done.stderr
    for (command, shown), answer in zip(given, answers, strict=True):
        assert answer["code"] == 0, (command, answer, done.stderr)
        assert [line for line in shown if line not in answer["output"].splitlines()] == [], command


def test_the_runs_of_own_model_are_those_of_the_example_whose_test_runs_them():
    runs = [command for command, _ in feedline_commands(OWN_MODEL) if command.startswith("feedline run")]
    assert len(runs) == 4
    assert set(runs) <= {command for command, _ in feedline_commands(EXAMPLE)}
