"""Tables and files of arrays made from a model of what they hold: what is packed and opened is what numpy makes of it."""

# ruff: noqa: PT017 - what is refused need not be

import csv
import io
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

import feedline
from feedline.errors import DataError, FeedlineError
from feedline.pack import Columns, Dialect, pack

FLOATS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**60), 2**60).map(float),
    st.floats(-1000, 1000, width=32),
)
WORDS = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories=["Cc", "Cf", "Cs", "Zs"]),
    min_size=1,
    max_size=6,
).filter(str.isprintable)


def holds(value, dtype):
    """Tell by Python's own numbers whether a type of numpy holds a number as it was meant."""
    if np.dtype(dtype).kind != "f":
        limits = np.iinfo(dtype)
        return value == int(value) and limits.min <= int(value) <= limits.max
    with np.errstate(over="ignore"):
        cast = float(np.dtype(dtype).type(value))
    if np.isinf(cast) or (cast == 0 and value != 0):
        return False
    return cast == value or value != int(value) or abs(value) >= 2**53


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_text_table_is_what_it_was_made_of_or_is_refused(data):
    rows, width = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 4))
    numbers = data.draw(st.lists(st.lists(FLOATS, min_size=width, max_size=width), min_size=rows, max_size=rows))
    classes = data.draw(st.lists(WORDS, min_size=rows, max_size=rows))
    assume(not any(name.lower() == "nan" for name in classes))
    dtype = data.draw(st.sampled_from(["float32", "float64", "float16", "int32", "uint8", "int64"]))
    delimiter, decimal = data.draw(st.sampled_from([(",", "."), (";", ","), ("tab", "."), ("|", ",")]))
    header = data.draw(st.booleans())
    write = data.draw(st.sampled_from([repr, "{:.17g}".format, "{:+.20e}".format]))
    text = io.StringIO()
    writer = csv.writer(
        text,
        delimiter="\t" if delimiter == "tab" else delimiter,
        lineterminator=data.draw(st.sampled_from(["\n", "\r\n"])),
    )
    if header:
        writer.writerow([f"c{column}" for column in range(width)] + ["name"])
    for row, name in zip(numbers, classes, strict=True):
        writer.writerow([write(number).replace(".", decimal) for number in row] + [name])
    is_number = classes[0].isascii() and _reads(classes[0].replace(decimal, "."))
    assume(not is_number)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t.csv")
        path.write_text(text.getvalue(), encoding="utf-8", newline="")
        fits = all(holds(number, dtype) for row in numbers for number in row)
        try:
            packed = pack(
                [path],
                Path(folder, "out"),
                columns=Columns(header=header),
                dialect=Dialect(delimiter, decimal),
                dtype=dtype,
            )
        except DataError as error:
            assert not fits, (str(error), numbers)
            assert "does not fit" in str(error)
            assert "line " in str(error)
            return
        assert fits, numbers
        np.testing.assert_array_equal(np.load(Path(folder, "out", "features.npy")), np.array(numbers).astype(dtype))
        labels = np.load(Path(folder, "out", "labels.npy"))
        assert [packed.classes[label] for label in labels] == classes


def _reads(text):
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


KINDS = {
    "int8": st.integers(-128, 127),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "uint64": st.integers(0, 2**64 - 1),
    "float32": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "float64": st.floats(allow_nan=False, allow_infinity=False),
    "bool": st.booleans(),
}


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_parquet_table_is_what_it_was_made_of_or_is_refused(data):
    rows = data.draw(st.integers(1, 6))
    kinds = data.draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=4))
    columns = [data.draw(st.lists(KINDS[kind], min_size=rows, max_size=rows)) for kind in kinds]
    dtype = data.draw(st.sampled_from(["float32", "float64", "int64", "uint64", "uint8"]))
    table = {
        f"c{number}": pa.array(column, getattr(pa, kind if kind != "bool" else "bool_")())
        for number, (kind, column) in enumerate(zip(kinds, columns, strict=True))
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t.parquet")
        parquet.write_table(pa.table(table), path)
        try:
            pack([path], Path(folder, "out"), columns=Columns(labelled=False), dtype=dtype)
        except DataError as error:
            assert "does not fit" in str(error)
            bad = [
                (kind, value)
                for kind, column in zip(kinds, columns, strict=True)
                for value in column
                if not _kept(value, kind, dtype)
            ]
            assert bad, (str(error), columns)
            return
        features = np.load(Path(folder, "out", "features.npy"))
    for number, (kind, column) in enumerate(zip(kinds, columns, strict=True)):
        for row, value in enumerate(column):
            assert _kept(value, kind, dtype), (kind, value, dtype)
            assert features[row, number] == np.dtype(dtype).type(value)


def _kept(value, kind, dtype):
    """Tell whether a type holds a number of another one: an integer exactly, a fraction rounded."""
    if kind in ("int8", "int64", "uint64", "bool"):
        if np.dtype(dtype).kind == "f":
            return int(float(np.dtype(dtype).type(value))) == int(value)
        return np.iinfo(dtype).min <= int(value) <= np.iinfo(dtype).max
    return holds(float(value), dtype)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_files_of_arrays_are_what_numpy_loads_one_after_the_other(data):
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    numbers = data.draw(st.lists(st.integers(0, 200), min_size=len(sizes), max_size=len(sizes), unique=True))
    stem = data.draw(st.sampled_from(["part-", "run[1]-", "a.b-", "x{2}"]))
    width = data.draw(st.integers(0, 4))
    rows = np.arange(sum(sizes) * max(1, width), dtype=np.int32).reshape(sum(sizes), *([width] if width else []))
    pieces = np.split(rows, np.cumsum(sizes)[:-1])
    with tempfile.TemporaryDirectory() as folder:
        for number, piece in zip(sorted(numbers), pieces, strict=True):
            np.save(Path(folder, f"{stem}{number}.npy"), piece)
        start = data.draw(st.integers(0, sum(sizes) - 1))
        stop = data.draw(st.integers(start + 1, sum(sizes)))
        residency = data.draw(st.sampled_from(["auto", "mapped", "read", "memory"]))
        arrays = feedline.open_arrays({"a": Path(folder, f"{stem}*.npy")}, (start, stop), residency)
        np.testing.assert_array_equal(arrays["a"].read(0, stop - start), rows[start:stop])
        batch_size = data.draw(st.integers(1, stop - start))
        with feedline.Feed(arrays, batch_size, shuffle="none", last_batch="keep", threads=1) as feed:
            np.testing.assert_array_equal(np.concatenate([batch["a"] for batch in feed]), rows[start:stop])


@settings(max_examples=150, deadline=None)
@given(
    content=st.one_of(
        st.binary(max_size=200), st.text(st.sampled_from(list('ab01.,;\n\r"\t -+eE_#%')), max_size=60).map(str.encode)
    )
)
@example(content=b'"\x00\n\x00"')
def test_any_bytes_as_a_table_are_packed_or_refused_in_one_sentence(content):
    with tempfile.TemporaryDirectory() as folder:
        for name in ("t.csv", "t.csv.gz", "t.parquet", "t.npz"):
            Path(folder, name).write_bytes(content)
            try:
                pack([Path(folder, name)], Path(folder, "out"), overwrite=True)
            except FeedlineError as error:
                assert "\n" not in str(error)
