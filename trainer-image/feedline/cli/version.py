"""`feedline version`: what is installed, for a bug report."""

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of

import typer

_PACKAGES = ("feedline", "numpy", "torch", "tensorflow", "keras")


def version() -> None:
    """Show the versions of feedline, Python and the backends that are installed."""
    typer.echo(f"{'python':12}{platform.python_version()}")
    for package in _PACKAGES:
        try:
            found = version_of(package)
        except PackageNotFoundError:
            found = "not installed"
        typer.echo(f"{package:12}{found}")
