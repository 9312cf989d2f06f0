"""A clock for timelines that the tests move."""


class HandClock:
    """A clock that stands where it was put; `reached` says how far its stamps are known."""

    def __init__(self):
        self.now = 0.0
        self.reached = float("inf")

    def stamp(self):
        return self.now

    def known(self, stamp):
        return stamp <= self.reached

    def seconds(self, start, stop):
        return stop - start
