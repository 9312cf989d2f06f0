"""The errors that a person must act on, one class for each exit code.

Each is raised where the fault is known, with one sentence that says what is wrong, where, and what to do; it is
caught once, at the edge of the process (`feedline.launch`, the command line), which turns it into its exit code.
"""

from feedline.contract import ExitCode


class FeedlineError(Exception):
    """Base of all of feedline's own errors."""

    exit_code: ExitCode = ExitCode.TEMPORARY


class UsageError(FeedlineError, ValueError):
    """An argument, a manifest or a combination of settings is wrong (exit 64)."""

    exit_code = ExitCode.USAGE


class DataError(FeedlineError, ValueError):
    """A file's content is wrong: no `.npy`, cut short, rows that differ (exit 65)."""

    exit_code = ExitCode.DATA


class FileShrankError(DataError):
    """A file was cut short while it was read (exit 65); apart, because metrics count it apart."""


class InputMissingError(FeedlineError, OSError):
    """A file is missing or may not be read (exit 66)."""

    exit_code = ExitCode.NO_INPUT


class UserFunctionError(FeedlineError):
    """The user's training function raised, or never took a batch (exit 70)."""

    exit_code = ExitCode.USER_ERROR


class StorageError(FeedlineError, OSError):
    """Reading or writing failed for a reason that may pass (exit 74)."""

    exit_code = ExitCode.IO_ERROR


class EnvironmentInvalidError(FeedlineError, RuntimeError):
    """Here it cannot run: a backend is not installed, an entrypoint cannot be imported (exit 78)."""

    exit_code = ExitCode.ENVIRONMENT


class StopTraining(BaseException):
    """Raised at the next batch when the process was asked to end; no `except Exception` swallows it."""

    def __init__(self, exit_code: ExitCode) -> None:
        super().__init__(exit_code.name)
        self.exit_code = exit_code
