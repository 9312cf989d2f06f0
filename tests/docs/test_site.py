"""The site is built as CI builds it, warnings being errors: every link inside it leads somewhere, every page is in it."""

import re
import subprocess
import sys
import zlib

import pytest
from codeblocks import ROOT

import feedline

pytestmark = pytest.mark.trainer

DOCS = ROOT / "docs"
# Names that a script of one's own uses, besides those of the package itself.
ADAPTERS = ("pytorch.batches", "tensorflow.batches", "tensorflow.dataset", "keras.dataset")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return the folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    built = subprocess.run(
        [*command, "-d", folder / "doctrees", DOCS, folder / "html"], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return folder / "html"


def test_it_is_built_without_a_warning(site):
    assert "<title>feedline" in (site / "index.html").read_text()


def test_every_page_is_on_it(site):
    pages = {page.relative_to(DOCS).with_suffix(".html") for page in DOCS.rglob("*.md")}
    assert pages <= {page.relative_to(site) for page in site.rglob("*.html")}


def test_nothing_is_loaded_from_elsewhere(site):
    loaded = re.compile(r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=\"(?:https?:)?//[^\"]*\"")
    for page in site.rglob("*.html"):
        assert loaded.findall(page.read_text()) == [], page


@pytest.mark.parametrize("name", [*feedline.__all__, *ADAPTERS])
def test_a_public_name_is_in_the_reference(site, name):
    inventory = (site / "objects.inv").read_bytes().split(b"\n", 4)
    names = {line.split()[0] for line in zlib.decompress(inventory[4]).decode().splitlines()}
    assert f"feedline.{name}" in names


LINKED = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted(ROOT.glob("examples/*/README.md")),
]


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_link_of_a_page_outside_the_site_leads_to_a_file(page):
    links = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []
