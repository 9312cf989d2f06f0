"""How a training process ends: what the user's function, program or installation did, and what the outside is told."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from feedline.contract import Report
from feedline.training import backends

LOOP_AND = """
def train(run):
    for epoch in run.epochs():
        for batch in run.train:
            pass
    {}
"""


def entrypoint(body):
    return LOOP_AND.format(body)


# --- a training function -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "exit_code", "reason", "message"),
    [
        pytest.param(
            entrypoint("pass"), 0, "Completed", "completed", id="trains to the end",
        ),
        pytest.param(
            entrypoint("raise SystemExit"), 0, "Completed", "completed", id="exits with 0",
        ),
        pytest.param(
            "def train(run):\n for batch in run.train:\n  if run.train.steps == 3: return",
            0, "Completed", "stopped after 3 of 12 steps", id="returns early",
        ),
        pytest.param(
            "def train(run): pass",
            70, "UserError", "the training function never took a batch: iterate run.train within run.epochs()",
            id="never iterates",
        ),
        pytest.param(
            entrypoint("import sys; sys.exit(3)"),
            70, "UserError", "the training function called sys.exit(3)", id="exits with 3",
        ),
        pytest.param(
            entrypoint("raise SystemExit('enough')"),
            70, "UserError", "the training function called sys.exit('enough')", id="exits with a message",
        ),
        pytest.param(
            entrypoint("raise ValueError('a shape\\nis wrong')"),
            70, "UserError", "ValueError: a shape is wrong", id="raises",
        ),
        pytest.param(
            entrypoint("raise Exception('x' * 5000)"),
            70, "UserError", "Exception: " + "x" * 1012 + "…", id="raises a long message",
        ),
        pytest.param(
            entrypoint("raise Exception('no \\udcff text')"),
            70, "UserError", "Exception: no   text", id="raises what is no text",
        ),
        pytest.param(
            entrypoint("import feedline; raise feedline.FeedlineError('later')"),
            75, "Temporary", "later", id="raises an error of ours",
        ),
        pytest.param(
            "raise ImportError('a part is missing')", 70, "UserError",
            "spec.train.entrypoint: importing own raised ImportError('a part is missing')", id="module raises",
        ),
        pytest.param(
            "import sys; sys.exit(4)", 70, "UserError",
            "spec.train.entrypoint: importing own raised SystemExit(4)", id="module exits",
        ),
        pytest.param(
            "def learn(run): pass", 78, "EnvironmentInvalid",
            "spec.train.entrypoint: own has no function train", id="module has no such function",
        ),
        pytest.param(
            "import no_such_package", 78, "EnvironmentInvalid",
            "spec.train.entrypoint: own:train cannot be imported: there is no module no_such_package on the import path",
            id="module needs what is not installed",
        ),
    ],
)  # fmt: skip
def test_how_a_training_function_ends(project, code, exit_code, reason, message):
    ended = project.run(code=code)
    assert (ended.code, ended.report["exitCode"]) == (exit_code, exit_code)
    assert (ended.report["reason"], ended.report["message"]) == (reason, message)
    assert (f"feedline: {message}" in ended.errors) == (message != "completed")


def test_a_module_that_is_not_there_is_named(project):
    ended = project.run("spec.train.entrypoint=nowhere.at_all:train")
    assert ended.code == 78
    assert "nowhere.at_all:train cannot be imported: there is no module nowhere on the import path" in ended.errors
    assert "Traceback" not in ended.errors


def test_what_a_function_raised_is_shown_from_its_own_frames_on(project):
    code = """
        def train(run):
            for batch in run.train:
                forward(batch)

        def forward(batch):
            return batch["feature"]
    """
    ended = project.run(code=code)
    assert ended.code == 70
    traceback = ended.errors[ended.errors.index("Traceback") :]
    assert ", in train" in traceback
    assert ", in forward" in traceback
    assert "KeyError: 'feature'" in traceback
    assert "launch.py" not in traceback


@pytest.mark.parametrize("code", ["def train(run): raise ValueError", "def train(run): pass"], ids=["raises", "idles"])
def test_a_failed_run_reports_its_numbers_too(project, code):
    report = project.run(code=code).report
    assert set(report) <= set(Report.__annotations__)
    assert (report["steps"], report["milliseconds"], report["values"]) == (0, 0, {})
    assert report["verdict"]["inputBound"] is False


def test_what_was_reported_before_a_failure_is_kept(project):
    code = """
        def train(run):
            for batch in run.train:
                run.report(loss=float("nan"))
                assert run.train.steps < 4, "loss is not a number"
    """
    ended = project.run(code=code)
    assert (ended.code, ended.report["steps"], ended.report["values"]) == (70, 4, {"loss": "NaN"})
    assert ended.report["message"] == "AssertionError: loss is not a number"


@pytest.mark.parametrize("way", ["tensorflow", "keras", "keras-on-torch"])
def test_an_error_in_any_backend_keeps_its_words(project, way):
    ended = project.run(way=way, code="def train(run):\n    raise ValueError('a shape is wrong')")
    assert (ended.code, ended.report["message"]) == (70, "ValueError: a shape is wrong")


# --- data --------------------------------------------------------------------------------------------------------------

CUT_SHORT = """
import os

def train(run):
    for epoch in run.epochs():
        for batch in run.train:
            if run.train.steps == 2:
                os.truncate("data/features.npy", 512)
"""


def test_a_file_that_shrinks_in_training_is_an_error_with_file_and_row(project):
    # A slot holds one batch, or all rows would be read before the file is cut.
    one_batch = "from unittest.mock import patch; stack.enter_context(patch('feedline.feed.gather.SLOT_BYTES', 1))"
    ended = project.run("spec.train.epochs=1000", code=CUT_SHORT, before=one_batch)
    assert ended.code == 65, ended.errors
    assert ended.report["reason"] == "DataInvalid"
    assert f"{project.data}/features.npy" in ended.report["message"]
    assert "row" in ended.report["message"]
    assert ended.report["steps"] >= 2
    assert "Traceback" not in ended.errors


@pytest.mark.parametrize("way", ["pytorch", "tensorflow", "keras", "keras-on-torch"])
def test_a_file_that_is_bad_from_the_start_ends_any_backend_with_65(project, way):
    os.truncate(project.data / "features.npy", 512)
    ended = project.run(way=way)
    assert ended.code == 65
    assert f"{project.data}/features.npy" in ended.errors
    assert "Traceback" not in ended.errors


# --- a program of one's own --------------------------------------------------------------------------------------------


@pytest.fixture
def program(project):
    """Return a function that runs a program by spec.train.command."""

    def run(code, *changes, name="loop"):
        (project.folder / f"{name}.py").write_text(code)
        command = json.dumps([sys.executable, "-m", name])
        return project.run(f"spec.train.command={command}", *changes)

    return run


PROGRAM = """
import feedline

run = feedline.Run.from_environment()
for epoch in run.epochs():
    for batch in run.train:
        pass
    run.report(loss=0.5)
"""


def test_a_program_gets_the_run_and_its_report_is_the_process_s(program):
    ended = program(PROGRAM)
    assert ended.code == 0, ended.errors
    assert (ended.report["pipeline"], ended.report["message"]) == ("small", "completed")
    assert (ended.report["steps"], ended.report["values"]) == (12, {"loss": "0.5"})


@pytest.mark.parametrize(
    ("code", "exit_code", "message", "steps"),
    [
        pytest.param(PROGRAM + "raise ValueError('late')", 70, "ValueError: late", 12, id="raises"),
        pytest.param(PROGRAM + "raise SystemExit(3)", 70, "loop` ended with exit code 3", 12, id="exits with 3"),
        pytest.param("print('hello')", 70, "the program made no run: call feedline.Run.fro", None, id="makes no run"),
        pytest.param("raise SystemExit(66)", 66, "loop` ended with exit code 66", None, id="exits with a known code"),
        pytest.param("import os; os.abort()", 134, "loop` ended with exit code 134", None, id="dies"),
        pytest.param("import os; os.kill(os.getpid(), 9)", 137, "loop` ended with exit code 137", None, id="is killed"),
        pytest.param("syntax error", 70, "loop` ended with exit code 1", None, id="cannot be read"),
    ],
)
def test_how_a_program_ends(program, code, exit_code, message, steps):
    ended = program(code)
    assert ended.code == exit_code
    assert message in ended.report["message"]
    assert ended.report.get("steps") == steps


def test_a_program_that_is_not_there_is_named(project):
    ended = project.run("spec.train.command=[no-such-program]")
    assert ended.code == 78
    assert "spec.train.command: no-such-program cannot be run (No such file or directory)" in ended.errors


# --- the process in the pod ----------------------------------------------------------------------------------------------


@pytest.fixture
def pod(project):
    """Return a function that starts what a pod starts, with the manifest as the pod has it."""

    def start(manifest=None, code=None, **environment):
        import yaml

        spec = yaml.safe_load((project.folder / "pipeline.yaml").read_text())["spec"]
        path = project.folder / "manifest"
        path.write_bytes(json.dumps(spec).encode() if manifest is None else manifest)
        (project.folder / "own.py").write_text(code or entrypoint("run.report(loss=1)"))
        folders = [str(Path(__file__).parents[2] / "trainer-image"), str(project.folder)]
        given = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(folders),
            "OMP_NUM_THREADS": "1",
            "FEEDLINE_MANIFEST": str(path),
            "FEEDLINE_PIPELINE": "in-a-pod",
            "FEEDLINE_VOLUMES": json.dumps({"data": str(project.data)}),
            "FEEDLINE_METRICS_PORT": "",
            **environment,
        }
        return subprocess.run(
            [sys.executable, "-m", "feedline.launch"],
            env={name: value for name, value in given.items() if value is not None}, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip

    return start


def test_the_pod_s_process_trains_and_logs_its_report_as_json(project, pod):
    report = project.folder / "out.json"
    ended = pod(FEEDLINE_REPORT=str(report))
    assert ended.returncode == 0, ended.stderr
    finished = json.loads(report.read_text())
    assert (finished["pipeline"], finished["message"], finished["steps"]) == ("in-a-pod", "completed", 12)
    assert json.loads(ended.stderr.splitlines()[-1])["message"] == finished


def test_what_a_pod_says_on_the_way_is_one_line_of_json_each(project, pod):
    path = project.folder / "pipeline.yaml"
    pipeline = json.loads(path.read_text())
    pipeline["spec"]["loader"] = {"batchSize": 8, "shuffle": {"mode": "Block", "blockRows": 4}, "residency": "Read"}
    path.write_text(json.dumps(pipeline))
    project.save(
        "features", np.zeros((60, 200), np.float32)
    )  # 800 bytes a row, so that they are read when they are due
    ended = pod()
    assert ended.returncode == 0, ended.stderr
    told = [json.loads(line) for line in ended.stderr.splitlines()]
    assert {line["level"] for line in told} == {"INFO"}
    *said, finished = (line["message"] for line in told)
    parts = [message.partition(": ")[0] for message in said]
    assert parts == ["spec.output is not set", "Block shuffle mixes 12 blocks of 4 rows", "train features"]
    assert finished["message"] == "completed"


def test_a_pod_that_is_stopped_while_it_imports_ends_at_once(project, pod):
    report = project.folder / "out.json"
    stopped = "import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(100)\n"
    ended = pod(code=stopped, FEEDLINE_REPORT=str(report))
    assert ended.returncode == 143, ended.stderr
    finished = json.loads(report.read_text())
    assert (finished["reason"], finished["message"]) == ("Terminated", "stopped before the first batch")
    assert "Traceback" not in ended.stderr


LOSES_A_WORKER = """
import os
from torch.utils.data import DataLoader

class Rows(list):
    def __getitem__(self, row):
        os.kill(os.getpid(), 9)

def train(run):
    for batch in run.train:
        for rows in DataLoader(Rows([1, 2]), num_workers=1):
            pass
"""


def test_a_pod_that_loses_a_worker_ends_as_if_it_had_been_killed_itself(pod):
    ended = pod(code=LOSES_A_WORKER)
    assert ended.returncode == 137, ended.stderr
    finished = json.loads(ended.stderr.splitlines()[-1])["message"]
    assert (finished["exitCode"], finished["reason"]) == (137, "Killed")
    assert " was ended by SIGKILL, as the kernel does where memory is short" in finished["message"]


# What a process is held to, before anything is loaded: 3 CPUs of a host with 64.
HOST = """
import os

os.cpu_count = lambda: 64
os.sched_getaffinity = lambda _: {0, 1, 2}
"""

THREADS = """
import os
from pathlib import Path

# What numpy's libraries have read, which are loaded before any line of feedline.
AT_THE_START = dict(each.split("=", 1) for each in Path("/proc/self/environ").read_text().split("\\0") if each)

def train(run):
    import tensorflow as tf

    for batch in run.train:
        pass
    threading = tf.config.threading
    run.report(
        openmp=int(AT_THE_START["OMP_NUM_THREADS"]),
        numba=int(os.environ["NUMBA_NUM_THREADS"]),
        intra=threading.get_intra_op_parallelism_threads(),
        inter=threading.get_inter_op_parallelism_threads(),
    )
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(
            {"OMP_NUM_THREADS": None}, {"openmp": "2", "numba": "2", "intra": "3", "inter": "3"}, id="limited"
        ),
        pytest.param(
            {"OMP_NUM_THREADS": "5", "TF_NUM_INTEROP_THREADS": "4"},
            {"openmp": "5", "numba": "2", "intra": "3", "inter": "0"},
            id="limited, and the user says otherwise",
        ),
    ],
)
def test_libraries_of_a_pod_start_no_more_threads_than_its_limit_has_cpus(project, pod, given, expected):
    (project.folder / "sitecustomize.py").write_text(HOST)
    path = project.folder / "pipeline.yaml"
    pipeline = json.loads(path.read_text())
    pipeline["spec"]["backend"] = "tensorflow"
    path.write_text(json.dumps(pipeline))
    report = project.folder / "out.json"
    ended = pod(code=THREADS, FEEDLINE_REPORT=str(report), **given)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(report.read_text())["values"] == expected


@pytest.mark.parametrize(
    ("manifest", "environment", "message"),
    [
        pytest.param(b"{", {}, "not valid JSON", id="a manifest that is no JSON"),
        pytest.param(b"{}", {}, "spec.data: required", id="a manifest without anything"),
        pytest.param(b"\xff", {}, "not valid JSON", id="a manifest that is no text"),
        pytest.param(None, {"FEEDLINE_MANIFEST": "/nowhere"}, "/nowhere: No such file or directory", id="no manifest"),
        pytest.param(
            None, {"FEEDLINE_METRICS_PORT": "x"}, "must be a port or empty (got 'x')", id="a port that is none"
        ),
    ],
)
def test_what_is_wrong_in_the_pod_is_one_line_of_json(pod, manifest, environment, message):
    ended = pod(manifest, **environment)
    assert ended.returncode == 64
    assert "Traceback" not in ended.stderr
    assert message in json.loads(ended.stderr)["message"]


# --- what is installed -------------------------------------------------------------------------------------------------

# None in sys.modules is how Python marks a package that cannot be imported.
WITHOUT = """
import sys

missing, *arguments = sys.argv[1:]
sys.modules[missing] = None
from feedline.cli import main

sys.argv = ["feedline", *arguments]
main()
"""


@pytest.mark.parametrize(
    ("backend", "missing", "message"),
    [
        ("pytorch", "torch", "spec.backend: pytorch is not installed here: pip install 'feedline[pytorch]'"),
        (
            "tensorflow",
            "tensorflow",
            "spec.backend: tensorflow is not installed here: pip install 'feedline[tensorflow]'",
        ),
        ("keras", "keras", "spec.backend: keras is not installed here: pip install 'feedline[keras]'"),
        ("keras", "tensorflow", "set KERAS_BACKEND to tensorflow or torch, and install that"),
    ],
    ids=["pytorch", "tensorflow", "keras", "keras without what it runs on"],
)
def test_a_backend_that_is_not_installed_is_named_with_its_extra(project, python, backend, missing, message):
    arguments = ("run", project.folder / "pipeline.yaml", "--backend", backend, "--volume", f"data={project.data}")
    ended = python(WITHOUT, missing, *arguments, KERAS_BACKEND="tensorflow")
    assert ended.code == 78
    assert message in ended.errors
    assert "Traceback" not in ended.errors


def test_keras_on_an_unknown_backend_is_refused(project, python):
    arguments = ("run", project.folder / "pipeline.yaml", "--backend", "keras", "--volume", f"data={project.data}")
    ended = python(WITHOUT, "no_such_package", *arguments, KERAS_BACKEND="no_such_backend")
    assert ended.code == 78
    assert "set KERAS_BACKEND to tensorflow or torch, and install that" in ended.errors
    assert "Traceback" not in ended.errors


def test_tensorflow_keeps_its_own_keras_whatever_keras_backend_says(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.setattr(backends, "import_module", lambda package: None)
    backends.import_backend("tensorflow")
    assert os.environ["KERAS_BACKEND"] == "tensorflow"
