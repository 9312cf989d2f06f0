"""Batches of torch tensors: a map-style `DataLoader` by the row and by the batch, everything in RAM, and the feed."""

from functools import cache, partial
from typing import Any

import numpy as np
import torch
from data import Data, mapped, opened
from measure import Measure, epochs, pulled
from torch.utils.data import DataLoader, Dataset, TensorDataset

from feedline import Feed, pytorch
from feedline.classic import pytorch as classic
from feedline.errors import FeedlineError
from feedline.training.execution import execute
from ways import training

Batch = dict[str, torch.Tensor]


def data_loader(data: Data, batch_size: int, *, workers: int) -> Measure:
    """Take from a map-style dataset, row by row."""
    loader = classic.loader(
        data.paths,
        0,
        data.rows,
        batch_size,
        in_memory=False,
        workers=workers,
        shuffle=True,
        seed=0,
        last_batch="drop",
        device=torch.device("cpu"),
    )
    return pulled(lambda: epochs(loader), batch_size)


class RowsByTheBatch(Dataset[Batch]):  # type: ignore[misc]
    """A dataset that is asked for all rows of a batch at once."""

    def __init__(self, data: Data) -> None:
        self._arrays = mapped(data)

    def __len__(self) -> int:
        return len(self._arrays["labels"])

    def __getitems__(self, rows: list[int]) -> Batch:
        return {name: torch.from_numpy(array[rows]) for name, array in self._arrays.items()}


def _as_it_is(batch: Batch) -> Batch:
    return batch


def data_loader_by_the_batch(data: Data, batch_size: int, *, workers: int) -> Measure:
    """Take from a dataset with `__getitems__`: one index into each array for a batch, and no collating."""
    loader = DataLoader(
        RowsByTheBatch(data), batch_size, shuffle=True, drop_last=True, num_workers=workers, collate_fn=_as_it_is
    )
    return pulled(lambda: epochs(loader), batch_size)


def tensor_dataset(data: Data, batch_size: int) -> Measure:
    """Take from tensors in RAM, as torch's tutorials do."""
    loader = DataLoader(TensorDataset(*_in_memory(data)), batch_size, shuffle=True, drop_last=True)
    return pulled(lambda: epochs(loader), batch_size)


@cache
def _in_memory(data: Data) -> list[torch.Tensor]:
    return [torch.from_numpy(np.load(path)) for path in data.paths.values()]


def feed(data: Data, batch_size: int) -> Measure:
    """Take the feed's batches as tensors."""
    batches = pytorch.batches(Feed(opened(data), batch_size))
    return pulled(lambda: epochs(batches), batch_size)


def training_loop(data: Data, batch_size: int, *, engine: str) -> Measure:
    """Train the built-in model, as `feedline run` does."""

    def measure(seconds: float) -> float:
        document = training.pipeline(data, "pytorch", engine, batch_size, max(1, round(seconds)))
        threads = torch.get_num_threads()
        try:
            report: dict[str, Any] = dict(execute(document, training.volumes(data)))
        finally:
            torch.set_num_threads(threads)  # a run leaves one CPU to its loader, the other ways are to have all
        if report["exitCode"]:
            raise FeedlineError(report["message"])
        return float(report["samplesPerSecond"])

    return measure


MAKERS = {
    "dataloader-0": partial(data_loader, workers=0),
    "dataloader-2": partial(data_loader, workers=2),
    "dataloader-8": partial(data_loader, workers=8),
    "getitems-0": partial(data_loader_by_the_batch, workers=0),
    "getitems-2": partial(data_loader_by_the_batch, workers=2),
    "tensordataset": tensor_dataset,
    "feed-pytorch": feed,
    "loop-pytorch-feed": partial(training_loop, engine="Feed"),
    "loop-pytorch-classic": partial(training_loop, engine="Classic"),
}
