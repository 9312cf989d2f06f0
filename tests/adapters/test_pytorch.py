"""A feed in PyTorch: tensors over the feed's own memory, in a DataLoader, on a device, resumed."""

import gc
import pickle
import threading
import warnings

import numpy as np
import pytest

import feedline
from feedline.errors import EnvironmentInvalidError, UsageError
from feedline.feed import gather
from feedline.order.permutation import permutation

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader  # noqa: E402 - needs torch

from feedline import pytorch  # noqa: E402

pytestmark = pytest.mark.trainer


@pytest.fixture
def small_slots(monkeypatch):
    """Make slots of a few batches, so that a small epoch passes through many of them."""
    monkeypatch.setattr(gather, "SLOT_BYTES", 4096)


def labels(batches):
    return [batch["labels"].tolist() for batch in batches]


def in_order(rows, batch_size, seed, epoch):
    return permutation(rows, seed, epoch).reshape(-1, batch_size).tolist()


@pytest.mark.usefixtures("small_slots")
def test_epochs_are_those_of_the_feed(numbered):
    with feedline.Feed(numbered(100), 10, seed=3) as feed:
        batches = pytorch.batches(feed)
        assert len(batches) == 10
        for epoch in range(3):
            rows = []
            for batch in batches:
                assert (batch["features"] == batch["labels"].reshape(-1, 1, 1)).all()
                rows.append(batch["labels"].tolist())
            assert rows == in_order(100, 10, 3, epoch)


def test_a_batch_has_the_shapes_and_dtypes_of_the_files(numbered):
    with feedline.Feed(numbered(100), 32) as feed:
        batch = next(iter(pytorch.batches(feed)))
    assert (batch["features"].shape, batch["features"].dtype) == ((32, 5, 5), torch.float32)
    assert (batch["labels"].shape, batch["labels"].dtype) == ((32,), torch.int32)
    assert isinstance(batch["names"], np.ndarray)
    assert batch["names"].tolist() == [b"row %d" % number for number in batch["labels"].tolist()]


class Watched:
    """Memory for slots whose place is known."""

    def __init__(self):
        self.made = []

    def __call__(self, size):
        self.made.append(np.empty(size + 64, np.uint8))
        shift = -self.made[-1].__array_interface__["data"][0] % 64
        return self.made[-1][shift : shift + size]

    def holds(self, tensor):
        addresses = [memory.__array_interface__["data"][0] for memory in self.made]
        ends = [start + memory.size for start, memory in zip(addresses, self.made, strict=True)]
        return any(start <= tensor.data_ptr() < end for start, end in zip(addresses, ends, strict=True))


def test_tensors_lie_in_the_memory_of_the_feed(numbered):
    memory = Watched()
    with feedline.Feed(numbered(100), 10) as feed:
        feed.use_memory(memory)
        for batch in pytorch.batches(feed):
            for name in ("features", "labels"):
                assert memory.holds(batch[name])
                assert batch[name].data_ptr() % 64 == 0


DTYPES = ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
DTYPES += ["float16", "float32", "float64", "complex64", "complex128", "bool"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_that_torch_has_is_a_tensor(save, dtype):
    rows = (np.arange(70) % 5).reshape(35, 2).astype(dtype)
    with feedline.Feed(feedline.open_arrays({"a": save("a", rows)}), 7, shuffle="none") as feed:
        batches = [batch["a"] for batch in pytorch.batches(feed)]
    assert {batch.dtype for batch in batches} == {getattr(torch, dtype)}
    assert np.array_equal(np.concatenate([batch.numpy() for batch in batches]), rows)


OTHERS = {"text": "U4", "bytes": "S4", "dates": "M8[D]", "structured": [("a", "<i4")], "longdouble": np.longdouble}


@pytest.mark.parametrize("dtype", OTHERS.values(), ids=OTHERS)
def test_what_torch_has_no_type_for_stays_numpy(save, dtype):
    rows = np.arange(10).astype(dtype)
    with feedline.Feed(feedline.open_arrays({"a": save("a", rows)}), 5, shuffle="none") as feed:
        batch = next(iter(pytorch.batches(feed)))["a"]
    assert isinstance(batch, np.ndarray)
    assert (batch == rows[:5]).all()


@pytest.mark.usefixtures("small_slots")
def test_kept_tensors_and_their_views_never_change(numbered):
    with feedline.Feed(numbered(200), 10, threads=2, prefetch=2) as feed:
        batches = pytorch.batches(feed)
        kept = [(batch["features"][1:, 2].T, batch["labels"]) for _ in range(4) for batch in batches]
    rows = [row for epoch in range(4) for row in in_order(200, 10, 0, epoch)]
    assert [numbers.tolist() for _, numbers in kept] == rows
    assert all((part == numbers[1:]).all() for part, numbers in kept)


@pytest.mark.usefixtures("small_slots")
def test_inputs_that_autograd_saved_keep_their_memory(numbered):
    weight = torch.ones(5, requires_grad=True)
    losses, expected = [], []
    with feedline.Feed(numbered(200), 10, threads=2, prefetch=2) as feed:
        batches = pytorch.batches(feed)
        for batch in batches:
            expected.append(float(batch["labels"].sum()) * 5)
            losses.append((batch["features"] * weight).sum())
        del batch
        for _ in range(3):
            for batch in batches:
                batch["features"].fill_(-1)
                del batch
    gradients = [torch.autograd.grad(loss, weight)[0].tolist() for loss in losses]
    assert gradients == [[each] * 5 for each in expected]


def test_state_dict_resumes_in_the_middle_of_an_epoch(numbered):
    arrays = numbered(100)
    with feedline.Feed(arrays, 10) as feed:
        batches = pytorch.batches(feed)
        epoch = iter(batches)
        for _ in range(4):
            next(epoch)
        state = batches.state_dict()
        rest = labels(epoch), labels(batches)
    with feedline.Feed(arrays, 10) as feed:
        batches = pytorch.batches(feed)
        batches.load_state_dict(pickle.loads(pickle.dumps(state)))
        assert (labels(batches), labels(batches)) == rest


SET = {
    "a new feed": (lambda batches: None, 2, 2),
    "where it is": (list, 1, 1),
    "further": (lambda batches: [list(batches) for _ in range(3)], 1, 3),
    "an epoch that was left": (lambda batches: next(iter(batches)), 0, 1),
    "after one that was left": (lambda batches: next(iter(batches)), 1, 1),
}


@pytest.mark.parametrize(("before", "told", "expected"), SET.values(), ids=SET)
def test_set_epoch_only_goes_forward(numbered, before, told, expected):
    with feedline.Feed(numbered(100), 10, seed=3) as feed:
        batches = pytorch.batches(feed)
        before(batches)
        batches.set_epoch(told)
        assert labels(batches) == in_order(100, 10, 3, expected)


def test_set_epoch_after_iter_is_of_the_epoch_that_begins(numbered):
    # Lightning, when it goes on from a checkpoint.
    with feedline.Feed(numbered(100), 10, seed=3) as feed:
        batches = pytorch.batches(feed)
        epoch = iter(batches)
        batches.set_epoch(2)
        assert labels(epoch) == in_order(100, 10, 3, 2)


def test_set_epoch_keeps_a_state_that_was_loaded(numbered):
    arrays = numbered(100)
    with feedline.Feed(arrays, 10) as feed:
        batches = pytorch.batches(feed)
        list(batches)
        next(iter(batches))
        state = batches.state_dict()
    with feedline.Feed(arrays, 10) as feed:
        batches = pytorch.batches(feed)
        batches.load_state_dict(state)
        for epoch in (0, 1):  # what counts from 0, and what counts from its own checkpoint
            batches.set_epoch(epoch)
        assert labels(batches) == in_order(100, 10, 0, 1)[1:]


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
@pytest.mark.parametrize("batch_size", [None, 1])
@pytest.mark.parametrize("taken", [4, 10, 13])
def test_a_stateful_data_loader_resumes(numbered, batch_size, taken):
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    arrays = numbered(100)
    with feedline.Feed(arrays, 10) as feed:
        loader, left = stateful(pytorch.batches(feed), batch_size=batch_size), taken
        while left:
            for _ in loader:
                left -= 1
                if not left:
                    break
        state = pickle.loads(pickle.dumps(loader.state_dict()))
    with feedline.Feed(arrays, 10) as feed:
        loader = stateful(pytorch.batches(feed), batch_size=batch_size)
        loader.load_state_dict(state)
        run = [batch for epoch in range(3) for batch in in_order(100, 10, 0, epoch)]
        end = 10 * (taken // 10 + 1)
        assert [labels(loader), labels(loader)] == [run[taken:end], run[end : end + 10]]


def test_a_state_of_another_feed_is_refused(numbered):
    arrays = numbered(100)
    state = pytorch.batches(feedline.Feed(arrays, 10, seed=1)).state_dict()
    with pytest.raises(UsageError, match="seed was 1 and is 2"):
        pytorch.batches(feedline.Feed(arrays, 10, seed=2)).load_state_dict(state)


def test_a_data_loader_without_workers_passes_batches_through(numbered):
    with feedline.Feed(numbered(100), 10, seed=3) as feed:
        loader = DataLoader(pytorch.batches(feed), batch_size=None, num_workers=0)
        assert len(loader) == 10
        for epoch in range(2):
            assert labels(loader) == in_order(100, 10, 3, epoch)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_data_loader_with_workers_gets_one_sentence(numbered, monkeypatch):
    # How long torch waits for workers that raised at once before it ends them: 5 s each.
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.1)
    with feedline.Feed(numbered(100), 10) as feed:
        loader = DataLoader(pytorch.batches(feed), batch_size=None, num_workers=2, multiprocessing_context="fork")
        with pytest.raises(UsageError, match=r"DataLoader worker process: pass num_workers=0"):
            next(iter(loader))
    gc.collect()


def test_batches_pickle_as_their_feed(numbered):
    with feedline.Feed(numbered(100), 10, seed=3) as feed:
        batches = pytorch.batches(feed)
        list(batches)
        again = pickle.loads(pickle.dumps(batches))
    with again.feed:
        assert labels(again) == in_order(100, 10, 3, 1)


def test_a_break_starts_the_next_epoch(numbered):
    with feedline.Feed(numbered(100), 10, seed=3) as feed:
        batches = pytorch.batches(feed)
        for _ in batches:
            break
        assert labels(batches) == in_order(100, 10, 3, 1)


def test_the_newest_iterator_wins(numbered):
    with feedline.Feed(numbered(100), 10) as feed:
        batches = pytorch.batches(feed)
        epoch = iter(batches)
        next(epoch)
        assert labels(batches) == in_order(100, 10, 0, 1)
        with pytest.raises(UsageError, match="a newer one of the same feed was started"):
            next(epoch)


@pytest.mark.parametrize("options", [{}, {"batch_size": None}, {"batch_size": 1, "num_workers": 0}], ids=str)
def test_a_data_loader_hands_batches_through(numbered, options):
    with feedline.Feed(numbered(100), 10, seed=3) as feed:
        loader = DataLoader(pytorch.batches(feed), **options)
        assert len(loader) == 10
        assert labels(loader) == in_order(100, 10, 3, 0)
        assert next(iter(loader))["features"].shape == (10, 5, 5)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        pytest.param(
            lambda feed: DataLoader(pytorch.batches(feed), 4), "told to join 4 batches of a feed", id="joined"
        ),
        pytest.param(DataLoader, "a Feed has no single rows, it makes batches", id="a bare feed"),
        pytest.param(lambda feed: DataLoader(pytorch.batches(feed), num_workers=1), "pass num_workers=0", id="workers"),
    ],
)
def test_a_data_loader_that_cannot_work_gets_one_sentence(numbered, make, told):
    with feedline.Feed(numbered(100), 10) as feed, pytest.raises(UsageError, match=told):
        list(make(feed))


def test_no_warning_is_given(numbered):
    with feedline.Feed(numbered(100), 10) as feed, warnings.catch_warnings(action="error"):
        assert len(list(pytorch.batches(feed, device="cpu"))) == 10


def test_another_device_gets_copies(numbered):
    with feedline.Feed(numbered(100), 10) as feed:
        batch = next(iter(pytorch.batches(feed, device="meta")))
    assert (batch["features"].device.type, batch["features"].shape) == ("meta", (10, 5, 5))
    assert isinstance(batch["names"], np.ndarray)


def test_no_thread_is_left(numbered):
    feed = feedline.Feed(numbered(100), 10, threads=2)
    next(iter(pytorch.batches(feed)))
    del feed
    gc.collect()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("feedline")]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_missing_cuda_device_is_an_error_of_the_environment(numbered, device):
    with feedline.Feed(numbered(100), 10) as feed:
        with pytest.raises(EnvironmentInvalidError, match="device: there is no CUDA device here"):
            pytorch.batches(feed, device=device)
        assert len(list(pytorch.batches(feed))) == 10


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.usefixtures("small_slots")
def test_copies_on_a_cuda_device_are_right_over_many_epochs(numbered):
    with feedline.Feed(numbered(1000), 10, seed=3, threads=2) as feed:
        batches = pytorch.batches(feed, device="cuda")
        kept = []
        for epoch in range(5):
            rows = []
            for batch in batches:
                assert batch["features"].is_cuda
                kept.append((batch["features"], batch["labels"]))
                rows.append(batch["labels"])
            assert torch.stack(rows).tolist() == in_order(1000, 10, 3, epoch)
    assert all((features == numbers.reshape(-1, 1, 1)).all() for features, numbers in kept)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_copies_to_a_cuda_device_come_from_pinned_memory(numbered):
    with feedline.Feed(numbered(100), 10) as feed:
        pytorch.batches(feed, device="cuda")
        assert all(torch.from_numpy(batch["features"]).is_pinned() for batch in feed)
