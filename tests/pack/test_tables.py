"""What a table of text becomes, or why it is refused: a number is never another one, and no row is lost or made up."""

import gzip

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from feedline.errors import DataError, FeedlineError, UsageError
from feedline.pack import Columns, Dialect, pack


@pytest.fixture
def packed(tmp_path):
    """Pack text, and return features, labels and what `pack` says."""

    def packed(text, name="t.csv", **options):
        path = tmp_path / name
        content = text if isinstance(text, bytes) else text.encode()
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        said = pack([path], tmp_path / "out", **options)
        read = [
            np.load(tmp_path / "out" / f"{array}.npy") if (tmp_path / "out" / f"{array}.npy").exists() else None
            for array in ("features", "labels")
        ]
        return (*read, said)

    return packed


def comma(delimiter=";"):
    return Dialect(delimiter, ",")


# --- text is a number only if it is written as one -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("1.5,12\n2.5,1_2\n", "line 2, column 2: '1_2' is no number, though", id="underscore in a label"),
        pytest.param("1.5,0\n1_0,1\n", "line 2, column 1: '1_0' is no number", id="underscore in a feature"),
        pytest.param(
            "1.5,0\n\uff11\uff12,1\n", "line 2, column 1: '\uff11\uff12' is no number", id="digits of another script"
        ),
        pytest.param("1.5,0\n2.5,٣\n", "line 2, column 2: '٣' is no number, though", id="a label in another script"),
        pytest.param("1.5,0\n0x10,1\n", "line 2, column 1: '0x10' is no number", id="hexadecimal"),
        pytest.param("1.5,0\n2.5,0x1\n", "line 2, column 2: '0x1' is no number, though", id="a hexadecimal label"),
        pytest.param('1.5,0\n"1,000",1\n', "line 2, column 1: '1,000' is no number", id="thousands"),
        pytest.param("1.5,0\n1e,1\n", "line 2, column 1: '1e' is no number", id="half an exponent"),
        pytest.param("1.5,0\nTrue,1\n", "line 2, column 1: 'True' is no number", id="a truth value"),
        pytest.param("1.5,0\n2.5,nan\n", "line 2, column 2: 'nan' is no number, though", id="nan as a label"),
        pytest.param("1.5,0\n2.5,inf\n", "line 2, column 2: 'inf' is no number, though", id="inf as a label"),
        pytest.param("1.5,0\n2.5,NA\n", "line 2, column 2: 'NA' is no number, though", id="NA as a label"),
        pytest.param("1.5,0\n2.5,\n", "line 2, column 2: the label is missing", id="an empty label"),
        pytest.param(
            "a,y\n1.5,cat\n2.5,nan\n", "line 3, column 2 (y): 'nan' stands for a missing", id="nan as a class"
        ),
        pytest.param("a,y\n1.5,cat\n2.5,\n", "line 3, column 2 (y): '' is no class name", id="an empty class"),
    ],
)
def test_what_is_no_number_is_refused_with_its_place(packed, text, told):
    with pytest.raises(DataError) as caught:
        packed(text)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "text", ["+1.5", "-0", ".5", "5.", " 7 ", "1e5", "1E-5", "007", "nan", "-inf", "Infinity", '" 3"']
)
def test_what_is_a_number_is_what_python_reads(packed, text):
    features, _, _ = packed(f"a,b,y\n1,{text},0\n")
    np.testing.assert_array_equal(features[0, 1], np.float32(float(text.strip('" '))))


# --- what separates columns and what stands before a fraction -----------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("a;b;y\n1;2;0\n", "say --delimiter ';'", id="semicolons"),
        pytest.param("a\tb\ty\n1\t2\t0\n", "say --delimiter tab", id="tabs in a .csv"),
        pytest.param("a|b|y\n1|2|0\n", "say --delimiter '|'", id="pipes"),
        pytest.param("1 2 0\n3 4 1\n", "say --delimiter space", id="spaces, as numpy.savetxt writes"),
        pytest.param("5,1;0\n6,2;1\n", "say --delimiter ';', and --decimal ,", id="both, with decimal commas"),
    ],
)
def test_another_separator_is_named(packed, text, told):
    with pytest.raises(DataError) as caught:
        packed(text)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("text", "dialect", "features", "labels"),
    [
        pytest.param("1,5;2;0\n-2,5e1;3;1\n", comma(), [[1.5, 2], [-25, 3]], [0, 1], id="decimal commas"),
        pytest.param("a\tb\ty\n1\t2\t0\n", Dialect("tab"), [[1, 2]], [0], id="tabs"),
        pytest.param("1 2 0\n3 4 1\n", Dialect("space"), [[1, 2], [3, 4]], [0, 1], id="spaces"),
        pytest.param("1,5;5\n2,6;5\n", Dialect(","), None, None, id="a separator that was said is not doubted"),
        pytest.param("a,y\n1,0\nNA,1\n,0\n", Dialect(null=("NA", "")), [[1], [np.nan], [np.nan]], [0, 1, 0], id="null"),
        pytest.param(
            "a,y\n1,caf\u00e9\n2,b\n".encode("latin-1"), Dialect(encoding="latin-1"), [[1], [2]], [1, 0], id="latin"
        ),
        pytest.param(
            "a,y\n1,caf\u00e9\n2,b\n".encode("utf-16"), Dialect(encoding="utf-16"), [[1], [2]], [1, 0], id="utf-16"
        ),
    ],
)
def test_a_dialect_that_is_said_is_read(packed, text, dialect, features, labels):
    if features is None:
        with pytest.raises(DataError, match=r"'5;5'"):
            packed(text, dialect=dialect, columns=Columns(target="1", header=False))
        return
    got, numbers, _ = packed(text, dialect=dialect)
    np.testing.assert_array_equal(got, np.float32(features))
    assert numbers.tolist() == labels


def test_decimal_commas_do_not_hide_points(packed):
    with pytest.raises(DataError, match=r"'1\.000,5' is no number"):
        packed("1,5;0\n1.000,5;1\n", dialect=comma())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param({"delimiter": ";;"}, "--delimiter ';;' cannot separate", id="two characters"),
        pytest.param({"delimiter": "\u00a7"}, "cannot separate columns", id="not ASCII"),
        pytest.param({"delimiter": '"'}, "cannot separate columns", id="a quote"),
        pytest.param({"delimiter": "5"}, "cannot separate columns", id="a digit"),
        pytest.param({"decimal": ";"}, "--decimal ';'", id="decimal"),
        pytest.param({"decimal": ","}, "needs another --delimiter", id="comma for both"),
        pytest.param({"encoding": "klingon"}, "--encoding 'klingon' is not known", id="no encoding"),
        pytest.param({"encoding": "rot13"}, "--encoding 'rot13' is not known", id="no text encoding"),
    ],
)
def test_a_dialect_that_cannot_be_is_refused(arguments, told):
    with pytest.raises(UsageError, match=told):
        Dialect(**arguments)


# --- the header -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("0,1,species\n5.1,3.5,setosa\n4.9,3.0,virginica\n", id="pandas' numbers over names of classes"),
        pytest.param("0,1\n5.1,setosa\n4.9,virginica\n", id="pandas' numbers over a class"),
        pytest.param("0,1,2\n5,6,8\n3,2,1\n", id="pandas' numbers over numbers"),
        pytest.param("2019,2020,2021\n5,6,8\n3,2,1\n", id="years"),
        pytest.param("#N/A,2,0\n3,4,1\n", id="a missing value"),
        pytest.param(".,2,0\n3,4,1\n", id="a point"),
        pytest.param("missing,2,0\n3,4,1\n", id="a word for a missing value"),
        pytest.param("12%,2,0\n3,4,1\n", id="a percentage"),
        pytest.param("<NA>,cat\n3,dog\n", id="pandas' missing value beside a class"),
        pytest.param("1,setosa\n2,virginica\n", id="whole numbers beside a class that does not come again"),
    ],
)
def test_a_first_row_that_may_be_either_is_asked_about(packed, text, tmp_path):
    with pytest.raises(
        UsageError, match=r"t\.csv: whether its first row .* names the columns cannot be told.*--header"
    ):
        packed(text)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "header", "rows"),
    [
        pytest.param("a,b,y\n1,2,0\n3,4,1\n", True, 2, id="words over numbers"),
        pytest.param(",a,y\n0,1.5,0\n1,2.5,1\n", True, 2, id="pandas' index has no name"),
        pytest.param("# a,b,y\n1,2,0\n", True, 1, id="numpy.savetxt's header"),
        pytest.param("sepal (cm),y\n1,cat\n?,dog\n3,cat\n", True, 3, id="a missing value below"),
        pytest.param("1,2,0\n3,4,1\n", False, 2, id="numbers"),
        pytest.param("1,2,3\n4,5,6\n", False, 2, id="numbers that count in every row"),
        pytest.param("0,1,2\n3,4,5\n", False, 2, id="so from 0"),
        pytest.param("5.1,3.5,setosa\n4.9,3.0,virginica\n", False, 2, id="fractions"),
        pytest.param("5,3,setosa\n4,3,virginica\n6,3,setosa\n", False, 3, id="a class that comes again"),
    ],
)
def test_a_first_row_that_is_clear_is_said(packed, text, header, rows):
    dialect = Dialect(null=("?",))
    features, _, said = packed(text, dialect=dialect)
    assert len(features) == rows
    assert said.said[0].startswith("The first row names the columns" if header else "No row names the columns")


# --- numbers keep their values --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "options", "told"),
    [
        pytest.param(
            "16777217.0,0\n", {}, "16777217.0 does not fit float32: correct it, or choose --dtype float64", id="2^24+1"
        ),
        pytest.param("a,y\n2049,0\n", {"dtype": "float16"}, "2049.0 does not fit float16", id="2^11+1"),
        pytest.param("a,y\n9007199254740993,0\n", {"dtype": "float64"}, "choose --dtype int64", id="2^53+1"),
        pytest.param("1e400,0\n", {}, "1e400 does not fit float64", id="beyond float64"),
        pytest.param(
            "-1e39,0\n", {}, "-1e+39 does not fit float32: correct it, or choose --dtype float64", id="beyond float32"
        ),
        pytest.param(
            "1e-60,0\n", {}, "1e-60 does not fit float32: correct it, or choose --dtype float64", id="becomes 0"
        ),
        pytest.param("1e-400,0\n", {}, "1e-400 becomes 0 as a float64", id="becomes 0 as a float64"),
        pytest.param("3e38,0\n", {"scale": 10.0}, "3e+38 times 10 does not fit float32", id="by its scale"),
        pytest.param(
            "1e308,0\n", {"scale": 10.0, "dtype": "float64"}, "times 10 does not fit float64", id="scaled float64"
        ),
        pytest.param(
            "a,y\n-1,0\n", {"dtype": "uint8"}, "-1.0 does not fit uint8: correct it, or choose --dtype int8", id="sign"
        ),
        pytest.param(
            "a,y\n1,16777217\n2,0.5\n", {}, "16777217.0 does not fit float32, the type of these labels", id="a label"
        ),
    ],
)
def test_a_number_that_would_become_another_is_refused(packed, text, options, told):
    with pytest.raises(DataError) as caught:
        packed(text, **options)
    assert told in str(caught.value)
    assert "line " in str(caught.value)


@pytest.mark.parametrize(
    ("text", "dtype", "expected"),
    [
        ("9007199254740993", "int64", 9007199254740993),
        ("18446744073709551615", "uint64", 18446744073709551615),
        ("-9223372036854775808", "int64", -(2**63)),
        ("4294967295", "uint32", 4294967295),
        ("16777216", "float32", 16777216.0),
        ("0.1", "float32", np.float32(0.1)),
        ("1e20", "float32", np.float32(1e20)),
    ],
)
def test_a_number_that_fits_is_kept(packed, text, dtype, expected):
    features, _, _ = packed(f"a,y\n{text},0\n", dtype=dtype)
    assert features[0, 0] == expected


# --- roles and classes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["", "Unnamed: 0"])
def test_the_row_index_of_pandas_is_no_feature(packed, first):
    features, _, said = packed(f"{first},a,y\n0,1.5,0\n1,2.5,1\n")
    assert features.tolist() == [[1.5], [2.5]]
    assert any("is the row index of pandas and was left out" in sentence for sentence in said.said)


@pytest.mark.parametrize("name", [None, "id"], ids=["without a name", "with one"])
def test_the_row_index_of_pandas_in_parquet_is_no_feature(tmp_path, name):
    table = pa.table({name or "__index_level_0__": [7, 8], "a": [1.5, 2.5], "y": [0, 1]})
    told = f'{{"index_columns": ["{name or "__index_level_0__"}"]}}'
    parquet.write_table(table.replace_schema_metadata({"pandas": told}), tmp_path / "t.parquet")
    said = pack([tmp_path / "t.parquet"], tmp_path / "out")
    assert np.load(tmp_path / "out" / "features.npy").tolist() == [[1.5], [2.5]]
    assert "row index of pandas" in said.said[0]


def test_a_column_that_counts_the_rows_is_told(packed):
    text = "id,a,y\n" + "".join(f"{row + 5},{row % 3}.5,{row % 2}\n" for row in range(30))
    features, _, said = packed(text)
    assert features.shape == (30, 2)
    assert said.said[1].startswith("Column 1 (id) counts the rows")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        pytest.param(["0.0", "1.0"], np.int32([0, 1]), id="whole numbers with a point"),
        pytest.param(["1e0", "2"], np.int32([1, 2]), id="in whatever notation"),
        pytest.param(["0.5", "1.0"], np.float32([0.5, 1]), id="fractions"),
        pytest.param(["1", "9007199254740993"], np.int64([1, 9007199254740993]), id="long integers"),
    ],
)
def test_labels_that_are_whole_numbers_are_integers(packed, labels, expected):
    _, numbers, _ = packed("".join(f"1.5,{label}\n" for label in labels), columns=Columns(header=False))
    np.testing.assert_array_equal(numbers, expected)
    assert numbers.dtype == expected.dtype


def test_two_columns_that_look_like_labels_are_asked_about(packed):
    with pytest.raises(UsageError, match=r"column 1 \(label\) and column 2 \(class\) look like labels"):
        packed("label,class,a\n1,2,3.5\n")


def test_the_classes_of_another_set_give_the_numbers(packed, tmp_path):
    (tmp_path / "known.txt").write_text("dog\nbird\ncat\n")
    _, labels, said = packed("a,y\n1,cat\n2,dog\n", classes=tmp_path / "known.txt")
    assert labels.tolist() == [2, 0]
    assert said.classes == ("dog", "bird", "cat")
    assert (tmp_path / "out" / "classes.txt").read_text() == "dog\nbird\ncat\n"


@pytest.mark.parametrize(
    ("content", "text", "told"),
    [
        pytest.param(
            "dog\n", "a,y\n1,dog\n2,cat\n", r"line 3, column 2 \(y\): 'cat' is none of the 1 classes", id="a new one"
        ),
        pytest.param("dog\ndog\n", "a,y\n1,dog\n", "line 2 names 'dog' again", id="twice"),
        pytest.param("", "a,y\n1,dog\n", "is empty: give one class a line", id="empty"),
        pytest.param("dog\n\ncat\n", "a,y\n1,dog\n", "line 2 is empty", id="an empty line"),
    ],
)
def test_classes_that_do_not_go_with_the_labels_are_refused(packed, tmp_path, content, text, told):
    (tmp_path / "known.txt").write_text(content)
    with pytest.raises(DataError, match=told):
        packed(text, classes=tmp_path / "known.txt")


def test_every_column_is_told(packed):
    _, _, said = packed(
        "id,a,b,junk,y\nx,1,5,7,cat\nz,3,,8,dog\n",
        columns=Columns(names="id", drop=("junk",)),
        dialect=Dialect(null=("",)),
    )
    told = [(each.number, each.name, each.kind, each.role, each.low, each.high, each.missing) for each in said.columns]
    assert told == [
        (1, "id", "text", "names", None, None, 0),
        (2, "a", "number", "feature", 1, 3, 0),
        (3, "b", "number", "feature", 5, 5, 1),
        (4, "junk", "text", "left out", None, None, 0),
        (5, "y", "class", "labels", None, None, 0),
    ]


# --- files ----------------------------------------------------------------------------------------------------------------


def test_a_dry_run_says_all_and_writes_nothing(packed, tmp_path):
    (tmp_path / "t.csv").write_text("a,y\n1,cat\n2,dog\n")
    said = pack([tmp_path / "t.csv"], tmp_path / "out", dry_run=True)
    assert [(file.path.name, file.shape) for file in said.files] == [
        ("features.npy", (2, 1)),
        ("labels.npy", (2,)),
        ("names.npy", (2,)),
    ]
    assert said.classes == ("cat", "dog")
    assert not (tmp_path / "out").exists()
    (tmp_path / "t.csv").write_text("a,y\n1,cat\nx,dog\n")
    with pytest.raises(DataError, match="'x' is no number"):
        pack([tmp_path / "t.csv"], tmp_path / "out", dry_run=True)


def test_a_folder_of_parts_is_read_in_natural_order_and_the_rest_is_named(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    for number in (10, 9, 1):
        (folder / f"part-{number}.csv").write_text(f"a,y\n{number},0\n")
    (folder / "_SUCCESS").write_text("")
    (folder / "readme.txt").write_text("")
    (folder / ".part-1.csv.crc").write_text("")
    said = pack([folder], tmp_path / "out")
    assert np.load(tmp_path / "out" / "features.npy")[:, 0].tolist() == [1, 9, 10]
    assert said.said[-1] == "2 entries are no tables and were left out: _SUCCESS, readme.txt."


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_a_packed_table_is_read_and_a_cut_one_refused(tmp_path, codec):
    text = "a,y\n" + "".join(f"{row}.5,{row % 2}\n" for row in range(20_000))
    path = tmp_path / f"t.csv{'.gz' if codec == 'gzip' else '.zst'}"
    with pa.CompressedOutputStream(str(path), codec) as stream:
        stream.write(text.encode())
    pack([path], tmp_path / "out")
    assert np.load(tmp_path / "out" / "features.npy")[:, 0].tolist() == [row + 0.5 for row in range(20_000)]
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match=f"is cut short or no {codec} file"):
        pack([path], tmp_path / "again")


def test_parts_of_other_types_of_numbers_are_read_as_one(tmp_path):
    parquet.write_table(pa.table({"a": pa.array([1, 2], pa.int64()), "y": [0, 1]}), tmp_path / "0.parquet")
    parquet.write_table(pa.table({"y": pa.array([1.0]), "a": pa.array([2.5], pa.float64())}), tmp_path / "1.parquet")
    pack([tmp_path / "0.parquet", tmp_path / "1.parquet"], tmp_path / "out")
    assert np.load(tmp_path / "out" / "features.npy").tolist() == [[1], [2], [2.5]]
    assert np.load(tmp_path / "out" / "labels.npy").tolist() == [0, 1, 1]


def test_two_columns_of_one_name_are_refused(tmp_path):
    table = pa.table([pa.array([1]), pa.array([2]), pa.array([0])], names=["a", "a", "y"])
    parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(DataError, match="has several columns named a: rename all but one"):
        pack([tmp_path / "t.parquet"], tmp_path / "out")


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        pytest.param(
            pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(12.0).reshape(2, 2, 3)),
            np.arange(12.0).reshape(2, 6).tolist(),
            id="tensors",
        ),
        pytest.param(pa.array([1, 2], pa.decimal128(20, 0)), [[1], [2]], id="whole decimals"),
        pytest.param(pa.array(["1.25", "2.50"]).cast(pa.decimal128(10, 2)), [[1.25], [2.5]], id="decimals"),
        pytest.param(pa.array([1, 2]).dictionary_encode(), [[1], [2]], id="a dictionary"),
        pytest.param(pa.array([[1, 2], [3, 4]], pa.list_(pa.float16(), 2)), [[1, 2], [3, 4]], id="half floats"),
        pytest.param(pa.array([[[1], [2]], [[3], [4]]]), [[1, 2], [3, 4]], id="lists of lists"),
    ],
)
def test_columns_of_all_types_of_numbers_are_features(tmp_path, column, expected):
    parquet.write_table(pa.table({"a": column, "y": ["b", "c"]}), tmp_path / "t.parquet")
    pack([tmp_path / "t.parquet"], tmp_path / "out")
    assert np.load(tmp_path / "out" / "features.npy").tolist() == expected


def test_text_of_all_types_names_classes(tmp_path):
    kinds = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
    for number, kind in enumerate(kinds):
        labels = pa.array(["b", "a"]).cast(kind) if number < 3 else pa.array(["b", "a"]).dictionary_encode()
        parquet.write_table(pa.table({"a": [1, 2], "y": labels}), tmp_path / f"{number}.parquet")
        pack([tmp_path / f"{number}.parquet"], tmp_path / f"out{number}")
        assert np.load(tmp_path / f"out{number}" / "labels.npy").tolist() == [1, 0]


@pytest.mark.parametrize("value", ["2020-01-01", "date", "struct", "binary"])
def test_a_column_that_is_no_number_is_named_with_its_type(tmp_path, value):
    columns = {
        "2020-01-01": pa.array(["2020-01-01"]),
        "date": pa.array([1], pa.timestamp("s")),
        "struct": pa.array([{"x": 1}]),
        "binary": pa.array([b"x"]),
    }
    parquet.write_table(pa.table({"a": columns[value], "b": [1], "y": [0]}), tmp_path / "t.parquet")
    with pytest.raises(UsageError, match=r"column 1 \(a\) of .*, which is no number: leave it out with --drop"):
        pack([tmp_path / "t.parquet"], tmp_path / "out")


@pytest.mark.parametrize(
    "option", [{"dialect": Dialect(";")}, {"dialect": Dialect(null=("x",))}, {"columns": Columns(header=True)}]
)
def test_what_is_for_text_is_refused_for_parquet(tmp_path, option):
    parquet.write_table(pa.table({"a": [1], "y": [0]}), tmp_path / "t.parquet")
    with pytest.raises(UsageError, match="does not go with Parquet files"):
        pack([tmp_path / "t.parquet"], tmp_path / "out", **option)


@pytest.mark.parametrize("name", ["x" * 300, "a/" + "y" * 300])
def test_an_output_that_cannot_be_is_one_sentence(packed, tmp_path, name):
    (tmp_path / "t.csv").write_text("a,y\n1,0\n")
    with pytest.raises(FeedlineError, match="cannot be written"):
        pack([tmp_path / "t.csv"], tmp_path / name)
