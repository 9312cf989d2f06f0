"""What a report is made of, of a run that never was, by a clock that was moved to what the run took."""

from types import SimpleNamespace

from clocks import HandClock
from prometheus_client import CollectorRegistry, generate_latest

from feedline.feed import FeedStats
from feedline.limits import cpu_count, memory_bytes
from feedline.paging.limits import Limits
from feedline.training.collector import RunCollector
from feedline.training.snapshot import Faults, Snapshot, SplitSnapshot
from feedline.training.timeline import Timeline
from feedline.transforms import Spent

TOLD = SimpleNamespace(
    state="training", process_started=1.0, imported=2.0, opened=3.0, last_step_time=4.0, learning_rate=None
)
"""What the metrics know of a run besides."""
AHEAD = "Read ahead of need: 12% of the coming rows are in memory."
"""How rows came in, of an array whose rows do."""


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
    waiting=0.0,
    limits=None,
    shuffle="full",
    data_bytes=10**6,
    epochs=0,
    in_memory=False,
    kept=None,
    every_seconds=600,
    processes=1,
    seconds_of_ranks=None,
):
    """Return what a report is made of: a run that took batches of 8 rows, each with its seconds of (wait, step)."""
    clock = HandClock()
    timeline = Timeline(clock)
    clock.now = started
    for wait, step in batches:
        timeline.ask()
        clock.now += wait
        timeline.give()
        ended = clock.now
        clock.now += step
    timeline.ask()
    stats = FeedStats(
        batches=len(batches),
        rows=8 * len(batches),
        bytes=800 * len(batches),
        wait_seconds=timeline.waits.total,
        gather_busy_seconds=4.0,
        transform_seconds=0.0,
        functions=Spent(),
        gathered_rows=8 * len(batches),
        threads=2,
        fetch_seconds=(0.0, 0.0, 0.0),
        queue_depth=0,
        queue_capacity=4,
        minor_faults=0,
        major_faults=feed_faults,
        rows_from_disk=from_disk,
        paging=paging or {},
    )
    train = SplitSnapshot(
        name="train",
        arrays=SimpleNamespace(bytes=data_bytes, rows=data_bytes // 100),
        steps=len(batches),
        samples=8 * len(batches),
        bytes=800 * len(batches),
        epochs=epochs,
        steps_before=0,
        samples_before=0,
        started=started,
        ended=ended if batches else None,
        waits=timeline.waits.spans(),
        works=timeline.steps.spans(),
        waiting=waiting,
        until_first_step=timeline.until_first_step,
        feed=stats if engine == "Feed" else None,
    )
    return Snapshot(
        pipeline="digits",
        backend="pytorch",
        engine=engine,
        shuffle=shuffle,
        in_memory=in_memory,
        on_accelerator=False,
        target_epochs=0,
        target_steps=10,
        train=train,
        validation=None,
        values=values or {},
        opaque=opaque,
        output=None,
        from_step=None,
        kept=kept,
        every_seconds=every_seconds,
        objective=None,
        faults=Faults(*faults),
        limits=limits or Limits(),
        memory_bytes=memory_bytes(),
        cpus=cpu_count(),
        processes=processes,
        seconds_of_ranks=seconds_of_ranks or {},
    )


def page_of(run):
    """Return the page that a scrape of this run gets."""
    registry = CollectorRegistry()
    registry.register(RunCollector(lambda: run, TOLD))
    return generate_latest(registry).decode()
