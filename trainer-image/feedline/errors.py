"""The errors that a person must act on, one class for each exit code.

Each is raised where the fault is known, with one sentence that says what is wrong, where, and what to do; it is
caught once, at the edge of the process (`feedline.launch`, the command line), which turns it into its exit code. What
nobody foresaw becomes one of them at an `edge`.
"""

import contextlib
import errno
from collections.abc import Iterator

from feedline.contract import ExitCode


def printable(text: str) -> str:
    """Return a text as one line, with what is not printable escaped: a name or a cell of theirs may hold anything."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


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


class TemporaryError(FeedlineError):
    """What went wrong may pass, and another attempt may do: a process that belongs to the run is gone (exit 75)."""

    exit_code = ExitCode.TEMPORARY


class EnvironmentInvalidError(FeedlineError, RuntimeError):
    """Here it cannot run: a backend is not installed, an entrypoint cannot be imported (exit 78)."""

    exit_code = ExitCode.ENVIRONMENT


class StopTraining(BaseException):
    """Raised at the next batch when the process was asked to end; no `except Exception` swallows it."""

    def __init__(self, exit_code: ExitCode) -> None:
        super().__init__(exit_code.name)
        self.exit_code = exit_code


_NOT_THERE = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO}
)
_NO_MORE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})


@contextlib.contextmanager
def edge() -> Iterator[None]:
    """Turn what the system or a library says of files, text and memory into one of our errors; also a decorator.

    Raises
    ------
    FeedlineError
        In place of what was raised. What is none of these is a fault of ours, and goes through as it is.
    """
    try:
        yield
    except FeedlineError:
        raise
    except Exception as error:
        ours = told(error)
        if ours is None:
            raise
        raise ours from error


def told(error: Exception) -> FeedlineError | None:  # noqa: PLR0911 - a list of what there is
    """Return one of our errors for what the system or a library raised; None for what a program's fault raises."""
    if isinstance(error, FeedlineError):
        return error
    words = " ".join(str(error).split())[:300] or type(error).__name__
    if isinstance(error, MemoryError):
        return EnvironmentInvalidError(f"there is not enough memory ({words}): give more, or less work at a time")
    if isinstance(error, UnicodeError):
        return DataError(f"a text or a name is not in the encoding that it should be in ({words}): correct it")
    is_arrows = type(error).__module__.partition(".")[0] == "pyarrow"
    if isinstance(error, OSError) and error.errno is not None:
        path = str(error.filename)[:300] if error.filename is not None else "standard output or another stream"
        what = f"{path}: {error.strerror or words}"
        if error.errno in _NOT_THERE:
            return InputMissingError(f"{what}: check the path and its permissions")
        if error.errno in _NO_MORE:
            return EnvironmentInvalidError(f"{what}: raise the limit, or do less at a time")
        return StorageError(f"{what}: see to the disk or the connection, and try again")
    if isinstance(error, OSError) or is_arrows:
        return DataError(f"what was read is damaged or of another kind than its name says ({words}): make it anew")
    return None
