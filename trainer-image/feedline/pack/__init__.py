"""Tables, archives and folders of images become the `.npy` files that a feed maps.

A reader for each kind of source, and writers that commit all or nothing; and `divide`, which writes which rows are in
which part. Nothing in here knows a feed, a run or the command line. Others take these with what they return.
"""

from feedline.pack.columns import Columns
from feedline.pack.dialect import Dialect
from feedline.pack.dividing import divide
from feedline.pack.packing import Packed, pack
from feedline.pack.source import Column, Progress

__all__ = ["Column", "Columns", "Dialect", "Packed", "Progress", "divide", "pack"]
