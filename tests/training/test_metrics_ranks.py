"""What the metrics say where several ranks train: of the pod's rows all, and whom the others wait for."""

from prometheus_client.parser import text_string_to_metric_families as parse
from promlint import lint
from snapshots import a_run, page_of

BATCHES = ((5, 2), (0.25, 0.75), (0.25, 0.75))


def page(**given):
    return page_of(a_run(*BATCHES, in_memory=True, **given))


def values(text):
    return {
        (sample.name.removeprefix("feedline_trainer_"), *sample.labels.values()): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def test_rows_and_bytes_are_those_of_all_processes_of_the_pod_and_steps_are_not():
    one, four = values(page()), values(page(processes=4))
    assert four["samples_total", "train"] == 4 * one["samples_total", "train"] > 0
    assert four["read_bytes_total", "train"] == 4 * one["read_bytes_total", "train"] > 0
    assert four["steps_total", "train"] == one["steps_total", "train"] == len(BATCHES)


def test_the_chief_tells_how_long_each_rank_has_waited_and_worked():
    text = page(seconds_of_ranks={0: (1.0, 9.0), 1: (5.5, 4.5)})
    told = values(text)
    assert [told["rank_batch_fetch_seconds_total", rank] for rank in "01"] == [1.0, 5.5]
    assert [told["rank_step_seconds_total", rank] for rank in "01"] == [9.0, 4.5]
    assert list(lint(text)) == []
    assert "_rank_" not in page()
