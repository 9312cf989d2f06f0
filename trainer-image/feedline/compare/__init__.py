"""Backends, engines and residency side by side, over the same rows; nothing in here knows the command line.

Others take `compare` with its `Cell`s, and the process that answers questions, `worker`.
"""

from feedline.compare.cells import Cell, Result
from feedline.compare.measure import compare

__all__ = ["Cell", "Result", "compare"]
