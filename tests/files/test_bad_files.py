"""Hostile and unlucky files: every one ends in one sentence that names it, and never in a dead process."""

import contextlib
import os
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import feedline
from feedline.contract import ExitCode
from feedline.errors import DataError, FeedlineError, InputMissingError

DATA = bytes(4096)


def npy(header, *, data=DATA, version=1, length=None):
    """Return the bytes of a file with this header, forged as one likes."""
    text = header if isinstance(header, bytes) else str(header).encode("latin-1")
    size = (len(text) if length is None else length).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + data


def fields(descr="<f4", shape=(4,), order=False):
    return {"descr": descr, "fortran_order": order, "shape": shape}


def saved(array):
    def make(path):
        np.save(path, array)

    return make


def written(content):
    return lambda path: path.write_bytes(content)


def cut(path):
    np.save(path, np.arange(100.0))
    os.truncate(path, path.stat().st_size - 1)


UNREADABLE = "the .npy header cannot be read"
IMPOSSIBLE = "the header claims the impossible shape"
BIG = "9" * 4000

BAD = {
    "empty": (written(b""), "the file is empty"),
    "text": (written(b"a,b,c\n1,2,3\n" * 9), "this is no .npy file"),
    "one byte": (written(b"\x93"), "this is no .npy file"),
    "npz": (
        lambda path: np.savez(path.open("wb"), a=np.arange(3)),
        "it is probably a zip archive or .npz: name it so",
    ),
    "cut by a byte": (cut, "is cut short: the header claims 100 rows of 8 bytes, the file ends in row 99"),
    "cut within the header": (written(npy(fields())[:40]), "the header claims"),
    "cut after the magic": (written(b"\x93NUMPY\x01\x00v"), "not 1.0, 2.0 or 3.0"),
    "version 4": (written(npy(fields(), version=4)), "not 1.0, 2.0 or 3.0"),
    "numpy integers that are none": (
        written(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (np.int64('4'),)}")),
        UNREADABLE,
    ),
    "Fortran order": (saved(np.asfortranarray(np.ones((3, 2)))), "is in Fortran order.*ascontiguousarray"),
    "objects": (saved(np.array([{}, None], object)), "holds Python objects, which would need pickle"),
    "objects in a structure": (written(npy(fields([("a", "O")]))), "holds Python objects"),
    "big-endian": (saved(np.arange(3, dtype=">i4")), r"is big-endian \(>i4\): save it again as"),
    "big-endian in a structure": (saved(np.zeros(3, [("a", ">i4")])), "is big-endian"),
    "big-endian text": (saved(np.array(["a"], ">U3")), "is big-endian"),
    "no rows": (saved(np.empty((0, 3))), "holds no rows"),
    "rows of nothing": (saved(np.empty((3, 0))), "its rows hold no bytes"),
    "text of no length": (written(npy(fields("<U0"))), "its rows hold no bytes"),
    "a single value": (saved(np.float32(1)), "holds a single value, not rows"),
    "giant rows": (written(npy(fields(shape=(2**40, 2**40)))), "is cut short"),
    "giant first axis": (written(npy(fields(shape=(2**63,)))), IMPOSSIBLE),
    "giant other axis": (written(npy(fields(shape=(1, 2**64)))), IMPOSSIBLE),
    "axes that overflow to nothing": (written(npy(fields(shape=(2**32, 2**32)))), "is cut short"),
    "axes too long to print": (
        written(npy(f"{{'descr':'<f4','fortran_order':False,'shape':({BIG},{BIG})}}")),
        IMPOSSIBLE,
    ),
    "an axis too long for decimals": (
        written(npy(b"{'descr':'<f4','fortran_order':False,'shape':(0x" + b"f" * 20_000 + b",)}")),
        IMPOSSIBLE,
    ),
    "negative rows": (written(npy(fields(shape=(-4,)))), IMPOSSIBLE),
    "negative axis": (written(npy(fields(shape=(4, -1)))), IMPOSSIBLE),
    "bool shape": (written(npy(fields(shape=(True,)))), UNREADABLE),
    "float shape": (written(npy(fields(shape=(4.0,)))), UNREADABLE),
    "list shape": (written(npy(fields(shape=[4]))), UNREADABLE),
    "too many axes": (written(npy(fields(shape=(4,) + (1,) * 63))), "has 64 axes, and at most 63 are possible"),
    "order that is no bool": (written(npy(fields(order=0))), UNREADABLE),
    "header length beyond the file": (written(npy(fields(), length=65_535)), "the header claims 65535 bytes"),
    "giant header length": (written(npy(fields(), version=2, length=2**32 - 1)), "the header claims 4294967295 bytes"),
    "header longer than any array needs": (
        written(npy(str(fields()).ljust(70_000), version=2)),
        "the header claims 70000 bytes",
    ),
    "empty header": (written(npy(b"")), UNREADABLE),
    "header that is no dict": (written(npy("[1, 2]")), UNREADABLE),
    "header without a shape": (written(npy({"descr": "<f4", "fortran_order": False})), UNREADABLE),
    "header with a call": (written(npy("{'descr': __import__('os').abort()}")), UNREADABLE),
    "nested lists": (written(npy(b"[" * 60_000)), UNREADABLE),
    "nested dicts": (written(npy(b"{'a':" * 5000)), UNREADABLE),
    "nested signs": (written(npy(b"-" * 60_000 + b"1")), UNREADABLE),
    "nested sums": (written(npy(b"1+" * 30_000 + b"1")), UNREADABLE),
    "nested dtype": (written(npy(f"{{'descr':{'[' * 90}{']' * 90},'fortran_order':False,'shape':(4,)}}")), UNREADABLE),
    "null bytes": (written(npy(b"\0" * 80)), UNREADABLE),
    "bytes that are no UTF-8": (written(npy(b"{'\xff': 1}", version=3)), UNREADABLE),
    "unknown dtype": (written(npy(fields("<q9"))), UNREADABLE),
    "dtype of nothing": (written(npy(fields(()))), UNREADABLE),
    "dtype of a tuple of one": (written(npy(fields((("<f4",),)))), UNREADABLE),
    "dtype with an inner shape": (written(npy(fields(("<f4", (2, 3))))), UNREADABLE),
    "dtype of a giant": (written(npy(fields("V99999999999999999999"))), UNREADABLE),
    "date unit divided by zero": (written(npy(fields("m8[7D/0]"))), UNREADABLE),
    "date unit divided by zero, in disguise": (
        written(npy(r"{'descr': [('a', '<i4,M8' '[D\x2f0]')], 'fortran_order': False, 'shape': (4,)}")),
        UNREADABLE,
    ),
}


@pytest.mark.parametrize(("make", "told"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("residency", ["mapped", "memory"])
@pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")
def test_a_bad_file_is_refused_in_one_sentence_that_names_it(tmp_path, make, told, residency):
    path = tmp_path / "bad.npy"
    make(path)
    with pytest.raises(FeedlineError, match=told) as caught:
        feedline.open_arrays({"a": path}, residency=residency)
    assert type(caught.value) is DataError
    assert caught.value.exit_code == ExitCode.DATA
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 200


def test_a_date_unit_that_ends_numpy_does_not_end_the_process(tmp_path, python):
    (tmp_path / "bad.npy").write_bytes(npy(fields("m8[7D/0]")))
    ended = python("import feedline; feedline.open_arrays('.')")
    assert (ended.code, ended.errors.splitlines()[-1].split(":")[0]) == (1, "feedline.errors.DataError")


def test_rows_that_differ_are_refused_with_all_counts(save):
    paths = {"features": save("features", np.zeros((10, 2))), "labels": save("labels", np.zeros(9))}
    with pytest.raises(DataError, match="must have the same number of rows: features has 10, labels has 9"):
        feedline.open_arrays(paths)


PARTS = {
    "row shape": np.zeros((2, 4), np.float32),
    "dtype": np.zeros((2, 3), np.float64),
    "number of axes": np.zeros(2, np.float32),
}


@pytest.mark.parametrize("other", PARTS.values(), ids=PARTS)
def test_files_of_one_array_that_differ_are_refused_by_name(save, other):
    first, second = save("part-1", np.zeros((2, 3), np.float32)), save("part-2", other)
    with pytest.raises(DataError, match=rf"{second}: has rows of .* but {first} of the same array a has <f4 \(3,\)"):
        feedline.open_arrays({"a": [first, second]})


def test_nan_in_labels_is_data(save):
    labels = np.array([1.0, np.nan, np.inf])
    with feedline.Feed(feedline.open_arrays({"labels": save("labels", labels)}), 3, shuffle="none") as feed:
        assert np.array_equal(next(iter(feed))["labels"], labels, equal_nan=True)


MISSING = {
    "missing": (lambda _: None, "there is no such file"),
    "a directory": (lambda path: path.mkdir(), "is a directory or a device, not a file"),
    "a named pipe": (os.mkfifo, "is a directory or a device, not a file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "is a directory or a device, not a file"),
    "a link to nowhere": (lambda path: path.symlink_to("nowhere"), "there is no such file"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "cannot be opened"),
    "below a file": (lambda path: None, "there is no such file"),
}


@pytest.mark.parametrize(("make", "told"), MISSING.values(), ids=MISSING)
def test_what_is_no_file_is_refused_as_missing(tmp_path, make, told):
    path = tmp_path / "a.npy"
    make(path)
    with pytest.raises(FeedlineError, match=rf"{path}: {told}") as caught:
        feedline.open_arrays({"a": path})
    assert type(caught.value) is InputMissingError
    assert caught.value.exit_code == ExitCode.NO_INPUT


@contextlib.contextmanager
def as_nobody():
    """Give up the rights of root, which may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_that_may_not_be_read_is_refused_as_missing(save, tmp_path):
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    path = save("a", np.arange(3))
    path.chmod(0)
    with as_nobody(), pytest.raises(InputMissingError, match=r"a\.npy: cannot be opened \(Permission denied\)"):
        feedline.open_arrays({"a": path})


SHRINKING = """
import os, sys, time, feedline
path, keep = sys.argv[1], int(sys.argv[2])
arrays = feedline.open_arrays({"a": path}, residency=sys.argv[3])
feed = feedline.Feed(arrays, 10, threads=2, prefetch=1)
batches = iter(feed)
next(batches)
# Between the check before a gather and its end there is a window; wait until all that may be gathered ahead is there.
while feed.stats().queue_depth < feed.stats().queue_capacity:
    time.sleep(0.001)
os.truncate(path, keep)
time.sleep(0.05)  # and until the last check is too old to stand for the next
try:
    for epoch in range(3):
        for batch in batches:
            assert (batch["a"][:, 0] > 0).all()
        batches = iter(feed)
    feed.state()
except feedline.FeedlineError as error:
    print(type(error).__name__, error)
else:
    print("read")
"""


@pytest.mark.parametrize("kept_rows", [0, 3000, 9999], ids=["to the header", "by most rows", "by one row"])
def test_a_file_that_shrinks_while_it_is_read_is_an_error_with_file_and_row(save, python, kept_rows):
    rows = np.ones((10_000, 500))
    path = save("a", rows)
    ended = python(SHRINKING, path, 128 + kept_rows * 4000, "mapped")
    assert ended.output == f"FileShrankError {path}: was cut short while it was read: it now ends in row {kept_rows}\n"
    assert ended.code == 0


def test_a_file_in_memory_may_shrink(save, python):
    path = save("a", np.ones((1000, 500)))
    assert python(SHRINKING, path, 0, "memory").output == "read\n"


@pytest.mark.parametrize("use", ["state", "read", "next"])
def test_a_file_that_shrank_before_its_first_use_is_an_error(save, python, use):
    path = save("a", np.ones((1000, 500)))
    program = """
import os, sys, feedline
arrays = feedline.open_arrays({"a": sys.argv[1]})
feed = feedline.Feed(arrays, 10)
os.truncate(sys.argv[1], 0)
try:
    {"state": feed.state, "read": lambda: arrays["a"].read(0, 1000), "next": lambda: next(iter(feed))}[sys.argv[2]]()
except feedline.FeedlineError as error:
    print(type(error).__name__, error)
"""
    assert (
        python(program, path, use).output
        == f"FileShrankError {path}: was cut short while it was read: it now ends in row 0\n"
    )


def read_on(feed, batches):
    """Read until what was gathered ahead is used up."""
    for _ in range(20):
        for _ in batches:
            pass
        batches = iter(feed)


def test_a_file_that_is_rewritten_in_place_is_an_error(save):
    path = save("a", np.zeros((2000, 500)))
    with feedline.Feed(feedline.open_arrays({"a": path}), 10, threads=2, prefetch=1) as feed:
        batches = iter(feed)
        next(batches)
        with path.open("r+b") as file:
            file.seek(5000)
            file.write(b"new bytes")
        os.utime(path, ns=(1, 1))  # two writes within one tick of the clock would look the same
        with pytest.raises(
            DataError, match=rf"{path}: was written to while it was read: write to a new file and rename"
        ):
            read_on(feed, batches)
        with pytest.raises(DataError, match="was written to"):
            next(iter(feed))


def test_a_file_that_is_replaced_by_renaming_is_read_on(save, tmp_path):
    path = save("a", np.ones((2000, 500)))
    with feedline.Feed(feedline.open_arrays({"a": path}), 10, threads=2, prefetch=1) as feed:
        batches = iter(feed)
        next(batches)
        save("new", np.zeros((1, 1))).rename(path)
        assert all((batch["a"] == 1).all() for batch in batches)
        assert all((batch["a"] == 1).all() for batch in feed)


def test_a_file_that_is_deleted_is_read_on(save):
    path = save("a", np.ones((2000, 500)))
    with feedline.Feed(feedline.open_arrays({"a": path}), 10, threads=2, prefetch=1) as feed:
        path.unlink()
        assert all((batch["a"] == 1).all() for batch in feed)


def opens_or_refuses(path):
    """Open and read the file, however bad; anything but a FeedlineError is a failure of the test."""
    with warnings.catch_warnings(action="ignore"):
        try:
            arrays = feedline.open_arrays({"a": path})
        except FeedlineError:
            return
        with feedline.Feed(arrays, 1, threads=1, epochs=1) as feed:
            assert sum(1 for _ in feed) == arrays.rows


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "a.npy"


good = npy(str(fields(shape=(6,))).ljust(117) + "\n", data=bytes(24))
scalars = st.one_of(
    st.integers(-3, 70),
    st.integers(),
    st.booleans(),
    st.none(),
    st.text(max_size=5),
    st.binary(max_size=3),
    st.floats(),
)
names = st.sampled_from(["<f4", "|S3", "<U2", "O", ">i2", "M8[s]", "m8[2D]", "i4,f4", "V5", "?", "descr", "shape", "a"])
values = st.recursive(
    st.one_of(scalars, names),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.one_of(names, scalars), inner, max_size=3),
    ),
    max_leaves=8,
)


@settings(max_examples=300)
@given(content=st.binary(max_size=200))
def test_any_bytes_after_the_magic_are_read_or_refused(scratch, content):
    scratch.write_bytes(b"\x93NUMPY" + content)
    opens_or_refuses(scratch)


@settings(max_examples=300)
@given(at=st.integers(0, len(good) - 1), content=st.binary(min_size=1, max_size=6), end=st.integers(0, len(good)))
def test_a_good_file_with_bytes_changed_or_cut_is_read_or_refused(scratch, at, content, end):
    scratch.write_bytes((good[:at] + content + good[at + len(content) :])[: max(end, at)])
    opens_or_refuses(scratch)


@settings(max_examples=300)
@given(text=st.text("{}[]()'\",:-+0123456789efjx. \n\\descrshapfto_iFalT<>|OUSVM", max_size=150))
def test_any_header_text_is_read_or_refused(scratch, text):
    scratch.write_bytes(npy(text))
    opens_or_refuses(scratch)


@settings(max_examples=400)
@given(descr=values, shape=values, order=st.one_of(st.booleans(), values), version=st.sampled_from([1, 2, 3]))
def test_any_literals_in_a_header_are_read_or_refused(scratch, descr, shape, order, version):
    scratch.write_bytes(npy(repr(fields(descr, shape, order)).encode("utf-8", "replace"), version=version))
    opens_or_refuses(scratch)


@settings(max_examples=300)
@given(descr=values, rows=st.integers(1, 9))
def test_any_dtype_with_a_good_shape_is_read_or_refused(scratch, descr, rows):
    scratch.write_bytes(npy(repr(fields(descr, (rows,))).encode("utf-8", "replace"), version=3))
    opens_or_refuses(scratch)
