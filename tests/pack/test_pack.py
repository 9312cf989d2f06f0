"""`feedline pack` over tables: what comes out, in which order, and what bad tables get."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from feedline.cli.pack import pack as command
from feedline.errors import DataError, InputMissingError, UsageError
from feedline.pack import pack, placement
from feedline.pack.columns import Columns

DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "digits.csv.gz"


def written(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def loaded(folder, name):
    return np.load(folder / f"{name}.npy", allow_pickle=False)


def triples(folder):
    return list(
        zip(
            loaded(folder, "features").tolist(),
            loaded(folder, "labels").tolist(),
            loaded(folder, "names").tolist(),
            strict=True,
        )
    )


def every_file(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_the_digits_example_becomes_images_labels_and_names(tmp_path):
    pack([DIGITS], tmp_path / "data", shape=(8, 8), scale=0.0625, shuffle_seed=7)

    features, labels, names = (loaded(tmp_path / "data", name) for name in ("features", "labels", "names"))
    assert (features.shape, features.dtype) == ((1797, 8, 8), np.dtype("float32"))
    assert (features.min(), features.max()) == (0, 1)
    assert features.flags.c_contiguous
    assert (labels.shape, labels.dtype) == ((1797,), np.dtype("int32"))
    assert set(labels.tolist()) == set(range(10))
    assert sorted(names.tolist()) == [f"digits-{row:06}" for row in range(1797)]
    assert every_file(tmp_path / "data") == ["features.npy", "labels.npy", "names.npy"]


def test_a_packed_row_is_the_row_that_its_name_says(tmp_path):
    pack([DIGITS], tmp_path / "data", shuffle_seed=7)

    source = np.loadtxt(DIGITS, delimiter=",")
    rows = [int(name.removeprefix("digits-")) for name in loaded(tmp_path / "data", "names")]
    np.testing.assert_array_equal(loaded(tmp_path / "data", "features"), source[rows, :64])
    np.testing.assert_array_equal(loaded(tmp_path / "data", "labels"), source[rows, 64])


def test_a_shuffle_keeps_every_row_whole_and_depends_on_the_seed_only(tmp_path):
    for name, seed in (("plain", None), ("one", 1), ("again", 1), ("two", 2)):
        pack([DIGITS], tmp_path / name, shuffle_seed=seed)

    plain, one, again, two = (triples(tmp_path / name) for name in ("plain", "one", "again", "two"))
    assert sorted(one, key=lambda row: row[2]) == plain
    assert one != plain
    assert one == again
    assert one != two


def test_the_shuffle_is_the_same_for_good():
    assert placement.shuffled(10, 7).tolist() == [8, 5, 0, 2, 1, 9, 7, 3, 6, 4]


@given(rows=st.integers(1, 3000), seed=st.integers(0, 2**32 - 1))
def test_a_shuffle_is_a_permutation(rows, seed):
    assert sorted(placement.shuffled(rows, seed).tolist()) == list(range(rows))


def test_a_split_shares_out_all_rows_once(tmp_path):
    pack([DIGITS], tmp_path / "whole", shuffle_seed=3)
    pack([DIGITS], tmp_path / "parts", shuffle_seed=3, split={"validation": 0.2, "test": 0.1})

    parts = [triples(tmp_path / "parts" / name) for name in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [1258, 359, 180]
    assert [row for part in parts for row in part] == triples(tmp_path / "whole")


IRIS = "length,width,species\n5.1,3.5,setosa\n4.9,3.0,virginica\n4.7,3.2,setosa\n"


@pytest.mark.parametrize(
    ("text", "columns", "features", "labels"),
    [
        pytest.param("1,2,0\n3,4,1\n", Columns(), [[1, 2], [3, 4]], np.int32([0, 1]), id="last column, no header"),
        pytest.param("a,b,c\n1,2,0\n3,4,1\n", Columns(), [[1, 2], [3, 4]], np.int32([0, 1]), id="header seen"),
        pytest.param(
            "0,1,c\n1,2,0\n3,4,1\n", Columns(header=True), [[1, 2], [3, 4]], np.int32([0, 1]), id="numbers in it"
        ),
        pytest.param("1,?,0\n", Columns(drop=("2",)), [[1]], np.int32([0]), id="one row is no header"),
        pytest.param("7,8,9\n1,2,0\n", Columns(header=True), [[1, 2]], np.int32([0]), id="header said"),
        pytest.param("label,a,b\n0,1,2\n1,3,4\n", Columns(), [[1, 2], [3, 4]], np.int32([0, 1]), id="target named so"),
        pytest.param("a,b,c\n1,2,0\n", Columns(target="a"), [[2, 0]], np.int32([1]), id="target by name"),
        pytest.param("1,2,0\n", Columns(target="2"), [[1, 0]], np.int32([2]), id="target by number"),
        pytest.param("1,2,0.5\n3,4,1\n", Columns(), [[1, 2], [3, 4]], np.float32([0.5, 1]), id="fractions"),
        pytest.param("1,2,0.0\n3,4,1.0\n", Columns(), [[1, 2], [3, 4]], np.int32([0, 1]), id="whole fractions"),
        pytest.param("1,2,3000000000\n", Columns(), [[1, 2]], np.int64([3_000_000_000]), id="large integers"),
        pytest.param(IRIS, Columns(drop=("width",)), [[5.1], [4.9], [4.7]], np.int32([0, 1, 0]), id="classes"),
        pytest.param('1,"2",0\r\n\r\n3, 4,1\r\n', Columns(), [[1, 2], [3, 4]], np.int32([0, 1]), id="quotes, CRLF"),
        pytest.param("\ufeff1,2,0\n", Columns(), [[1, 2]], np.int32([0]), id="byte order mark"),
        pytest.param("1,2,0", Columns(), [[1, 2]], np.int32([0]), id="no last line end"),
    ],
)
def test_a_table_becomes_features_and_labels(tmp_path, text, columns, features, labels):
    pack([written(tmp_path / "t.csv", text)], tmp_path / "out", columns=columns)

    np.testing.assert_array_equal(loaded(tmp_path / "out", "features"), np.float32(features))
    np.testing.assert_array_equal(loaded(tmp_path / "out", "labels"), labels)
    assert loaded(tmp_path / "out", "labels").dtype == labels.dtype


def test_class_names_are_written_beside_the_labels(tmp_path):
    packed = pack([written(tmp_path / "t.csv", IRIS)], tmp_path / "out")

    assert (tmp_path / "out" / "classes.txt").read_text() == "setosa\nvirginica\n"
    assert packed.classes == ("setosa", "virginica")
    assert packed.target == "column 3 (species) (the last one)"


def test_a_table_without_labels_has_no_labels_file(tmp_path):
    pack([written(tmp_path / "t.csv", "1,2\n")], tmp_path / "out", columns=Columns(labelled=False))

    assert every_file(tmp_path / "out") == ["features.npy", "names.npy"]
    assert loaded(tmp_path / "out", "features").tolist() == [[1, 2]]


def test_a_column_can_name_the_rows(tmp_path):
    table = written(tmp_path / "t.csv", "id,a,y\nfirst,1,0\nzweité,2,1\n")
    pack([table], tmp_path / "out", columns=Columns(names="id"))

    assert loaded(tmp_path / "out", "names").tolist() == ["first", "zweité"]
    assert loaded(tmp_path / "out", "features").tolist() == [[1], [2]]


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".tsv", ".tsv.gz"])
def test_several_tables_are_read_as_one(tmp_path, suffix):
    comma = "\t" if "tsv" in suffix else ","
    tables = [
        written(tmp_path / f"{name}{suffix}", text.replace(",", comma))
        for name, text in (("one", "a,y\n1,0\n2,1\n"), ("two", "a,y\n3,2\n"))
    ]
    pack(tables, tmp_path / "out")

    assert triples(tmp_path / "out") == [([1], 0, "one-000000"), ([2], 1, "one-000001"), ([3], 2, "two-000000")]


def test_tables_of_one_name_are_told_apart_by_their_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tables = [written(Path(folder, "t.csv"), "1,2\n") for folder in ("a", "b")]
    pack(tables, "out")

    assert loaded(tmp_path / "out", "names").tolist() == ["a/t-000000", "b/t-000000"]


def test_a_table_of_many_chunks_keeps_its_order(tmp_path):
    rows = np.arange(30_000 * 9).reshape(-1, 9)
    np.savetxt(tmp_path / "t.csv", rows, fmt="%d", delimiter=",")
    pack([tmp_path / "t.csv"], tmp_path / "out", columns=Columns(target="5"), dtype="int32")

    np.testing.assert_array_equal(loaded(tmp_path / "out", "features"), np.delete(rows, 4, axis=1))
    np.testing.assert_array_equal(loaded(tmp_path / "out", "labels"), rows[:, 4])


@pytest.mark.parametrize(
    ("text", "keywords", "message"),
    [
        pytest.param("1,2,0\n3,x,1\n", {}, "t.csv, line 2, column 2: 'x' is no number", id="a word"),
        pytest.param("a,b,y\n1,2,0\n3,,1\n", {}, "t.csv, line 3, column 2 (b): the cell is empty", id="an empty cell"),
        pytest.param("1,2,0\n3,4\n", {}, "t.csv, line 2: 2 columns where 3 are expected", id="a short row"),
        pytest.param("1,2,0\n3,4,five\n", {}, "line 2, column 3: 'five' is no number, though", id="a label in words"),
        pytest.param("a,y\n1,cat\n2,\n", {}, "line 3, column 2 (y): '' is no class name", id="an empty class"),
        pytest.param("1,1e40\n", {}, "is too large for a label", id="a label too large"),
        pytest.param("1e39,1\n", {}, "line 1, column 1: 1e+39 does not fit float32", id="too large"),
        pytest.param("1,0\n256,0\n", {"dtype": "uint8"}, "line 2, column 1: 256.0 does not fit uint8", id="past 255"),
        pytest.param("1.5,0\n", {"dtype": "int32"}, "line 1, column 1: 1.5 does not fit int32", id="a fraction"),
        pytest.param("nan,0\n", {"dtype": "int16"}, "does not fit int16", id="nan as an integer"),
        pytest.param("", {}, "t.csv is empty", id="an empty file"),
        pytest.param("\n\n", {}, "t.csv is empty", id="blank lines"),
        pytest.param("a,b\n", {"columns": Columns(header=True)}, "t.csv has no rows", id="a header only"),
        pytest.param('1,"2\n3,4\n', {}, "line 2: unexpected end of data", id="an open quote"),
    ],
)
def test_a_bad_table_is_told_by_file_row_and_column_and_leaves_nothing(tmp_path, text, keywords, message):
    table = written(tmp_path / "t.csv", text)
    with pytest.raises(DataError) as caught:
        pack([table], tmp_path / "out", **keywords)

    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        pytest.param(gzip.compress(b"1,2\n" * 9000)[:-30], "t.csv.gz", "is cut short or no gzip file", id="cut gzip"),
        pytest.param(b"1,2\n", "t.csv.gz", "is cut short or no gzip file", id="no gzip"),
        pytest.param(b"1,\xff\n", "t.csv", "is no utf-8 text", id="no UTF-8"),
        pytest.param(gzip.compress(b"1" * (1 << 26)), "t.csv.gz", "has a line of more than", id="a line without end"),
    ],
)
def test_a_file_that_is_no_table_is_told_so(tmp_path, content, name, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        pack([tmp_path / name], tmp_path / "out")


def test_tables_whose_columns_differ_are_not_mixed(tmp_path):
    tables = [written(tmp_path / "a.csv", "a,b\n1,0\n"), written(tmp_path / "b.csv", "b,a\n1,0\n")]
    with pytest.raises(DataError, match="its header differs"):
        pack(tables, tmp_path / "out")


def test_a_table_that_grows_between_the_passes_is_refused(tmp_path):
    table = written(tmp_path / "t.csv", "1,0\n2,1\n")

    def grow(stage, done, total):
        if stage == "Reading":
            table.write_text("1,0\n2,1\n3,2\n")

    with pytest.raises(DataError, match="changed while it was read"):
        pack([table], tmp_path / "out", progress=grow)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        pytest.param({"columns": Columns(target="widht")}, "did you mean width?", id="a slip in a name"),
        pytest.param({"columns": Columns(target="9")}, "choose one of length, width, species", id="a number too high"),
        pytest.param({"columns": Columns("species", labelled=False)}, "exclude each other", id="both targets"),
        pytest.param({"columns": Columns("width", drop=("width",))}, "must name different ones", id="dropped target"),
        pytest.param({"columns": Columns(drop=("1", "2"))}, "no column is left for the features", id="all dropped"),
        pytest.param({"shape": (8, 8)}, "--shape 8,8 holds 64 numbers, but a row has 2 features", id="wrong shape"),
        pytest.param({"shape": (-1, 2)}, "is no shape of a row", id="negative shape"),
        pytest.param({"dtype": "complex64"}, "is not on offer: choose one of float16", id="unknown dtype"),
        pytest.param({"dtype": "uint8", "scale": 0.5}, "choose --dtype float32", id="fractions as integers"),
        pytest.param({"scale": float("nan")}, "give a finite number", id="scale nan"),
        pytest.param({"shuffle_seed": -1}, "--shuffle-seed -1 is out of range", id="negative seed"),
        pytest.param({"split": {"train": 0.2}}, "choose another name", id="train is the rest"),
        pytest.param({"split": {"../x": 0.2}}, "a part is a folder", id="a part that leads out"),
        pytest.param({"split": {"a": 1.0}}, "between 0 and 1", id="all of it"),
        pytest.param({"split": {"a": 0.5, "b": 0.5}}, "leave some for train", id="nothing to train on"),
        pytest.param({"split": {"validation": 0.1}}, "leaves no row for validation", id="too few rows"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused(tmp_path, keywords, message):
    with pytest.raises(UsageError) as caught:
        pack([written(tmp_path / "t.csv", IRIS)], tmp_path / "out", **keywords)

    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_existing_files_are_kept_unless_overwrite_is_said(tmp_path):
    numbers = written(tmp_path / "numbers.csv", "1,0\n")
    pack([written(tmp_path / "t.csv", IRIS)], tmp_path / "out")
    with pytest.raises(UsageError, match="exists: choose another folder, or replace it with --overwrite"):
        pack([numbers], tmp_path / "out")
    assert len(triples(tmp_path / "out")) == 3

    pack([numbers], tmp_path / "out", overwrite=True)
    assert triples(tmp_path / "out") == [([1], 0, "numbers-000000")]
    assert not (tmp_path / "out" / "classes.txt").exists()


def test_a_failed_overwrite_keeps_what_was_there(tmp_path):
    pack([written(tmp_path / "t.csv", IRIS)], tmp_path / "out")
    before = triples(tmp_path / "out")
    with pytest.raises(DataError):
        pack([written(tmp_path / "bad.csv", "1,0\nx,0\n")], tmp_path / "out", overwrite=True)

    assert triples(tmp_path / "out") == before
    assert every_file(tmp_path / "out") == ["classes.txt", "features.npy", "labels.npy", "names.npy"]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        pytest.param(lambda path: path / "none.csv", InputMissingError, "cannot be read", id="missing"),
        pytest.param(lambda path: written(path / "a.txt", "1"), UsageError, "of no kind that can be packed", id="kind"),
        pytest.param(lambda path: Path("/dev/null"), UsageError, "of no kind", id="a device"),
    ],
)
def test_a_source_that_cannot_be_is_told_so(tmp_path, make, error, message):
    with pytest.raises(error, match=message):
        pack([make(tmp_path)], tmp_path / "out")


def test_kinds_are_not_mixed(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="pack folders of images and text tables apart"):
        pack([written(tmp_path / "t.csv", "1,2\n"), tmp_path / "folder"], tmp_path / "out")


def test_an_output_that_is_a_file_is_told_so(tmp_path):
    table = written(tmp_path / "t.csv", "1,2\n")
    with pytest.raises(UsageError, match="is a file: name a folder"):
        pack([table], table)


@pytest.fixture
def run():
    app = typer.Typer()
    app.command()(command)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def test_the_command_says_what_it_wrote_and_is_quiet_otherwise(tmp_path, run):
    done = run(DIGITS, tmp_path / "data", "--shape", "8,8", "--scale", "0.0625", "--split", "validation=0.2")

    assert done.exit_code == 0
    assert [" ".join(line.split()[1:]) for line in done.stdout.splitlines()] == [
        "NAME HOLDS ROLE RANGE MISSING",
        "number feature 0 to 16",
        "number labels 0 to 9",
        "[1438, 8, 8] float32",
        "[1438] int32",
        "[1438] text of up to 13 characters",
        "[359, 8, 8] float32",
        "[359] int32",
        "[359] text of up to 13 characters",
        "come from column 65 (the last one).",
        "row names the columns; if the first one does, say --header.",
    ]
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param([], "the output folder is missing", id="no output"),
        pytest.param(["out", "--shape", "8,a"], "--shape 8,a is no shape", id="shape"),
        pytest.param(["out", "--split", "validation"], "give a name and a fraction", id="split"),
        pytest.param(["out", "--split", "a=0.1", "--split", "a=0.2"], "--split a is given twice", id="split twice"),
    ],
)
def test_the_command_refuses_what_it_cannot_read(run, words, message):
    done = run(DIGITS, *words)

    assert isinstance(done.exception, UsageError)
    assert message in str(done.exception)
