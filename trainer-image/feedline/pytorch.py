"""A feed as PyTorch takes it: an `IterableDataset` of dicts of tensors that share the feed's memory.

On the CPU a tensor is a view of a slot. For a CUDA device slots are pinned, batches are copied on a stream of their
own while the model computes, and a slot is let go only when the copy from it is done. No order and no I/O in here.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info

from feedline.errors import EnvironmentInvalidError, UsageError
from feedline.feed import Feed

Batch = dict[str, Any]


def batches(feed: Feed, device: str | torch.device | None = None) -> "Batches":
    """Return an `IterableDataset` over `feed`; each `iter` is the feed's next epoch.

    ::

        for batch in feedline.pytorch.batches(feed, device="cuda"):
            loss = loss_of(model(batch["features"]), batch["labels"])

    A batch is a dict of tensors ``[batch_size, *row_shape]`` of the dtypes in the files, on `device`. Arrays that
    torch has no type for (strings, dates) stay ndarrays. In a `DataLoader` pass ``batch_size=None, num_workers=0``:
    the feed's threads do the work.

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
        """Start the feed's next epoch."""
        if get_worker_info() is not None:
            raise UsageError("a feed cannot be read in a DataLoader worker process: pass num_workers=0")
        on_cpu = self.feed.iterate(self._convert)
        match self.device.type:
            case "cpu":
                return on_cpu
            case "cuda":
                return _through_stream(on_cpu, self.device)
            case _:
                return (_moved(batch, self.device) for batch in on_cpu)

    def __reduce__(self) -> tuple[Any, ...]:
        # Worker processes that are spawned get a pickle, and are to come as far as the sentence above.
        return Batches, (self.feed, self.device)

    def state_dict(self) -> dict[str, Any]:
        """Return the feed's state: batches handed out count."""
        return self.feed.state()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the last batch that had been handed out when `state` was taken."""
        self.feed.restore(state)


def _converter(feed: Feed) -> Callable[[tuple[NDArray[Any], ...]], Iterable[tuple[Any, ...]]]:
    shares = [_is_torch_type(array.dtype) for array in feed.arrays.values()]

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
    return {
        name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for name, value in batch.items()
    }


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
