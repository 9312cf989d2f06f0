"""Tests that wait for a cluster nearly all of their time, all at once, each in a thread; pytest asks how each one went."""

import inspect
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest
from tiers import fixtures_of


class Together:
    """What a fixture returns so that all selected tests that take it run at once, from its setup on.

    Such a test may have parameters, and no fixtures besides. `pytest_pyfunc_call` in conftest.py calls `joins`.

    Parameters
    ----------
    request
        The fixture's.
    make
        Gives each test its own value of the fixture, for as long as it runs.
    workers
        How many of them at once.
    """

    def __init__(
        self, request: pytest.FixtureRequest, make: Callable[[], AbstractContextManager], workers: int
    ) -> None:
        self._argument = request.fixturename
        self._make = make
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix=self._argument)
        items = [
            item
            for item in request.session.items
            if self._argument in inspect.signature(item.function).parameters and self._argument in fixtures_of(item)
        ]
        self._results: dict[str, Future] = {item.nodeid: self._pool.submit(self._run, item) for item in items}

    def joins(self, item: pytest.Function) -> bool:
        """Wait for a test and fail as it did; return False for one that is not run here."""
        result = self._results.get(item.nodeid)
        if result is not None:
            result.result()
        return result is not None

    def close(self) -> None:
        """Begin no more of them."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, item: pytest.Function) -> None:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        with self._make() as value:
            item.obj(**{self._argument: value}, **parameters)
