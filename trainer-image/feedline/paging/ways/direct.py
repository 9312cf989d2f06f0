"""An array on a disk of this machine whose rows lie together and come once: most do not touch the page cache."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from feedline.files import Array
from feedline.paging import governor
from feedline.paging.governor import Evidence
from feedline.paging.runs import Run, Runs
from feedline.paging.ways.way import Way

_RUN_PROBES = 8


@dataclass(frozen=True)
class OnePass:
    """Rows come once, and are let go when they were taken, so that none is left in memory for long.

    Attributes
    ----------
    run_rows
        Rows that lie together.
    rows_in_hand
        From the time that rows are brought in until they are let go, so many others are.
    """

    run_rows: int
    rows_in_hand: int


class Direct(Way):
    """An array on a disk of this machine whose rows lie together and come once: most do not touch the page cache."""

    def __init__(self, array: Array, unseen: Evidence, one_pass: OnePass) -> None:
        self._runs = Runs(array, one_pass.run_rows, one_pass.rows_in_hand)
        super().__init__(array, governor.choose(unseen))
        self._unseen = unseen
        for part in array.mapped:
            part.file.expect_random_access()

    def passes_over(self) -> bool:
        return False

    def look(self, rows: NDArray[np.intp]) -> None:
        self.choice = governor.choose(replace(self._unseen, resident=self._resident(rows)))

    def ahead(self, rows: NDArray[np.intp]) -> None:
        runs = self._runs.cut(rows)
        middles = np.array([run.first + run.rows // 2 for run in runs])
        here = zip(runs, self._are_in_memory(middles), strict=True)
        missing = [run for run, is_here in here if not (is_here and self._is_in_memory(run))]
        self._runs.begin(missing)
        count = sum(run.rows for run in missing)
        self.rows_from_disk += count
        self.choice = governor.choose(replace(self._unseen, resident=1 - count / len(rows)))

    def take(self, rows: NDArray[np.intp], out: NDArray[np.uint8]) -> None:
        others = self._runs.take(rows, out)
        if len(others) == len(rows):
            self.array.take_past_mapping(rows, out)
        elif len(others):
            rest = np.empty((len(others), out.shape[1]), np.uint8)
            self.array.take_past_mapping(rows[others], rest)
            out[others] = rest

    def let_go(self, rows: NDArray[np.intp]) -> None:
        """Keep to what was brought in: pages that were there before may be somebody else's."""

    def bytes_on_the_way(self, rows: int) -> int:  # noqa: ARG002
        return self._runs.bytes

    def close(self) -> None:
        self._runs.close()

    def _is_in_memory(self, run: Run) -> bool:
        """Return whether a run is in memory, by some of its rows: if others are not, they are read late, one by one."""
        return self._resident(np.arange(run.first, run.first + run.rows), _RUN_PROBES) == 1
