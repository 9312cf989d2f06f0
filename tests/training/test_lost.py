"""A process that helps the training and is lost: whose fault the end of the run is, and what a person reads of it."""

import json
import signal
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool

import pytest

from feedline.training.lost import by_signal, lost_process

# --- what libraries say ------------------------------------------------------------------------------------------------


def caused(outer, cause):
    """Return an error that was raised from another one."""
    outer.__cause__ = cause
    return outer


def in_its_wake(outer, handled):
    """Return an error that was raised while another one was handled."""
    outer.__context__ = handled
    return outer


def gone():
    return RuntimeError("DataLoader worker (pid(s) 123) exited unexpectedly")


KILLED = RuntimeError("DataLoader worker (pid 123) is killed by signal: Killed. ")
BUS = RuntimeError(
    "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of shared "
    "memory. Please try to raise your shared memory limit."
)
SPAWNED = RuntimeError("process 1 terminated with signal SIGSEGV")
JOBLIB = BrokenProcessPool(
    "A worker process managed by the executor was unexpectedly terminated. This could be caused by a segmentation fault "
    "while calling the function or by an excessive memory usage causing the Operating System to kill the worker.\n\n"
    "The exit codes of the workers are {SIGKILL(-9)}"
)
EXITED = "DataLoader worker (pid 123) exited unexpectedly with exit code {}. Details are lost due to multiprocessing."
SHORT = "as the kernel does where memory is short: raise spec.resources.memory"


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        pytest.param(KILLED, 137, f"DataLoader worker (pid 123) was ended by SIGKILL, {SHORT}", id="killed"),
        pytest.param(caused(gone(), KILLED), 137, "DataLoader worker (pid 123) was ended by SIGKILL", id="gone: killed"),
        pytest.param(gone(), 75, f"DataLoader worker (pid(s) 123) was ended abruptly, {SHORT}", id="gone: nobody says why"),
        pytest.param(in_its_wake(ValueError("x"), KILLED), 137, "by SIGKILL", id="what else failed in its wake"),
        pytest.param(BUS, 135, "DataLoader worker (pid 7) was ended by SIGBUS, as where a data file is cut", id="bus"),
        pytest.param(RuntimeError(EXITED.format(143)), 143, "(pid 123) was ended by SIGTERM", id="told to end"),
        pytest.param(SPAWNED, 139, "process 1 was ended by SIGSEGV, a fault in compiled code", id="spawned by torch"),
        pytest.param(JOBLIB, 137, "A worker process was ended by SIGKILL", id="joblib's pool"),
        pytest.param(BrokenProcessPool("abruptly"), 75, f"a process pool was ended abruptly, {SHORT}", id="a pool"),
        pytest.param(
            subprocess.CalledProcessError(-9, ["ffmpeg", "-i"]), 137, "`ffmpeg` was ended by SIGKILL", id="a program"
        ),
        pytest.param(subprocess.CalledProcessError(139, "a | b"), 139, "`a | b` was ended by", id="a shell's program"),
    ],
)  # fmt: skip
def test_a_helper_that_a_signal_ended_ends_the_run_as_if_it_were_itself(error, code, told):
    found = lost_process(error)
    assert found[0] == code
    assert told in found[1]


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(RuntimeError("CUDA out of memory"), id="another error"),
        pytest.param(RuntimeError(EXITED.format(3)), id="a worker that ends itself"),
        pytest.param(caused(gone(), RuntimeError(EXITED.format(3))), id="gone: it has ended itself"),
        pytest.param(subprocess.CalledProcessError(1, ["false"]), id="a program that fails"),
        pytest.param(subprocess.CalledProcessError(255, ["ssh"]), id="a program with a code that is no signal"),
    ],
)
def test_no_other_error_is_a_lost_helper(error):
    assert lost_process(error) is None


def test_an_error_that_hides_what_it_came_from_speaks_for_itself():
    error = in_its_wake(ValueError("x"), KILLED)
    error.__suppress_context__ = True
    assert lost_process(error) is None


def test_signals_have_names_and_other_numbers_none():
    assert by_signal(signal.SIGTERM) == "SIGTERM"
    assert by_signal(signal.SIGSEGV) == "SIGSEGV, a fault in compiled code"
    assert by_signal(127) == by_signal(0) == by_signal(-100) == ""


# --- real ones ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(project, apart):
    """Return a function that runs the pipeline in a process of its own: one that lost a worker is good for no other."""

    def run(code, *changes):
        (project.folder / "own.py").write_text(code)
        sets = [part for change in changes for part in ("--set", change)]
        given = ["--volume", f"data={project.data}", "--report", "report.json", *sets]
        started = apart.ask("apart", folder=str(project.folder), arguments=["run", "pipeline.yaml", *given])
        code = apart.ask("wait", process=started)
        report = project.folder / "report.json"
        assert report.exists(), (project.folder / "errors").read_text()
        return code, json.loads(report.read_text())

    return run


# Of 40 rows, each of two workers delivers some before one of them does what the test says.
OWN_LOADER = """
import gc
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import torch
from torch.utils.data import DataLoader, Dataset

gc.disable()  # to collect a loader that an error has left takes 5 s for each of its workers

class Rows(Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, row):
        if row < 20:
            return torch.zeros(3)
        {}

def read():
    for rows in DataLoader(Rows(), 2, num_workers=2):
        pass

def train(run):
    for batch in run.train:
        {}
"""


def own_loader(row, step="read()"):
    return OWN_LOADER.format(row, step)


@pytest.mark.parametrize(
    ("name", "exit_code", "reason", "told"),
    [
        pytest.param("SIGKILL", 137, "Killed", SHORT, id="killed"),
        pytest.param("SIGBUS", 135, "DataInvalid", "a data file is cut short", id="past the end of a file"),
        pytest.param("SIGSEGV", 139, "Killed", "a fault in compiled code", id="by compiled code"),
    ],
)
def test_a_worker_of_ones_own_loader_that_a_signal_ends_is_not_the_users_fault(run, name, exit_code, reason, told):
    code, report = run(own_loader(f"os.kill(os.getpid(), signal.{name})"))
    assert (code, report["exitCode"], report["reason"]) == (exit_code, exit_code, reason)
    assert report["message"].startswith("DataLoader worker (pid ")
    assert f" was ended by {name}, " in report["message"]
    assert told in report["message"]


def test_a_worker_of_a_loader_in_another_thread_is_looked_after_too(run):
    code, report = run(
        own_loader("os.kill(os.getpid(), signal.SIGKILL)", "ThreadPoolExecutor(1).submit(read).result()")
    )
    assert (code, report["reason"]) == (137, "Killed")
    assert " was ended by SIGKILL, " in report["message"]


def test_a_worker_of_the_classic_engine_that_is_killed_is_not_the_users_fault(run):
    code, report = run(
        """
import os
from feedline.classic import pytorch

pytorch._value = lambda array, row: os.kill(os.getpid(), 9)

def train(run):
    for batch in run.train:
        pass
""",
        "spec.loader.engine=Classic",
        "spec.loader.threads=1",
    )
    assert (code, report["reason"], report["engine"]) == (137, "Killed", "Classic")
    assert SHORT in report["message"]


def test_a_process_pool_that_breaks_may_be_tried_again(run):
    code, report = run("""
import os
from concurrent.futures import ProcessPoolExecutor

def train(run):
    for batch in run.train:
        with ProcessPoolExecutor(1) as pool:
            pool.submit(os.abort).result()
""")
    assert (code, report["reason"]) == (75, "Temporary")
    assert SHORT in report["message"]


@pytest.mark.parametrize(
    ("row", "exit_code", "message"),
    [
        pytest.param("raise ValueError('a shape is wrong')", 70, "ValueError: a shape is wrong", id="its own"),
        pytest.param("return dict()['feature']", 70, "KeyError: 'feature'", id="a key that is not there"),
        pytest.param(
            "from feedline.errors import DataError; raise DataError('features.npy: row 3: cut short')",
            65, "features.npy: row 3: cut short", id="of ours",
        ),
        pytest.param(
            "from feedline.errors import InputMissingError; raise InputMissingError('labels.npy: no such file')",
            66, "labels.npy: no such file", id="of ours and the system's",
        ),
        pytest.param("os._exit(3)", 70, "", id="it ends itself"),
    ],
)  # fmt: skip
def test_what_a_worker_raises_keeps_its_exit_code_and_its_words(run, row, exit_code, message):
    code, report = run(own_loader(row))
    assert code == exit_code, report["message"]
    assert report["message"].startswith(message)


def test_a_worker_that_ends_while_the_error_of_another_is_on_its_way_is_no_fault_of_ours(project):
    (project.folder / "own.py").write_text("def train(run):\n    raise ValueError('a shape is wrong')\n")
    # torch's handler of SIGCHLD, at a moment that a test cannot meet.
    late = """
from unittest.mock import patch
late = RuntimeError("DataLoader worker (pid 7) exited unexpectedly with exit code 3. Details are lost.")
stack.enter_context(patch("feedline.training.execution.forget_children", side_effect=late))
"""
    arguments = ("pipeline.yaml", "--volume", f"data={project.data}", "--set", "spec.train.entrypoint=own:train")
    ended = project.command("run", *arguments, before=late)
    assert ended.code == 70, ended.errors
    assert "fault of feedline" not in ended.errors


PROGRAM = """
import feedline

for batch in feedline.Run.from_environment().train:
    {}
"""


@pytest.mark.parametrize(
    ("step", "message"),
    [
        pytest.param("own.os.kill(own.os.getpid(), 9)", "loop` ended with exit code 137: SIGKILL, ", id="itself"),
        pytest.param("own.read()", " was ended by SIGKILL, ", id="a worker of its"),
    ],
)
def test_a_program_that_is_killed_or_loses_a_worker_says_what_that_means(project, run, step, message):
    (project.folder / "loop.py").write_text("import own\n" + PROGRAM.format(step))
    command = f"spec.train.command={json.dumps([sys.executable, '-m', 'loop'])}"
    code, report = run(own_loader("os.kill(os.getpid(), signal.SIGKILL)"), command)
    assert (code, report["reason"]) == (137, "Killed")
    assert message + SHORT in report["message"]
