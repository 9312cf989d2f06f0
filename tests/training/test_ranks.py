"""Several processes that train one model: the same batches, the same end, and who it was where one goes wrong."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import psutil
import pytest
from cluster.processes import free_port
from projects import Ended, environment, skip_without
from prometheus_client.parser import text_string_to_metric_families
from safetensors.numpy import load_file

pytestmark = pytest.mark.trainer
OWN = """
import os
import time
import torch

def train(run):
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout({dropout}), torch.nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if {checkpoint}:
        run.checkpoint(model=model, optimizer=optimizer)
    network = run.distribute(model)
    log = open(f"rows-{{run.rank}}-of-{{run.world}}.txt", "a")
    for epoch in run.epochs():
        model.train()
        for batch in run.train:
            print(run.train.steps, *(int(name.split()[1]) for name in batch["names"]), file=log, flush=True)
            loss = torch.nn.functional.cross_entropy(network(batch["features"]), batch["labels"].long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.sums.add(loss=loss)
            {step}
        model.eval()
        hits = rows = 0
        with torch.no_grad():
            for batch in run.validation:
                hits += int((model(batch["features"]).argmax(1) == batch["labels"]).sum())
                rows += len(batch["labels"])
        run.report(loss=run.mean(run.sums["loss"] / 6), val_accuracy=run.mean(hits / rows, rows))
"""
COMMAND = "from feedline.cli import main; main()"


def own(step="", dropout=0.0, checkpoint=True):
    return OWN.format(step=step, dropout=dropout, checkpoint=checkpoint)


class Command:
    """A `feedline run` of the project, in a process of its own."""

    def __init__(self, project, code, *arguments, output="kept", **variables):
        skip_without("pytorch")
        self.folder, self.output = project.folder, project.folder / output
        (self.folder / "own.py").write_text(code)
        given = ["run", "pipeline.yaml", "--volume", f"data={project.data}", "--output", output, *arguments]
        self._process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *given],
            cwd=self.folder,
            env=environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def signal(self, number):
        self._process.send_signal(number)

    def ended(self):
        """Wait for its end."""
        output, errors = self._process.communicate(timeout=600)
        report = self.output / "report.json"
        return Ended(
            self._process.returncode, output, errors, json.loads(report.read_text()) if report.exists() else {}
        )


def rows_of(folder, world):
    """Return the rows of every step, from all ranks, in their order."""
    steps = {}
    for rank in range(world):
        for line in (folder / f"rows-{rank}-of-{world}.txt").read_text().splitlines():
            step, *rows = map(int, line.split())
            assert steps.setdefault(step, {}).setdefault(rank, rows) == rows, "a step was done twice, with other rows"
    return {step: [row for _, rows in sorted(found.items()) for row in rows] for step, found in steps.items()}


def history(folder):
    with (folder / "history.csv").open(newline="") as file:
        return [{name: value for name, value in line.items() if name != "seconds"} for line in csv.DictReader(file)]


SEEDED = ("--set", "spec.train.seed=3")
# Keeps what the first rank tells Prometheus at the end, once the other has told what it did.
PAGE = """
import urllib.request

train_only = train

def train(run):
    train_only(run)
    if run.world != 2:
        return
    due = time.monotonic() + 60
    while not os.path.exists("page.txt") and time.monotonic() < due:
        time.sleep(0.2)
        if run.is_chief:
            page = urllib.request.urlopen("http://127.0.0.1:{port}/metrics").read().decode()
            told = [line for line in page.splitlines() if line.startswith('{name}')]
            if told and float(told[0].split()[1]) > 0:
                open("page.txt", "w").write(page)
"""


def test_any_number_of_processes_trains_on_the_same_batches_to_the_same_end(project):
    port = free_port()
    found = {}
    for world in (1, 2, 4):
        # Read into memory, where it is once for all of them.
        more = ["--set", "spec.loader.residency=Memory"] if world == 4 else ["--metrics-port", str(port)]
        code, processes = (
            own() + PAGE.format(port=port, name='feedline_trainer_rank_step_seconds_total{rank="1"}'),
            ("--processes", str(world)),
        )
        done = Command(project, code, *SEEDED, *more, *processes, output=f"of-{world}").ended()
        assert done.code == 0, done.errors
        found[world] = done
    assert rows_of(project.folder, 1) == rows_of(project.folder, 2) == rows_of(project.folder, 4)
    assert all(Counter(rows).most_common(1)[0][1] == 1 for rows in rows_of(project.folder, 4).values())
    one = load_file(found[1].report["output"] + "/model.safetensors")
    for world in (2, 4):
        many = load_file(found[world].report["output"] + "/model.safetensors")
        assert one.keys() == many.keys()
        for name, values in one.items():
            # Sums of gradients in another order; nothing else differs.
            np.testing.assert_allclose(many[name], values, rtol=1e-4, atol=1e-6)
        for ours, theirs in zip(history(project.folder / f"of-{world}"), history(project.folder / "of-1"), strict=True):
            assert ours.keys() == theirs.keys()
            assert float(ours["loss"]) == pytest.approx(float(theirs["loss"]), rel=1e-4)
            assert float(ours["val_accuracy"]) == pytest.approx(float(theirs["val_accuracy"]))
        report = found[world].report
        assert (report["samples"], report["steps"]) == (found[1].report["samples"], 12)
        assert report["ranks"]["world"] == world
        assert "ranks" not in found[1].report
    told = {
        (sample.name, sample.labels.get("rank", sample.labels.get("split"))): sample.value
        for family in text_string_to_metric_families((project.folder / "page.txt").read_text())
        for sample in family.samples
    }
    # The rows of both, whom nobody else tells of; each has stepped.
    assert told["feedline_trainer_samples_total", "train"] == found[1].report["samples"]
    assert told["feedline_trainer_steps_total", "train"] == 12
    assert all(told["feedline_trainer_rank_step_seconds_total", rank] > 0 for rank in "01")
    assert all(told["feedline_trainer_rank_batch_fetch_seconds_total", rank] > 0 for rank in "01")


def test_a_stop_ends_all_at_one_step_and_another_number_of_processes_goes_on(project):
    slow = "time.sleep(0.05)"
    epochs = ("--set", "spec.train.epochs=20")
    whole = Command(project, own(dropout=0.5), *SEEDED, *epochs, "--processes", "2", output="whole").ended()
    assert whole.code == 0, whole.errors
    undisturbed = rows_of(project.folder, 2)
    for path in project.folder.glob("rows-*"):
        path.unlink()

    def stopped(*arguments):
        command = Command(project, own(slow, dropout=0.5), *SEEDED, *epochs, *arguments)
        before = {path: path.stat().st_size for path in project.folder.glob("rows-*")}
        due = time.monotonic() + 300
        while not any(path.stat().st_size > before.get(path, 0) + 200 for path in project.folder.glob("rows-*")):
            assert time.monotonic() < due
            time.sleep(0.05)
        command.signal(signal.SIGTERM)
        done = command.ended()
        assert done.code == 143, done.errors
        # Not one step is lost.
        assert done.report["checkpoint"]["step"] == done.report["steps"]
        assert f"terminated after {done.report['steps']} of 120 steps" in done.report["message"]
        return done.report["steps"]

    first = stopped("--processes", "2")
    again = Command(project, own(dropout=0.5), *SEEDED, *epochs, "--processes", "2", "--resume").ended()
    assert again.code == 0, again.errors
    assert again.report["fromStep"] == first
    assert rows_of(project.folder, 2) == undisturbed
    # The random generators of every rank went on, too.
    weights = [(project.folder / name / "model.safetensors").read_bytes() for name in ("whole", "kept")]
    assert weights[0] == weights[1]
    assert history(project.folder / "whole") == history(project.folder / "kept")

    for path in project.folder.glob("rows-*"):
        path.unlink()
    second = stopped("--processes", "2", "--fresh")
    third = stopped("--processes", "4", "--resume")
    last = Command(project, own(dropout=0.5), *SEEDED, *epochs, "--resume").ended()
    assert last.code == 0, last.errors
    assert last.report["fromStep"] == third > second
    parts = [rows_of(project.folder, world) for world in (2, 4, 1)]
    assert {step: rows for part in parts for step, rows in part.items()} == undisturbed
    assert sum(map(len, parts)) == len(undisturbed)
    assert last.report["samples"] == whole.report["samples"]


def test_the_rank_that_raises_is_named_and_shown_once(project):
    # What else may happen to a rank is in test_nodes.py.
    step = "time.sleep(0.7); run.rank == 1 and run.train.steps == 4 and 1 / 0"
    done = Command(project, own(step), "--processes", "2").ended()
    assert done.code == 70, done.errors
    assert "rank 1: ZeroDivisionError: division by zero" in done.report["message"], done.errors
    assert "rank 1: ZeroDivisionError: division by zero" in done.errors
    assert done.errors.count("Traceback") == 1, done.errors
    assert "[rank 1] ZeroDivisionError: division by zero" in done.errors


def test_a_checkpoint_that_only_the_first_rank_asks_for_is_one_sentence(project):
    code = own().replace("if True:", "if run.is_chief:")
    done = Command(project, code, "--processes", "2").ended()
    assert done.code == 64, done.errors
    assert "run.checkpoint: was called in rank 0 and not in rank 1: call it in every rank" in done.report["message"]


def test_what_all_raise_is_shown_once(project):
    done = Command(project, own("1 / 0"), "--processes", "2").ended()
    assert done.code == 70, done.errors
    assert done.errors.count("ZeroDivisionError: division by zero\n") == 2, done.errors  # the traceback, the sentence
    assert done.errors.count("Traceback") == 1


REFUSED = {
    "another batch": (["--set", "spec.loader.batchSize=9"], "they share a batch, and loader.batchSize 9"),
    "the last batch": (["--set", "spec.loader.lastBatch=Keep"], "Keep would give them unequal batches"),
    "a classic way": (["--set", "spec.loader.engine=Classic"], "loader.engine Classic has no share for each"),
    "another framework": (["--set", "spec.backend=tensorflow"], "tensorflow cannot train in several"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_one_sentence_before_a_process_is_started(case, project):
    arguments, told = REFUSED[case]
    given = ["--volume", f"data={project.data}", "--output", "kept", "--processes", "2"]
    done = project.command("run", "pipeline.yaml", *given, *arguments)
    assert done.code == 64, done.errors
    assert told in done.errors
    assert "Traceback" not in done.errors
    assert not (project.folder / "kept").exists()


def test_fewer_rows_to_validate_on_than_ranks_are_refused(project):
    few = ("--set", "spec.data.validation.rows={start: 59}")
    done = Command(project, own(), "--processes", "2", *few).ended()
    assert done.code == 65, done.errors
    assert "data.validation: 1 rows are too few for 2 processes" in done.report["message"]
    assert "Traceback" not in done.errors


def test_a_process_group_of_ones_own_is_one_too_many(project):
    code = "import torch\n\ndef train(run):\n    torch.distributed.init_process_group('gloo')\n"
    done = Command(project, code, "--processes", "2").ended()
    assert done.code == 64, done.errors
    assert "leave init_process_group out, and distribute the model by run.distribute" in done.report["message"]


def test_what_cannot_be_distributed_is_one_sentence(project):
    code = """
import torch
from feedline.errors import UsageError

def train(run):
    for wrong in (3, run.distribute(torch.nn.Linear(1, 1))):
        try:
            run.distribute(wrong)
        except UsageError as error:
            print("refused:", error, flush=True)
    run.distribute("a model")
"""
    done = Command(project, code, "--processes", "2").ended()
    assert done.code == 64, done.errors
    assert "refused: run.distribute: a int is no torch.nn.Module: pass the model" in done.output
    assert "refused: run.distribute: the model is distributed already" in done.output
    assert "run.distribute: a str is no torch.nn.Module" in done.report["message"]
    assert "Traceback" not in done.errors


def test_models_that_nobody_brings_together_are_warned_of_once_and_a_killed_rank_leaves_nothing(project):
    code = """
import os
import signal
import time

def train(run):
    for epoch in run.epochs():
        for batch in run.train:
            if epoch == 1 and run.rank == 0:
                open("second-epoch", "w").close()
            if epoch == 1 and run.rank == 1:
                while not os.path.exists("second-epoch"):
                    time.sleep(0.05)
                os.kill(os.getpid(), signal.SIGKILL)
"""
    (project.folder / "tmp").mkdir()
    done = Command(project, code, "--processes", "2", TMPDIR=str(project.folder / "tmp")).ended()
    assert done.code != 0
    assert "rank 1" in done.report["message"]
    assert done.errors.count("run.distribute was never called") == 1, done.errors
    assert "each of the 2 processes trains a model of its own" in done.errors
    # Of torch's own compiler, for all processes of a user.
    assert [path for path in (project.folder / "tmp").iterdir() if not path.name.startswith("torchinductor_")] == []


def test_a_program_of_ones_own_is_started_once_a_rank(project):
    program = """
import feedline
import torch

run = feedline.Run.from_environment()
model = torch.nn.Linear(4, 3)
run.checkpoint(model=model)
network = run.distribute(model)
for epoch in run.epochs():
    for batch in run.train:
        loss = torch.nn.functional.cross_entropy(network(batch["features"]), batch["labels"].long())
        loss.backward()
    run.report(world=run.mean(run.world), ranks=run.mean(run.rank))
"""
    (project.folder / "program.py").write_text(program)
    done = Command(project, own(), "--processes", "2", "--set", "spec.train.command=[python, program.py]").ended()
    assert done.code == 0, done.errors
    assert done.report["values"] == {"world": "2", "ranks": "0.5"}
    assert (project.folder / "kept/model.safetensors").exists()


def test_a_checkpoint_is_saved_by_time_with_what_every_rank_adds(project):
    often = ("--set", "spec.output={persistentVolumeClaim: {claimName: runs}}")
    often += ("--set", "spec.train.checkpoint={everySeconds: 1, keep: 50}", "--set", "spec.train.epochs=5")
    done = Command(project, own("time.sleep(0.2)"), *often, "--processes", "2").ended()
    assert done.code == 0, done.errors
    paths = (project.folder / "kept/checkpoints").glob("*/manifest.json")
    saved = [json.loads(path.read_text())["checkpoint"] for path in paths]
    assert sum(each["reason"] == "Periodic" for each in saved) >= 3
    ranks = list((project.folder / "kept/checkpoints").glob("*/run.safetensors"))
    assert all(b"ranks" in path.read_bytes() for path in ranks)


def test_who_is_killed_with_the_process_that_started_it_leaves_nobody(project):
    endless = ("--set", "spec.train.epochs=100000")
    # Asleep, they hear of nothing that is gone.
    command = Command(project, own("time.sleep(600)"), "--processes", "2", *endless, MARK="orphans")
    due = time.monotonic() + 300
    while not (project.folder / "rows-1-of-2.txt").exists():
        assert time.monotonic() < due
        time.sleep(0.1)
    command.signal(signal.SIGKILL)
    command.ended()
    due = time.monotonic() + 60
    while _with_mark(project.folder):
        assert time.monotonic() < due, "a rank goes on by itself"
        time.sleep(0.2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_is_stopped_while_ranks_are_imported_leaves_nobody(project, number):
    command = Command(project, own("time.sleep(600)"), "--processes", "2", MARK="orphans")
    due = time.monotonic() + 120
    while len(found := _with_mark(project.folder)) < 3:  # with what starts them, and what watches over its leftovers
        assert time.monotonic() < due
        time.sleep(0.01)
    for process in found if number == signal.SIGINT else ():
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)  # Ctrl-C is for all processes of a terminal
    command.signal(number)
    ended = command.ended()
    # Before it hears SIGTERM, that ends it.
    assert ended.code in {128 + number, -signal.SIGTERM}, ended.errors
    assert "fault of feedline" not in ended.errors
    due = time.monotonic() + 60
    while _with_mark(project.folder):
        assert time.monotonic() < due, "somebody goes on"
        time.sleep(0.2)


def _with_mark(folder):
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("MARK") == "orphans" and process.cwd() == os.fspath(folder):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_a_limit_in_seconds_ends_all_ranks_at_the_same_step(project):
    by_time = ("--set", "spec.train.epochs=null", "--set", "spec.train.seconds=3")
    # A path by which no socket can be found: the ranks are not forked.
    far = project.folder / "temporary" / ("a" * 80)
    far.mkdir(parents=True)
    code = own("time.sleep(0.02 * (1 + run.rank))")
    done = Command(project, code, "--processes", "2", *by_time, TMPDIR=str(far)).ended()
    assert done.code == 0, done.errors
    steps = done.report["steps"]
    assert steps > 10
    assert list(rows_of(project.folder, 2)) == list(range(1, steps + 1))
    assert all(len(rows) == 8 for rows in rows_of(project.folder, 2).values())
