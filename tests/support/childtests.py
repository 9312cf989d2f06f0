"""Tests of a folder that need a process without TensorFlow: they are left out, and one test runs them in a child.

An optimizer of torch, and much that is built upon torch, imports torch._dynamo, whose LLVM ends a process that has
TensorFlow's. (2026-11-28: torch 2.15.0 and TensorFlow 2.21.0, "LLVM ERROR: inconsistency in registered CommandLine
options".)
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FOLDERS = (TESTS / "adapters" / "trainers", TESTS / "checkpoints" / "apart")


def pytest_ignore_collect(collection_path, config):
    """Leave such a folder out, unless it is asked for by name."""
    if collection_path in FOLDERS and not any(collection_path.name in argument for argument in config.args):
        return True
    return None


def run(folder, *packages):
    """Run the tests of such a folder in a process of their own; all of them must pass."""
    assert folder in FOLDERS
    for package in packages:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout
