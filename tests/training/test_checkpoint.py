"""`run.checkpoint` and the output: what is refused, what is left behind, what a run goes on with."""

import csv
import json
import shutil

import pytest

OWN = """
import torch

def train(run):
    model = torch.nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    {before}
    {call}
    {after}
    for epoch in run.epochs():
        for batch in run.train:
            loss = torch.nn.functional.cross_entropy(model(batch["features"]), batch["labels"].long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            {step}
        run.report(loss=loss)
"""
CALL = "run.checkpoint(model=model, optimizer=optimizer)"
KEPT = ("--output", "kept")


def own(call=CALL, before="", after="", step=""):
    return OWN.format(call=call, before=before, after=after, step=step)


def history(folder):
    with (folder / "kept/history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ({"call": "run.checkpoint()"}, "pass what is to be saved: run.checkpoint(model=model, optimizer=optimizer)"),
        ({"after": "run.checkpoint(model=model)"}, "run.checkpoint: was called before: pass all objects in one call"),
        ({"call": "run.checkpoint(run=model)"}, "names are words, and run is feedline's own"),
        ({"call": "run.checkpoint(model=5)"}, "model is a int, which has no state to be saved"),
        (
            {"call": "", "step": "run.train.steps == 2 and run.checkpoint(model=model)"},
            "run.checkpoint: comes after the first batch: call it once, before the loop",
        ),
    ],
    ids=["nothing", "twice", "a name of ours", "no object", "too late"],
)
def test_a_call_that_cannot_be_is_one_sentence(code, told, project):
    ended = project.run(code=own(**code), arguments=KEPT)
    assert ended.code == 64, ended.errors
    assert told in ended.errors
    assert "Traceback" not in ended.errors


def test_what_a_state_of_ones_own_raises_is_shown_in_full_and_the_last_checkpoint_stays(project):
    code = own(
        before="class Bad:\n        def load_state_dict(self, state): pass\n"
        "        def state_dict(self): return {'a': 1} if run.train.steps < 4 else {}['gone']",
        call="run.checkpoint(model=model, bad=Bad())",
    )
    ended = project.run("spec.train.checkpoint={everySteps: 2}", OUTPUT, code=code, arguments=KEPT)
    assert ended.code == 70, ended.errors
    assert "KeyError: 'gone'" in ended.errors
    assert 'own.py", line' in ended.errors
    assert "while the state of bad was taken for a checkpoint" in ended.errors
    listed = project.command("checkpoints", "kept")
    assert "whole" in listed.output, listed


OUTPUT = "spec.output={persistentVolumeClaim: {claimName: runs}}"


def test_a_run_leaves_its_weights_its_numbers_and_what_was_run(project):
    ended = project.run(code=own(), arguments=KEPT)
    assert ended.code == 0, ended.errors
    kept = project.folder / "kept"
    assert {path.name for path in kept.iterdir()} == {
        *("checkpoints", "history.csv", "model.safetensors", "pipeline.yaml", "report.json", "run.json")
    }
    assert json.loads((kept / "report.json").read_text()) == ended.report
    assert ended.report["output"] == str(kept)
    assert ended.report["checkpoint"]["step"] == ended.report["steps"] == 12
    assert [(line["step"], line["epoch"]) for line in history(project.folder)] == [("6", "0"), ("12", "1")]
    assert "kept" in ended.output
    again = project.command("run", "kept/pipeline.yaml", "--volume", f"data={project.data}", "--output", "other")
    assert again.code == 0, again.errors


@pytest.mark.parametrize("is_finished", [True, False], ids=["finished", "unfinished"])
def test_a_folder_with_a_run_asks_what_is_to_become_of_it(is_finished, project):
    code = own(step="" if is_finished else "1 / (run.train.steps < 8)")
    first = project.run(code=code, arguments=KEPT)
    assert first.code == (0 if is_finished else 70)
    before = (project.folder / "kept/run.json").read_text()
    refused = project.run(code=own(), arguments=KEPT)
    assert refused.code == 64
    what = "a finished run" if is_finished else "a run that did not come to its end"
    assert f"--output kept: there is {what}: go on with it by --resume, throw it away by --fresh" in refused.errors
    assert (project.folder / "kept/run.json").read_text() == before
    fresh = project.run(code=own(), arguments=(*KEPT, "--fresh"))
    assert fresh.code == 0, fresh.errors
    assert "fromStep" not in fresh.report
    assert len(history(project.folder)) == 2
    assert (project.folder / "kept/run.json").read_text() != before


def test_without_a_name_every_run_has_a_folder_of_its_own(project):
    for _ in range(3):
        assert project.run(code=own()).code == 0
    assert sorted(path.name for path in (project.folder / "runs").iterdir()) == ["small", "small-2", "small-3"]
    more = project.run("spec.train.epochs=3", code=own(), arguments=["--resume"])
    assert more.report["output"].endswith("runs/small-3")
    assert (more.report["fromStep"], more.report["steps"]) == (12, 18)


def test_a_folder_with_other_files_is_none_for_a_run(project):
    (project.folder / "kept").mkdir()
    (project.folder / "kept/mine.txt").touch()
    for flags in ([], ["--fresh"], ["--resume"]):
        refused = project.run(code=own(), arguments=(*KEPT, *flags))
        assert refused.code == 64
        assert "--output kept: is a folder with other files in it: name a new one" in refused.errors
    assert project.run(code=own(), arguments=("--output", "own.py")).code == 64


def test_resume_and_fresh_exclude_each_other(project):
    refused = project.run(code=own(), arguments=(*KEPT, "--fresh", "--resume"))
    assert (refused.code, "exclude each other" in refused.errors) == (64, True)


def test_a_finished_run_that_goes_on_has_nothing_to_do(project):
    assert project.run(code=own(), arguments=KEPT).code == 0
    weights = (project.folder / "kept/model.safetensors").read_bytes()
    again = project.run(code=own(), arguments=(*KEPT, "--resume"))
    assert (again.code, again.report["steps"], again.report["message"]) == (0, 12, "completed")
    assert (project.folder / "kept/model.safetensors").read_bytes() == weights
    assert len(history(project.folder)) == 2


@pytest.mark.parametrize(
    ("changes", "code", "told"),
    [
        (["spec.loader.batchSize=4"], {}, "batch_size was 8 and is 4"),
        (["spec.loader.shuffle.seed=8"], {}, "seed was 7 and is 8"),
        (["spec.loader.shuffle.mode=None"], {}, "shuffle was full and is none"),
        (["spec.data.train.rows.stop=40"], {}, "rows was 48 and is 40"),
        ([], {"call": "run.checkpoint(model=model)"}, "optimizer was saved and is not passed to run.checkpoint"),
        ([], {"call": CALL[:-1] + ", more=optimizer)"}, "more was not saved"),
    ],
    ids=["batch size", "seed", "order", "data", "an object less", "an object more"],
)
def test_what_was_saved_of_another_training_is_named(changes, code, told, project):
    assert project.run(code=own(), arguments=KEPT).code == 0
    ended = project.run("spec.train.epochs=3", *changes, code=own(**code), arguments=(*KEPT, "--resume"))
    assert ended.code == 64, ended.errors
    assert "the checkpoint of step 12 in" in ended.errors
    assert told in ended.errors
    assert "start anew" in ended.errors


def test_a_checkpoint_of_another_framework_is_named(project):
    assert project.run(code=own(), arguments=KEPT).code == 0
    builtin = ["spec.train.entrypoint=feedline.models:train", "spec.train.epochs=3"]
    ended = project.run(*builtin, way="keras", arguments=(*KEPT, "--resume"))
    assert ended.code == 64
    assert "backend was pytorch and is keras" in ended.errors


def test_checkpoints_of_which_none_is_whole_end_the_run_and_one_that_is_goes_on(project):
    assert project.run("spec.train.checkpoint={everySteps: 5}", OUTPUT, code=own(), arguments=KEPT).code == 0
    newest, older = sorted((project.folder / "kept/checkpoints").iterdir(), reverse=True)[:2]
    (newest / "model.safetensors").write_bytes(b"\0" * (newest / "model.safetensors").stat().st_size)
    went_on = project.run("spec.train.epochs=3", code=own(), arguments=(*KEPT, "--resume"))
    assert went_on.code == 0, went_on.errors
    assert f"{newest.name}: model.safetensors was changed or damaged; it is passed over" in went_on.errors
    assert went_on.report["fromStep"] == int(older.name.partition("-")[2])
    for each in (project.folder / "kept/checkpoints").iterdir():
        (each / "manifest.json").write_bytes(b"{")
    ended = project.run("spec.train.epochs=4", code=own(), arguments=(*KEPT, "--resume"))
    assert ended.code == 65
    assert "there are checkpoints, and none of them is whole" in ended.errors
    assert project.command("checkpoints", "kept").code == 65


def test_the_speed_is_an_objective_that_nobody_reports(project):
    objective = "spec.objective={value: samplesPerSecond, goal: Maximize}"
    ended = project.run("spec.train.epochs=3", objective, code=own(), arguments=KEPT)
    assert ended.code == 0, ended.errors
    curve = [point.partition(":") for point in ended.report["objective"]["curve"]]
    steps = ended.report["objective"]["epochSteps"]
    assert [int(step) for step, _, _ in curve] == [steps, 2 * steps, 3 * steps]
    assert all(float(rate) > 0 for _, _, rate in curve)
    assert float(ended.report["objective"]["best"]) == max(float(rate) for _, _, rate in curve)
    assert "samplesPerSecond" in (project.folder / "kept/history.csv").read_text().splitlines()[0]


def test_the_best_by_the_objective_stays_beside_the_newest(project):
    code = own(step="").replace("run.report(loss=loss)", "run.report(score=[1, 5, 3, 2, 4, float('nan')][epoch])")
    objective = "spec.objective={value: score, goal: Maximize}"
    ended = project.run("spec.train.epochs=6", objective, code=code, arguments=KEPT)
    assert ended.code == 0, ended.errors
    assert ended.report["objective"]["best"] == "5"
    assert ended.report["objective"]["bestStep"] == 12
    assert ended.report["objective"]["curve"] == ["6:1", "12:5", "18:3", "24:2", "30:4", "36:NaN"]
    assert "score is not a number at step 36" in ended.errors
    kept = project.folder / "kept"
    assert {path.name for path in (kept / "checkpoints").iterdir()} == {"step-000000000012", "step-000000000036"}
    best = kept / "checkpoints/step-000000000012/model.safetensors"
    assert (kept / "model.best.safetensors").read_bytes() == best.read_bytes()
    assert (kept / "model.safetensors").read_bytes() != best.read_bytes()


def test_a_full_disk_ends_no_training_but_one_that_could_not_keep_its_end_is_not_done(project):
    full = (
        "import errno, os, feedline.checkpoints.durable as durable\n"
        "write, calls = durable.write, []\n"
        "def refuse(path, pieces):\n"
        "    calls.append(path)\n"
        "    if {condition}: raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))\n"
        "    return write(path, pieces)\n"
        "durable.write = refuse; stack.callback(setattr, durable, 'write', write)\n"
    )
    often = ["spec.train.checkpoint={everySteps: 1}", OUTPUT]
    passing = project.run(*often, code=own(), arguments=KEPT, before=full.format(condition="len(calls) < 2"))
    assert passing.code == 0, passing.errors
    assert "No space left on device); the training goes on" in passing.errors
    assert "saving works again" in passing.errors
    assert passing.report["checkpoint"]["failures"] > 0
    assert "error" not in passing.report["checkpoint"]
    lasting = project.run(*often, code=own(), arguments=("--output", "other"), before=full.format(condition="True"))
    assert lasting.code == 74
    assert "trained to its end, but the last checkpoint cannot be written" in lasting.errors
    assert lasting.report["checkpoint"]["error"].endswith("No space left on device")


def test_a_slow_disk_holds_no_step_up_and_what_is_due_meanwhile_is_counted(project):
    slow = (
        "import os, time\n"
        "fsync = os.fsync\n"
        "def slowly(descriptor):\n"
        "    time.sleep(0.1)\n"
        "    fsync(descriptor)\n"
        "os.fsync = slowly; stack.callback(setattr, os, 'fsync', fsync)\n"
    )
    ended = project.run("spec.train.checkpoint={everySteps: 1}", OUTPUT, code=own(), arguments=KEPT, before=slow)
    assert ended.code == 0, ended.errors
    saved = ended.report["checkpoint"]
    assert (saved["step"], saved["failures"]) == (12, 0)
    assert saved["skipped"] > 0
    assert "error" not in saved


def test_a_program_of_ones_own_goes_on_as_a_function_does(project):
    (project.folder / "program.py").write_text(
        "import feedline\nimport own\n\nown.train(feedline.Run.from_environment())\n"
    )
    program = ["spec.train.entrypoint=null", "spec.train.command=[python, program.py]", "spec.train.seed=1"]
    often = ["spec.train.checkpoint={everySteps: 1}", OUTPUT]
    ended = project.run(*program, *often, code=own(step="1 / (run.train.steps < 8)"), arguments=KEPT)
    assert ended.code == 70, ended.errors
    went_on = project.run(*program, *often, code=own(), arguments=(*KEPT, "--resume"))
    assert went_on.code == 0, went_on.errors
    assert 0 < went_on.report["fromStep"] < 8
    assert went_on.report["steps"] == 12
    assert json.loads((project.folder / "kept/report.json").read_text()) == went_on.report
    assert [line["step"] for line in history(project.folder)] == ["6", "12"]


@pytest.mark.parametrize(
    ("leaves", "exit_code"), [("sys.exit(3)", 70), ("sys.exit('enough')", 70), ("sys.exit(75)", 75)]
)
def test_a_program_that_leaves_in_the_middle_has_not_come_to_its_end(project, leaves, exit_code):
    (project.folder / "program.py").write_text(
        "import feedline\nimport own\n\nown.train(feedline.Run.from_environment())\n"
    )
    program = ["spec.train.entrypoint=null", "spec.train.command=[python, program.py]", "spec.train.seed=1"]
    code = own(step=f"if run.train.steps == 8: {leaves}").replace("import torch", "import sys\nimport torch")
    ended = project.run(*program, "spec.train.checkpoint={everySteps: 5}", OUTPUT, code=code, arguments=KEPT)
    assert ended.code == exit_code, ended.errors
    went_on = project.run(*program, code=own(), arguments=(*KEPT, "--resume"))
    assert went_on.code == 0, went_on.errors
    assert went_on.report["message"] == "completed"
    assert (went_on.report["fromStep"], went_on.report["steps"]) == (5, 12)


def test_a_program_that_leaves_when_all_is_done_has_trained_all(project):
    (project.folder / "program.py").write_text(
        "import sys\nimport feedline\nimport own\n\nown.train(feedline.Run.from_environment())\nsys.exit(4)\n"
    )
    program = ["spec.train.entrypoint=null", "spec.train.command=[python, program.py]"]
    ended = project.run(*program, code=own(), arguments=KEPT)
    assert (ended.code, ended.report["steps"]) == (70, 12), ended.errors
    assert "`python program.py` ended with exit code 4" in ended.report["message"]
    assert (project.folder / "kept/model.safetensors").exists()


def test_a_loop_that_was_left_early_goes_on_with_the_next_epoch_where_more_are_wanted(project):
    code = own(step="if run.train.steps == 8: return")
    first = project.run(code=code, arguments=KEPT)
    assert (first.code, first.report["steps"]) == (0, 8), first.errors
    again = project.run(code=own(), arguments=(*KEPT, "--resume"))
    assert (again.code, again.report["steps"]) == (0, 8), again.errors
    more = project.run("spec.train.epochs=4", code=own(), arguments=(*KEPT, "--resume"))
    assert (more.code, more.report["steps"]) == (0, 20), more.errors


@pytest.mark.parametrize("way", ["pytorch", "tensorflow", "keras"])
def test_a_run_whose_time_was_over_has_nothing_to_do(project, way):
    limits = ["spec.train.epochs=null", "spec.train.seconds=1"]
    code = "import feedline.models\n\n\ndef train(run):\n    feedline.models.train(run)\n"
    first = project.run(*limits, way=way, code=code, arguments=KEPT)
    assert first.code == 0, first.errors
    again = project.run(*limits, way=way, code=code, arguments=(*KEPT, "--resume"))
    assert again.code == 0, again.errors
    assert again.report["steps"] - first.report["steps"] <= (1 if way == "keras" else 0)
    more = project.run(limits[0], "spec.train.seconds=2", way=way, code=code, arguments=(*KEPT, "--resume"))
    assert more.code == 0, more.errors
    assert more.report["steps"] > again.report["steps"]


def test_a_run_whose_time_is_over_in_the_middle_of_an_epoch_is_done(project):
    limits = ["spec.train.epochs=null", "spec.train.checkpoint={everySteps: 1}", OUTPUT]
    code = own(step="time.sleep(0.2)\n            1 / (run.train.steps < 9)").replace(
        "import torch", "import time, torch"
    )
    first = project.run(*limits, "spec.train.seconds=60", code=code, arguments=KEPT)
    assert first.code == 70, first.errors
    over = project.run(*limits, "spec.train.seconds=1", code=own(), arguments=(*KEPT, "--resume"))
    assert over.code == 0, over.errors
    assert over.report["steps"] == over.report["fromStep"] >= 7
    more = project.run(*limits, "spec.train.seconds=3", code=own(), arguments=(*KEPT, "--resume"))
    assert more.code == 0, more.errors
    assert more.report["steps"] > over.report["steps"]


def test_sums_go_on_where_what_is_added_to_them_is(project):
    code = """
        import torch
        from feedline.training.sums import Sums

        def train(run):
            sums = Sums()
            sums.restore({"hits": torch.ones(3), "rows": 3, "loss": 1.0})
            sums.add(hits=torch.ones(3, device="meta"), rows=4, loss=torch.tensor(0.5))
            assert str(sums["hits"].device) == "meta"
            assert (sums["rows"], float(sums["loss"])) == (7, 1.5)
            for batch in run.train:
                pass
    """
    ended = project.run(code=code)
    assert ended.code == 0, ended.errors


@pytest.mark.parametrize("damage", ["a folder in the place of a file", "a link to itself"])
def test_a_disk_that_does_not_give_what_was_saved_is_no_fault_of_the_function(project, damage):
    assert project.run(code=own(), arguments=KEPT).code == 0
    if damage.startswith("a folder"):
        (project.folder / "kept/history.csv").unlink()
        (project.folder / "kept/history.csv").mkdir()
    else:
        (project.folder / "kept/checkpoints").rename(project.folder / "elsewhere")
        (project.folder / "kept/checkpoints").symlink_to("checkpoints")
    ended = project.run("spec.train.epochs=3", code=own(), arguments=(*KEPT, "--resume"))
    assert ended.code == 66, ended.errors
    assert "check the path and its permissions" in ended.errors
    assert "Traceback" not in ended.errors


def test_a_disk_that_is_gone_is_worth_another_attempt(project):
    assert project.run(code=own(), arguments=KEPT).code == 0
    stale = (
        "from unittest.mock import patch\nimport feedline.training.saver as saver\n"
        "error = OSError(116, 'Stale file handle', 'kept/checkpoints')\n"
        "stack.enter_context(patch.object(saver, 'checkpoints', side_effect=error))\n"
    )
    ended = project.run("spec.train.epochs=3", code=own(), arguments=(*KEPT, "--resume"), before=stale)
    assert (ended.code, ended.report["reason"]) == (74, "IOError"), ended.errors
    assert "Traceback" not in ended.errors


def test_what_feedline_did_not_make_stays(project):
    assert project.run(code=own(), arguments=KEPT).code == 0
    kept = project.folder / "kept"
    (kept / "checkpoints").rename(project.folder / "elsewhere")
    (kept / "checkpoints").symlink_to(project.folder / "elsewhere")
    (kept / "mine.safetensors").touch()
    (kept / "mine.keras").touch()
    ended = project.run(code=own(step="1 / 0"), arguments=(*KEPT, "--fresh"))
    assert ended.code == 70, ended.errors
    names = {path.name for path in kept.iterdir()}
    assert names >= {"mine.safetensors", "mine.keras", "run.json"}
    assert "model.safetensors" not in names
    assert list((project.folder / "elsewhere").iterdir()) == []


ENDS = """
import os, signal
from unittest.mock import patch
from feedline.training.loop import Loop

close = Loop.close

def stopped_too_late(run):
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    close(run)

stack.enter_context(patch.object(Loop, "close", stopped_too_late))
"""


def test_who_is_stopped_when_all_is_done_says_that_all_is_done(project):
    ended = project.run(code=own(), arguments=KEPT, before=ENDS)
    assert ended.code == 0, ended.errors
    assert (ended.report["message"], ended.report["steps"]) == ("completed", 12)
    assert json.loads((project.folder / "kept/report.json").read_text()) == ended.report


@pytest.mark.parametrize("how", ["--resume", "--fresh"])
def test_a_run_that_is_still_writing_is_let_alone(project, how):
    code = own(step="run.train.steps == 1 and again()").replace(
        "def train(run):",
        "def again():\n"
        "    import subprocess, sys\n"
        "    start = [sys.executable, '-c', 'import feedline.cli; feedline.cli.main()']\n"
        "    command = [*start, 'run', 'pipeline.yaml', '--volume', 'data=data']\n"
        "    told = subprocess.run([*command, '--output', 'kept', HOW], capture_output=True, text=True)\n"
        "    print(told.returncode, told.stderr)\n"
        "\n"
        "def train(run):",
    )
    ended = project.run(code=code.replace("HOW", repr(how)), arguments=KEPT)
    assert ended.code == 0, ended.errors
    assert "another run is writing there: wait for it, or take another" in ended.output
    assert ended.report["steps"] == 12
    again = project.run(code=own(), arguments=(*KEPT, "--resume"))
    assert (again.code, again.report["fromStep"]) == (0, 12), again.errors


def test_a_folder_that_may_not_be_written_is_one_sentence(project):
    (project.folder / "file").touch()
    ended = project.run(code=own(), arguments=("--output", "file/kept"))
    assert ended.code in (64, 78)
    assert "Traceback" not in ended.errors


def test_an_objective_that_was_never_reported_is_told_of(project):
    ended = project.run("spec.objective={value: score, goal: Minimize}", code=own(), arguments=KEPT)
    assert ended.code == 0
    assert "spec.objective: score was never reported (run.report named loss)" in ended.report["message"]


def test_a_classic_loader_leaves_its_weights_and_says_that_it_cannot_go_on(project):
    ended = project.run("spec.loader.engine=Classic", code=own(), arguments=KEPT)
    assert ended.code == 0, ended.errors
    assert "no checkpoints are saved: loader.engine: Classic cannot go on in the middle of an epoch" in ended.errors


def test_sums_are_those_of_the_whole_epoch_where_a_run_goes_on_in_its_middle(project):
    code = own(step="run.sums.add(rows=len(batch['labels']), loss=loss)\n            {}").replace(
        "run.report(loss=loss)", "run.report(loss=run.sums['loss'] / 6, rows=run.sums['rows'])"
    )
    seeded = ["spec.train.seed=1", "spec.train.checkpoint={everySteps: 1}", OUTPUT]
    whole = project.run(*seeded, code=code.replace("{}", ""), arguments=KEPT)
    assert whole.code == 0, whole.errors
    shutil.move(project.folder / "kept", project.folder / "whole")
    stopped = project.run(*seeded, code=code.replace("{}", "1 / (run.train.steps < 10)"), arguments=KEPT)
    assert stopped.code == 70
    went_on = project.run(*seeded, code=code.replace("{}", ""), arguments=(*KEPT, "--resume"))
    assert 0 < went_on.report["fromStep"] < 10
    assert went_on.report["values"] == whole.report["values"]
    assert went_on.report["values"]["rows"] == "48"


def test_the_best_one_stays_though_a_save_at_its_step_was_killed_before(project):
    aim, often = "spec.objective={value: score, goal: Minimize}", "spec.train.checkpoint={everySteps: 2, keep: 1}"
    score = "run.report(score=1.0 + (run.train.steps > 6))"
    code = own().replace("run.report(loss=loss)", score)
    stopped = own(step="1 / (run.train.steps < 5)").replace("run.report(loss=loss)", score)
    assert project.run(aim, often, OUTPUT, code=stopped, arguments=KEPT).code == 70
    unfinished = project.folder / "kept/checkpoints/step-000000000006"
    unfinished.mkdir()
    (unfinished / "model.safetensors").write_bytes(b"a part")
    ended = project.run(aim, often, OUTPUT, code=code, arguments=(*KEPT, "--resume"))
    assert ended.code == 0, ended.errors
    assert ended.report["fromStep"] < 6
    assert ended.report["objective"]["bestStep"] == 6
    best = (project.folder / "kept/model.best.safetensors").read_bytes()
    assert best == (unfinished / "model.safetensors").read_bytes() != b"a part"
    assert json.loads((unfinished / "manifest.json").read_text())["checkpoint"]["reason"] == "Best"
    # Once more the same is published, and leaves nothing beside.
    again = project.run(aim, often, OUTPUT, code=code, arguments=(*KEPT, "--resume"))
    assert again.code == 0, again.errors
    assert not list((project.folder / "kept").glob(".*"))
