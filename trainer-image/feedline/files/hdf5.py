"""HDF5 files: h5py reads them, and says of a dataset in one piece at which byte it begins.

HDF5 has more types than numpy. Only those are taken whose bytes numpy reads as they lie; for others h5py would convert
what it reads, and a mapping would show other numbers.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from feedline.errors import DataError, EnvironmentInvalidError, FeedlineError, InputMissingError
from feedline.files.header import Header, checked
from feedline.files.members import chosen, listed, packing, shown
from feedline.files.stored import Opened, Stored


def read(opened: Opened, stored: Stored) -> Header:
    """Return where the rows of a dataset lie.

    Raises
    ------
    DataError
        The file is damaged, or its dataset lies in chunks, outside or nowhere, or is of a type that numpy has not.
    InputMissingError
        There is no such dataset.
    EnvironmentInvalidError
        h5py is not installed.
    """
    with hdf5_file(opened.same, str(opened.path)) as file:
        name = None if stored.member is None else stored.member.strip("/")
        if name is None:
            name = chosen(opened.path, [each for each, _ in hdf5_datasets(file)], None)
        return _header(opened, f"{opened.path}: {shown(name)}", _dataset(opened, file, name))


@contextmanager
def hdf5_file(place: str, shown_as: str) -> Iterator[Any]:
    """Open a file; whatever is wrong with its content is told in one sentence.

    Raises
    ------
    DataError
        It is no HDF5 file, or damaged.
    EnvironmentInvalidError
        h5py is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise EnvironmentInvalidError(
            f"{shown_as}: HDF5 needs h5py, which is not installed: pip install 'feedline[hdf5]'"
        ) from None
    try:
        with h5py.File(place, "r", locking=False) as file:
            yield file
    except FeedlineError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        told = " ".join(str(error).split())
        if "is not registered" in told:
            raise DataError(f"{shown_as}: is compressed by a filter that h5py does not have ({told})") from None
        raise DataError(f"{shown_as}: is no HDF5 file, or damaged ({told})") from None


def hdf5_datasets(file: Any) -> list[tuple[str, Any]]:
    """Return the datasets of an open file, each once, by the path that leads to it."""
    import h5py

    found: list[tuple[str, Any]] = []

    def visit(name: Any) -> None:
        try:
            item = file[name]
        except TypeError:  # of a type that is nothing to h5py
            return
        if isinstance(item, h5py.Dataset):
            found.append((os.fsdecode(name), item))

    file.visit(visit)
    return found


def hdf5_dtype(dataset: Any) -> tuple[np.dtype[Any], tuple[int, ...]] | None:
    """Return dtype and shape by which numpy reads the bytes of a dataset as they lie; None where there are none."""
    import h5py

    kind = dataset.id.get_type()
    # Before h5py makes a dtype of it: what a tag of an opaque type says may end the process.
    if dataset.shape is None or not _is_plain(kind, h5py.h5t):
        return None
    dtype = dataset.dtype
    if h5py.h5t.py_create(dtype, logical=True) != kind:
        return None
    base, inner = dtype.subdtype or (dtype, ())
    return _bare(base), (*dataset.shape, *inner)


def _is_plain(kind: Any, types: Any) -> bool:
    match kind.get_class():
        case types.INTEGER | types.FLOAT | types.ENUM:
            return True
        case types.STRING:
            return not kind.is_variable_str()
        case types.COMPOUND:
            return all(_is_plain(kind.get_member_type(number), types) for number in range(kind.get_nmembers()))
        case types.ARRAY:
            return _is_plain(kind.get_super(), types)
        case _:
            return False


def _bare(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a dtype without what h5py notes on it."""
    if dtype.names is None or dtype.fields is None:
        return np.dtype(dtype.str) if dtype.subdtype is None else np.dtype((_bare(dtype.subdtype[0]), dtype.shape))
    fields = [dtype.fields[name] for name in dtype.names]
    return np.dtype(
        {
            "names": list(dtype.names),
            "formats": [_bare(field[0]) for field in fields],
            "offsets": [field[1] for field in fields],
            "itemsize": dtype.itemsize,
        }
    )


def _dataset(opened: Opened, file: Any, name: str) -> Any:
    import h5py

    try:
        item = file[name]
    except KeyError:
        item = None
    if not isinstance(item, h5py.Dataset):
        told = listed(sorted(each for each, _ in hdf5_datasets(file)))
        raise InputMissingError(f"{opened.path}: has no dataset {shown(name)}, but {told}")
    if item.file.id != file.id:
        raise DataError(f"{opened.path}: {shown(name)}: lies in another file, {item.file.filename}: name that one")
    return item


def _header(opened: Opened, what: str, dataset: Any) -> Header:
    found = hdf5_dtype(dataset)
    if found is None:
        raise DataError(
            f"{what}: is not of numbers, or fixed-width text, that lie in the file as numpy reads them: write it with "
            "h5py from an array of such"
        )
    if dataset.external:
        raise DataError(f"{what}: lies in other files ({shown(dataset.external[0][0])}): name those, with format Raw")
    if dataset.is_virtual:
        raise DataError(f"{what}: is a view of datasets in other files: name those, several are one array")
    if dataset.chunks is not None:
        how = f"and compressed by {dataset.compression}" if dataset.compression else f"of {list(dataset.chunks)}"
        raise DataError(f"{what}: lies in chunks {how}, so its rows do not lie together: {packing(opened.path)}")
    offset = dataset.id.get_offset()
    if offset is None:
        raise DataError(f"{what}: was never written to, or has no place of its own: {packing(opened.path)}")
    dtype, shape = found
    return checked(what, dtype, shape, int(offset), opened.size, packing(opened.path))
