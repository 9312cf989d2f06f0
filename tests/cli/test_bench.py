"""`feedline bench disk`: what it prints adds up, it harms nothing, and what cannot be measured is told."""

import os
import re

import numpy as np
import pytest
from cold import forget, pages, warm

MIB = 1 << 20


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """Return a folder whose largest file, below it, is just large enough to be read; skip where it is in memory."""
    folder = tmp_path_factory.mktemp("disk")
    (folder / "features").mkdir()
    (folder / "features" / "small.bin").write_bytes(bytes(MIB))
    largest = folder / "features" / "part-1.npy"
    largest.write_bytes(np.random.default_rng(0).bytes(64 * MIB))
    (folder / "link.npy").symlink_to(largest)
    forget(largest)
    if pages(largest).mean() > 0.1:
        assert not os.environ.get("CI"), "temporary files are kept in memory here"
        pytest.skip("temporary files are kept in memory here: set TMPDIR to a folder on a disk")
    return folder


def number(text):
    """Return the number that a rate or a size stands for, such as 1.5 k."""
    value, unit = re.fullmatch(r"([\d.]+) ?([kMG]?)B?(?: bytes)?", text).groups()
    return float(value) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[unit]


# Of a rate or a size at least two digits are printed; two such numbers may be twice as far apart.
ABOUT = 0.1


def test_bench_disk_says_what_the_disk_gives_and_what_that_is_in_rows(project, disk):
    ended = project.command("bench", "disk", disk, "--row-bytes", "2500", "--seconds", "0.6")
    assert ended.code == 0, ended.errors
    title, pieces, *deep, in_order, copied, rows, blocks = ended.output.splitlines()
    assert title == f"{disk / 'features' / 'part-1.npy'}: 67 MB"
    assert pieces.split() == ["4", "KiB", "at", "random"]
    assert [line.split()[0] for line in deep] == ["1", "8", "32", "128"]
    for line in deep:
        depth, rate, millis = re.fullmatch(r" +(\d+) at once +([\d.]+ ?[kM]?) reads/s +([\d.]+) ms each", line).groups()
        # Little's law, but for what two decimals leave of the time.
        assert abs(1e3 * int(depth) / number(rate) - float(millis)) <= ABOUT * float(millis) + 0.006
    (bandwidth,) = re.fullmatch(r" +in order +(\S+ [kMG]?B)/s", in_order).groups()
    (memory,) = re.fullmatch(r" +memory to memory +(\S+ [kMG]?B)/s with \d threads", copied).groups()
    told = re.fullmatch(r"rows of 2.5 kB: (.+) rows/s at random, (.+) in order, (.+) from memory", rows).groups()
    at_random = re.search(r"32 at once +(.+) reads/s", deep[2])[1].strip()
    # A row of 2,500 bytes is one read of a page or two.
    assert told[0] == at_random
    assert number(told[1]) == pytest.approx(number(bandwidth) / 2500, rel=ABOUT)
    assert number(told[2]) == pytest.approx(number(memory) / 2500, rel=ABOUT)
    even, worth, count = re.fullmatch(
        r"one request takes as long as (.+) in order: blocks of (.+) or more \((\d+) rows\) are .+", blocks
    ).groups()
    assert number(even) == pytest.approx(number(bandwidth) / number(at_random), rel=1.5 * ABOUT)
    assert number(worth) == pytest.approx(4 * number(even), rel=ABOUT)
    assert int(count) == pytest.approx(number(worth) / 2500, rel=ABOUT)


@pytest.mark.parametrize(
    ("row_bytes", "piece", "reads"),
    [
        pytest.param("1", "4", 1, id="a byte is read as a page"),
        pytest.param("4097", "8", 1, id="a byte more than a page as two"),
        pytest.param("1073741824", "1024", 1024, id="the largest row as many pieces"),
    ],
)
def test_rows_are_measured_in_whole_pages_and_in_pieces_of_a_mebibyte(project, disk, row_bytes, piece, reads):
    ended = project.command("bench", "disk", disk, "--row-bytes", row_bytes, "--seconds", "0.1")
    assert ended.code == 0, ended.errors
    assert f"\n  {piece} KiB at random\n" in ended.output
    (pieces,) = re.findall(r"32 at once +(.+) reads/s", ended.output)
    (rows,) = re.findall(r"rows of .+?: (.+?) rows/s at random", ended.output)
    # Below ten, rows a second are printed as whole ones.
    assert number(rows) == pytest.approx(number(pieces) / reads, rel=ABOUT, abs=0.51)


@pytest.mark.parametrize(("prepare", "resident"), [(warm, 1), (forget, 0)], ids=["in memory", "not in memory"])
def test_measuring_leaves_the_page_cache_and_the_files_as_they_are(project, disk, prepare, resident):
    largest = disk / "features" / "part-1.npy"
    before = files_of(disk)
    prepare(largest)
    assert project.command("bench", "disk", disk, "--seconds", "0.1").code == 0
    assert pages(largest).mean() == pytest.approx(resident, abs=0.1)
    assert files_of(disk) == before


def files_of(folder):
    """Return the files of a folder, with their sizes and the times when they were last written to."""
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def refusing(error):
    """Return the code that has every file refuse to be opened past the page cache."""
    return f"""
import os
from unittest.mock import patch

def refuse(path, flags, *rest, opened=os.open, **more):
    if flags & os.O_DIRECT:
        raise OSError({error}, os.strerror({error}))
    return opened(path, flags, *rest, **more)

stack.enter_context(patch("os.open", refuse))
"""


@pytest.mark.parametrize(
    ("arguments", "before", "code", "message"),
    [
        pytest.param(["disk", "nowhere"], "", 66, "nowhere: holds no file of 64 MiB", id="no such folder"),
        pytest.param(["disk", "data"], "", 66, "data: holds no file of 64 MiB", id="files that are too small"),
        pytest.param(
            ["disk", "DISK"], refusing(22), 78, "part-1.npy: its file system cannot be read past", id="no way past it"
        ),
        pytest.param(["disk", "DISK"], refusing(13), 66, "cannot be opened (Permission denied)", id="no permission"),
        pytest.param(["disk"], "", 64, "Missing argument", id="no folder"),
        pytest.param(["memory", "DISK"], "", 64, "Invalid value for 'disk'", id="something else"),
        pytest.param(
            ["disk", "DISK", "--row-bytes", "0"], "", 64, "Invalid value for '--row-bytes'", id="rows of nothing"
        ),
        pytest.param(["disk", "DISK", "--seconds", "0"], "", 64, "Invalid value for '--seconds'", id="no time"),
    ],
)
def test_what_cannot_be_measured_is_told_with_the_right_code(project, disk, arguments, before, code, message):
    given = [str(disk) if argument == "DISK" else argument for argument in arguments]
    ended = project.command("bench", *given, before=before)
    assert (ended.code, ended.output) == (code, "")
    assert message in ended.errors
    assert "Traceback" not in ended.errors
