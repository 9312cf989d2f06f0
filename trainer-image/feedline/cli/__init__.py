"""The command line, `feedline …`: one file for each command; here they are joined and errors become exit codes.

It is above everything else, which nothing else knows of. Commands import what they need when they are called.
"""

import inspect
import os
import re
import sys
import traceback
from pathlib import Path

import typer

from feedline.cli.bench import bench
from feedline.cli.check import check
from feedline.cli.checkpoints import checkpoints
from feedline.cli.compare import compare
from feedline.cli.delete import delete
from feedline.cli.logs import logs
from feedline.cli.pack import pack
from feedline.cli.run import run
from feedline.cli.runs import runs
from feedline.cli.split import split
from feedline.cli.stats import stats
from feedline.cli.status import status
from feedline.cli.stop import stop
from feedline.cli.submit import submit
from feedline.cli.sweep import app as sweep
from feedline.cli.version import version
from feedline.cli.why import why
from feedline.contract import ExitCode
from feedline.errors import FeedlineError, edge, printable

_CLICK_USAGE = 2
_TRACEBACK = "FEEDLINE_TRACEBACK"

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

    And in a cluster:

    feedline submit pipeline.yaml

    feedline why digits
    """,
)
for _panel, _commands in (
    ("Here", (run, runs, compare, check, checkpoints, bench, pack, split, stats, version)),
    ("In a cluster", (submit, status, why, logs, stop, delete)),
):
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)


app.add_typer(sweep, name="sweep", rich_help_panel="Here")


def main() -> None:
    """Run the command line; end the process with the exit codes of `feedline.contract.ExitCode`."""
    code = _run(_program())
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        # Or the interpreter would try again at its end, and complain in its own words.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(code)


def _run(program: str) -> int | str | None:
    """Run a command and return its exit code; whatever went wrong is told in one sentence."""
    try:
        with edge():
            app(prog_name=program)
    except SystemExit as ended:
        if isinstance(ended.__context__, typer.Abort):
            return ExitCode.INTERRUPTED
        # A wrong option is a wrong use, like a wrong manifest.
        return ExitCode.USAGE if ended.code == _CLICK_USAGE else ended.code
    except FeedlineError as error:
        return _tell(error)
    except Exception as error:  # noqa: BLE001 - what nobody foresaw
        return _tell_our_fault(error)
    return ExitCode.OK


def _tell(error: FeedlineError) -> int:
    for problem in getattr(error, "problems", (str(error),)):
        sys.stderr.write(f"feedline: {printable(problem)}\n")
    return error.exit_code


def _tell_our_fault(error: Exception) -> int:
    """Say that it is a fault of feedline, where it is, and how to get all that a report of it needs."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "feedline" in frame.filename]
    place = f", in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    sys.stderr.write(
        f"feedline: this is a fault of feedline and not yours: {type(error).__name__}: {str(error)[:300]}{place}; "
        f"please report it to the project, with what {_TRACEBACK}=1 adds\n"
    )
    if os.environ.get(_TRACEBACK):
        traceback.print_exception(error)
    return 1


def _program() -> str:
    """Return the name under which a person called; as a plugin of kubectl, help and examples bear that name too."""
    if not Path(sys.argv[0]).name.startswith("kubectl-feedline"):
        return "feedline"
    program = "kubectl feedline"
    app.info.help = _renamed(app.info.help, program)
    for command in (*app.registered_commands, *sweep.registered_commands):
        command.help = _renamed(command.callback.__doc__ if command.callback else "", program)
    return program


def _renamed(text: str | None, program: str) -> str:
    return re.sub(r"^( *)feedline ", rf"\1{program} ", inspect.cleandoc(text or ""), flags=re.MULTILINE)
