"""Rows that compiled code copies: the bytes that NumPy gives, whatever the parts, and nothing outside its rows."""

import ctypes
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import feedline
from feedline.files import native

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "trainer-image/feedline/files/native/gather.c"


@pytest.fixture(autouse=True)
def compiled():
    """Skip where nothing is compiled: NumPy copies rows there, which all other tests see."""
    if native.copied_by() != "native":
        assert not os.environ.get("CI"), "there is no C compiler here: apt install gcc, make clean"
        pytest.skip("there is no C compiler here, or FEEDLINE_NATIVE is 0")


@given(data=st.data())
def test_the_bytes_are_those_of_numpy(data):
    row_bytes = data.draw(
        st.sampled_from([1, 2, 3, 4, 7, 8, 16, 31, 32, 63, 64, 65, 100, 256, 4095, 4097, 9000]), "row_bytes"
    )
    stride = data.draw(st.sampled_from([row_bytes, row_bytes + 5, max(1, row_bytes // 2)]), "stride")
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=5), "sizes")
    random = np.random.default_rng(sum(sizes))
    parts = []
    for size in sizes:
        memory = random.integers(0, 256, (size - 1) * stride + row_bytes, dtype=np.uint8)
        parts.append(np.lib.stride_tricks.as_strided(memory, (size, row_bytes), (stride, 1)))
    rows = np.array(data.draw(st.lists(st.integers(0, sum(sizes) - 1), max_size=50), "rows"), np.intp)
    memory = np.full(len(rows) * row_bytes + 64, 0xA5, np.uint8)
    out = memory[32:-32].reshape(len(rows), row_bytes)
    native.gather(parts).take(rows, out)
    assert (out == np.concatenate(parts)[rows]).all()
    assert (memory[:32] == 0xA5).all()
    assert (memory[-32:] == 0xA5).all()


@pytest.mark.parametrize("row", [-1, 50, 2**62, -(2**63)])
def test_a_row_that_there_is_not_is_refused_before_anything_is_copied(row):
    gather = native.gather([np.zeros((20, 8), np.uint8), np.zeros((30, 8), np.uint8)])
    out = np.full((3, 8), 7, np.uint8)
    with pytest.raises(IndexError, match=f"row {row} is none of 50"):
        gather.take(np.array([0, 49, row]), out)
    assert (out == 7).all()


@pytest.mark.parametrize(
    "out", [np.zeros((2, 8), np.uint8), np.zeros((3, 9), np.uint8), np.zeros((3, 16), np.uint8)[:, ::2]]
)
def test_memory_that_does_not_fit_is_refused(out):
    gather = native.gather([np.zeros((20, 8), np.uint8)])
    with pytest.raises(ValueError, match="out must be a contiguous array of 3 rows of 8 bytes"):
        gather.take(np.arange(3), out)


def test_every_second_number_of_an_order_is_taken_as_it_is():
    rows = np.arange(100, dtype=np.uint8).reshape(50, 2)
    numbers = np.arange(50)[::-1][::7]
    out = np.empty((len(numbers), 2), np.uint8)
    native.gather([rows]).take(numbers, out)
    assert (out == rows[numbers]).all()


@pytest.mark.parametrize("wanted", ["0", "auto", "1"])
def test_who_copies_is_chosen_by_the_environment(python, wanted):
    program = "from feedline.files import copied_by; print(copied_by())"
    ended = python(program, FEEDLINE_NATIVE=wanted)
    assert ended.output == ("numpy\n" if wanted == "0" else "native\n")


def test_what_cannot_be_is_one_sentence(python):
    program = """
import sys
from feedline.errors import EnvironmentInvalidError
from feedline.files import native
native._LIBRARY = native._LIBRARY.with_name("none.so")
try:
    print(native.copied_by())
except EnvironmentInvalidError as error:
    print(error)
"""
    assert python(program).output == "numpy\n"
    assert "FEEDLINE_NATIVE: is 1, and" in python(program, FEEDLINE_NATIVE="1").output
    assert python(program, FEEDLINE_NATIVE="2").output == "FEEDLINE_NATIVE: must be auto, 0 or 1 (got '2')\n"


def test_a_library_that_copies_wrong_rows_is_not_used():
    @ctypes.CFUNCTYPE(ctypes.c_int64)
    def nothing():
        return -1

    nothing.argtypes, nothing.restype = native.library().argtypes, ctypes.c_int64
    with pytest.raises(feedline.FeedlineError, match="copies wrong rows here: set FEEDLINE_NATIVE=0"):
        native._try(nothing)


DRIVER = r"""
#include <stdio.h>
#include <stdlib.h>
#include "gather.c"

int main(void)
{
    static const int64_t sizes[] = {1, 2, 3, 8, 31, 64, 100, 4095, 4096, 4097, 9000};
    srand(7);
    for (size_t size = 0; size < sizeof sizes / sizeof *sizes; size++) {
        int64_t bytes = sizes[size], counts[3] = {1, 17, 5}, total = 0;
        struct part parts[3];
        uint8_t *memory[3];
        for (int number = 0; number < 3; number++) {
            int64_t stride = number == 1 ? (bytes + 1) / 2 : bytes;
            memory[number] = malloc((size_t)((counts[number] - 1) * stride + bytes));
            for (int64_t place = 0; place < (counts[number] - 1) * stride + bytes; place++)
                memory[number][place] = (uint8_t)rand();
            parts[number] = (struct part){memory[number], total, stride};
            total += counts[number];
        }
        for (int64_t count = 0; count < 40; count++) {
            int64_t *rows = malloc(sizeof *rows * (size_t)count);
            uint8_t *out = malloc((size_t)(count * bytes));
            for (int64_t place = 0; place < count; place++)
                rows[place] = rand() % total;
            if (feedline_gather(parts, 3, total, bytes, rows, count, out) != -1)
                return 1;
            for (int64_t place = 0; place < count; place++)
                if (memcmp(out + place * bytes, address_of(parts, 3, rows[place]), (size_t)bytes))
                    return 2;
            static const int64_t hostile[] = {-1, INT64_MIN, INT64_MAX, 23};
            for (int number = 0; number < 4 && count; number++) {
                rows[count - 1] = hostile[number];
                if (feedline_gather(parts, 3, total, bytes, rows, count, out) != count - 1)
                    return 3;
            }
            free(rows);
            free(out);
        }
        for (int number = 0; number < 3; number++)
            free(memory[number]);
    }
    puts("fine");
    return 0;
}
"""


def test_sanitizers_find_nothing(tmp_path):
    (tmp_path / "gather.c").write_bytes(SOURCE.read_bytes())
    (tmp_path / "driver.c").write_text(DRIVER)
    flags = (
        "-std=c11",
        "-O1",
        "-g",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
        "-Wall",
        "-Wextra",
        "-Werror",
    )
    subprocess.run([shutil.which("cc"), *flags, "driver.c", "-o", "driver"], cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "driver"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


@pytest.mark.parametrize(("wanted", "tag"), [("1", "linux_"), ("0", "any")], ids=["compiled", "pure"])
def test_a_wheel_is_for_a_platform_or_pure(tmp_path, wanted, tag):
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path]
    environment = {"FEEDLINE_NATIVE": wanted, "PATH": str(Path(shutil.which("cc")).parent)}
    subprocess.run(build, cwd=ROOT, env=environment, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert f"-py3-none-{tag}" in wheel.name or (wanted == "1" and "-py3-none-manylinux_" in wheel.name)
    names = zipfile.ZipFile(wheel).namelist()
    assert ("feedline/files/native/gather.so" in names) == (wanted == "1")


@pytest.mark.parametrize("copied_by", ["native", "numpy"])
@pytest.mark.parametrize("residency", ["auto", "memory"])
def test_a_feed_gives_the_same_batches_by_both(save, monkeypatch, copied_by, residency):
    values = np.random.default_rng(0).integers(0, 1 << 16, 4000).astype(np.uint16)
    for part in range(3):
        save(f"part-{part}", values[part * 1000 :][: 1000 + part])
    if copied_by == "numpy":
        monkeypatch.setattr("feedline.files.array.gather", lambda parts: None)
    path = str(save("all", values)).replace("all", "part-*")
    window = feedline.Window(50, stride=3)
    arrays = feedline.open_arrays({"x": feedline.Stored(path, window=window)}, residency=residency)
    starts = [part * 1000 + begin for part in range(3) for begin in range(0, 1000 + part - 49, 3)]
    expected = np.array([values[start : start + 50] for start in starts])
    with feedline.Feed(arrays, 32, seed=3, last_batch="keep") as feed:
        seen = np.concatenate([batch["x"].copy() for batch in feed])
    assert sorted(map(tuple, seen)) == sorted(map(tuple, expected))
