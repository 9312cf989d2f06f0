"""Measure rows of many kinds, each beside what people write for them today: ``python benchmarks/rows.py``.

Both of a pair read the same file, and are measured in turn, round after round; a ratio is taken within a round. Nothing
is asserted: what is wanted is printed beside the figure.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import machine
import numpy as np
import tables
from measure import Measure, epochs, pulled
from numpy.typing import NDArray

import feedline
from feedline.errors import FeedlineError
from feedline.native import copied_by, gather

_ROOT = Path(__file__).resolve().parent.parent
_CACHE = _ROOT / ".cache" / "bench" / "rows"
_RESULTS = _ROOT / "benchmarks" / "results"
# A multiple of all sizes of rows: they share one file, which stays in the page cache.
_BYTES = 223 * 9_600_000
_PICTURE = (32, 32, 3)
_TOKENS = 1024
_WARM_SECONDS = 0.3
_MOST_ROWS = 2_200_000

Take = Callable[[NDArray[np.uint8], NDArray[np.intp], NDArray[np.uint8]], None]


@dataclass(frozen=True)
class Pair:
    """Ours and theirs, and how many times as fast ours is to be; 0 where nothing is demanded."""

    label: str
    theirs_label: str
    wanted: float
    ours: Callable[[], Measure]
    theirs: Callable[[], Measure]


def main() -> int:
    """Measure, print the table and write the results; return the exit code."""
    parser = argparse.ArgumentParser(description="Measure rows of many kinds beside what people write today.")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured (5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of one measurement (1.0)")
    parser.add_argument("--only", default="", help="measure only pairs with this in their names")
    parser.add_argument("--out", type=Path, default=_RESULTS, help="folder of results (benchmarks/results)")
    options = parser.parse_args()
    try:
        results = _measured(options)
    except FeedlineError as error:
        sys.stderr.write(f"feedline: {error}\n")
        return error.exit_code
    page = tables.rows_document(results)
    print(page)
    if not options.only:
        (options.out / "rows.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
        (options.out / "rows.md").write_text(page)
    return 0


def _measured(options: argparse.Namespace) -> dict[str, Any]:
    before = machine.describe()
    file = _prepared()
    pairs = [pair for pair in _pairs(file) if options.only in pair.label]
    rates: list[list[tuple[float, float]]] = [[] for _ in pairs]
    measures = [(pair.ours(), pair.theirs()) for pair in pairs]
    for path in _CACHE.rglob("*"):
        if path.is_file() and path.stat().st_blocks:
            _read(path)
    for number in range(options.rounds):
        for found, (ours, theirs) in zip(rates, measures, strict=True):
            found.append((ours(options.seconds), theirs(options.seconds)))
        sys.stderr.write(f"round {number + 1} of {options.rounds} is done\n")
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": before,
        "versions": machine.versions(),
        "gather": copied_by(),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "bytes": _BYTES,
        "pairs": [_told(pair, found) for pair, found in zip(pairs, rates, strict=True)],
        "first": [first_batch(*each, options.rounds) for each in ((10**6, 25, None), (10**9, 50, 50))],
    }


def _told(pair: Pair, rates: list[tuple[float, float]]) -> dict[str, Any]:
    ratios = [ours / theirs for ours, theirs in rates]
    return {
        "label": pair.label,
        "theirs": pair.theirs_label,
        "wanted": pair.wanted,
        "ours": round(statistics.median(ours for ours, _ in rates)),
        "others": round(statistics.median(theirs for _, theirs in rates)),
        "ratio": round(statistics.median(ratios), 3),
        "low": round(min(ratios), 3),
        "high": round(max(ratios), 3),
    }


def first_batch(rows: int, wanted_ms: int, wanted_mb: int | None, rounds: int) -> dict[str, Any]:
    """Return how long the first batch takes of so many rows of 8 bytes, of a file without blocks, and its memory."""
    path = _CACHE / f"{rows}.bin"
    path.touch()
    os.truncate(path, 8 * rows)
    arrays = feedline.open_arrays({"x": feedline.Stored(path, format="Raw", dtype="uint8", shape=(8,))})
    seconds, taken = [], []
    for seed in range(rounds):
        before, began = _own_bytes(), time.perf_counter()
        with feedline.Feed(arrays, 256, seed=seed) as batches:
            next(iter(batches))
            seconds.append(time.perf_counter() - began)
            taken.append(_own_bytes() - before)
    return {
        "rows": rows,
        "ms": round(statistics.median(seconds) * 1e3, 1),
        "mb": round(max(taken) / 1e6),
        "wantedMs": wanted_ms,
        "wantedMb": wanted_mb,
    }


def _own_bytes() -> int:
    """Return the bytes of this process that are of no file."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("RssAnon:")[2].split()[0])


def _prepared() -> Path:
    """Return a file of random bytes."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    path = _CACHE / f"{_BYTES}.bin"
    if not path.exists():
        partial_path = path.with_suffix(".partial")
        random = np.random.default_rng(0)
        with partial_path.open("wb") as file:
            for _ in range(223):
                file.write(random.bytes(_BYTES // 223))
        partial_path.replace(path)
    return path


def _read(path: Path) -> None:
    """Bring a file into the page cache, whatever pushed it out since it was written."""
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 24):
            pass


def _pairs(file: Path) -> Iterator[Pair]:
    wanted = {64: 3.0, 256: 2.2, 1000: 2.8, 2500: 2.0, 6400: 1.7, 150_000: 1.5}
    for size, factor in wanted.items():
        for batch in (256, 1024):
            yield Pair(
                f"feed, rows of {size:,} B, batch {batch:,}",
                "`np.take`, one thread",
                factor,
                partial(feed, rows(file, size), batch),
                partial(taken, file, size, batch),
            )
        for batch, share in ((256, 0.85), (32, 0.7)):
            yield Pair(
                f"feed, rows of {size:,} B, batch {batch}",
                "two threads that only gather",
                share,
                partial(feed, rows(file, size), batch),
                partial(in_two_threads, file, size),
            )
    yield Pair(
        "windows of 1,024 uint16 tokens as int64, batch 256",
        "nanoGPT's `get_batch`",
        4,
        partial(windows, file),
        partial(get_batch, file),
    )
    pictures = replace(rows(file, int(np.prod(_PICTURE))), shape=_PICTURE)
    yield Pair(
        "uint8 pictures scaled to float32 in the feed, batch 256",
        "the same by NumPy in the loop",
        2,
        partial(feed, pictures, 256, (feedline.Scale("x", 1 / 255),)),
        partial(scaled_in_the_loop, pictures),
    )
    yield Pair(
        "pictures cropped, mirrored and scaled in the feed, batch 256",
        "the same in a torch DataLoader, 2 workers, a row at a time",
        3,
        partial(feed, pictures, 256, (augmented, feedline.Scale("x", 1 / 255))),
        partial(in_a_dataloader, file),
    )
    if find_spec("torchvision") is not None:
        yield Pair(
            "pictures cropped, mirrored and scaled in the feed, batch 256",
            "torchvision's v2 transforms in a torch DataLoader, 2 workers",
            3,
            partial(feed, pictures, 256, (augmented, feedline.Scale("x", 1 / 255))),
            partial(by_torchvision, file),
        )
    yield Pair(
        "8 files, rows of 2,500 B, batch 256",
        "one file",
        0.9,
        partial(feed, parts(file), 256),
        partial(feed, rows(file, 2500), 256),
    )
    yield Pair(
        "contiguous HDF5, rows of 2,500 B, shuffled, batch 256",
        "h5py's own index",
        20,
        partial(feed, hdf5(file), 256),
        partial(indexed_by_h5py, file),
    )
    yield Pair(
        "contiguous HDF5, rows of 2,500 B, shuffled, batch 256",
        "a torch DataLoader over h5py, 2 workers",
        20,
        partial(feed, hdf5(file), 256),
        partial(hdf5_in_a_dataloader, file),
    )


def rows(file: Path, size: int) -> feedline.Stored:
    """Return rows of so many bytes."""
    whole = _beginning(file, f"{size}.bin", min(_MOST_ROWS, file.stat().st_size // size) * size)
    return feedline.Stored(whole, format="Raw", dtype="uint8", shape=(size,))


def _beginning(file: Path, name: str, size: int) -> Path:
    """Return the first bytes of a file as one of its own, which a row's size divides."""
    if size == file.stat().st_size:
        return file
    path = _CACHE / name
    if not path.exists() or path.stat().st_size != size:
        with file.open("rb") as source, path.open("wb") as target:
            left = size
            while left:
                piece = source.read(min(left, 1 << 24))
                target.write(piece)
                left -= len(piece)
    return path


def parts(file: Path) -> feedline.Stored:
    """Return rows of 2,500 bytes in eight files."""
    folder, each = _CACHE / "parts", _BYTES // 2500 // 8 * 2500
    folder.mkdir(exist_ok=True)
    with file.open("rb") as source:
        for number in range(8):
            path = folder / f"{number}.bin"
            if not path.exists():
                source.seek(number * each)
                path.write_bytes(source.read(each))
    return feedline.Stored(folder / "*.bin", format="Raw", dtype="uint8", shape=(2500,))


def hdf5(file: Path) -> feedline.Stored:
    """Return rows of 2,500 bytes in a contiguous HDF5 file."""
    import h5py

    path = _CACHE / "rows.h5"
    if not path.exists():
        source = np.memmap(file, np.uint8, "r", shape=(_BYTES // 2500 // 4, 2500))
        with h5py.File(path, "w") as target:
            target.create_dataset("x", data=source)
    return feedline.Stored(path, member="x")


def feed(
    stored: feedline.Stored | dict[str, feedline.Stored], batch_size: int, transforms: tuple[Any, ...] = ()
) -> Measure:
    """Take the feed's own batches."""
    named = stored if isinstance(stored, dict) else {"x": stored}
    batches = feedline.Feed(feedline.open_arrays(named), batch_size, transforms=transforms)
    return warmed(pulled(lambda: epochs(batches), batch_size))


def warmed(measure: Measure) -> Measure:
    """Return a measure that begins when memory and threads are as they will be for the rest of a training."""

    def measured(seconds: float) -> float:
        measure(_WARM_SECONDS)
        return measure(seconds)

    return measured


def taken(file: Path, size: int, batch_size: int) -> Measure:
    """Gather one batch after the other into the same memory, in this thread."""
    return pulled(lambda: _taken(file, size, batch_size, by_numpy), batch_size)


def by_numpy(source: NDArray[np.uint8], order: NDArray[np.intp], slot: NDArray[np.uint8]) -> None:
    """Copy rows as `np.take` does."""
    np.take(source, order, 0, slot, "clip")


def as_the_feed(source: NDArray[np.uint8], order: NDArray[np.intp], slot: NDArray[np.uint8]) -> None:
    """Copy rows as the feed does."""
    compiled = gather([source])
    if compiled is None:
        by_numpy(source, order, slot)
    else:
        compiled.take(order, slot)


def _taken(file: Path, size: int, batch_size: int, take: Take) -> Generator[NDArray[np.uint8]]:
    source = np.memmap(file, np.uint8, "r", shape=(min(_MOST_ROWS, _BYTES // size), size)).view(np.ndarray)
    slot, random = np.empty((batch_size, size), np.uint8), np.random.default_rng()
    while True:
        order = random.permutation(len(source))
        for start in range(0, len(source) - batch_size + 1, batch_size):
            take(source, order[start : start + batch_size], slot)
            yield slot


def in_two_threads(file: Path, size: int) -> Measure:
    """Gather in two threads at once, as much at a time as the feed does; nothing is handed over."""
    at_once = (8 << 20) // size
    alone = [pulled(lambda: _taken(file, size, at_once, as_the_feed), at_once) for _ in range(2)]

    def measure(seconds: float) -> float:
        with ThreadPoolExecutor(2) as threads:
            return sum(threads.map(lambda one: one(seconds), alone))

    return measure


def windows(file: Path) -> Measure:
    """Take windows of tokens and what follows each, as int64."""
    tokens = partial(feedline.Stored, file, format="Raw", dtype="uint16")
    stored = {
        "x": tokens(window=feedline.Window(_TOKENS, stride=_TOKENS)),
        "y": tokens(window=feedline.Window(_TOKENS, stride=_TOKENS, start=1)),
    }
    return feed(stored, 256, (feedline.Cast("x", "int64"), feedline.Cast("y", "int64")))


def get_batch(file: Path) -> Measure:
    """Take what nanoGPT's `get_batch` does (https://github.com/karpathy/nanoGPT/blob/master/train.py), with NumPy."""

    def batches() -> Generator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        random = np.random.default_rng()
        while True:
            data = np.memmap(file, np.uint16, "r")
            starts = random.integers(0, len(data) - _TOKENS, 256)
            x = np.stack([data[start : start + _TOKENS].astype(np.int64) for start in starts])
            y = np.stack([data[start + 1 : start + 1 + _TOKENS].astype(np.int64) for start in starts])
            yield x, y

    return pulled(batches, 256)


def scaled_in_the_loop(pictures: feedline.Stored) -> Measure:
    """Take batches of the feed, and scale each when it is there."""
    batches = feedline.Feed(feedline.open_arrays({"x": pictures}), 256)

    def scaled() -> Generator[NDArray[np.float32]]:
        for batch in epochs(batches):
            yield np.multiply(batch["x"], np.float32(1 / 255), dtype=np.float32)

    return warmed(pulled(scaled, 256))


def augmented(batch: dict[str, NDArray[np.uint8]], context: feedline.Context) -> dict[str, NDArray[np.uint8]]:
    """Crop pictures out of a margin of four pixels, and mirror half of them."""
    pictures = np.pad(batch["x"], ((0, 0), (4, 4), (4, 4), (0, 0)))
    crops = np.lib.stride_tricks.sliding_window_view(pictures, _PICTURE[:2], axis=(1, 2))
    down, across = context.integers(9, 2).T
    cropped = crops[np.arange(len(pictures)), down, across].transpose(0, 2, 3, 1)
    mirrored = context.uniform() < 0.5
    return {"x": np.where(mirrored[:, None, None, None], cropped[:, :, ::-1], cropped)}


def in_a_dataloader(file: Path) -> Measure:
    """Do the same a row at a time in a `Dataset`, in two worker processes."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    class Pictures(Dataset[Any]):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rows = np.memmap(file, np.uint8, "r", shape=(_BYTES // 3072, *_PICTURE))

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, row: int) -> Any:
            picture = np.pad(self.rows[row], ((4, 4), (4, 4), (0, 0)))
            down, across, mirror = (int(torch.randint(9, ())), int(torch.randint(9, ())), torch.rand(()) < 0.5)
            picture = picture[down : down + 32, across : across + 32]
            picture = picture[:, ::-1] if mirror else picture
            return torch.from_numpy(picture.astype(np.float32) / 255)

    loader = DataLoader(Pictures(), 256, shuffle=True, num_workers=2, drop_last=True)
    return pulled(lambda: epochs(loader), 256)


def by_torchvision(file: Path) -> Measure:
    """Do the same by torchvision's transforms, a row at a time, in two worker processes."""
    import torch
    from torch.utils.data import DataLoader, Dataset
    from torchvision.transforms import v2

    change = v2.Compose(
        [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)]
    )

    class Pictures(Dataset[Any]):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rows = np.memmap(file, np.uint8, "r", shape=(_BYTES // 3072, 3, 32, 32))

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, row: int) -> Any:
            return change(torch.from_numpy(self.rows[row].copy()))

    loader = DataLoader(Pictures(), 256, shuffle=True, num_workers=2, drop_last=True)
    return pulled(lambda: epochs(loader), 256)


def hdf5_in_a_dataloader(file: Path) -> Measure:
    """Take a row at a time by h5py, which each of two worker processes opens for itself."""
    import h5py
    import torch
    from torch.utils.data import DataLoader, Dataset

    path = hdf5(file).path
    with h5py.File(path) as opened:
        count = len(opened["x"])

    class Rows(Dataset[Any]):  # type: ignore[misc]
        source: Any = None

        def __len__(self) -> int:
            return count

        def __getitem__(self, row: int) -> Any:
            self.source = self.source or h5py.File(path)["x"]
            return torch.from_numpy(self.source[row])

    loader = DataLoader(Rows(), 256, shuffle=True, num_workers=2, drop_last=True)
    return pulled(lambda: epochs(loader), 256)


def indexed_by_h5py(file: Path) -> Measure:
    """Take the rows of a batch by h5py's own index, which wants them sorted."""
    import h5py

    path = hdf5(file).path

    def batches() -> Generator[NDArray[np.uint8]]:
        random = np.random.default_rng()
        with h5py.File(path) as opened:
            source = opened["x"]
            while True:
                yield source[np.sort(random.choice(len(source), 256, replace=False))]

    return pulled(batches, 256)


if __name__ == "__main__":
    sys.exit(main())
