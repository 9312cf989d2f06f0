"""A network disk that is slow, fails, or goes away: its latency is hidden, and each fault ends in one sentence.

What may end a process, a page of a mapping that cannot be read, is tried in processes of its own.
"""

import contextlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import slowfs
from cluster.data import pack_digits
from cluster.fixtures import said_where_it_cannot_run

import feedline
from feedline.errors import EnvironmentInvalidError
from feedline.feed import gather

WIDTH = 2500
HEADER = 128
PAGE = 4096
NEIGHBOURS = (128 << 10) // WIDTH
"""The kernel reads up to 128 KiB with a row, and may keep that in one piece, which fails as one."""

DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "pipeline.yaml"

GONE = r"\((Transport endpoint is not connected|Software caused connection abort)\)"


@pytest.fixture
def data(tmp_path):
    """Return the folder that disks show."""
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def disk(tmp_path, data):
    """Return a function that shows the data as a slow disk, and returns it."""
    with contextlib.ExitStack() as stack:

        def disk(**options):
            scratch = tmp_path / "disk"
            scratch.mkdir()
            with said_where_it_cannot_run():
                return stack.enter_context(slowfs.mounted(data, scratch, **options))

        yield disk


def write(folder, rows):
    """Write so many rows, all different, and which they are; return them."""
    features = np.random.default_rng(0).integers(0, 256, (rows, WIDTH), np.uint8)
    np.save(folder / "features.npy", features)
    np.save(folder / "labels.npy", np.arange(rows, dtype=np.int32))
    return features


def write_holes(path, rows):
    """Write so many rows that take no room, since nothing is in them."""
    header = str({"descr": "|u1", "fortran_order": False, "shape": (rows, WIDTH)}).ljust(117).encode() + b"\n"
    with path.open("wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
        file.truncate(HEADER + rows * WIDTH)


# --- slow ----------------------------------------------------------------------------------------------------------------


def test_ten_milliseconds_a_read_are_hidden_by_many_reads_at_once(data, disk):
    features = write(data, 20_000)
    slow = disk(latency_seconds=0.01)
    arrays = feedline.open_arrays(slow.folder)
    with feedline.Feed(arrays, 256, seed=7, epochs=1, last_batch="keep") as feed:
        seen = []
        for batch in feed:
            assert (batch["features"] == features[batch["labels"]]).all()
            seen += batch["labels"].tolist()
        paging = feed.stats().paging
    assert sorted(seen) == list(range(20_000))
    assert re.fullmatch(
        r"Read when it is due, many rows at a time: fuse\.slowfs answers many at once; "
        r"[\d.]+ ms a row, \d+ at a time\.",
        paging["features"],
    )
    assert slow.counts().at_once >= 8, "one after the other"


def test_each_row_is_asked_for_once_and_little_beside_it(data, disk, monkeypatch):
    # Few of very many rows, so that no two share a page: the part of one of many processes.
    monkeypatch.setattr(gather, "SLOT_BYTES", 1)
    world, steps = 64, 16
    rows = 256 * world * steps
    write_holes(data / "features.npy", rows)
    slow = disk(latency_seconds=0.01)
    arrays = feedline.open_arrays(slow.folder)
    opened = slow.counts()
    with feedline.Feed(arrays, 256 * world, world=world, seed=7, epochs=1) as feed:
        assert sum(len(batch["features"]) for batch in feed) == 256 * steps
    counts = slow.counts()
    asked, given = counts.reads - opened.reads, counts.bytes - opened.bytes
    assert 0.95 <= asked / (256 * steps) <= 1.02
    # A row that lies anywhere touches 1 + 2499 / 4096 = 1.61 pages. The kernel's own read-ahead would bring 32.
    assert given <= 1.7 * PAGE * 256 * steps


def test_rows_read_one_by_one_from_a_local_disk_are_those_of_memory(data):
    features = write(data, 3000)

    def batches(residency):
        arrays = feedline.open_arrays(data, (100, 2950), residency)
        with feedline.Feed(arrays, 32, seed=3, epochs=2, threads=2) as feed:
            for _ in range(2):
                for batch in feed:
                    yield batch["labels"].copy(), batch["features"].copy()

    for (labels, read), (others, loaded) in zip(batches("read"), batches("memory"), strict=True):
        assert (labels == others).all()
        assert (read == loaded).all()
        assert (read == features[labels]).all()


# --- failing -------------------------------------------------------------------------------------------------------------

READING = """
import os, sys, threading, time
import feedline
from feedline.feed import gather
from feedline.paging import governor, pagein
from feedline.paging.governor import Choice, choose, is_small

folder, way, act = sys.argv[1:]
gather.SLOT_BYTES = 1
if way != "read":  # as if it were a disk of this machine, of which the governor never finds enough in memory
    pagein.file_system = lambda file: "ext4"
    governor.choose = lambda evidence: choose(evidence) if is_small(evidence) else Choice(way, "told to")
feed = feedline.Feed(feedline.open_arrays(folder), 256, seed=3, threads=2)
try:
    for epoch in range(5):
        for step, batch in enumerate(feed):
            assert (batch["features"][:, 0] == batch["labels"] % 251).all()
            if (epoch, step) == (0, 1):
                exec(act)
    print("read")
except feedline.FeedlineError as error:
    print(type(error).__name__, int(error.exit_code), error)
print(feed.stats().paging["features"].partition(":")[0])
feed.close()
deadline = time.monotonic() + 120
while left := [thread.name for thread in threading.enumerate() if thread.name.startswith("feedline")]:
    assert time.monotonic() < deadline, left
    time.sleep(0.01)
"""

WAYS = {
    "read": "Read when it is due, many rows at a time",
    "fill": "Read in order, and what is due ahead of it",
    "advise": "Read ahead of need",
}


@pytest.fixture
def read(data, python):
    """Return a function that reads rows of a disk in a process of its own, and returns how that ended."""

    def read(slow, way, act=""):
        ended = python(READING, slow.folder, way, act)
        assert (ended.code, ended.errors) == (0, "")
        told, chosen = ended.output.splitlines()
        assert chosen == WAYS[way]
        return told

    features = np.zeros((5000, WIDTH), np.uint8)
    features[:, 0] = np.arange(5000) % 251
    np.save(data / "features.npy", features)
    np.save(data / "labels.npy", np.arange(5000, dtype=np.int32))
    return read


@pytest.mark.parametrize("way", WAYS)
def test_a_row_that_cannot_be_read_is_an_error_with_file_and_row(disk, read, way):
    slow = disk(latency_seconds=0.001, bad=("features.npy", HEADER + 2500 * WIDTH))
    told = read(slow, way)
    path = re.escape(str(slow.folder / "features.npy"))
    found = re.fullmatch(rf"StorageError 74 {path}: row (\d+) cannot be read \(Input/output error\)", told)
    assert found, told
    assert abs(int(found[1]) - 2500) <= NEIGHBOURS
    assert slow.counts().failed > 0


@pytest.mark.parametrize("way", WAYS)
def test_labels_that_cannot_be_read_are_an_error_though_they_are_small(disk, read, way):
    # Past what the kernel reads with the header.
    slow = disk(bad=("labels.npy", HEADER + 4 * 4900))
    path = re.escape(str(slow.folder / "labels.npy"))
    assert re.fullmatch(rf"StorageError 74 {path}: .*cannot be read \(Input/output error\)", read(slow, way))


@pytest.mark.parametrize("way", WAYS)
def test_a_file_cut_short_on_the_server_is_an_error(data, disk, read, way):
    slow = disk(latency_seconds=0.001)
    told = read(slow, way, f"os.truncate({str(data / 'features.npy')!r}, {HEADER + 50 * WIDTH})")
    path = re.escape(str(slow.folder / "features.npy"))
    assert re.fullmatch(rf"FileShrankError 65 {path}: was cut short while it was read.* row \d+", told), told


@pytest.mark.parametrize("way", WAYS)
def test_a_disk_that_goes_away_is_an_error(disk, read, way):
    slow = disk(latency_seconds=0.001)
    told = read(slow, way, f"os.kill({slow.pid}, 9)")
    folder = re.escape(str(slow.folder))
    assert re.fullmatch(rf"StorageError 74 {folder}/\w+\.npy: .*cannot be read {GONE}", told), told


ONE_PAGE_AWAY = """
import os, sys
import feedline
from feedline.paging import pagein

folder = sys.argv[1]
pagein.file_system = lambda file: "ext4"
arrays = feedline.open_arrays(folder)
with open(f"{folder}/features.npy", "rb", buffering=0) as file:
    away = 0
    for start in range(0, os.fstat(file.fileno()).st_size, 4096):
        try:
            os.pread(file.fileno(), 1, start)
        except OSError:
            away += 1
    assert away > 0
with feedline.Feed(arrays, 256, seed=3, epochs=1) as feed:
    try:
        list(feed)
    except feedline.FeedlineError as error:
        print(type(error).__name__, error)
"""


@pytest.mark.usefixtures("read")
def test_the_one_row_that_is_not_in_memory_is_an_error_where_it_cannot_be_read(disk, python):
    slow = disk(bad=("features.npy", HEADER + 2500 * WIDTH))
    ended = python(ONE_PAGE_AWAY, slow.folder)
    assert (ended.code, ended.errors) == (0, "")
    assert re.fullmatch(r"StorageError .*: row \d+ cannot be read \(Input/output error\)\n", ended.output)


KEEPING = """
import sys
import feedline

arrays = feedline.open_arrays(sys.argv[1])
try:
    {"state": feedline.Feed(arrays, 256).state, "read": lambda: arrays["features"].read(4000, 5000)}[sys.argv[2]]()
except feedline.FeedlineError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("use", ["state", "read"])
@pytest.mark.usefixtures("read")
def test_rows_that_are_read_for_another_use_fail_as_they_do_for_a_batch(disk, python, use):
    slow = disk(bad=("features.npy", HEADER + 5000 * WIDTH - 1))
    ended = python(KEEPING, slow.folder, use)
    assert (ended.code, ended.errors) == (0, "")
    path = re.escape(str(slow.folder / "features.npy"))
    assert re.fullmatch(rf"StorageError {path}: row \d+ cannot be read \(Input/output error\)\n", ended.output)


@pytest.mark.parametrize("residency", ["auto", "read", "memory"])
@pytest.mark.parametrize("shuffle", ["full", "block", "none"])
def test_files_that_cannot_be_mapped_are_read(data, disk, residency, shuffle):
    write(data, 3000)
    slow = disk(direct=True)
    with feedline.Feed(feedline.open_arrays(data), 64, seed=1, shuffle=shuffle) as near:
        expected = [batch["features"].tobytes() for batch in near]
    with feedline.Feed(feedline.open_arrays(slow.folder, residency=residency), 64, seed=1, shuffle=shuffle) as feed:
        assert [batch["features"].tobytes() for batch in feed] == expected


def test_files_that_cannot_be_mapped_are_refused_where_mapping_was_asked_for(data, disk):
    write(data, 100)
    slow = disk(direct=True)
    with pytest.raises(
        EnvironmentInvalidError,
        match=rf"^{slow.folder}/features\.npy: .*does not allow files to be mapped.*choose residency Auto, Read",
    ):
        feedline.open_arrays(slow.folder, residency="mapped")


# --- by the command line -------------------------------------------------------------------------------------------------

LOOP = """
import os

def train(run):
    for epoch in run.epochs():
        for batch in run.train:
            if run.train.steps == 3:
                {act}
"""


@pytest.fixture
def run(data, apart, tmp_path):
    """Return a function that runs the digits from a disk, and returns exit code, standard error and the report."""
    pack_digits(data)

    def run(slow, act=None):
        sets = []
        if act is not None:
            (tmp_path / "own.py").write_text(LOOP.format(act=act))
            sets = ["--set", "spec.train.entrypoint=own:train"]
        report = tmp_path / "report.json"
        command = ["run", DIGITS, "--volume", f"digits={slow.folder}", "--report", report, *sets]
        process = apart.ask("apart", folder=str(tmp_path), arguments=list(map(str, command)))
        code = apart.ask("wait", process=process)
        return code, (tmp_path / "errors").read_text(), json.loads(report.read_text()) if report.exists() else None

    return run


def ends_with(ended, code, reason, message):
    told, errors, report = ended
    assert told == code, errors
    (line,) = errors.splitlines()
    assert re.fullmatch(f"feedline: {message}", line)
    assert (report["exitCode"], report["reason"]) == (code, reason)
    assert re.fullmatch(message, report["message"])


@pytest.mark.parametrize("name", ["features", "labels"])
def test_a_run_ends_with_74_where_a_file_cannot_be_read(data, disk, run, name):
    size = (data / f"{name}.npy").stat().st_size
    slow = disk(bad=(f"{name}.npy", size - 1))
    path = re.escape(str(slow.folder / f"{name}.npy"))
    ends_with(run(slow), 74, "IOError", rf"{path}: .*cannot be read \(Input/output error\)")


def test_a_run_ends_with_74_where_the_disk_goes_away(disk, run):
    slow = disk()
    folder = re.escape(str(slow.folder))
    ended = run(slow, f"os.kill({slow.pid}, 9)")
    ends_with(ended, 74, "IOError", rf"{folder}/\w+\.npy: .*cannot be read {GONE}")
    assert ended[2]["steps"] >= 3


def test_a_run_ends_with_65_where_a_file_is_cut_short_on_the_server(data, disk, run):
    slow = disk()
    ended = run(slow, f"os.truncate({str(data / 'features.npy')!r}, {HEADER + 50 * 256})")
    path = re.escape(str(slow.folder / "features.npy"))
    ends_with(ended, 65, "DataInvalid", rf"{path}: was cut short while it was read.* row \d+")


# --- the disk itself -----------------------------------------------------------------------------------------------------


def test_a_disk_is_unmounted_whatever_holds_it_open(tmp_path, data):
    np.save(data / "a.npy", np.arange(10))
    with said_where_it_cannot_run(), slowfs.mounted(data, tmp_path) as slow:
        file = (slow.folder / "a.npy").open("rb", buffering=0)
        assert str(slow.folder) in Path("/proc/self/mountinfo").read_text()
        assert file.read() == (data / "a.npy").read_bytes()
    assert str(slow.folder) not in Path("/proc/self/mountinfo").read_text()
    assert not Path(f"/proc/{slow.pid}").exists()
    with pytest.raises(OSError, match="Transport endpoint is not connected"):
        file.close()
