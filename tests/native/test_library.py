"""The compiled library: who chooses it, that it is tried before it is used, and that it reads and writes nothing else."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import feedline
from feedline.native import numbers, order, rows

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "trainer-image/feedline/native"


@pytest.mark.parametrize("wanted", ["0", "auto", "1"])
def test_who_copies_is_chosen_by_the_environment(python, wanted):
    program = "from feedline.native import copied_by; print(copied_by())"
    ended = python(program, FEEDLINE_NATIVE=wanted)
    assert ended.output == ("numpy\n" if wanted == "0" else "native\n")


def test_what_cannot_be_is_one_sentence(python):
    program = """
from feedline.errors import EnvironmentInvalidError
from feedline.native import library
library.PATH = library.PATH.with_name("none.so")
try:
    print(library.copied_by())
except EnvironmentInvalidError as error:
    print(error)
"""
    assert python(program).output == "numpy\n"
    assert "FEEDLINE_NATIVE: is 1, and" in python(program, FEEDLINE_NATIVE="1").output
    assert python(program, FEEDLINE_NATIVE="2").output == "FEEDLINE_NATIVE: must be auto, 0 or 1 (got '2')\n"


class Idle:
    """A library whose functions do nothing, and say that they did."""

    def __getattr__(self, name):
        answer = -1 if name == "feedline_gather" else 0
        return lambda *_: answer


@pytest.mark.parametrize(
    ("module", "what"),
    [(rows, "copies wrong rows"), (numbers, "converts numbers wrongly"), (order, "draws other orders than NumPy")],
    ids=["rows", "numbers", "order"],
)
def test_a_library_that_gives_something_else_is_not_used(monkeypatch, module, what):
    monkeypatch.setattr(module, "library", Idle)
    with pytest.raises(feedline.FeedlineError, match=f"{what} here: set FEEDLINE_NATIVE=0"):
        module._tried.__wrapped__()


@pytest.mark.parametrize("source", ["gather", "convert", "order"])
def test_sanitizers_find_nothing(tmp_path, source):
    (tmp_path / f"{source}.c").write_bytes((SOURCES / f"{source}.c").read_bytes())
    (tmp_path / "driver.c").write_bytes(Path(__file__).with_name(f"{source}_driver.c").read_bytes())
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
    # Zig, where it is installed, keeps what it has compiled at home.
    environment = {"FEEDLINE_NATIVE": wanted, "PATH": str(Path(shutil.which("cc")).parent), "HOME": str(tmp_path)}
    subprocess.run(build, cwd=ROOT, env=environment, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert f"-py3-none-{tag}" in wheel.name or (wanted == "1" and "-py3-none-manylinux_" in wheel.name)
    names = zipfile.ZipFile(wheel).namelist()
    assert ("feedline/native/native.so" in names) == (wanted == "1")
