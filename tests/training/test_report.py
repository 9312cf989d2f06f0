"""The report: bounded, integers only, and honest about what is not known yet."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snapshots import AHEAD, a_run

from feedline.contract import Report
from feedline.native import copied_by
from feedline.paging.limits import Limits
from feedline.training import report


def test_a_report_has_the_numbers_of_the_run():
    made = report.summarize(a_run((5, 2), (0.25, 0.75), (0.25, 0.75), values={"loss": 0.5}))
    assert made.pop("observedTime").endswith("Z")
    assert made == {
        "pipeline": "digits",
        "backend": "pytorch",
        "engine": "Feed",
        "epochs": 0,
        "steps": 3,
        "targetSteps": 10,
        "samples": 24,
        "bytes": 2400,
        "milliseconds": 8250,
        "values": {"loss": "0.5"},
        "samplesPerSecond": 8,
        "waitPermille": 250,
        "fetchMicros": {"p50": 250_000, "p95": 250_000, "p99": 250_000},
        "stepMicros": {"p50": 750_000, "p95": 750_000, "p99": 750_000},
        "modelSamplesPerSecond": 11,
        "firstBatchMillis": 5000,
        "firstStepMillis": 2000,
        "minorFaults": 3,
        "majorFaults": 0,
        "gather": copied_by(),
        "feedSamplesPerSecond": 12,
        "verdict": {"inputBound": True, "cause": "Cpu", "advice": made["verdict"]["advice"]},
    }


@pytest.mark.parametrize(
    ("run", "known", "unknown"),
    [
        pytest.param(
            a_run(),
            {"steps": 0, "milliseconds": 0},
            ["samplesPerSecond", "waitPermille", "firstBatchMillis", "firstStepMillis", "modelSamplesPerSecond"],
            id="before the first batch",
        ),
        pytest.param(
            a_run((5, 2)),
            {"steps": 1, "firstBatchMillis": 5000, "firstStepMillis": 2000},
            ["waitPermille", "fetchMicros", "stepMicros", "modelSamplesPerSecond"],
            id="after the first batch",
        ),
        pytest.param(
            a_run((0, 1), (0, 1), (0, 1), opaque=True),
            {"samplesPerSecond": 8, "milliseconds": 2000},
            ["waitPermille", "fetchMicros", "stepMicros", "modelSamplesPerSecond"],
            id="time that cannot be seen",
        ),
        pytest.param(
            a_run((1, 1), (1, 1), engine="Classic"),
            {"waitPermille": 500},
            ["feedSamplesPerSecond"],
            id="a classic engine",
        ),
        pytest.param(
            a_run((1, 0), (1, 0)), {"waitPermille": 1000}, ["modelSamplesPerSecond"], id="steps that take no time"
        ),
    ],
)
def test_what_is_not_known_is_left_out(run, known, unknown):
    made = report.summarize(run)
    assert {name: made[name] for name in known} == known
    assert not set(unknown) & set(made)


def test_a_run_that_has_not_asked_for_data_reports_no_time():
    run = a_run()
    run = replace(run, train=replace(run.train, started=None))
    assert report.summarize(run)["milliseconds"] == 0


@pytest.mark.parametrize(
    ("engine", "faults", "feed_faults", "cause"),
    [
        pytest.param("Feed", (0, 1000), 0, "Cpu", id="the process loaded its libraries from the disk"),
        pytest.param("Feed", (0, 1000), 1000, "PageFaults", id="the feed's threads waited for the disk"),
        pytest.param("Classic", (0, 1000), 0, "PageFaults", id="without a feed the process is all there is to see"),
    ],
)
def test_the_faults_of_those_who_read_the_rows_explain_waiting(engine, faults, feed_faults, cause):
    run = a_run((2, 1), (2, 0.5), (2, 0.5), engine=engine, faults=faults, feed_faults=feed_faults)
    assert report.summarize(run)["verdict"]["cause"] == cause


# --- how the rows came in -----------------------------------------------------------------------------------------------


SMALL = "Taken as it lies in memory: it is small, and is read once, in order."


def test_a_report_says_how_rows_came_in_and_what_of_the_machine_s_limits_that_was():
    limits = Limits(memcpy=1000.0, disk_random=8.5, disk_sequential=100.0)
    run = a_run((5, 2), (0.25, 0.75), (0.25, 0.75), limits=limits, from_disk=21, paging={"a": AHEAD, "b": SMALL})
    made = report.summarize(run)
    assert made["samplesPerSecond"] == 8
    assert made["diskSamples"] == 21
    assert made["paging"] == f"a: {AHEAD} b: {SMALL}"
    permille = [made[f"{name}LimitPermille"] for name in ("memcpy", "diskRandom", "diskSequential")]
    assert permille == [8, 941, 80]


def test_what_the_page_cache_gives_may_be_more_than_the_disk_s_limit():
    made = report.summarize(a_run((5, 2), (0.25, 0.75), limits=Limits(disk_random=4.0)))
    assert made["diskRandomLimitPermille"] == 2000


@pytest.mark.parametrize(
    ("run", "unknown"),
    [
        pytest.param(
            a_run((5, 2), (1, 1), limits=Limits(memcpy=1000.0), paging={"a": SMALL}),
            {"diskRandomLimitPermille", "diskSequentialLimitPermille"},
            id="no limit of a disk for data that fit",
        ),
        pytest.param(
            a_run(limits=Limits(1.0, 1.0, 1.0)),
            {"memcpyLimitPermille", "diskRandomLimitPermille", "diskSequentialLimitPermille"},
            id="nothing to hold against limits before there is a speed",
        ),
        pytest.param(
            a_run((5, 2), (1, 1), limits=Limits(0.0, 0.0, 0.0)),
            {"memcpyLimitPermille", "diskRandomLimitPermille", "diskSequentialLimitPermille"},
            id="limits that cannot be",
        ),
        pytest.param(a_run((1, 1), (1, 1)), {"diskSamples", "paging"}, id="rows that are not brought in"),
        pytest.param(a_run((1, 1), (1, 1), engine="Classic"), {"diskSamples", "paging"}, id="a classic engine"),
    ],
)
def test_what_cannot_be_told_of_the_disk_is_left_out(run, unknown):
    assert not unknown & set(report.summarize(run))


def test_rows_that_came_from_the_disk_none_is_a_number_too():
    assert report.summarize(a_run((1, 1), (1, 1), paging={"a": SMALL}))["diskSamples"] == 0


def test_how_rows_came_in_is_one_bounded_line():
    paging = {f"array-{number}": f"{AHEAD}\n\x1b[2J" for number in range(40)}
    told = report.summarize(a_run((1, 1), (1, 1), paging=paging))["paging"]
    assert len(told) == 1024
    assert told.startswith(f"array-0: {AHEAD} [2J array-1: {AHEAD} [2J array-2: ")
    assert told.endswith("…")


@pytest.mark.parametrize(
    ("changed", "cause", "advice"),
    [
        pytest.param({"from_disk": 1}, "Disk", "later epochs take them from memory", id="rows from the disk"),
        pytest.param({"from_disk": 1, "epochs": 1}, "Disk", "does not stay in memory", id="the same in a later epoch"),
        pytest.param({"from_disk": 0}, "Cpu", "", id="none"),
        pytest.param({"data_bytes": 10**15}, "Cpu", "", id="too large a set of which all that was needed was there"),
        pytest.param(
            {"from_disk": 24, "data_bytes": 10**15, "limits": Limits(1e6, 1.0, 50.0)},
            "Disk",
            "the disk gives 1 rows/s at random, 50 in order, where the model could take 16: set "
            "loader.shuffle.mode: Block",
            id="a disk that is too slow at random",
        ),
        pytest.param(
            {"from_disk": 24, "data_bytes": 10**15, "limits": Limits(1e6, 1.0, 50.0), "shuffle": "block"},
            "Disk",
            "give more memory or a faster disk.",
            id="a disk that is too slow in blocks",
        ),
    ],
)
def test_the_verdict_is_made_of_what_the_disk_gave(changed, cause, advice):
    verdict = report.summarize(a_run((2, 1), (2, 0.5), (2, 0.5), paging={"a": AHEAD}, **changed))["verdict"]
    assert (verdict["inputBound"], verdict["cause"]) == (True, cause)
    assert advice in verdict["advice"]


def test_every_field_is_in_the_contract_and_numbers_are_integers():
    limits = Limits(3.3, 2.2, 1.1)
    made = report.summarize(
        a_run((5, 2), (0.3, 0.7), (0.2, 0.9), values={"loss": math.nan}, limits=limits, from_disk=3, paging={"a": "b"})
    )
    fields = {"diskSamples", "paging", "memcpyLimitPermille", "diskRandomLimitPermille", "diskSequentialLimitPermille"}
    assert fields <= set(made)
    assert set(made) <= set(Report.__annotations__)
    assert not [each for each in leaves(made) if isinstance(each, float)]


def leaves(value):
    if isinstance(value, dict):
        return [leaf for each in value.values() for leaf in leaves(each)]
    return [value]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1.0, "1"),
        (-0.25, "-0.25"),
        (1 / 3, "0.333333"),
        (1e-9, "1e-09"),
        (1.5e300, "1.5e+300"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
    ],
    ids=str,
)
def test_values_are_decimal_strings(value, text):
    assert report.decimal(value) == text


@given(st.floats())
def test_every_value_reads_back(value):
    back = float(report.decimal(value))
    assert math.isnan(back) if math.isnan(value) else back == pytest.approx(value, rel=1e-5, abs=1e-320)


def test_the_newest_16_values_are_kept():
    kept = report.values({f"v{number}": float(number) for number in range(20)})
    assert list(kept.items()) == [(f"v{number}", str(number)) for number in range(4, 20)]


def test_micros_are_whole():
    assert report.micros((0.0000015, 0.25, 2)) == {"p50": 2, "p95": 250_000, "p99": 2_000_000}


def test_a_run_that_saw_one_batch_and_waits_for_the_next_is_input_bound():
    told = report.summarize(a_run((0.5, 0.1), waiting=11.5, from_disk=8, data_bytes=1 << 60))
    assert told["waitPermille"] == 1000
    assert (told["verdict"]["inputBound"], told["verdict"]["cause"]) == (True, "Disk")


def test_a_wait_of_a_moment_is_no_verdict():
    told = report.summarize(a_run((0.5, 0.1), waiting=0.2))
    assert "waitPermille" not in told
    assert told["verdict"]["advice"].startswith("Too few steps")
