"""What the tests of overviews share: a browser."""

import os

import pytest
from browser import MissingBrowserError, find_browser, look_at


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """Return a function that opens a file in a real browser and returns what a script there finds."""
    try:
        path = find_browser()
    except MissingBrowserError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    return lambda file, script: look_at(path, tmp_path_factory.mktemp("browser"), file, script)
