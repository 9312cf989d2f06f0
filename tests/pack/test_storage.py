"""`feedline pack` when the disk is full, the process is stopped, or the source is larger than memory may grow."""

import gzip
import os
import re
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "digits.csv.gz"

EDGE = """
import sys
import typer
from feedline.cli.pack import pack
from feedline.errors import FeedlineError

app = typer.Typer()
app.command()(pack)

def main():
    try:
        sys.exit(app(standalone_mode=False))
    except FeedlineError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
"""
"""The command line's edge in small: an error becomes its sentence and its exit code."""

STOPPED_IN_THE_MIDDLE = """
import os
from feedline.pack import npy

write = npy.NpyWriter.write

def write_and_die(self, rows, positions):
    write(self, rows, positions)
    os.kill(os.getpid(), {signal})

npy.NpyWriter.write = write_and_die
"""


def python(code, *words):
    """Run code in a fresh process, which `code` may limit or kill."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )


def names_in(folder):
    return sorted(path.name for path in folder.rglob("*"))


ROOM_IS_SET_ASIDE = ""
ROOM_IS_NOT_SET_ASIDE = """
import errno, os

def refuse(fd, offset, size):
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

os.posix_fallocate = refuse
"""


@pytest.mark.parametrize(
    "file_system",
    [pytest.param(ROOM_IS_SET_ASIDE, id="at once"), pytest.param(ROOM_IS_NOT_SET_ASIDE, id="while writing")],
)
def test_a_file_that_finds_no_room_is_one_sentence_and_leaves_nothing(tmp_path, file_system):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
    done = python(EDGE + limit + file_system + "\nmain()", DIGITS, tmp_path / "new" / "out", "--shuffle-seed", "1")

    assert done.returncode == 74
    assert re.fullmatch(
        r"\S+/features\.npy cannot be written \(File too large, the file takes 460,160 bytes\): "
        r"make room there or choose another folder\n",
        done.stderr,
    )
    assert names_in(tmp_path) == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB, where one may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def digits_in_utf16(tmp_path):
    path = tmp_path / "digits.csv"
    path.write_text(gzip.decompress(DIGITS.read_bytes()).decode(), "utf-16")
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(small_disk, digits_in_utf16, encoding):
    """Four at once: what pyarrow's threads still do when the process ends must not change how it ends."""
    source = DIGITS if encoding == "utf-8" else digits_in_utf16
    with ThreadPoolExecutor(4) as several:
        ended = several.map(
            lambda number: python(EDGE + "\nmain()", source, small_disk / f"out-{number}", "--encoding", encoding),
            range(8),
        )
    for done in ended:
        assert done.returncode == 74
        assert "features.npy cannot be written (No space left on device, the file takes 460,160 bytes)" in done.stderr
        assert done.stderr.count("\n") == 1
    assert names_in(small_disk) == []


def test_a_text_that_finds_no_room_in_utf8_is_one_sentence(small_disk, tmp_path, digits_in_utf16):
    digits_in_utf16.write_text(digits_in_utf16.read_text("utf-16") * 3, "utf-16")
    elsewhere = f"import os\nos.environ['TMPDIR'] = {str(small_disk)!r}\n"
    done = python(elsewhere + EDGE + "\nmain()", digits_in_utf16, tmp_path / "out", "--encoding", "utf-16")

    assert done.returncode == 74
    assert f"digits.csv cannot be written in UTF-8 to {small_disk} (No space left on device)" in done.stderr
    assert done.stderr.count("\n") == 1
    assert names_in(small_disk) == []


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    done = python(EDGE + "\nmain()", DIGITS, "/proc/out")

    assert done.returncode == 74
    assert "/proc/out cannot be written" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_pack_that_is_stopped_leaves_nothing(tmp_path, number):
    done = python(EDGE + STOPPED_IN_THE_MIDDLE.format(signal=int(number)) + "\nmain()", DIGITS, tmp_path / "out")

    assert done.returncode != 0
    assert names_in(tmp_path) == []


def test_sigterm_ends_with_its_own_exit_code(tmp_path):
    done = python(EDGE + STOPPED_IN_THE_MIDDLE.format(signal=15) + "\nmain()", DIGITS, tmp_path / "out")

    assert done.returncode == 143


def test_a_pack_that_is_killed_leaves_no_file_under_a_final_name(tmp_path):
    done = python(EDGE + STOPPED_IN_THE_MIDDLE.format(signal=9) + "\nmain()", DIGITS, tmp_path / "out")

    assert done.returncode == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "out").glob("[!.]*")] == []

    again = python(EDGE + "\nmain()", DIGITS, tmp_path / "out")
    assert again.returncode == 0
    assert np.load(tmp_path / "out" / "features.npy").shape == (1797, 64)


GROWTH = """
import re, sys
from pathlib import Path
import pyarrow.parquet
from feedline.pack import pack

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

pack([sys.argv[1]], sys.argv[3], dtype="float64", shuffle_seed=1)
before = peak()
pack([sys.argv[2]], sys.argv[4], dtype="float64", shuffle_seed=1)
print(peak() - before)
"""
"""Packs a small source, so that everything is loaded, then a large one; prints by how many kB the peak grew."""


def csv_of(path, rows):
    block = "".join(f"{row},{'0.5,' * 30}{row % 10}\n" for row in range(1000))
    path.with_suffix(".csv").write_text(block * (rows // 1000))
    return path.with_suffix(".csv")


def parquet_of(path, rows):
    values = np.random.default_rng(0).random((rows, 31))
    columns = {f"c{column}": values[:, column] for column in range(31)} | {"y": np.arange(rows) % 10}
    parquet.write_table(pa.table(columns), path.with_suffix(".parquet"), row_group_size=2000)
    return path.with_suffix(".parquet")


@pytest.mark.parametrize("make", [csv_of, parquet_of])
def test_memory_does_not_grow_with_the_source(tmp_path, make):
    # The small one is large enough for all that is read ahead, which is more where who takes it is slow.
    small, large = make(tmp_path / "small", 200_000), make(tmp_path / "large", 1_000_000)
    done = python(GROWTH, small, large, tmp_path / "a", tmp_path / "b")

    assert done.returncode == 0, done.stderr
    outputs = [(tmp_path / name / "features.npy").stat().st_size for name in ("a", "b")]
    more = outputs[1] - outputs[0]
    assert more > 198_000_000
    assert int(done.stdout) * 1024 < more / 3  # some blocks are in several threads' hands
