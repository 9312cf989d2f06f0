"""SECURITY.md names a test for each guard, or says that there is none: every one that it names is there."""

import ast
import re

import pytest
from codeblocks import ROOT

PAGE = ROOT / "SECURITY.md"
NO_TEST = "no test"
HEADER = ["Threat", "Guard", "Test"]
REFERENCE = re.compile(r"`(tests/[\w/.-]+\.py)((?:::\w+)+)`")


def table():
    """Return the rows of the table of threats, each with its three cells."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    start = rows.index(HEADER)
    return rows[start + 2 :]


ROWS = table()
REFERENCES = [
    pytest.param(path, name.split("::")[1:], id=f"{path}{name}")
    for row in ROWS
    for path, name in REFERENCE.findall(row[2])
]


def test_there_is_a_table_of_threats():
    assert len(ROWS) >= 15
    assert len(REFERENCES) >= len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_threat_has_a_guard_and_a_test_or_says_that_it_has_none(row):
    threat, guard, test = row
    assert threat
    assert guard
    rest = re.sub(r"<br>|,|\s", "", REFERENCE.sub("", test))
    assert rest == ("" if REFERENCE.search(test) else NO_TEST.replace(" ", ""))


@pytest.mark.parametrize(("path", "named"), REFERENCES)
def test_a_test_that_is_named_is_there(path, named):
    scope = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    for name in named:
        kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        (scope,) = [node for node in ast.iter_child_nodes(scope) if isinstance(node, kinds) and node.name == name]
    assert named[-1].startswith("test_")
