"""What the adapters' tests share: the page whose code they run."""

import numpy as np
import pytest
from codeblocks import ROOT, blocks

PAGE = ROOT / "docs" / "how-to" / "frameworks.md"


def sections():
    """Return the Python of the page by heading: what stands before the first one, the feeds, is under ""."""
    found, lines = {}, PAGE.read_text().splitlines()
    for block in blocks(PAGE, "python"):
        headings = [line.removeprefix("## ") for line in lines[: block.line] if line.startswith("## ")]
        found.setdefault(headings[-1] if headings else "", []).append(block)
    return found


@pytest.fixture
def run_section(tmp_path, monkeypatch):
    """Return a function that runs the code of a section of the page as it stands, and returns its names."""
    names = {}

    def run_section(heading):
        monkeypatch.chdir(tmp_path)
        for split, count in {"train": 320, "validation": 70}.items():
            labels = np.arange(count, dtype=np.int32) % 3
            (tmp_path / "data" / split).mkdir(parents=True)
            np.save(f"data/{split}/labels.npy", labels)
            np.save(f"data/{split}/features.npy", np.eye(4, dtype=np.float32)[labels] + np.float32(0.1))
        for block in [*sections()[""], *sections()[heading]]:
            exec(compile(block.text, str(block), "exec"), names)
        return names

    yield run_section
    for feed in (names.get("train"), names.get("held_out")):
        if feed is not None:
            feed.close()


@pytest.fixture(scope="session")
def page_sections():
    """Return the headings of the page under which there is Python."""
    return set(sections()) - {""}
