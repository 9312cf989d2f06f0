"""The report: bounded, integers only, and honest about what is not known yet."""

import json
import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedline import report
from feedline.calibrate import Limits
from feedline.contract import TERMINATION_LOG_BYTES, Report
from feedline.timeline import Timeline

CLOCK = SimpleNamespace(now=0.0)


class HandClock:
    def stamp(self):
        return CLOCK.now

    def known(self, stamp):
        return True

    def seconds(self, start, stop):
        return stop - start


def a_run(
    *batches,
    opaque=False,
    engine="Feed",
    values=None,
    started=100.0,
    faults=(3, 0),
    feed_faults=0,
    from_disk=0,
    paging=None,
    limits=None,
    shuffle="full",
    data_bytes=10**6,
    epochs=0,
):
    """Return what a report is made of: a run that took batches of 8 rows, each with its seconds of (wait, step)."""
    timeline = Timeline(HandClock())
    CLOCK.now = started
    for wait, step in batches:
        timeline.ask()
        CLOCK.now += wait
        timeline.give()
        ended = CLOCK.now
        CLOCK.now += step
    timeline.ask()
    stats = SimpleNamespace(
        gathered_rows=8 * len(batches),
        threads=2,
        gather_busy_seconds=4.0,
        major_faults=feed_faults,
        rows_from_disk=from_disk,
        paging=paging or {},
    )
    train = SimpleNamespace(
        timeline=timeline,
        feed_stats=stats if engine == "Feed" else None,
        started=started,
        ended=ended if batches else None,
        steps=len(batches),
        samples=8 * len(batches),
        epochs=epochs,
        bytes=800 * len(batches),
        arrays=SimpleNamespace(bytes=data_bytes),
    )
    return SimpleNamespace(
        train=train,
        opaque=opaque,
        pipeline="digits",
        backend="pytorch",
        engine=engine,
        target_steps=10,
        values=values or {},
        on_accelerator=False,
        metrics=SimpleNamespace(faults=lambda: SimpleNamespace(minor=faults[0], major=faults[1])),
        limits=limits or Limits(),
        manifest=SimpleNamespace(loader=SimpleNamespace(residency="mapped", shuffle=shuffle)),
    )


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
    run.train.started = None
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

AHEAD = "Read ahead of need: 12% of the coming rows are in memory."
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


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("plain", "plain"),
        ("two\nlines\r\n\tand a tab", "two lines and a tab"),
        ("\x1b[31mred\x7f", "[31mred"),
        ("bytes \udcff of a path", "bytes   of a path"),
        ("x" * 1024, "x" * 1024),
        ("x" * 1025, "x" * 1023 + "…"),
    ],
    ids=["plain", "lines", "control characters", "no UTF-8", "just short enough", "too long"],
)
def test_a_message_is_one_bounded_line(text, clean):
    assert report.sentence(text) == clean


BASE = {
    **report.summarize(a_run((5, 2), (0.25, 0.75))),
    "reason": "UserError",
    "exitCode": 70,
    "message": "completed",
}


@given(
    st.text(max_size=3000)
    | st.builds(lambda text, times: text * times, st.text(min_size=1, max_size=9), st.just(12_000)),
    st.dictionaries(st.text(min_size=1, max_size=80), st.floats(), max_size=20),
)
def test_the_termination_message_always_fits_and_is_json(message, values):
    text = report.termination_message({**BASE, "message": message, "values": report.values(values)})
    assert len(text) <= TERMINATION_LOG_BYTES
    read = json.loads(text)
    assert {**read, "message": "", "values": {}} == {**BASE, "message": "", "values": {}}
    assert report.sentence(message).startswith(read["message"])
    assert read.get("values", {}) in ({}, report.values(values))


@given(st.text(max_size=3000), st.text(max_size=1024), st.dictionaries(st.text(min_size=1, max_size=80), st.floats()))
def test_how_rows_came_in_never_makes_the_message_too_long(message, paging, values):
    given_values = report.values(values)
    text = report.termination_message({**BASE, "message": message, "paging": paging, "values": given_values})
    assert len(text) <= TERMINATION_LOG_BYTES
    read = json.loads(text)
    # Both go, or none does.
    assert (read.get("values"), read.get("paging")) in ((None, None), (given_values, paging))
    assert read["verdict"] == BASE["verdict"]


LONG_NAMES = {f"{'n' * 60}{number:02}": math.pi * 1e100 for number in range(16)}
WIDE_NAMES = {f"{'😀' * 60}{number:02}": 1.0 for number in range(16)}


@pytest.mark.parametrize(
    ("message", "values", "kept_message", "kept_values"),
    [
        pytest.param("short", LONG_NAMES, 5, 16, id="16 long values"),
        pytest.param("x" * 100_000, LONG_NAMES, 256, 16, id="16 long values and 100 kB"),
        pytest.param("😀" * 100_000, LONG_NAMES, 64, 16, id="16 long values and 100 k wide characters"),
        pytest.param("\\" * 100_000, LONG_NAMES, 256, 16, id="16 long values and 100 k backslashes"),
        pytest.param("x" * 100_000, WIDE_NAMES, 1024, 0, id="values too wide to keep"),
        pytest.param("short", WIDE_NAMES, 5, 0, id="a short message outlives wide values"),
    ],
)
def test_the_message_gives_way_first_then_the_values(message, values, kept_message, kept_values):
    text = report.termination_message({**BASE, "message": message, "values": report.values(values)})
    assert len(text) <= TERMINATION_LOG_BYTES
    read = json.loads(text)
    assert len(read["message"]) >= kept_message
    assert len(read.get("values", {})) == kept_values


@pytest.mark.parametrize(
    ("message", "values", "kept"),
    [
        pytest.param("short", {}, True, id="the rows' way alone"),
        pytest.param("x" * 100_000, {"loss": 0.5}, True, id="100 kB give way to it"),
        pytest.param("x" * 100_000, LONG_NAMES, True, id="100 kB and 16 long values leave room for it"),
        pytest.param("short", WIDE_NAMES, False, id="it goes with values that are too wide"),
    ],
)
def test_how_rows_came_in_goes_with_the_values(message, values, kept):
    limits = Limits(3.3, 2.2, 1.1)
    paging = {f"array-{number}": AHEAD for number in range(40)}
    made = report.summarize(
        a_run((5, 2), (0.25, 0.75), (1, 1), paging=paging, from_disk=7, limits=limits, values=values)
    )
    assert len(made["paging"]) == 1024
    text = report.termination_message({**made, "reason": "UserError", "exitCode": 70, "message": message})
    assert len(text) <= TERMINATION_LOG_BYTES
    read = json.loads(text)
    assert ("paging" in read, "values" in read) == (kept, kept)
    assert [read[field] for field in ("diskSamples", "diskRandomLimitPermille")] == [
        made[field] for field in ("diskSamples", "diskRandomLimitPermille")
    ]
