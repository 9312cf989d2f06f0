"""The command line, `feedline …`: one file for each command; here they are joined and errors become exit codes."""

import sys

import typer

from feedline.cli.check import check
from feedline.cli.compare import compare
from feedline.cli.pack import pack
from feedline.cli.run import run
from feedline.cli.version import version
from feedline.contract import ExitCode
from feedline.errors import FeedlineError

_CLICK_USAGE = 2

app = typer.Typer(
    name="feedline",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""Train on memory-mapped .npy files, and see whether the data or the model holds you back.

    feedline pack digits.csv.gz data/

    feedline check pipeline.yaml --volume digits=data

    feedline run pipeline.yaml --volume digits=data

    feedline compare pipeline.yaml --volume digits=data
    """,
)
for _command in (run, compare, check, pack, version):
    app.command()(_command)


def main() -> None:
    """Run the command line; end the process with the exit codes of `feedline.contract.ExitCode`."""
    try:
        app()
    except SystemExit as ended:
        # A wrong option is a wrong use, like a wrong manifest.
        sys.exit(ExitCode.USAGE if ended.code == _CLICK_USAGE else ended.code)
    except FeedlineError as error:
        for line in str(error).splitlines():
            sys.stderr.write(f"feedline: {line}\n")
        sys.exit(error.exit_code)
