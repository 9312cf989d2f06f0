"""The verdict: what the evidence shows, which cause and advice follow, and how a person reads it."""

from dataclasses import replace

import pytest

from feedline.contract import Cause
from feedline.training.verdict import Evidence, in_words, judge
from feedline.transforms import Spent
from feedline.units import rate, size

# Waits half of the time; the feed's one thread on two CPUs is slower than the model; the data fit into memory.
WAITING = Evidence(
    wait_permille=500,
    feed_rate=1000.0,
    model_rate=2000.0,
    major_faults=0,
    epochs=0,
    batches=100,
    disk_share=0.0,
    disk_random=None,
    disk_sequential=None,
    shuffle="full",
    batch_bytes=1 << 20,
    wait_seconds=0.01,
    data_bytes=2 * 10**9,
    memory_bytes=8 * 10**9,
    threads=1,
    cpus=2.0,
    transform_permille=0,
    functions=Spent(),
    engine="Feed",
    in_memory=False,
    on_accelerator=False,
)
# Of two threads of which one at a time is on a CPU, in a function of which each waits for the other.
TURNS = {"transform_permille": 800, "threads": 2, "functions": Spent(10.0, 4.8, 5.0)}
SMALL = {"batch_bytes": 1000, "wait_seconds": 1e-4}
FAST_FEED = {"feed_rate": 2501.0}
TOO_LARGE = {"data_bytes": 7 * 10**9}
FROM_DISK = {"disk_share": 0.5, **TOO_LARGE}
# A disk that reads rows in order faster than the model takes them, and at random slower.
FAST_IN_ORDER = {"disk_random": 1500.0, "disk_sequential": 50_000.0}
MORE_MEMORY = "do not fit into memory (7.0 GB of 8.0 GB): give more memory or a faster disk."


@pytest.mark.parametrize(
    ("changed", "cause", "advice"),
    [
        pytest.param({}, "Cpu", "Raise loader.threads from 1 to 2.", id="a CPU is left"),
        pytest.param({"threads": 2}, "Cpu", "use the 2 CPUs there are: raise resources.cpu", id="no CPU is left"),
        pytest.param({"cpus": 1.5}, "Cpu", "use the 1.5 CPUs there are", id="half a CPU is no thread"),
        pytest.param({"feed_rate": None}, "Cpu", "Raise loader.threads", id="the feed's rate is unknown"),
        pytest.param({"model_rate": None}, "Cpu", "Raise loader.threads", id="the model's rate is unknown"),
        pytest.param({"feed_rate": 2500.0}, "Cpu", "Raise loader.threads", id="the feed is only just faster"),
        pytest.param({"engine": "Classic"}, "Cpu", "Try loader.engine: Feed.", id="a classic engine"),
        pytest.param({"engine": "Classic", **SMALL}, "Cpu", "Try loader.engine: Feed.", id="classic, small batches"),
        pytest.param({"major_faults": 51}, "PageFaults", "Memory (2.0 GB of 8.0 GB).", id="faults, and it would fit"),
        pytest.param({"major_faults": 50}, "Cpu", "Raise", id="a fault every other batch is no cause"),
        pytest.param(
            {"major_faults": 51, "engine": "Classic"}, "PageFaults", "Memory", id="faults of a classic engine"
        ),
        pytest.param({"major_faults": 51, **TOO_LARGE}, "Disk", "(7.0 GB of 8.0 GB)", id="faults, and it does not fit"),
        pytest.param({"major_faults": 51, "in_memory": True}, "Cpu", "Raise", id="faults, but the rows are in memory"),
        pytest.param({"major_faults": 1, "batches": 0}, "PageFaults", "Memory", id="faults before the first batch"),
        pytest.param({"disk_share": 0.021}, "Disk", "later epochs take them from memory.", id="a cold first epoch"),
        pytest.param(
            {"disk_share": 0.021, "epochs": 1},
            "Disk",
            "What is read does not stay in memory: try loader.residency: Memory (2.0 GB of 8.0 GB).",
            id="a second epoch from the disk, and it would fit",
        ),
        pytest.param({"disk_share": 0.021, "epochs": 1, **TOO_LARGE}, "Disk", MORE_MEMORY, id="and it would not fit"),
        pytest.param({"disk_share": 0.02}, "Cpu", "Raise", id="a row in fifty from the disk is no cause"),
        pytest.param({"disk_share": 1.0, "in_memory": True}, "Cpu", "Raise", id="rows that were loaded"),
        pytest.param(
            {"disk_share": 0.021, "major_faults": 51},
            "Disk",
            "later epochs",
            id="rows that are read explain the faults",
        ),
        pytest.param({"disk_share": 0.021, **SMALL}, "Disk", "later epochs", id="small batches from the disk"),
        pytest.param(FROM_DISK, "Disk", MORE_MEMORY, id="a disk that was not measured"),
        pytest.param(
            {**FROM_DISK, **FAST_IN_ORDER},
            "Disk",
            "The data do not fit into memory (7.0 GB of 8.0 GB), and the disk gives 1.5 k rows/s at random, 50 k in "
            "order, where the model could take 2.0 k: set loader.shuffle.mode: Block, or give more memory.",
            id="a disk that is fast enough in order alone",
        ),
        pytest.param(
            {"major_faults": 51, **TOO_LARGE, **FAST_IN_ORDER},
            "Disk",
            "set loader.shuffle.mode: Block",
            id="the same where faults tell of it",
        ),
        pytest.param({**FROM_DISK, **FAST_IN_ORDER, "shuffle": "block"}, "Disk", MORE_MEMORY, id="Block already"),
        pytest.param({**FROM_DISK, **FAST_IN_ORDER, "shuffle": "none"}, "Disk", MORE_MEMORY, id="in order already"),
        pytest.param(
            {**FROM_DISK, **FAST_IN_ORDER, "disk_random": 2000.0}, "Disk", MORE_MEMORY, id="fast enough at random"
        ),
        pytest.param(
            {**FROM_DISK, **FAST_IN_ORDER, "disk_sequential": 3000.0},
            "Disk",
            MORE_MEMORY,
            id="large rows, of which a disk reads as many at random as in order",
        ),
        pytest.param({**FROM_DISK, **FAST_IN_ORDER, "model_rate": None}, "Disk", MORE_MEMORY, id="an unknown model"),
        pytest.param({**FROM_DISK, "disk_random": 1500.0}, "Disk", MORE_MEMORY, id="measured at random alone"),
        pytest.param(SMALL, "SmallBatches", "raise loader.batchSize", id="small batches come soon"),
        pytest.param({**SMALL, "wait_seconds": 2e-4}, "Cpu", "Raise", id="small batches come late"),
        pytest.param({**SMALL, "batch_bytes": 1 << 16}, "Cpu", "Raise", id="batches of 64 KiB are not small"),
        pytest.param({**FAST_FEED, "on_accelerator": True}, "Transfer", "smaller dtype", id="copies are slow"),
        pytest.param(
            TURNS,
            "Transform",
            "80 % of the feed's time goes into transforms, and the function holds the interpreter, so that its 2 threads "
            "take turns: call NumPy on whole batches",
            id="a function that holds the interpreter",
        ),
        pytest.param(
            {**TURNS, "functions": Spent(10.0, 1.0, 8.5)},
            "Transform",
            "raise resources.cpu",
            id="one that waits for files",
        ),
        pytest.param(
            {**TURNS, "functions": Spent(10.0, 9.0, 0.2)},
            "Transform",
            "raise resources.cpu",
            id="one that holds nothing",
        ),
        pytest.param(
            {"transform_permille": 500},
            "Transform",
            "50 % of the feed's time goes into transforms: raise loader.threads from 1 to 2.",
            id="transforms on one of two CPUs",
        ),
        pytest.param({**TURNS, "transform_permille": 499}, "Cpu", "raise resources.cpu", id="less than half of it"),
        pytest.param({**TURNS, **FROM_DISK}, "Disk", MORE_MEMORY, id="transforms of rows that come from the disk"),
        pytest.param(FAST_FEED, "Unknown", "other load on the CPUs", id="the feed is fast, yet the loop waits"),
    ],
)
def test_a_loop_that_waits_is_told_a_cause_and_what_to_do(changed, cause, advice):
    verdict = judge(replace(WAITING, **changed))
    assert (verdict["inputBound"], verdict["cause"]) == (True, cause)
    assert advice in verdict["advice"]


@pytest.mark.parametrize(
    ("permille", "input_bound", "cause"),
    [(0, False, "None"), (100, False, "None"), (101, True, "Cpu"), (1000, True, "Cpu"), (None, False, "Unknown")],
    ids=["never waits", "waits a tenth", "waits more than a tenth", "does nothing else", "cannot be seen"],
)
def test_the_share_of_waiting_alone_decides(permille, input_bound, cause):
    verdict = judge(replace(WAITING, wait_permille=permille))
    assert (verdict["inputBound"], verdict["cause"]) == (input_bound, cause)


@pytest.mark.parametrize(
    ("batches", "advice"), [(0, "Too few steps"), (1, "Too few steps"), (2, "run once with loader.engine: Feed")]
)
def test_of_time_that_is_not_seen_it_is_said_why(batches, advice):
    verdict = judge(replace(WAITING, wait_permille=None, batches=batches))
    assert (verdict["inputBound"], verdict["cause"]) == (False, "Unknown")
    assert advice in verdict["advice"]


BOUND = {"inputBound": True, "cause": "PageFaults", "advice": "Try loader.residency: Memory (2.0 GB of 8.0 GB)."}
FREE = {"inputBound": False, "cause": "None", "advice": "The model is the bottleneck; the data keep up."}
UNSEEN = {"inputBound": False, "cause": "Unknown", "advice": "The time cannot be seen."}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(
            (BOUND, 650, 118_000, 337_000),
            "Waiting for data 65 % of the time. The feed can deliver 118 k rows/s, the model could take 337 k. "
            "Cause: page faults. Try loader.residency: Memory (2.0 GB of 8.0 GB).",
            id="input bound",
        ),
        pytest.param(
            (FREE, 4, 118_000, 9_500),
            "Waiting for data 0 % of the time. The feed can deliver 118 k rows/s, the model could take 9.5 k. "
            "The model is the bottleneck; the data keep up.",
            id="the model is the bottleneck",
        ),
        pytest.param(
            (FREE, 50, None, 337),
            "Waiting for data 5 % of the time. The model could take 337 rows/s. "
            "The model is the bottleneck; the data keep up.",
            id="an engine without a rate",
        ),
        pytest.param(
            (FREE, 50, None, None),
            "Waiting for data 5 % of the time. The model is the bottleneck; the data keep up.",
            id="no rate at all",
        ),
        pytest.param((UNSEEN, None, 1, 1), "The time cannot be seen.", id="cannot be seen"),
    ],
)
def test_the_verdict_in_words(arguments, words):
    assert in_words(*arguments) == words


def test_every_cause_has_words():
    for cause in Cause:
        assert "Cause: " in in_words({**BOUND, "cause": cause}, 500, None, None)


@pytest.mark.parametrize(
    ("rows_per_second", "text"),
    [(0, "0"), (999, "999"), (1000, "1.0 k"), (9_949, "9.9 k"), (118_000, "118 k"), (2.5e6, "2.5 M"), (12e9, "12 G")],
)
def test_rates_are_short(rows_per_second, text):
    assert rate(rows_per_second, unit="") == text
    assert rate(rows_per_second) == f"{text} rows/s"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (25e6, "25 MB"), (2e9, "2.0 GB"), (3e12, "3.0 TB")],
)
def test_sizes_are_short_and_decimal(count, text):
    assert size(count) == text
