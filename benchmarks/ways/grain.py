"""grain: a random-access source over the mapped arrays, shuffled over all rows and batched."""

from functools import partial
from typing import Any

import grain  # type: ignore[import-untyped]
from data import Data, mapped
from measure import Measure, epochs, pulled


class Rows:
    """What grain calls a random-access data source: `__len__` and `__getitem__` of one row."""

    def __init__(self, data: Data) -> None:
        self._arrays = mapped(data)

    def __len__(self) -> int:
        return len(self._arrays["labels"])

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {name: array[row] for name, array in self._arrays.items()}


def map_dataset(data: Data, batch_size: int, *, options: grain.ReadOptions | None) -> Measure:
    """Take batches from a `MapDataset`, read as `options` say."""
    dataset = grain.MapDataset.source(Rows(data)).shuffle(seed=0).batch(batch_size, drop_remainder=True)
    return pulled(lambda: epochs(dataset.to_iter_dataset(options)), batch_size)


MAKERS = {
    "grain-16": partial(map_dataset, options=None),
    # What grain advises for data that are in memory already.
    "grain-0": partial(map_dataset, options=grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)),
}
