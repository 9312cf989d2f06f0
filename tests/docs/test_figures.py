"""The figures that the essays quote are those of the benchmark's results, and not of an earlier run."""

import re

import pytest
from codeblocks import ROOT

RESULTS = (ROOT / "benchmarks" / "results" / "feed.md").read_text(encoding="utf-8")
ESSAYS = [
    path
    for folder in ("explanation", "how-to")
    for path in sorted((ROOT / "docs" / folder).glob("*.md"))
    if "benchmarks/results/feed.md" in path.read_text(encoding="utf-8")
]
# 1,826 and 33.75, but neither 2,500 bytes nor 2.0 GB: those are the data's and are not measured.
MEASURED = re.compile(r"(?<![\d.,])(\d{1,3},\d{3}|\d+\.\d{2})(?![\d.,]*\d)")
NOT_MEASURED = {"2,500", "1,024"}
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
ROW = re.compile(
    r"^\| .*(?:feed|torch|tf\.data|TensorFlow|Keras|spdl|grain|thread|DataLoader).*\|.*\d.*\|$", re.MULTILINE
)


def figures(page):
    """Return the figures of a page, in its text and in its tables of rows a second."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = set(MEASURED.findall(text)) - NOT_MEASURED
    if "thousand rows a second" in text:
        for row in ROW.findall(text):
            found |= {number for cell in row.split("|")[2:] for number in NUMBER.findall(cell)}
    return found


def test_there_are_essays_with_figures():
    assert {"why-not-dataloader.md", "how-the-feed-works.md", "memory-and-page-cache.md"} <= {e.name for e in ESSAYS}
    assert len(figures(ROOT / "docs" / "explanation" / "why-not-dataloader.md")) >= 35


@pytest.mark.parametrize("page", ESSAYS, ids=lambda page: page.stem)
def test_every_figure_is_in_the_results(page):
    known = set(NUMBER.findall(RESULTS))
    assert sorted(figures(page) - known) == [], "measured anew? Then the essay has to follow benchmarks/results/feed.md"
