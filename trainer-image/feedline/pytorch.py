"""A feed as PyTorch takes it: an `IterableDataset` of dicts of tensors that share the feed's memory.

On the CPU a tensor is a view of a slot. For a CUDA device slots are pinned, batches are copied on a stream of their
own while the model computes, and a slot is let go only when the copy from it is done. No order and no I/O in here.
"""

import inspect
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from types import FrameType, SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info
from torch.utils.data._utils import fetch
from torch.utils.data._utils.collate import default_collate_fn_map

from feedline.errors import EnvironmentInvalidError, UsageError
from feedline.feed import Feed


class Batch(dict[str, Any]):
    """A batch, a dict of tensors by array name; a type of its own, so that a `DataLoader` can tell it from a row."""


def _collated(batches: list[Batch], **_: Any) -> Batch:
    """Give the batch through: a `DataLoader` makes batches of what it takes for rows, of one row by default.

    Raises
    ------
    UsageError
        It was told to join several.
    """
    if len(batches) > 1:
        raise UsageError(
            f"a DataLoader was told to join {len(batches)} batches of a feed, which are batches already: "
            "pass batch_size=None, and the size of a batch to the Feed"
        )
    return batches[0]


default_collate_fn_map.update({Batch: _collated})  # what torch's default_collate offers for types of one's own


def batches(feed: Feed, device: str | torch.device | None = None) -> "Batches":
    """Return an `IterableDataset` over `feed`; each `iter` is the feed's next epoch.

    ::

        for batch in feedline.pytorch.batches(feed, device="cuda"):
            loss = loss_of(model(batch["features"]), batch["labels"])

    A batch is a dict of tensors ``[batch_size, *row_shape]`` of the dtypes in `feed.element_spec`, on `device`. Arrays
    that torch has no type for (strings, dates) stay ndarrays. A `DataLoader`, where something insists on one, needs no
    other argument than ``batch_size=None``: the feed's threads do the work.

    Parameters
    ----------
    feed
        Its memory is pinned where `device` is a CUDA device, so no batch may have been taken from it yet.
    device
        None or ``"cpu"`` leaves the tensors on the CPU.

    Raises
    ------
    EnvironmentInvalidError
        `device` is a CUDA device and there is none.
    """
    return Batches(feed, torch.device(device or "cpu"))


class Batches(IterableDataset[Batch]):  # type: ignore[misc]
    """Made by `batches`; has the protocol of torchdata's stateful loaders."""

    def __init__(self, feed: Feed, device: torch.device) -> None:
        super().__init__()
        self.feed = feed
        self.device = device
        self._convert = _converter(feed)
        if device.type == "cuda":
            if not torch.cuda.is_available():
                raise EnvironmentInvalidError("device: there is no CUDA device here, or torch was built without CUDA")
            feed.use_memory(_pinned)

    def __len__(self) -> int:
        """Return the steps of an epoch."""
        return len(self.feed)

    def __iter__(self) -> Iterator[Batch]:
        """Start the feed's next epoch, with the first batch that is taken."""
        if get_worker_info() is not None:
            raise UsageError("a feed cannot be read in a DataLoader worker process: pass num_workers=0")
        _refuse_to_be_stacked(inspect.currentframe())
        return self._epoch()

    def _epoch(self) -> Generator[Batch]:
        # A generator: Lightning makes the iterator of an epoch first, and then tells which epoch it is.
        on_cpu = cast("Iterator[Batch]", self.feed.iterate(self._convert, Batch))
        match self.device.type:
            case "cpu":
                yield from on_cpu
            case "cuda":
                yield from _through_stream(on_cpu, self.device)
            case _:
                yield from (_moved(batch, self.device) for batch in on_cpu)

    def __reduce__(self) -> tuple[Any, ...]:
        # Worker processes that are spawned get a pickle, and are to come as far as the sentence above.
        return Batches, (self.feed, self.device)

    def state_dict(self) -> dict[str, Any]:
        """Return the feed's state: batches handed out count."""
        _refuse_what_is_ahead(self, inspect.currentframe())
        return self.feed.state()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the last batch that had been handed out when `state` was taken."""
        self.feed.restore(state)

    def set_epoch(self, epoch: int) -> None:
        """Go forward to an epoch, from 0; a feed that is there already, or further, stays where it is.

        What resumes a training tells it: Lightning, Accelerate and Transformers count epochs from their checkpoint on,
        and a new feed would begin with the rows of epoch 0 again. A state that was loaded says more, and is kept.
        """
        self.feed.skip_to(epoch)

    @property
    def batch_sampler(self) -> SimpleNamespace:
        """Where Lightning looks for what it tells the epoch, of all that is iterable: ``batch_sampler.sampler``."""
        return SimpleNamespace(sampler=self)


def _refuse_to_be_stacked(frame: FrameType | None) -> None:
    """Raise `UsageError` if a DataLoader asks for an iterator to give its batches to a collator of Transformers.

    `Trainer` puts one into the DataLoader that it makes, and it stacks the arrays of batches as those of rows, of
    whatever type, without a word. A dataset is told nothing of the loader around it, so that the frame is looked at.
    """
    asking = frame.f_back if frame is not None else None
    if asking is None or asking.f_globals.get("__name__") != fetch.__name__:
        return
    collate = asking.f_locals.get("collate_fn")
    collate = getattr(collate, "data_collator", collate)  # what removes unused columns is around it
    if str(getattr(collate, "__module__", "")).startswith("transformers."):
        raise UsageError(
            "a Transformers Trainer would take the batches of a feed for rows and stack them: have its "
            "get_train_dataloader (for evaluation, get_eval_dataloader) return "
            "self.accelerator.prepare(DataLoader(feedline.pytorch.batches(feed), batch_size=None))"
        )


def _refuse_what_is_ahead(batches: Batches, frame: FrameType | None) -> None:
    """Raise `UsageError` if Accelerate saves the state of batches that a DataLoader of its own takes ahead of the loop.

    Such a DataLoader has one batch more than it gave, which the loop after a restart would never see. Accelerate asks
    the batches alone, and which loaders it has prepared is known to the frame of its `save_state`.
    """
    asking = frame.f_back if frame is not None else None
    while asking is not None and asking.f_globals.get("__name__", "").startswith("accelerate."):
        for loader in getattr(asking.f_locals.get("self"), "_dataloaders", ()):
            if getattr(loader, "dataset", None) is batches and not getattr(loader, "use_stateful_dataloader", False):
                raise UsageError(
                    "Accelerate has taken one batch more than your loop from the DataLoader that it prepared, and a "
                    "state would skip it: let Accelerator(dataloader_config=DataLoaderConfiguration("
                    "use_stateful_dataloader=True)) save it, which needs torchdata, instead of registering the batches"
                )
        asking = asking.f_back


def _converter(feed: Feed) -> Callable[[tuple[NDArray[Any], ...]], Iterable[tuple[Any, ...]]]:
    shares = [_is_torch_type(spec.dtype) for spec in feed.element_spec.values()]

    def convert(views: tuple[NDArray[Any], ...]) -> Iterable[tuple[Any, ...]]:
        columns = (map(torch.from_numpy, view) if ours else view for view, ours in zip(views, shares, strict=True))
        return zip(*columns, strict=True)

    return convert


def _is_torch_type(dtype: np.dtype[Any]) -> bool:
    try:
        torch.from_numpy(np.empty(1, dtype))
    except TypeError:
        return False
    return True


def _pinned(size: int) -> NDArray[np.uint8]:
    memory: NDArray[np.uint8] = torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy()
    return memory


def _moved(batch: Batch, device: torch.device) -> Batch:
    return Batch(
        (name, value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value)
        for name, value in batch.items()
    )


def _through_stream(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Copy each batch on a side stream; the consumer's stream waits for the copy, the host does not.

    The events keep the pinned source alive until it was read; `record_stream` keeps the copy's memory from being
    reused on the side stream while the consumer's stream still works on it.
    """
    stream = torch.cuda.Stream(device)
    copying: deque[tuple[torch.cuda.Event, Batch]] = deque()
    try:
        for batch in batches:
            with torch.cuda.stream(stream):
                moved = _moved(batch, device)
                copied = stream.record_event()
            copying.append((copied, batch))
            while copying[0][0] is not copied and copying[0][0].query():
                copying.popleft()
            consumer = torch.cuda.current_stream(device)
            consumer.wait_event(copied)
            for value in moved.values():
                if isinstance(value, torch.Tensor):
                    value.record_stream(consumer)
            yield moved
    finally:
        stream.synchronize()


class StreamClock:
    """Tells time by events on the consumer's CUDA stream: the host only queues work there and sees none of it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def stamp(self) -> torch.cuda.Event:
        """Record an event behind the work queued so far."""
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def known(self, stamp: torch.cuda.Event) -> bool:
        """Tell whether the device has come to the event."""
        return bool(stamp.query())

    def seconds(self, start: torch.cuda.Event, stop: torch.cuda.Event) -> float:
        """Return the device's time between two events."""
        return float(start.elapsed_time(stop)) / 1e3
