"""The statistics by which a manifest standardizes, made of the training rows alone, as they come to be standardized."""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from feedline.errors import DataError, StorageError, UsageError
from feedline.feed import Feed
from feedline.manifest import Manifest, file_of
from feedline.training.sources import open_split
from feedline.training.transforms import declared
from feedline.training.whole import write_bytes
from feedline.transforms import Moments, Statistics, load_statistics

_BATCH_BYTES: Final = 1 << 20


class Measured(NamedTuple):
    """The statistics of an array, and the file in which they are."""

    array: str
    path: Path
    statistics: Statistics


def write_statistics(manifest: Manifest, volumes: Mapping[str, Path], axis: int) -> Iterator[Measured]:
    """Write the file of each `standardize` of a manifest, in their order, since one may take what another makes.

    Parameters
    ----------
    axis
        Of a row, each place of which has a mean of its own.

    Raises
    ------
    UsageError
        Nothing is standardized, or a row has no such axis.
    DataError
        A value is not finite, or a standard deviation is 0; the file is written in the latter case.
    StorageError
        The file cannot be written.
    """
    files = [each.arguments["statistics"] for each in manifest.transforms if each.kind == "standardize"]
    if not files:
        raise UsageError("spec.data.transforms: has no standardize, which is what statistics are for")
    for path in files:
        if files.count(path) > 1:
            raise UsageError(f"spec.data.transforms: two standardize have the file {path}: name one for each")
    arrays = open_split(manifest, manifest.train_data, volumes)
    for number, each in enumerate(manifest.transforms):
        if each.kind != "standardize":
            continue
        name, path = each.arguments["array"], file_of(each.arguments["statistics"], volumes)
        rows = max(1, min(_BATCH_BYTES // max(array.row_bytes for array in arrays.values()), arrays.rows))
        before = declared(manifest, volumes, number)
        with Feed(arrays, rows, shuffle="none", last_batch="keep", epochs=1, transforms=before) as feed:
            if name not in feed.element_spec or feed.element_spec[name].dtype.kind not in "biuf":
                known = ", ".join(sorted(feed.element_spec))
                raise UsageError(f"standardize of {name}: there is no such array of numbers here, only {known}")
            moments = Moments(feed.element_spec[name].row_shape, axis)
            for batch in feed:
                try:
                    moments.add(batch[name])
                except DataError as error:
                    raise DataError(f"array {name}: {error}") from None
        found = moments.statistics()
        _write(path, found)
        load_statistics(path)  # which says what cannot be standardized by
        yield Measured(name, path, found)


def _write(path: Path, statistics: Statistics) -> None:
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **dict(statistics.arrays()))
    try:
        write_bytes(path, file.getvalue())
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror}): choose another place for it") from None
