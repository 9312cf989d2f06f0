"""From a manifest to batches: where the files of a split lie, and the engine that makes native batches of them.

Both engines look alike from here on: something whose every `iter` is one epoch of dicts. The feed's adapters and the
classic ways are imported only when they are used, since each brings its framework.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from numpy.typing import NDArray

from feedline.errors import DataError, EnvironmentInvalidError, FeedlineError, UsageError, UserFunctionError
from feedline.feed import Feed
from feedline.files import Arrays, Format, Phase, Residency, Rows, Stored, Window, open_arrays
from feedline.limits import default_threads, memory_bytes
from feedline.manifest import DrawRef, Manifest, Split, file_of
from feedline.order import Blocks, LastBatch, Plan, Shuffle, balanced, share
from feedline.order import price as price_of
from feedline.ranks import ALONE, Place
from feedline.training.ranks_folder import RanksFolder
from feedline.training.shared_rows import SharedRows
from feedline.training.transforms import declared, function_of, roles, show
from feedline.transforms import ArraySpec, Function
from feedline.units import size

Volumes = Mapping[str, Path]


@dataclass(frozen=True)
class Source:
    """One split as native batches.

    Attributes
    ----------
    arrays
        The open files.
    batches
        Each `iter` is one epoch of dicts of native tensors.
    plan
        Rows, batch size and steps of an epoch.
    element_spec
        Dtype and row shape of each array of a batch, by name.
    feed
        The feed behind `batches`; None for a classic engine.
    """

    arrays: Arrays
    batches: Iterable[dict[str, Any]]
    plan: Plan
    element_spec: Mapping[str, ArraySpec]
    feed: Feed | None

    def close(self) -> None:
        """End the feed's threads."""
        if self.feed is not None:
            self.feed.close()


def stored(split: Split, volumes: Volumes) -> dict[str, Stored]:
    """Return where every array of a split is stored, and how.

    Raises
    ------
    UsageError
        A volume has no folder.
    """
    found = {}
    for array in split.arrays:
        path = file_of(array.path, volumes)
        kind, window = cast("Format | None", array.format), array.window
        found[array.name] = Stored(
            path,
            format=kind,
            member=array.member,
            dtype=array.dtype,
            shape=array.shape,
            offset=array.offset,
            window=None
            if window is None
            else Window(window.length, stride=window.stride, start=window.start, phase=cast("Phase", window.phase)),
        )
    return found


def rows_of(split: Split, volumes: Volumes) -> Rows | Path:
    """Return which rows of its files a split has, as `open_arrays` takes it."""
    return (split.start, split.stop) if split.index is None else file_of(split.index, volumes)


def boundaries_of(split: Split, volumes: Volumes) -> Path | None:
    """Return the file of the boundaries between which windows lie, None where there are none."""
    return None if split.boundaries is None else file_of(split.boundaries, volumes)


def epoch_rows(manifest: Manifest, volumes: Volumes) -> int:
    """Return the rows of an epoch, by a look at the files' headers.

    Raises
    ------
    FeedlineError
        As of `feedline.open_arrays`.
    """
    draw = manifest.loader.draw
    if draw is not None and draw.rows is not None:
        return draw.rows
    split = manifest.train_data
    return open_arrays(stored(split, volumes), rows_of(split, volumes), boundaries=boundaries_of(split, volumes)).rows


def open_split(
    manifest: Manifest, split: Split, volumes: Volumes, place: Place = ALONE, rows: Rows | None = None
) -> Arrays:
    """Open the arrays of a split as `loader.residency` says; mapped for a classic engine, which loads by itself.

    What is read into memory is there once for all ranks of a machine. `rows` are some of the split's own; None: all.

    Raises
    ------
    EnvironmentInvalidError
        The rows are to be loaded into memory and do not fit.
    """
    named, chosen = stored(split, volumes), rows_of(split, volumes) if rows is None else rows
    boundaries = boundaries_of(split, volumes)
    if manifest.loader.residency == "memory":
        require_memory(open_arrays(named, chosen, boundaries=boundaries).loaded_bytes, memory_bytes())
    residency = "mapped" if manifest.loader.engine == "Classic" else manifest.loader.residency
    folder = RanksFolder.of_environment() if place.local_world > 1 else None
    memory = None if folder is None else SharedRows(folder.rows, is_first=place.local_rank == 0)
    return open_arrays(named, chosen, cast("Residency", residency), memory, boundaries)


def require_memory(needed: int, limit: int) -> None:
    """Raise `EnvironmentInvalidError` if so many bytes of rows cannot be loaded within a limit."""
    if needed > limit:
        raise EnvironmentInvalidError(
            f"loader.residency: Memory needs {size(needed)} of {size(limit)}: take Mapped or more memory"
        )


def check_split(manifest: Manifest, split: Split, volumes: Volumes, arrays: Arrays) -> tuple[int, str | None]:
    """Refuse a split that a run would refuse.

    Returns
    -------
    int
        Bytes of memory that the feed of all processes of a pod take beside the rows.
    str or None
        What block shuffle costs, None for other orders.

    Raises
    ------
    DataError
        A batch is larger than the rows.
    UsageError
        The engine cannot read these files.
    EnvironmentInvalidError
        What the feed needs beside the rows does not fit into memory.
    """
    if manifest.loader.engine == "Classic":
        _one_file_each(split, volumes)
    resources = manifest.document["spec"]["resources"]
    processes, world = resources["processes"], resources["nodes"] * resources["processes"]
    place = Place(0, world, 0, processes) if split is manifest.train_data else ALONE
    with _feed(manifest, split, volumes, arrays, place) as feed:
        if manifest.train.transform is None:
            roles(manifest, feed.element_spec)
        own = feed.require_room() * processes if manifest.loader.engine == "Feed" else 0
        return own, None if feed.blocks is None else price(manifest, arrays, feed.blocks)


def price(manifest: Manifest, arrays: Arrays, blocks: Blocks) -> str:
    """Return what block shuffle costs, as a sentence; in labels too, where the first target holds classes."""
    targets = [arrays[array.name] for array in manifest.train_data.arrays if array.role == "Target"]
    classes = [array for array in targets if array.dtype.kind in "iub" and not array.row_shape]
    if arrays.segments is not None:
        classes = []  # which a window has depends on the epoch
    return price_of(classes[0] if classes else None, arrays.rows, manifest.loader.batch_size, blocks)


def train_source(manifest: Manifest, volumes: Volumes, device: Any, place: Place = ALONE) -> Source:
    """Return the training rows of a rank as native batches."""
    return _source(manifest, manifest.train_data, volumes, device, place)


def validation_source(manifest: Manifest, volumes: Volumes, device: Any, place: Place = ALONE) -> Source | None:
    """Return the validation rows as native batches, unshuffled and all of them; None where there are none.

    Each rank has its share of them, in as many batches as any other.

    Raises
    ------
    DataError
        There are fewer rows than ranks.
    """
    split = manifest.validation_data
    if split is None or place.world == 1:
        return None if split is None else _source(manifest, split, volumes, device, ALONE)
    arrays = open_arrays(stored(split, volumes), rows_of(split, volumes), boundaries=boundaries_of(split, volumes))
    if arrays.rows < place.world:
        raise DataError(
            f"data.validation: {arrays.rows} rows are too few for {place.world} processes: take fewer, or more rows"
        )
    own = share(arrays.rows, manifest.loader.batch_size, place.rank, place.world)
    part = arrays.part(own.start, own.stop)
    return _source(manifest, split, volumes, device, ALONE, own.batch_size, part)


def _source(
    manifest: Manifest,
    split: Split,
    volumes: Volumes,
    device: Any,
    place: Place,
    batch_size: int | None = None,
    rows: Rows | None = None,
) -> Source:
    arrays = open_split(manifest, split, volumes, place, rows)
    # The feed checks its arguments, so that every engine answers a batch that is too large alike.
    feed = _feed(manifest, split, volumes, arrays, place, batch_size, function_of(manifest))
    spec = feed.element_spec
    if manifest.loader.engine == "Feed":
        return Source(arrays, _native(manifest.backend, feed, device), feed.plan, spec, feed)
    shuffle: Shuffle = "none" if split is not manifest.train_data else cast("Shuffle", manifest.loader.shuffle)
    return Source(arrays, _classic(manifest, split, volumes, device, feed.plan, shuffle), feed.plan, spec, None)


def _weights(draw: DrawRef, split: Split, volumes: Volumes, arrays: Arrays) -> NDArray[Any]:
    """Return the weight of each row.

    Raises
    ------
    DataError
        There is not one number or label for each row.
    """
    if draw.balance is None:
        path = file_of(str(draw.weights), volumes)
        array = open_arrays({"weights": path}, rows_of(split, volumes))["weights"]
        told, kinds = str(path), "biuf"
    else:
        array, told, kinds = arrays[draw.balance], f"loader.draw.balance: {draw.balance}", "biuSU"
    # Before all of it is read.
    if array.row_shape or array.dtype.kind not in kinds:
        wanted = "one number" if draw.balance is None else "one whole number or text"
        raise DataError(
            f"{told}: must have {wanted} for each row (got {array.dtype.str}, rows of shape {list(array.row_shape)})"
        )
    values = array.read(0, array.rows)
    return values if draw.balance is None else balanced(values)


def _feed(
    manifest: Manifest,
    split: Split,
    volumes: Volumes,
    arrays: Arrays,
    place: Place = ALONE,
    batch_size: int | None = None,
    functions: Sequence[Function] = (),
) -> Feed:
    """Return the feed of a split; validation is unshuffled, and with all its rows.

    Raises
    ------
    UserFunctionError
        One of the user's functions raises with the first rows; its traceback is printed.
    """
    try:
        return _made(manifest, split, volumes, arrays, place, batch_size, functions)
    except FeedlineError:
        raise
    except Exception as error:
        if not functions:
            raise
        show(error)
        raise UserFunctionError(f"spec.train.transform: {manifest.train.transform} raised {error!r}") from error


def _made(
    manifest: Manifest,
    split: Split,
    volumes: Volumes,
    arrays: Arrays,
    place: Place,
    batch_size: int | None,
    functions: Sequence[Function],
) -> Feed:
    loader = manifest.loader
    is_train = split is manifest.train_data
    draw = loader.draw if is_train else None
    shuffle = cast("Shuffle", loader.shuffle) if is_train else "none"
    return Feed(
        arrays,
        # Validation has no such limit: its rows are few and all of them are wanted.
        loader.batch_size if is_train else min(batch_size or loader.batch_size, arrays.rows),
        shuffle=shuffle,
        seed=loader.seed,
        # A limit in steps or seconds is the run's to keep: who leaves epochs early needs more of them than it takes.
        epochs=manifest.train.epochs if is_train else None,
        last_batch=cast("LastBatch", loader.last_batch) if is_train else "keep",
        rank=place.rank,
        world=place.world,
        threads=loader.threads or default_threads(processes=place.local_world),
        prefetch=loader.prefetch,
        block_rows=loader.block_rows if shuffle == "block" else 0,
        window=loader.window if shuffle == "block" else 0,
        read_ahead=loader.read_ahead,
        weights=None if draw is None else _weights(draw, split, volumes, arrays),
        draws=None if draw is None else draw.rows,
        transforms=[*declared(manifest, volumes), *functions],
        is_training=is_train,
    )


def _native(backend: str, feed: Feed, device: Any) -> Iterable[dict[str, Any]]:
    match backend:
        case "pytorch":
            from feedline import pytorch

            return pytorch.batches(feed, device)
        case "tensorflow":
            from feedline import tensorflow

            return tensorflow.batches(feed)
        case _:
            from feedline import keras

            return keras.native_batches(feed)


def _classic(
    manifest: Manifest, split: Split, volumes: Volumes, device: Any, plan: Plan, shuffle: Shuffle
) -> Iterable[dict[str, Any]]:
    loader = manifest.loader
    match manifest.backend:
        case "pytorch":
            from feedline.classic import pytorch

            named = _one_file_each(split, volumes)
            return pytorch.loader(
                named,
                split.start,
                split.start + plan.rows,
                plan.batch_size,
                in_memory=loader.residency == "memory",
                workers=loader.threads or default_threads(),
                shuffle=shuffle == "full",
                seed=loader.seed,
                last_batch=plan.last_batch,
                device=device,
            )
        case "tensorflow":
            from feedline.classic import tensorflow

            return tensorflow.batches(
                classic_arrays(manifest, split, volumes),
                plan.batch_size,
                capacity=loader.queue_capacity,
                min_after_dequeue=loader.queue_min_after_dequeue,
                last_batch=plan.last_batch,
                shuffle=shuffle == "full",
                seed=loader.seed,
            )
        case _:
            from feedline.classic import keras

            return keras.batches(
                classic_arrays(manifest, split, volumes),
                plan.batch_size,
                shuffle=shuffle == "full",
                seed=loader.seed,
                last_batch=plan.last_batch,
            )


def classic_arrays(manifest: Manifest, split: Split, volumes: Volumes) -> dict[str, Any]:
    """Return the arrays of a split as the classic ways of Keras and TensorFlow load them, one file each.

    Raises
    ------
    UsageError
        An array is several files.
    """
    from feedline.classic import load

    named = _one_file_each(split, volumes)
    stop = split.start + open_arrays(named, (split.start, split.stop)).rows
    return load(named, split.start, stop, in_memory=manifest.loader.residency == "memory")


def _one_file_each(split: Split, volumes: Volumes) -> dict[str, Path]:
    if split.index is not None:
        raise UsageError(
            f"loader.engine: Classic reads rows from start to stop, and not those of {split.index}: use Feed"
        )
    named = {name: Path(each.path) for name, each in stored(split, volumes).items()}
    for array in split.arrays:
        told = f"{array.name} is {named[array.name].name}: use Feed"
        if array.window is not None:
            raise UsageError(f"loader.engine: Classic makes no windows, {told}")
        if "*" in array.path:
            raise UsageError(f"loader.engine: Classic reads one file for each array, {told}")
        if not array.is_npy:
            raise UsageError(f"loader.engine: Classic reads .npy files alone, {told}")
    return named
