"""A process that answers questions: in turn, until it is ended or ends."""

import functools
import os

import pytest

from feedline.compare import worker
from feedline.compare.worker import WorkerEndedError


def test_questions_are_answered_one_after_the_other():
    with worker.started(functools.partial, {"divides": (divmod,), "joins": (os.path.join,)}) as workers:
        assert workers["divides"].ask(7, 2) == (3, 1)
        assert workers["joins"].ask("a", "b") == "a/b"
        assert workers["divides"].ask(9, 3) == (3, 0)


def test_a_process_that_ends_instead_is_told_with_its_code():
    with worker.started(functools.partial, {"ends": (os._exit,)}) as workers:
        with pytest.raises(WorkerEndedError, match="the process ended with 3") as error:
            workers["ends"].ask(3)
        assert error.value.exit_code == 3
        with pytest.raises(WorkerEndedError):
            workers["ends"].ask(3)
