"""A process of its own that answers one question after the other, from its start to its end.

For measuring: each framework is imported in one process, which is kept. Only what is asked is at work at any time.
"""

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from typing import Any

_SECONDS_TO_END = 10

Answer = Callable[..., Any]
"""Called in the process with a question, as `Worker.ask` has it; what it raises ends the process."""


class WorkerEndedError(Exception):
    """The process ended instead of giving an answer.

    Attributes
    ----------
    exit_code
        As `multiprocessing.Process` has it: negative for a signal.
    """

    def __init__(self, exit_code: int | None) -> None:
        super().__init__(f"the process ended with {exit_code}")
        self.exit_code = exit_code


class Worker:
    """One such process.

    Parameters
    ----------
    name
        Of the process.
    make
        Called in the process with `arguments`, for what answers there; a function of a module, since it is pickled.
    arguments
        What it is to know.
    """

    def __init__(self, name: str, make: Callable[..., Answer], arguments: tuple[Any, ...]) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_answer_all, args=(theirs, make, arguments), name=name, daemon=False)
        self._process.start()
        theirs.close()

    def ask(self, *question: Any) -> Any:
        """Return the answer to a question.

        Raises
        ------
        WorkerEndedError
            There will be none.
        """
        try:
            self._connection.send(question)
            return self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            raise WorkerEndedError(self._process.exitcode) from None

    def interrupt(self) -> None:
        """Have the process leave what it is doing."""
        self._process.terminate()

    def end(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join(timeout=_SECONDS_TO_END)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()


@contextlib.contextmanager
def started(make: Callable[..., Answer], by_name: Mapping[str, tuple[Any, ...]]) -> Iterator[dict[str, Worker]]:
    """Start a process for each name, with its arguments for `make`, and end them all."""
    workers: dict[str, Worker] = {}
    try:
        for name, arguments in by_name.items():
            workers[name] = Worker(f"feedline-{name}", make, arguments)
        yield workers
    except BaseException:
        for worker in workers.values():
            worker.interrupt()
        raise
    finally:
        for worker in workers.values():
            worker.end()


def _answer_all(connection: Connection, make: Callable[..., Answer], arguments: tuple[Any, ...]) -> None:
    """Answer until the other side hangs up; the body of the process."""
    # Ctrl-C reaches every process; the one that asked ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A spawned process hands its way of starting on: a DataLoader's workers would import torch anew in every epoch.
    multiprocessing.set_start_method(None, force=True)
    answer = make(*arguments)
    with contextlib.suppress(EOFError, ConnectionError):  # nobody listens after Ctrl-C
        while True:
            connection.send(answer(*connection.recv()))
