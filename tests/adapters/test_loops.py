"""A feed in loops of one's own, as they stand in a notebook: a cell is run again, interrupted, left."""

import os

import numpy as np
import pytest

import feedline
from feedline.errors import UsageError
from feedline.order.permutation import permutation

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
pytestmark = pytest.mark.trainer

ROWS, SIZE = 50, 10
STEPS = ROWS // SIZE


def of_feed(feed):
    return feed


def of_pytorch(feed):
    pytest.importorskip("torch")
    from feedline.pytorch import batches

    return batches(feed)


def of_tensorflow(feed):
    pytest.importorskip("tensorflow")
    from feedline.tensorflow import batches

    return batches(feed)


@pytest.fixture(params=[of_feed, of_pytorch, of_tensorflow], ids=["feed", "pytorch", "tensorflow"])
def batches(request, numbered):
    """Return a feed, or a framework's view of one."""
    with feedline.Feed(numbered(ROWS), SIZE) as feed:
        yield request.param(feed)


def rows(batch):
    return np.asarray(batch["labels"]).tolist()


def epoch(number):
    return permutation(ROWS, 0, number).reshape(-1, SIZE).tolist()


def test_a_cell_that_is_run_twice_goes_on_with_the_next_epochs(batches):
    def cell():
        return [rows(batch) for _ in range(2) for batch in batches]

    assert cell() == epoch(0) + epoch(1)
    assert cell() == epoch(2) + epoch(3)


@pytest.mark.parametrize("at", [0, 2, STEPS - 1])
def test_a_cell_that_is_interrupted_and_run_again_starts_with_the_next_epoch(batches, at):
    def cell():
        for step, _ in enumerate(batches):
            if step == at:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cell()
    assert [rows(batch) for batch in batches] == epoch(1)


def test_a_look_at_a_batch_is_an_epoch_that_was_left(batches):
    assert rows(next(iter(batches))) == epoch(0)[0]
    assert rows(next(iter(batches))) == epoch(1)[0]
    assert [rows(batch) for batch in batches] == epoch(2)


def test_zip_with_a_range_takes_as_many(batches):
    assert [rows(batch) for _, batch in zip(range(2), batches, strict=False)] == epoch(0)[:2]
    assert [rows(batch) for batch, _ in zip(batches, range(2), strict=False)] == epoch(1)[:2]
    assert [rows(batch) for batch in batches] == epoch(2)


def test_lists_of_two_epochs_hold_their_own_rows(batches):
    first, second = list(batches), list(batches)
    assert [rows(batch) for batch in first] == epoch(0)
    assert [rows(batch) for batch in second] == epoch(1)


def test_two_loops_at_a_time_are_refused(batches):
    with pytest.raises(UsageError, match="two at a time need two feeds"):
        list(zip(batches, batches, strict=True))


class Progress:
    """What a progress bar does: it asks for the length first, and hands every batch on."""

    def __init__(self, iterable):
        self.iterable, self.total, self.done = iterable, len(iterable), 0

    def __iter__(self):
        for each in self.iterable:
            yield each
            self.done += 1


def test_a_progress_bar_comes_to_its_end(batches):
    progress = Progress(batches)
    for number in range(2):
        assert [rows(batch) for batch in progress] == epoch(number)
    assert (progress.total, progress.done) == (STEPS, 2 * STEPS)


class Perceptron:
    """What learns from one array of rows after the other, with the interface of scikit-learn."""

    def __init__(self, classes):
        self.classes, self.seen = classes, 0
        self.coefficients = None

    def partial_fit(self, inputs, targets):
        inputs, targets = np.asarray(inputs, np.float64).reshape(len(inputs), -1), np.asarray(targets)
        if self.coefficients is None:
            self.coefficients = np.zeros((inputs.shape[1], self.classes))
        wrong = self.predict(inputs) != targets
        for row, target, told in zip(inputs[wrong], targets[wrong], self.predict(inputs)[wrong], strict=True):
            self.coefficients[:, target] += row
            self.coefficients[:, told] -= row
        self.seen += len(inputs)
        return self

    def predict(self, inputs):
        return (np.asarray(inputs).reshape(len(inputs), -1) @ self.coefficients).argmax(1)


@pytest.mark.parametrize("view", [of_feed, of_pytorch, of_tensorflow], ids=["feed", "pytorch", "tensorflow"])
def test_what_learns_by_partial_fit_learns_from_batches(save, view):
    targets = np.arange(60, dtype=np.int32) % 3
    inputs = np.eye(3, dtype=np.float32)[targets]
    arrays = feedline.open_arrays({"inputs": save("inputs", inputs), "targets": save("targets", targets)})
    model = Perceptron(3)
    with feedline.Feed(arrays, 16, last_batch="keep") as feed:
        for _ in range(5):
            for batch in view(feed):
                model.partial_fit(batch["inputs"], batch["targets"])
    assert model.seen == 5 * 60
    assert (model.predict(inputs) == targets).all()
