"""Tables, archives and folders of images become the `.npy` files that a feed maps.

A reader for each kind of source, and writers that commit all or nothing. Nothing in here knows a feed, a run or the
command line. Others take `pack` and what it returns.
"""

from feedline.pack.columns import Columns
from feedline.pack.dialect import Dialect
from feedline.pack.packing import Packed, pack
from feedline.pack.source import Column, Progress

__all__ = ["Column", "Columns", "Dialect", "Packed", "Progress", "pack"]
