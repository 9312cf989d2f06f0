"""The command line as a user meets it: what it prints, and one clear sentence with the right code for every mistake."""

import json
import os
import re

import numpy as np
import pytest

from feedline.contract import Report


@pytest.fixture
def fails(project):
    """Return a function that asserts that a run of the project ends with a code, and returns what it said."""

    def fails(code, *changes, arguments=()):
        ended = project.run(*changes, arguments=arguments)
        assert ended.code == code, ended.errors
        assert "Traceback" not in ended.errors
        return ended.errors

    return fails


# --- a good run ----------------------------------------------------------------------------------------------------------


def test_a_run_ends_with_a_table_and_the_verdict_in_words(project):
    ended = project.run()
    assert ended.code == 0
    for told in ("small: pytorch, Feed", "Completed", "2, 12", "96 (2.", "Waiting for data"):
        assert told in ended.output
    assert ended.errors == ""


def test_json_is_the_report_and_nothing_else(project):
    ended = project.run(arguments=["--json"])
    assert json.loads(ended.output) == ended.report


def test_the_report_file_has_the_contract_s_fields_and_integers_only(project):
    report = project.run("spec.train.entrypoint=feedline.models:train").report
    # Of data that fit into memory nothing is held against the disk.
    of_the_disk = {"diskRandomLimitPermille", "diskSequentialLimitPermille"}
    # Nor has this one an objective, or gone on from anywhere, or other ranks.
    assert set(report) == set(Report.__annotations__) - of_the_disk - {
        "objective",
        "fromStep",
        "ranks",
        "rank",
        "transformPermille",
    }
    flat = [report, *(report[name] for name in ("fetchMicros", "stepMicros"))]
    numbers = [value for part in flat for value in part.values() if not isinstance(value, str | dict)]
    assert {type(number) for number in numbers} == {int}
    assert {type(value) for value in report["values"].values()} == {str}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", report["observedTime"])


def test_a_report_replaces_the_one_before_and_leaves_nothing_beside_it(project):
    for seed in (1, 2):
        project.run(f"spec.train.seed={seed}")
    assert [path.name for path in project.folder.glob("*report*")] == ["report.json"]
    assert [path.name for path in project.folder.glob(".*")] == []


def test_a_failed_run_leaves_a_valid_report_too(project):
    (project.data / "labels.npy").unlink()
    report = project.run().report
    assert report["reason"] == "DataInvalid"
    assert report["exitCode"] == 66
    assert set(report) <= set(Report.__annotations__)


def test_a_report_that_cannot_be_written_is_refused_before_the_run(project):
    ended = project.run(arguments=["--report", str(project.folder / "nowhere" / "report.json")])
    assert ended.code == 64
    assert "--report " in ended.errors
    assert "cannot be written (No such file or directory)" in ended.errors
    assert ended.report == {}


def test_a_report_that_can_no_longer_be_written_is_said_and_spoils_no_run(project):
    (project.folder / "reports").mkdir()
    code = """
        import shutil
        from pathlib import Path

        def train(run):
            for batch in run.train:
                pass
            shutil.rmtree(Path(__file__).parent / "reports")
    """
    ended = project.run(arguments=["--report", str(project.folder / "reports" / "report.json")], code=code)
    assert ended.code == 0
    assert "the report cannot be written to" in ended.errors


def test_set_changes_the_run(project):
    code = """
        def train(run):
            assert run.parameters["learningRate"] == 0.01
            for batch in run.train:
                assert len(batch["labels"]) == 16
    """
    ended = project.run(
        "spec.loader.batchSize=16", "spec.train.parameters.learningRate=0.01", "spec.train.epochs=1", code=code
    )
    assert (ended.code, ended.report["steps"]) == (0, 3)


# --- manifests -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param("spec.loader.batchsize=64", "unknown field, did you mean", id="an unknown field"),
        pytest.param("spec.backend=caffe", "spec.backend: ", id="an unknown backend"),
        pytest.param("spec.loader.batchSize=0", "spec.loader.batchSize: ", id="a batch of nothing"),
        pytest.param("spec.loader.batchSize=many", "spec.loader.batchSize: ", id="a batch of text"),
        pytest.param("spec.loader.engine=Fast", "spec.loader.engine: ", id="an unknown engine"),
        pytest.param("spec.train.epochs=", "exactly one of epochs, steps, seconds (got none)", id="no limit"),
        pytest.param("spec.train.entrypoint=own.train", "spec.train.entrypoint: ", id="an entrypoint that is none"),
        pytest.param(
            "spec.loader.classic.queue.minAfterDequeue=1384", "must be less than capacity", id="a queue never drained"
        ),
        pytest.param("spec.loader.shuffle.blockRows=4", "must be Block where blockRows", id="blocks of no shuffle"),
        pytest.param(
            "spec.loader={engine: Classic, shuffle: {mode: Block}}", "Block needs the engine Feed", id="a classic block"
        ),
        pytest.param("spec.loader.residency=Disk", "must be one of Auto, Mapped, Read, Memory", id="another residency"),
        pytest.param("spec.loader.readAheadBatches=-1", "must be at least 0", id="reading behind"),
        pytest.param("spec.loader", "must be PATH=VALUE", id="a change that is none"),
        pytest.param("spec.train.parameters.learningRate=[1]", "learningRate: must be a string, a number", id="a list"),
    ],
)
def test_a_wrong_manifest_is_one_sentence(fails, change, message):
    errors = fails(64, change)
    assert message in errors
    assert [line.startswith("feedline: ") for line in errors.splitlines()] == [True]


def test_all_problems_are_told_at_once(fails):
    errors = fails(64, "spec.loader.batchSize=0", "spec.backend=caffe", "spec.loader.treads=2")
    assert len(errors.splitlines()) == 3
    assert "threads" in errors


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(["run", "pipeline.yaml"], 64, "volume data: has no folder here: pass --volume", id="no volume"),
        pytest.param(["run", "pipeline.yaml", "--volume", "data"], 64, "write it as NAME=DIR", id="no folder"),
        pytest.param(["run", "pipeline.yaml", "--volume", "d=."], 64, "no volume d, only data", id="unknown volume"),
        pytest.param(
            ["run", "pipeline.yaml", "--volume", "data=x"], 66, "there is no directory x", id="no such folder"
        ),
        pytest.param(["run", "other.yaml"], 66, "other.yaml: cannot be read (No such file", id="no such manifest"),
        pytest.param(["run", "."], 66, ".: cannot be read (Is a directory)", id="a folder for a manifest"),
        pytest.param(["run"], 64, "Missing argument", id="no manifest"),
        pytest.param(["run", "pipeline.yaml", "--fast"], 64, "No such option", id="an unknown option"),
        pytest.param(["run", "pipeline.yaml", "--backend", "caffe"], 64, "spec.backend: ", id="an unknown backend"),
        pytest.param(["train"], 64, "No such command", id="an unknown command"),
        pytest.param(["check", "pipeline.yaml", "--backend", "caffe"], 64, "spec.backend: ", id="check, the same"),
        pytest.param(
            ["sweep", "show", "digits", "--kubeconfig", "none"],
            78,
            "digits: is no folder here, and --kubeconfig none: there is no such file",
            id="neither a folder nor a cluster",
        ),
    ],
)
def test_a_wrong_use_is_told(project, arguments, code, message):
    ended = project.command(*arguments)
    assert ended.code == code
    assert message in ended.errors
    assert "Traceback" not in ended.errors


def test_a_port_that_cannot_be_had_is_told(fails):
    assert "port 70000: cannot serve metrics there" in fails(78, arguments=["--metrics-port", "70000"])


# --- data --------------------------------------------------------------------------------------------------------------------


def cut(path):
    os.truncate(path, path.stat().st_size - 1)


def fill(array):
    return lambda path: np.save(path, array)


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        pytest.param(lambda path: path.unlink(), 66, id="missing"),
        pytest.param(lambda path: (path.unlink(), path.mkdir()), 66, id="a directory"),
        pytest.param(lambda path: path.write_bytes(b""), 65, id="empty"),
        pytest.param(cut, 65, id="cut short"),
        pytest.param(lambda path: path.write_bytes(b"1,2,3\n"), 65, id="no npy"),
        pytest.param(fill(np.zeros((60, 4), ">f4")), 65, id="big-endian"),
        pytest.param(fill(np.asfortranarray(np.zeros((60, 4)))), 65, id="Fortran order"),
        pytest.param(fill(np.array([None] * 60)), 65, id="objects"),
        pytest.param(fill(np.zeros((59, 4))), 65, id="another number of rows"),
        pytest.param(fill(np.zeros((0, 4))), 65, id="no rows"),
        pytest.param(lambda path: np.savez(path.open("wb"), x=np.zeros(3)), 65, id="an npz"),
    ],
)
def test_bad_data_is_one_sentence_with_the_file(project, command, spoil, code):
    spoil(project.data / "features.npy")
    ended = project.command(command, "pipeline.yaml", "--volume", f"data={project.data}")
    assert ended.code == code, ended.errors
    assert "features" in ended.errors
    assert [line.startswith("feedline: ") for line in ended.errors.splitlines()] == [True]


def test_of_what_ended_before_the_first_step_only_the_reason_is_told(project):
    project.save("labels", np.zeros(60, np.complex64))
    ended = project.command(
        *("run", "pipeline.yaml", "--volume", f"data={project.data}"),
        *("--set", "spec.train.entrypoint=feedline.models:train"),
    )
    assert (ended.code, ended.output) == (64, "")
    assert ended.errors == "feedline: array labels: the built-in model takes numbers, this is <c8\n"


@pytest.mark.parametrize("engine", ["Feed", "Classic"])
def test_a_batch_larger_than_the_data_is_told(fails, engine):
    errors = fails(65, "spec.loader.batchSize=49", f"spec.loader.engine={engine}")
    assert "a batch of 49 is larger than the data, which have 48 rows" in errors


def test_rows_that_are_not_there_are_told(fails):
    assert "61" in fails(65, "spec.data.validation.rows.stop=61")


def test_labels_may_be_nan(project):
    project.save("labels", np.full(60, np.nan, np.float32))
    ended = project.run("spec.train.entrypoint=feedline.models:train")
    assert ended.code == 0, ended.errors
    assert ended.report["values"]["loss"] == "NaN"


# --- check, version, help ----------------------------------------------------------------------------------------------------


def test_check_tells_shapes_sizes_and_what_will_be_resident(project):
    ended = project.command("check", "pipeline.yaml", "--volume", f"data={project.data}")
    assert ended.code == 0, ended.errors
    for told in ("a valid TrainingPipeline, small", "train: 48 rows, 1.3 kB", "validation: 12 rows", "features", "<f4"):
        assert told in ended.output
    assert "mapped: 1.7 kB of" in ended.output


def test_check_adds_up_what_the_processes_of_a_pod_take(project):
    settings = [part for change in ("nodes=2", "processes=4") for part in ("--set", f"spec.resources.{change}")]
    ended = project.command("check", "pipeline.yaml", "--volume", f"data={project.data}", *settings)
    assert ended.code == 0, ended.errors
    (told,) = [line for line in ended.output.splitlines() if "processes" in line]
    assert told.startswith("2 pods of 4 processes: ")
    assert "rows are in memory once a pod" in told
    one = project.command("check", "pipeline.yaml", "--volume", f"data={project.data}")
    assert "processes" not in one.output
    # Rows fit, and what the feeds of four take does not fit beside them.
    memory = ["--set", "spec.loader.residency=Memory", "--set", "spec.resources.memory=3k"]
    ended = project.command("check", "pipeline.yaml", "--volume", f"data={project.data}", *settings, *memory)
    assert ended.code == 78
    assert "loader.residency: Memory needs" in ended.errors


def test_check_without_volumes_checks_the_manifest_and_says_so(project):
    ended = project.command("check", "pipeline.yaml")
    assert ended.code == 0
    assert "data not checked: pass --volume data=DIR" in ended.output


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        (["spec.loader.batchSize=49"], 65, "a batch of 49 is larger than the data"),
        (
            ["spec.loader.residency=Memory", "spec.resources.memory=1k"],
            78,
            "loader.residency: Memory needs 1.7 kB of 1.0 kB",
        ),
    ],
    ids=["batch", "memory"],
)
def test_check_finds_what_a_run_would_stumble_on(project, changes, code, message):
    settings = (part for change in changes for part in ("--set", change))
    ended = project.command("check", "pipeline.yaml", "--volume", f"data={project.data}", *settings)
    assert ended.code == code
    assert message in ended.errors


def test_version_names_what_is_installed(project):
    ended = project.command("version")
    assert ended.code == 0
    assert [line.split()[0] for line in ended.output.splitlines()] == [
        "python", "feedline", "numpy", "torch", "tensorflow", "keras",
    ]  # fmt: skip


@pytest.mark.parametrize("command", ["run", "compare", "check", "bench", "pack"])
def test_help_teaches_by_example(project, command):
    ended = project.command(command, "--help")
    assert ended.code == 0
    assert f"feedline {command} " in ended.output
