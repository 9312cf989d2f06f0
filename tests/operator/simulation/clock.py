"""Time that passes only when everybody waits, so that ten minutes of an operator take a millisecond of a test."""

import asyncio
import selectors


class _Selector(selectors.DefaultSelector):
    """A selector that moves the loop's clock instead of waiting."""

    def __init__(self):
        super().__init__()
        self.now = 1000.0

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everybody waits, and for nothing that can happen")
            self.now += max(timeout, 0.0)
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self):
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self):
        return self._clock.now


def simulate(main):
    """Run a coroutine in simulated time and return its result; only for what does no input and output."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(main)


def now():
    """Return the simulated time in seconds."""
    return asyncio.get_running_loop().time()
