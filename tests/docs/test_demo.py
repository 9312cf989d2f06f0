"""What `make demo` installs on a fresh machine holds what its commands import."""

import re
import subprocess

import pytest
from codeblocks import ROOT


def demo(*arguments):
    """Return what `make demo` would do where nothing is installed yet, and the packages it would install."""
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", "demo", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    sets = set(re.findall(r"requirements/(\w+)\.txt", done.stdout)) - {"bootstrap"}
    locked = "\n".join((ROOT / f"requirements/{name}.txt").read_text() for name in sets)
    return done.stdout, set(re.findall(r"^([a-z0-9-]+)==", locked, re.MULTILINE))


@pytest.mark.parametrize(
    ("arguments", "frameworks"),
    [
        pytest.param([], {"torch", "tensorflow", "keras"}, id="all"),
        pytest.param(["BACKEND=pytorch"], {"torch"}, id="one"),
    ],
)
def test_the_demo_installs_what_it_packs_and_trains_with(arguments, frameworks):
    commands, packages = demo(*arguments)
    assert "feedline pack examples/digits/digits.csv.gz" in commands
    assert {"pyarrow", *frameworks} <= packages
