"""Named arrays with the same number of rows: which files they are, whether these are still what they were, and whose.

This module knows no order, thread or framework.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from feedline.errors import DataError, EnvironmentInvalidError, InputMissingError, UsageError, edge
from feedline.files.array import Array
from feedline.files.boundaries import Segments, check_boundaries, segments, undivided
from feedline.files.chosen import Chosen, Rows, check_index, chosen
from feedline.files.cut import Cut, cut
from feedline.files.file import File
from feedline.files.memory import Memory, Private
from feedline.files.stored import Stored
from feedline.files.windows import Window, common

Residency = Literal["auto", "mapped", "read", "memory"]
_One = str | os.PathLike[str] | Stored
Source = _One | Sequence[_One]
_SAMPLED_ROWS = 64


class Arrays(Mapping[str, Array]):
    """Named arrays with the same number of rows; made by `open_arrays`.

    Attributes
    ----------
    rows
        Rows of an epoch, unless some are drawn.
    windows, segments
        Which windows there are; where they begin elsewhere in each epoch, between which of them: then the rows of an
        epoch are some of those that the arrays have.
    """

    def __init__(
        self,
        arrays: Mapping[str, Array],
        arguments: tuple[Any, ...],
        used: Chosen,
        windows: Cut | None = None,
        segments: Segments | None = None,
    ) -> None:
        self._arrays = dict(arrays)
        self._arguments, self._used, self.windows, self.segments = arguments, used, windows, segments
        self._files = tuple(file for array in self._arrays.values() for file in array.files)
        self.rows = next(iter(self._arrays.values())).rows
        if segments is not None:
            self.rows = int(segments.counts.sum())

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __reduce__(self) -> tuple[Any, ...]:
        return open_arrays, self._arguments

    @property
    def bytes(self) -> int:
        """Bytes of all rows of all arrays, each byte of a file once."""
        return bytes_of(self)

    @property
    def loaded_bytes(self) -> int:
        """Bytes of memory that all rows take where they are read into it."""
        return sum(array.loaded_bytes for array in self.values())

    @property
    def residency(self) -> Residency:
        """What `open_arrays` was asked for."""
        return cast("Residency", self._arguments[2])

    def part(self, start: int, stop: int) -> Rows:
        """Return by which rows `open_arrays` opens some of these rows."""
        first, _, numbers = self._used
        if self.windows is not None and self.segments is not None:
            return self.windows.range_of(self.segments.places(start)[0], self.segments.places(stop - 1)[1] + 1)
        if self.windows is not None:
            windows = (start, stop) if numbers is None else (int(numbers[start]), int(numbers[stop - 1]) + 1)
            return self.windows.range_of(*windows)
        if numbers is not None:
            return numbers[start:stop].astype(np.int64) + first
        return first + start, first + stop

    def verify(self) -> None:
        """Raise `DataError` if a mapped file was cut short or written to since it was opened."""
        for file in self._files:
            file.verify()

    def fingerprint(self) -> dict[str, Any]:
        """Return what tells these rows from others, as JSON: headers, and a hash of at most 64 rows of each array."""
        self.verify()
        # Imported here: a script that saves no state should not wait for them.
        import hashlib
        import json

        digest = hashlib.blake2b(digest_size=16)
        headers = {}
        for name, array in sorted(self.items()):
            headers[name] = f"{array.dtype.descr if array.dtype.names else array.dtype.str} {list(array.row_shape)}"
            sample = np.unique(np.linspace(0, array.rows - 1, min(_SAMPLED_ROWS, array.rows)).astype(np.intp))
            out = np.empty((len(sample), array.row_bytes), np.uint8)
            array.copy(sample, out)
            digest.update(json.dumps(name).encode() + out.tobytes())
        if self._used.numbers is not None:
            digest.update(self._used.numbers.tobytes())
        found = {"rows": self.rows, "arrays": headers}
        if self.segments is not None:
            digest.update(self.segments.firsts.tobytes() + self.segments.rooms.tobytes())
            found["windows"] = f"every {self.segments.stride}, beginning elsewhere in each epoch"
        return {**found, "sample": digest.hexdigest()}

    def modified_ns(self) -> int:
        """Return the newest modification time of the files, in nanoseconds."""
        return max(array.modified_ns for array in self.values())


@edge()
def open_arrays(
    sources: Mapping[str, Source] | str | os.PathLike[str],
    rows: Rows | str | os.PathLike[str] | None = None,
    residency: Residency = "auto",
    memory: Memory | None = None,
    boundaries: NDArray[Any] | str | os.PathLike[str] | None = None,
) -> Arrays:
    """Open `.npy` files, and other files whose rows lie together, as named arrays with the same number of rows.

    ::

        arrays = feedline.open_arrays({"features": "data/features.npy", "labels": "data/labels/*.npy"})
        arrays = feedline.open_arrays("data")  # every *.npy and every folder of them, named by its stem
        arrays = feedline.open_arrays({"x": feedline.Stored("run.h5", member="x"), "y": "run.y.npy"})

    Parameters
    ----------
    sources
        A directory, or for each name a path or what `Stored` says of it. A path may have a ``*`` in its last part, the
        only character that stands for others, and a list of paths is fine too: several files are read as one array, in
        natural order, without copying them.
    rows
        Start and stop of the rows to use, of the rows of all files together; all by default. Where rows are windows,
        these are made of the elements from start to stop, so that two ranges share none. Or an index: an array of the
        numbers of rows, in the order that they have without a shuffle, or of True and False for every row; or the path
        of a file that holds one.
    residency
        ``"auto"`` maps the files, and a feed reads rows that are not in memory ahead of need; ``"mapped"`` maps them
        and leaves it to the kernel; ``"read"`` has a feed read every row with calls of its own, many at a time, as it
        does by itself for files on a network; ``"memory"`` reads them into memory now.

    memory
        Where ``"memory"`` puts them; None: into the memory of this process.
    boundaries
        Where rows are windows, the numbers of elements, of those of all files together, at which something new begins,
        such as a document or an episode: windows that have elements from before one and from behind it are left out.
        An array, or the path of a file that holds one.

    Raises
    ------
    InputMissingError
        A file is missing or may not be read, or has no such array.
    DataError
        A file is no usable one of its format, files of one array differ in row shape or dtype, or row counts differ: of
        the arrays, or of the files that make two of them.
    EnvironmentInvalidError
        The files are to be mapped, and their file system does not allow it; or one is HDF5, and there is no h5py.
    UsageError
        The range of rows is empty or lies outside of the data, or an index is given of rows that are windows, or
        boundaries of others.
    """
    if residency not in get_args(Residency):
        raise UsageError(f"residency: must be auto, mapped, read or memory (got {residency!r})")
    named = _named_paths(sources)
    windows = {name: _window(name, several) for name, several in named.items()}
    reach = common(windows)
    opened = {name: [File(stored) for stored in several] for name, several in named.items()}
    if residency == "mapped":
        _require_mapped(opened)
    _tell_what_is_not_read(opened)
    counts = {name: _joined_rows(name, files) for name, files in opened.items()}
    _check_pairs(opened, least=1 if reach else 2)
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise DataError(f"arrays must have the same number of rows: {told}")
    total = next(iter(counts.values()))
    used = _chosen(rows, total)
    own, there, between = _cut(opened, windows, used, reach, total, boundaries)
    where = (memory or Private()) if residency == "memory" else None
    arrays = {name: Array(name, files, own, where) for name, files in opened.items()}
    if where is not None:
        where.filled()
    return Arrays(arrays, (named, rows, residency, None, boundaries), own, there, between)


def _cut(
    opened: dict[str, list[File]],
    windows: Mapping[str, Window | None],
    used: Chosen,
    reach: int,
    total: int,
    boundaries: NDArray[Any] | str | os.PathLike[str] | None,
) -> tuple[Chosen, Cut | None, Segments | None]:
    """Have the rows of files be windows over those in use, where they have them; return which rows there are then."""
    if boundaries is not None and not reach:
        raise UsageError("boundaries: are for rows that are windows: give each array a window")
    if reach and used.numbers is not None:
        raise UsageError("rows: of rows that are windows none can be chosen by an index: give start and stop")
    there = None
    for name, window in windows.items():
        if window is not None:
            opened[name], there = cut(name, opened[name], (used.start, used.stop), window, reach)
    if there is None:
        return used, None, None
    name, edges = "boundaries", np.empty(0, np.int64) if boundaries is None else boundaries
    if isinstance(edges, str | os.PathLike):
        name, edges = str(edges), _read(edges, check_boundaries)
    all_of_them = Chosen(0, sum(there.counts), None)
    if not there.is_fixed:
        return all_of_them, there, segments(there, edges, total, name)
    if boundaries is None:
        return all_of_them, there, None
    return all_of_them._replace(numbers=undivided(there, edges, total, name)), there, None


def _chosen(rows: Rows | str | os.PathLike[str] | None, total: int) -> Chosen:
    if not isinstance(rows, str | os.PathLike):
        return chosen(rows, total)
    return chosen(_read(rows, check_index), total, str(rows))


def _read(path: str | os.PathLike[str], check: Callable[[str, np.dtype[Any], tuple[int, ...]], None]) -> NDArray[Any]:
    """Return the rows of a file, once what they are is checked."""
    (array,) = open_arrays({"numbers": path}).values()
    check(str(path), array.dtype, array.row_shape)
    return array.read(0, array.rows)


def bytes_of(*several: Arrays) -> int:
    """Return the bytes of all rows of these, in memory and in files, each byte of a file once."""
    found = [array for arrays in several for array in arrays.values()]
    spans = sorted(
        (part.file.identity, part.offset, part.offset + part.bytes) for array in found for part in array.mapped
    )
    total, last, end = sum(array.bytes for array in found if not array.mapped), None, 0
    for file, start, stop in spans:
        total += stop - (start if file != last else min(max(start, end), stop))
        last, end = file, stop if file != last else max(stop, end)
    return total


def _window(name: str, several: Sequence[Stored]) -> Window | None:
    found = {stored.window for stored in several}
    if len(found) > 1:
        raise UsageError(f"{name}: its files have different windows: give all of them the same")
    return found.pop()


def _require_mapped(opened: Mapping[str, Sequence[File]]) -> None:
    for file in (file for files in opened.values() for file in files):
        if file.rows is None:
            raise EnvironmentInvalidError(
                f"{file.path}: its file system does not allow files to be mapped (as FUSE with direct_io): "
                "choose residency Auto, Read or Memory, or copy the file to another one"
            )


def _tell_what_is_not_read(opened: Mapping[str, Sequence[File]]) -> None:
    """Log once what lies behind the last rows of files."""
    more = [file for files in opened.values() for file in files if file.left_over]
    if more:
        # Imported here: a script whose files are all read should not wait for it.
        import logging

        others = f"; so it is with {len(more) - 1:,} other files" if len(more) > 1 else ""
        logging.getLogger("feedline").warning("%s%s", more[0].in_addition(), others)


def _check_pairs(opened: Mapping[str, Sequence[File]], least: int) -> None:
    """Refuse arrays whose files do not go together one by one: rows would be of other labels.

    An array of one file goes with any, unless rows are windows, which begin anew in each file: then `least` is 1.
    """
    several = {name: files for name, files in opened.items() if len(files) >= least}
    if all(len(files) == 1 for files in several.values()):
        return
    first_name, first = next(iter(several.items()))
    for name, files in several.items():
        if len(files) != len(first):
            raise DataError(
                f"{first_name} has {len(first)} files and {name} has {len(files)}: "
                "arrays of several files need as many each, with the same rows in each"
                + ("; windows begin anew in each file" if least == 1 else "")
            )
        for one, other in zip(first, files, strict=True):
            if one.header.rows != other.header.rows:
                raise DataError(
                    f"{other.path}: has {other.header.rows} rows where {one.path} has {one.header.rows}: "
                    "the files of two arrays must have the same rows one by one"
                )
        numbers, first_numbers = _numbers(files), _numbers(first)
        if numbers != first_numbers and set(numbers) & set(first_numbers):
            odd = next(place for place, number in enumerate(numbers) if number != first_numbers[place])
            raise DataError(
                f"{files[odd].path}: stands where {first[odd].path} stands in {first_name}, by the numbers in their "
                "names: one of both is missing, or named otherwise"
            )


def _numbers(files: Sequence[File]) -> list[tuple[int, ...]]:
    """Return the numbers in the names of files by which these are told apart."""
    found = [tuple(map(int, re.findall(r"[0-9]+", file.path.name))) for file in files]
    if len(set(map(len, found))) > 1:
        return found
    places = [place for place, column in enumerate(zip(*found, strict=True)) if len(set(column)) > 1]
    return [tuple(numbers[place] for place in places) for numbers in found]


def _joined_rows(name: str, files: Sequence[File]) -> int:
    first = files[0]
    for file in files[1:]:
        if (file.header.dtype, file.header.row_shape) != (first.header.dtype, first.header.row_shape):
            raise DataError(
                f"{file.path}: has rows of {file.header.dtype.str} {file.header.row_shape}, but {first.path} of the "
                f"same array {name} has {first.header.dtype.str} {first.header.row_shape}"
            )
    return sum(file.header.rows for file in files)


def _named_paths(sources: Mapping[str, Source] | str | os.PathLike[str]) -> dict[str, list[Stored]]:
    if isinstance(sources, Mapping):
        named = {name: _files(source) for name, source in sources.items()}
    else:
        if not isinstance(sources, (str, os.PathLike)):
            raise UsageError(f"sources: must be a directory or a mapping of name to path (got {sources!r})")
        folder = Path(sources)
        if not folder.is_dir():
            raise InputMissingError(f"{folder}: there is no such directory (or pass a mapping of name to path)")
        named = {path.stem: [Stored(path)] for path in sorted(_matching(folder, "*.npy"))}
        for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
            if _matching(inner, "*.npy"):
                if inner.name in named:
                    raise UsageError(f"{folder}: both {inner.name}.npy and {inner.name}/ would be named {inner.name}")
                named[inner.name] = _files(inner / "*.npy")
    if not named:
        raise InputMissingError(
            f"{sources}: holds no .npy files"
            if not isinstance(sources, Mapping)
            else "sources: name at least one array"
        )
    return named


def _files(source: Source) -> list[Stored]:
    if not isinstance(source, (str, os.PathLike, Stored)):
        if not source or not isinstance(source, Sequence):
            raise UsageError(f"sources: an array is a path or a list of paths (got {source!r})")
        return [stored for each in source for stored in _files(each)]
    stored = source if isinstance(source, Stored) else Stored(source)
    path = Path(stored.path)
    if "*" not in path.name:
        return [replace(stored, path=path)]
    found = sorted(_matching(path.parent, path.name), key=natural)
    if not found:
        raise InputMissingError(f"{path}: no file matches")
    return [replace(stored, path=each) for each in found]


def _matching(folder: Path, pattern: str) -> list[Path]:
    """Return the files that match, without hidden ones; nothing but ``*`` stands for other characters."""
    matches = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL).fullmatch
    try:
        return [path for path in folder.iterdir() if matches(path.name) and not path.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InputMissingError(f"{folder}: cannot be listed ({error.strerror})") from None


def natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Sort key that puts part-2 before part-10, and orders all names: p1 and p01 too."""
    pieces = [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in re.split(r"(\d+)", path.name)]
    return pieces, path.name
