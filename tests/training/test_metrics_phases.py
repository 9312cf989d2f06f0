"""What the metrics say of a run's start and end, of errors in between, and of what cannot be seen."""

import subprocess
import sys
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

# Each training function writes what a scrape would get to the file `page`.
WRITE_PAGE = """
import os
import signal
from prometheus_client import generate_latest

def write_page(run):
    with open("page", "wb") as file:
        file.write(generate_latest(run.metrics.registry))
"""


@pytest.fixture
def page(project):
    """Return a function that runs a training function and gives the samples of the page that it wrote."""

    def page(code, *changes, code_wanted=0, **options):
        ended = project.run(*changes, code=WRITE_PAGE + code, **options)
        assert ended.code == code_wanted, ended.errors
        return {
            (sample.name.removeprefix("feedline_trainer_"), *sample.labels.values()): sample.value
            for family in parse((project.folder / "page").read_text())
            for sample in family.samples
        }

    return page


# --- the start -------------------------------------------------------------------------------------------------------------

START = """
def train(run):
    for batch in run.train:
        {}
    write_page(run)
"""


def test_the_stages_of_the_start_add_up_to_the_first_batch_and_the_first_step(page):
    now = page(START.format("pass"))
    stages = [now[("startup_duration_seconds", stage)] for stage in ("import", "open", "build")]
    assert min(stages) > 0
    first_batch = now[("time_to_first_batch_seconds",)]
    assert first_batch == pytest.approx(sum(stages) + now[("first_batch_duration_seconds",)])
    first_step = now[("time_to_first_step_seconds",)]
    assert first_step == pytest.approx(first_batch + now[("first_step_duration_seconds",)])


def test_a_batch_that_was_only_looked_at_counts_for_the_start(page):
    look = "    iterator = iter(run.train)\n    next(iterator)\n    iterator.close()\n    for batch in run.train:"
    now = page(START.format("pass").replace("    for batch in run.train:", look, 1))
    since_first_batch = now[("time_to_first_step_seconds",)] - now[("time_to_first_batch_seconds",)]
    assert since_first_batch > now[("first_step_duration_seconds",)]


def test_times_that_are_not_known_yet_are_left_out(page):
    now = page(START.format("if run.train.steps == 1: write_page(run); return"))
    assert {stage for name, *labels in now for stage in labels if name == "startup_duration_seconds"} == {
        "import",
        "open",
    }
    assert not [name for name, *_ in now if name.startswith(("time_to_first", "first_", "loss", "learning"))]
    before = page("def train(run):\n    write_page(run)\n    next(iter(run.train))\n")
    assert before[("state", "loading")] == 1


def test_the_age_of_the_process_counts_from_its_start():
    program = "import time; from feedline.training.metrics import _process_age; print(time.time() - _process_age())"
    before = time.time()
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        after = time.time()
        started = float(process.communicate(timeout=300)[0])
    # The kernel counts in ticks of 10 ms.
    assert before - 0.05 <= started <= after + 0.05


# --- what cannot be seen ---------------------------------------------------------------------------------------------------

FIT = """
import keras

def train(run):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    optimizer = keras.optimizers.SGD(0.5)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), steps_per_execution=EACH)
    halved = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    model.fit(
        run.dataset, epochs=run.max_epochs, steps_per_epoch=run.steps_per_epoch, verbose=0,
        callbacks=[halved, *run.callbacks],
    )
    write_page(run)
"""


@pytest.mark.parametrize("way", ["keras", "keras-on-torch"])
def test_the_learning_rate_of_keras_is_its_optimizer_s(page, way):
    now = page(FIT.replace("EACH", "1"), way=way)
    assert now[("learning_rate",)] == 0.125
    # Neither the first, nor the last: Keras keeps the iterator of its last epoch, so that no end of it is seen yet.
    assert now[("iteration_duration_seconds_count", "train")] == now[("step_duration_seconds_count", "train")] == 10
    assert now[("first_step_duration_seconds",)] > 0


def test_several_steps_in_one_call_are_no_durations(page):
    now = page(FIT.replace("EACH", "2"), way="keras")
    assert now[("steps_total", "train")] == 12
    for name in ("batch_fetch", "step", "iteration"):
        assert now[(f"{name}_duration_seconds_count", "train")] == 0
    assert ("time_to_first_batch_seconds",) in now
    assert ("time_to_first_step_seconds",) not in now
    assert ("first_step_duration_seconds",) not in now


def test_nothing_is_said_of_batches_that_keras_takes_ahead(page):
    now = page(FIT.replace("EACH", "1"), "spec.loader.engine=Classic", way="keras")
    assert now[("steps_total", "train")] == 12
    assert not [name for name, *_ in now if name.startswith(("time_to_first", "first_", "prefetch", "loader_threads"))]


@pytest.mark.parametrize("name", ["learning_rate", "learningRate"])
def test_a_learning_rate_that_is_reported_is_shown(page, name):
    code = f"""
def train(run):
    for batch in run.train:
        run.report({name}=0.5 / run.train.steps)
    write_page(run)
"""
    assert page(code)[("learning_rate",)] == 0.5 / 6


def test_rows_in_ram_are_all_resident(page):
    now = page(START.format("pass"), "spec.loader.residency=Memory")
    assert now[("dataset_resident_bytes", "train")] == now[("dataset_bytes", "train")] == 48 * 28


# --- checkpoints ------------------------------------------------------------------------------------------------------------

SAVING = """
import torch

def train(run):
    {}
    for epoch in run.epochs():
        for batch in run.train:
            run.saver.close()  # which waits for what is being written, so that nothing is skipped
    run.saver.close()
    write_page(run)
"""
EVERY_FOUR_STEPS = ("spec.output.persistentVolumeClaim.claimName=runs", "spec.train.checkpoint.everySteps=4")


def test_the_metrics_tell_of_the_checkpoints_that_a_run_has_saved(page):
    before = int(time.time())
    now = page(SAVING.format("run.checkpoint(model=torch.nn.Linear(4, 3))"), *EVERY_FOUR_STEPS)
    wanted = {"saves_total": 3, "last_step": 12, "failures_total": 0, "skipped_total": 0, "interval_seconds": 600}
    assert {name: now[(f"checkpoint_{name}",)] for name in wanted} == wanted
    assert before <= now[("checkpoint_last_timestamp_seconds",)] <= time.time()
    for name in ("blocked_seconds_total", "write_seconds_total"):
        assert 0 < now[(f"checkpoint_{name}",)] < 60
    assert now[("checkpoint_written_bytes_total",)] >= 3 * 60  # of the layer alone, 15 numbers of 4 bytes
    assert now[("checkpoint_state_bytes",)] >= 60


def test_a_run_that_saves_nothing_has_no_metrics_of_it(page):
    now = page(SAVING.format("pass"), *EVERY_FOUR_STEPS)
    assert now[("steps_total", "train")] == 12
    assert not [name for name, *_ in now if name.startswith("checkpoint")]


# --- the end, and errors ---------------------------------------------------------------------------------------------------

ASKED_TO_END = """
def train(run):
    for epoch in run.epochs():
        for batch in run.train:
            os.kill(os.getpid(), signal.SIGTERM)
            write_page(run)
"""


def test_a_run_that_was_asked_to_end_drains_until_its_step_is_over(page):
    now = page(ASKED_TO_END, code_wanted=143)
    assert now[("state", "draining")] == 1
    assert now[("state", "training")] == 0
    assert now[("steps_total", "train")] == 1


# The feed has not read far when its first batch is there: one thread, and slots of one batch.
FAILING = """
def train(run):
    try:
        for epoch in run.epochs():
            for batch in run.train:
                if run.train.steps == 1:
                    {}
    except Exception as error:
        print(type(error).__name__, error)
        write_page(run)
        return
    assert False, "nothing was raised"
"""
RAISING = """
from unittest.mock import patch
taken = []
stack.enter_context(patch("feedline.feed.gather.SLOT_BYTES", 1))

def take(array, rows, out):
    taken.append(array)
    if len(taken) > 3:
        raise {}
    out[:] = 0

stack.enter_context(patch("feedline.files.array.Array.take", take))
"""
SMALL_SLOTS = 'from unittest.mock import patch\nstack.enter_context(patch("feedline.feed.gather.SLOT_BYTES", 1))'


@pytest.mark.parametrize(
    ("reason", "before", "action"),
    [
        ("shrank", SMALL_SLOTS, 'os.truncate("data/features.npy", 200)'),
        ("data", SMALL_SLOTS, 'os.utime("data/labels.npy", (1, 1))'),
        ("io", RAISING.format("OSError(5, 'Input/output error')"), "pass"),
        ("memory", RAISING.format("MemoryError"), "pass"),
        ("other", RAISING.format("RuntimeError('a fault of ours')"), "pass"),
    ],
)
def test_errors_of_the_feed_are_counted_by_reason(page, reason, before, action):
    changes = ("spec.loader.threads=1", "spec.loader.prefetchBatches=1")
    now = page(FAILING.format(action), *changes, before=before)
    counted = {labels[0]: value for (name, *labels), value in now.items() if name == "loader_errors_total"}
    assert counted == {each: float(each == reason) for each in ("io", "data", "shrank", "memory", "other")}
