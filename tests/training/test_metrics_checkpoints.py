"""What the metrics say of saving: exactly what the run knows of it, and nothing where there is nothing to know."""

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse
from promlint import lint
from snapshots import a_run, page_of

from feedline.checkpoints import Kept, Record

PREFIX = "feedline_trainer_checkpoint_"
KEPT = Kept(
    copy_seconds=0.25,
    write_seconds=1.5,
    blocked_total=0.75,
    write_total=4.5,
    bytes_total=3_000_000,
    copies=4,
    saves=3,
    failures=2,
    skipped=1,
    failing_since=1_790_000_100.0,
    error="No space left on device",
    state_bytes=1_000_448,
)
COUNTERS = {
    "blocked_seconds_total": 0.75,
    "write_seconds_total": 4.5,
    "written_bytes_total": 3_000_000,
    "saves_total": 3,
    "failures_total": 2,
    "skipped_total": 1,
    "state_bytes": 1_000_448,
}


def record(text, step=1200):
    """Return what the manifest of a checkpoint of that time says."""
    return Record("u1", step, 3, text, "Periodic", None, facts={}, progress={})


def told(kept, every_seconds=600):
    """Return what a scrape says of the saving: name to value."""
    text = page_of(a_run((5, 2), (0.25, 0.75), kept=kept, every_seconds=every_seconds, in_memory=True))
    samples = [sample for family in parse(text) for sample in family.samples if sample.name.startswith(PREFIX)]
    assert not any(sample.labels for sample in samples)
    return {sample.name.removeprefix(PREFIX): sample.value for sample in samples}


def test_the_metrics_are_the_numbers_of_the_saving():
    kept = Kept(**{**vars(KEPT), "last": record("2026-09-21T14:13:27Z")})
    newest = {"last_step": 1200, "last_timestamp_seconds": 1_790_000_007}
    assert told(kept) == {**COUNTERS, **newest, "interval_seconds": 600}


def test_before_the_first_checkpoint_its_step_and_time_are_left_out():
    assert told(KEPT) == {**COUNTERS, "interval_seconds": 600}
    assert told(Kept()) == {**dict.fromkeys(COUNTERS, 0), "interval_seconds": 600}


def test_a_run_that_goes_on_tells_of_the_checkpoint_that_it_went_on_from():
    went_on = told(Kept(last=record("2026-09-21T14:13:27Z", step=0)))
    assert (went_on["saves_total"], went_on["last_step"], went_on["last_timestamp_seconds"]) == (0, 0, 1_790_000_007)


def test_where_nothing_is_due_by_time_there_is_no_interval():
    assert told(KEPT, every_seconds=0) == COUNTERS


def test_a_run_that_saves_nothing_tells_nothing_of_it():
    assert told(None) == {}


@pytest.mark.parametrize("text", ["yesterday", "", None, 7, "99999-01-01T00:00:00Z", "0001-01-01T00:00:00"])
def test_a_time_that_is_none_is_left_out_and_hides_nothing_else(text):
    """A checkpoint lies where others may write, and its manifest may say what it wants."""
    assert told(Kept(last=record(text, step=8))).items() >= {"last_step": 8, "saves_total": 0}.items()
    assert "last_timestamp_seconds" not in told(Kept(last=record(text)))


def test_names_and_help_are_as_promtool_wants_them():
    kept = Kept(last=record("2026-09-21T14:13:27Z"), saves=1)
    assert list(lint(page_of(a_run(kept=kept, in_memory=True)))) == []
