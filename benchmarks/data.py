"""The rows that every way reads: generated once for each number of rows, kept under `.cache/bench`, in the page cache.

`[rows, 25, 25]` float32 features with int32 labels, once as one file and once more as eight files of an eighth each.
Invariant: a folder with its final name is complete.
"""

import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import feedline
from feedline.errors import StorageError

ROW_SHAPE = (25, 25)
ROW_BYTES = 25 * 25 * 4 + 4
"""Features and label."""
CLASSES = 10
PARTS = 8

_CHUNK_ROWS = 16384


@dataclass(frozen=True)
class Data:
    """Where the files lie, and how many rows they have."""

    folder: Path
    rows: int
    cold: bool = False
    """Whether what a way opens is left as it lies on the disk."""

    @property
    def paths(self) -> dict[str, Path]:
        """The file of each array."""
        return {"features": self.folder / "features.npy", "labels": self.folder / "labels.npy"}

    @property
    def part_paths(self) -> dict[str, Path]:
        """The same rows, the features as a pattern of eight files."""
        return {"features": self.folder / "parts" / "features-*.npy", "labels": self.folder / "labels.npy"}


def prepare(root: Path, rows: int, *, warm: bool = True) -> Data:
    """Generate the files below `root` unless they are there, and bring them into the page cache if `warm`.

    Raises
    ------
    StorageError
        They cannot be written or read.
    """
    folder = root / f"{rows}x25x25-float32"
    try:
        if not folder.is_dir():
            _generate(folder, rows)
        if warm:
            _warm(folder)
    except OSError as error:
        raise StorageError(
            f"{folder}: the data cannot be written or read ({error.strerror}): it needs {2 * rows * ROW_BYTES:,} bytes"
        ) from error
    return Data(folder, rows)


def _generate(folder: Path, rows: int) -> None:
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "parts").mkdir(parents=True)
    random = np.random.default_rng(0)
    with (partial / "features.npy").open("wb") as whole:
        _write_header(whole, rows)
        for part in range(PARTS):
            start, stop = rows * part // PARTS, rows * (part + 1) // PARTS
            with (partial / "parts" / f"features-{part}.npy").open("wb") as file:
                _write_header(file, stop - start)
                for begin in range(start, stop, _CHUNK_ROWS):
                    chunk = random.random((min(_CHUNK_ROWS, stop - begin), *ROW_SHAPE), np.float32)
                    chunk.tofile(whole)
                    chunk.tofile(file)
    np.save(partial / "labels.npy", random.integers(0, CLASSES, rows, np.int32))
    partial.rename(folder)


def _write_header(file: Any, rows: int) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": (rows, *ROW_SHAPE)}
    np.lib.format.write_array_header_1_0(file, header)


def _warm(folder: Path) -> None:
    buffer = bytearray(4 << 20)
    for path in folder.rglob("*.npy"):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


@cache
def mapped(data: Data) -> dict[str, NDArray[Any]]:
    """Return the arrays as `numpy.load` maps them, as plain ndarrays, with every page mapped into this process."""
    # A memmap is a subclass whose every view runs Python code; whoever cares for speed takes the array under it.
    arrays = {name: np.asarray(np.load(path, mmap_mode="r")) for name, path in data.paths.items()}
    for array in () if data.cold else arrays.values():
        # One byte a page: a long run would have met the page faults once, and no way is to meet them for another.
        array.reshape(-1).view(np.uint8)[:: 4 << 10].max()
    return arrays


@cache
def opened(data: Data, *, parts: bool = False) -> feedline.Arrays:
    """Return the arrays as the feed opens them, with every page mapped into this process."""
    arrays = feedline.open_arrays(data.part_paths if parts else data.paths)
    for array in arrays.values():
        copied = np.empty((_CHUNK_ROWS, array.row_bytes), np.uint8)
        for start in range(0, array.rows, _CHUNK_ROWS):
            rows = np.arange(start, min(start + _CHUNK_ROWS, array.rows))
            array.take(rows, copied[: len(rows)])
    return arrays
