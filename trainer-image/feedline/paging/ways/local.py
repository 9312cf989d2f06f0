"""An array on a disk of this machine: what is done depends on what is in memory, and is looked at again."""

import contextlib
import os
from dataclasses import replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from feedline.files import Array, begin
from feedline.paging import governor
from feedline.paging.governor import Evidence, fits
from feedline.paging.ranges import RANGE_BYTES, in_order, pieces, ranges
from feedline.paging.ways.way import PROBES, Way

_LOOK_EVERY = 64
"""Slots between two looks at rows that were in memory: 64 probes take as long as half a slot, and a slot whose rows
were not there after all says so by its page faults."""
_FILL_BYTES = 32 << 20
"""Read in order for each slot: four times what a slot takes, so that most of a file is there after a quarter of it."""
_POPULATED_BYTES = 256 << 20
"""Of a mapping, for each slot: some 10 ms, which page faults would take later."""


class Local(Way):
    """An array on a disk of this machine: what is done depends on what is in memory, and is looked at again."""

    def __init__(self, array: Array, unseen: Evidence, *, one_pass: bool) -> None:
        super().__init__(array, governor.choose(unseen))
        self._one_pass = one_pass
        self._unseen = unseen
        self._slots_to_pass = 0
        self._faulted = 0.0
        self._is_silent = False  # whether the kernel does not say what of the rows it is asked for is in memory
        self._touches = False  # whether rows are copied from the mapping: each page of it was there
        self._in_order = in_order(array, RANGE_BYTES)
        self._to_populate = in_order(array, _POPULATED_BYTES)
        self._copied = np.empty(RANGE_BYTES, np.uint8)  # of rows that are in memory already; never looked at
        for part in array.mapped:
            part.file.expect_random_access()

    def passes_over(self) -> bool:
        if self._slots_to_pass == 0:
            return False
        self._slots_to_pass -= 1
        return True

    def look_soon(self, faulted: float) -> None:
        if self._touches:
            self._slots_to_pass, self._faulted = 0, faulted

    def look(self, rows: NDArray[np.intp]) -> None:
        self.choice = governor.choose(replace(self._unseen, resident=self._resident(rows)))

    def ahead(self, rows: NDArray[np.intp]) -> None:
        # Where nobody says what is in memory, a sample is looked at before the rows are asked for.
        sampled = self._resident(rows) if self._touches or self._is_silent else None
        touched, told = self._touches, None if self._touches else self._told_of(rows)
        resident = sampled if sampled is not None else told if told is not None else 0.0
        self._is_silent = self._is_silent or (told is None and not touched)
        self._decide(max(0.0, min(resident, 1 - self._faulted)))
        self._faulted = 0.0
        if touched and not self._touches:
            self._told_of(rows)
        self.rows_from_disk += len(rows) * (1 - resident)
        if not self._touches and fits(self._unseen.data_bytes, self._unseen.memory_bytes):
            self._read_on(_FILL_BYTES)

    def take(self, rows: NDArray[np.intp], out: NDArray[np.uint8]) -> None:
        take = self.array.take if self._touches else self.array.take_past_mapping
        take(rows, out)

    def _decide(self, resident: float) -> None:
        self.choice = governor.choose(replace(self._unseen, resident=resident))
        if self.choice.strategy == "resident":
            # What was touched through the mapping could not be let go of.
            self._touches = self._touches or (not self._one_pass and self._is_populated())
        elif self._touches:
            self._touches, self._to_populate = False, in_order(self.array, _POPULATED_BYTES)
        # Rows that come from the disk are looked at each time: whether they still do costs nothing beside reading them.
        self._slots_to_pass = _LOOK_EVERY - 1 if self._touches else 0

    def _is_populated(self) -> bool:
        """Prepare the next part of the mapping to be touched; return whether all of it can be."""
        # The rows that come next say nothing of the rest where the order is that of the file; what is missing would be
        # read page by page.
        if self._resident(np.linspace(0, self.array.rows - 1, PROBES).astype(np.intp)) < 1:
            return False
        file, start, stop = next(self._to_populate, (None, 0, 0))
        if file is not None and not file.populate(start, stop):
            # Whoever reads the row that is at fault will say so.
            self._to_populate = chain([(file, start, stop)], self._to_populate)
        return file is None

    def _told_of(self, rows: NDArray[np.intp]) -> float | None:
        """Have rows read, behind; return which share of their pieces was in memory, None where nobody says."""
        here, silent = 0.0, False
        for file, local, _ in self.array.in_files(rows):
            offsets, lengths = pieces(*ranges(local, file.header))
            share = begin(file.fileno(), offsets, lengths, self._copied.__array_interface__["data"][0])
            silent = silent or share is None
            here += (share or 0.0) * len(local)
        return None if silent else here / len(rows)

    def _read_on(self, size: int) -> None:
        """Have the next so many bytes of the files read in order, behind."""
        with contextlib.suppress(OSError):
            for _ in range(0, size, RANGE_BYTES):
                file, start, stop = next(self._in_order, (None, 0, 0))
                if file is None:
                    return
                os.posix_fadvise(file.fileno(), start, stop - start, os.POSIX_FADV_WILLNEED)
