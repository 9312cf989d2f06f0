"""Whatever a person types, and whatever lies in their files: one sentence and an exit code, and never a traceback."""

import contextlib
import errno
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from feedline import cli
from feedline.contract import ExitCode
from feedline.errors import (
    DataError,
    EnvironmentInvalidError,
    InputMissingError,
    StorageError,
    edge,
    told,
)

COMMAND = [sys.executable, "-c", "from feedline.cli import main; main()"]
OUTPUTS = {"features.npy", "labels.npy", "names.npy"}


@pytest.fixture
def feedline(monkeypatch, tmp_path, capsys):
    """Call the command line in this process; return exit code, output and errors."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    def feedline(*words):
        monkeypatch.setattr(sys, "argv", ["feedline", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        output, errors = capsys.readouterr()
        return ended.value.code, output, errors

    return feedline


def is_sentence(errors):
    return "Traceback" not in errors and "fault of feedline" not in errors


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENAMETOOLONG, "File name too long", "x"), InputMissingError),
        (PermissionError(errno.EACCES, "Permission denied", "x"), InputMissingError),
        (OSError(errno.ENOSPC, "No space left on device"), StorageError),
        (OSError(errno.EIO, "Input/output error", "x"), StorageError),
        (OSError(errno.EMFILE, "Too many open files", "x"), EnvironmentInvalidError),
        (MemoryError("Unable to allocate 2 TiB"), EnvironmentInvalidError),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), DataError),
        (pa.ArrowInvalid("Couldn't deserialize thrift"), DataError),
        (pa.ArrowKeyError("no such column"), DataError),
        (OSError("Corrupt snappy compressed data."), DataError),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_the_system_or_a_library_says_becomes_one_of_ours(error, kind):
    with pytest.raises(kind) as caught, edge():
        raise error
    assert caught.value.__cause__ is error
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [KeyError("x"), ZeroDivisionError("x"), IndexError("x"), TypeError("x")])
def test_a_fault_of_ours_is_not_called_somebody_elses(error):
    assert told(error) is None


def test_a_fault_of_ours_says_so_and_how_to_report_it(feedline, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("feedline.pack.pack", broken)
    code, _, errors = feedline("pack", "a.csv", "out")
    assert code == 1
    assert errors.startswith("feedline: this is a fault of feedline and not yours: ZeroDivisionError: division by zero")
    assert "please report it" in errors
    assert "Traceback" not in errors
    monkeypatch.setenv("FEEDLINE_TRACEBACK", "1")
    assert "Traceback (most recent call last)" in feedline("pack", "a.csv", "out")[2]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", [["version"], ["pack", "--help"], ["check", "p.yaml"]], ids=str)
def test_output_that_cannot_be_written_is_one_sentence(tmp_path, words):
    (tmp_path / "p.yaml").write_text("kind: TrainingPipeline\n")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=tmp_path
        )
    assert done.returncode in (ExitCode.IO_ERROR, ExitCode.USAGE)
    assert is_sentence(done.stderr)
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["pack", "t.csv", "x" * 300],
        ["pack", "x" * 300, "out"],
        ["pack", "t.csv", "t.csv/out"],
        ["pack", "t.csv", "closed/out"],
        ["pack", "closed", "out"],
        ["check", "x" * 300],
        ["check", "closed/p.yaml"],
        ["bench", "disk", "x" * 300],
        ["bench", "disk", "closed"],
        ["run", "p.yaml", "--report", "."],
        ["run", "p.yaml", "--report", "x" * 300],
        ["run", "p.yaml", "--report", "nowhere/report.json"],
        ["compare", "p.yaml", "--plot", "."],
        ["submit", "p.yaml", "--kubeconfig", "t.csv"],
        ["status", "--kubeconfig", "."],
        ["why", "x" * 300],
        ["logs", ""],
    ],
    ids=lambda words: " ".join(word[:20] for word in words),
)
def test_paths_that_cannot_be_are_one_sentence(feedline, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("a,y\n1,0\n")
    (tmp_path / "p.yaml").write_text("kind: TrainingPipeline\n")
    (tmp_path / "closed").write_text("a file where a folder should be")
    code, _, errors = feedline(*words)
    assert code in set(ExitCode) - {ExitCode.OK}
    assert errors
    assert is_sentence(errors)


# --- anything at all -------------------------------------------------------------------------------------------------------

NAMES = st.one_of(
    st.sampled_from(
        ["t.csv", "t.parquet", "t.npz", "images", "p.yaml", "d", "out", ".", "..", "/", "", "/dev/null", "-"]
    ),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30),
    st.integers(200, 5000).map(lambda size: "x" * size),
)
VALUES = st.one_of(
    NAMES,
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(
        ["8,8", "0,0", "-1,2", "1e309", "validation=0.2", "a=1", "float32", "tab", ";;", "spec.x=1", "d=d", "[", "{}"]
    ),
)
OPTIONS = {
    "pack": "target names drop delimiter decimal null encoding classes background shape dtype scale shuffle-seed split",
    "check": "backend volume set",
    "bench": "row-bytes",
    "run": "backend volume set metrics-port",
    "status": "namespace context kubeconfig",
    "why": "namespace context kubeconfig",
    "submit": "backend set name namespace kubeconfig",
    "delete": "namespace",
}


@pytest.fixture(scope="module")
def littered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("littered")
    (folder / "d").mkdir()
    np.save(folder / "d" / "features.npy", np.zeros((4, 2)))
    (folder / "images" / "cat").mkdir(parents=True)
    (folder / "images" / "cat" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    parquet.write_table(pa.table({"a": [1, 2], "y": [0, 1]}), folder / "t.parquet")
    np.savez(folder / "t.npz", a=np.arange(3))
    return folder


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_words_on_the_command_line_end_in_a_traceback(littered, feedline, monkeypatch, data):
    monkeypatch.chdir(littered)
    kind = data.draw(st.sampled_from(["csv", "parquet", "npz", "yaml"]))
    content = data.draw(
        st.one_of(
            st.binary(max_size=300),
            st.text(st.sampled_from(list("a1,;.\n\"' \t-:{}[]&*é")), max_size=80).map(str.encode),
            st.integers(0, 400).map(lambda cut: _whole(littered, kind)[:cut]),
        )
    )
    (littered / f"any.{kind}").write_bytes(content)
    command = data.draw(st.sampled_from(sorted(OPTIONS)))
    words = data.draw(st.lists(st.one_of(st.just(f"any.{kind}"), NAMES), max_size=3))
    if command == "bench":
        words.insert(0, "disk")
    if command == "pack":
        words.append("--dry-run")
    if command == "run":
        words[:1] = [f"any.{kind}"]  # nothing that could train
    for name in data.draw(st.lists(st.sampled_from(OPTIONS[command].split()), max_size=2)):
        words += [f"--{name}", data.draw(VALUES)]
    code, _, errors = feedline(command, *words)
    assert is_sentence(errors), (command, words, errors)
    assert code in set(ExitCode), (command, words, code, errors)


def _whole(folder, kind):
    path = folder / f"t.{kind}"
    return (
        path.read_bytes() if path.exists() else b"apiVersion: feedline.dev/v1alpha1\nkind: TrainingPipeline\nspec: {}\n"
    )


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=400), cut=st.integers(0, 300), flip=st.integers(0, 299))
def test_no_bytes_of_an_npy_file_end_in_anything_but_a_sentence(tmp_path_factory, content, cut, flip):
    from feedline import open_arrays
    from feedline.errors import FeedlineError

    buffer = io.BytesIO()
    np.save(buffer, np.arange(20.0).reshape(4, 5))
    whole = bytearray(buffer.getvalue())
    whole[flip % len(whole)] ^= 0x15
    folder = tmp_path_factory.mktemp("npy")
    for name, data in (("any", content), ("cut", buffer.getvalue()[:cut]), ("flipped", bytes(whole))):
        path = folder / f"{name}.npy"
        path.write_bytes(data)
        with contextlib.suppress(FeedlineError):
            open_arrays({"a": path})


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["check", "no\nsuch.yaml"], id="a path"),
        pytest.param(["run", "p.yaml", "--set", "spec.a\nb=1"], id="a field"),
        pytest.param(["run", "p.yaml", "--set", "spec.suspend=\x1b[31mred"], id="a value"),
        pytest.param(["pack", "a\nb.csv", "out"], id="a file to pack"),
        pytest.param(["pack", "t.csv", "out"], id="a cell"),
        pytest.param(["pack", "u.csv", "out", "--header"], id="a column"),
    ],
)
def test_what_is_not_printable_is_told_escaped_in_one_line(feedline, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    minimal = "apiVersion: feedline.dev/v1alpha1\nkind: TrainingPipeline\nmetadata: {name: p}\nspec: {}\n"
    Path("p.yaml").write_text(minimal)
    Path("t.csv").write_bytes(b'"\x00\n\x00"\n')
    Path("u.csv").write_bytes(b'"a\x1b[31m\nb",c\nx,y\n1,2\n')
    code, _, errors = feedline(*words)
    assert code != 0
    # A manifest's problems are a line each.
    assert all(line.startswith(("feedline: ", "spec.")) for line in errors.splitlines()), errors
    assert errors.replace("\n", "").isprintable()
