"""How Sphinx builds these pages: `.venv/bin/sphinx-build -W -b html docs OUT`. Nothing is fetched."""

import tomllib
from pathlib import Path
from typing import Any

from sphinx.ext.autodoc.mock import _MockObject

_PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = _PROJECT["name"]
author = _PROJECT["authors"][0]["name"]
copyright = author  # noqa: A001 - Sphinx' name for it
version = release = _PROJECT["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["generate"]
# For links to a heading of another page, such as cli.md#feedline-run.
myst_heading_anchors = 3

# `feedline.pytorch`, `.tensorflow` and `.keras` are described without their frameworks, in whose place Sphinx puts
# objects that lack the `|` of annotations.
autodoc_mock_imports = ["torch", "tensorflow", "keras"]
_MockObject.__ror__ = lambda _, __: Any
autodoc_member_order = "bysource"
autodoc_typehints = "none"
# A name in single backticks is code in the docstrings of this project.
default_role = "code"

# `--wait` stays as it is typed.
smartquotes = False

html_theme = "furo"
html_title = f"{project} {version}"
html_copy_source = False
html_show_sphinx = False
highlight_language = "text"
# Pygments' PromQL does not know the colons in the names of recording rules; it colours what it knows.
suppress_warnings = ["misc.highlighting_failure"]
