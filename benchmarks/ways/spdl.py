"""spdl: a pipeline whose source draws the rows of a batch and whose one stage fetches them, in two threads.

The batch is the unit of every stage, as spdl's guide advises for work that costs less than its scheduling.
"""

from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
from data import Data, mapped
from measure import Measure, pulled
from numpy.typing import NDArray
from spdl.pipeline import PipelineBuilder

_THREADS = 2
_BUFFERED_BATCHES = 4


def pipeline(data: Data, batch_size: int) -> Measure:
    """Take batches from a pipeline's sink."""
    return pulled(lambda: _batches(data, batch_size), batch_size)


def _batches(data: Data, batch_size: int) -> Generator[dict[str, NDArray[Any]]]:
    arrays = mapped(data)

    def rows_of_batches() -> Iterator[NDArray[np.intp]]:
        random = np.random.default_rng()
        while True:
            order = random.permutation(data.rows)
            for start in range(0, data.rows - batch_size + 1, batch_size):
                yield order[start : start + batch_size]

    def fetch(rows: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
        return {name: array[rows] for name, array in arrays.items()}

    built = (
        PipelineBuilder[NDArray[np.intp], dict[str, NDArray[Any]]]()
        .add_source(rows_of_batches())
        .pipe(fetch, concurrency=_THREADS)  # type: ignore[arg-type]
        .add_sink(_BUFFERED_BATCHES)
        .build(num_threads=_THREADS)
    )
    with built.auto_stop():
        yield from built


MAKERS = {"spdl": pipeline}
