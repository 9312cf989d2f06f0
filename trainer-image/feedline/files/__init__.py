"""Rows on disk: files that are checked before a byte of them is used, and arrays that are made of them.

A format is one reader, which says of a file where its rows lie. Nothing in here knows in which order rows are wanted,
what a batch is, or a thread. Others take `open_arrays` with what it returns, and ways to read pieces of a file.
"""

from feedline.files.aio import Queue, advise, begin
from feedline.files.array import Array, Mapped
from feedline.files.arrays import Arrays, Residency, natural, open_arrays
from feedline.files.clibrary import MAP_FAILED, libc
from feedline.files.memory import Memory
from feedline.files.mounts import file_system
from feedline.files.npy import File, parsed_header

__all__ = [
    "MAP_FAILED",
    "Array",
    "Arrays",
    "File",
    "Mapped",
    "Memory",
    "Queue",
    "Residency",
    "advise",
    "begin",
    "file_system",
    "libc",
    "natural",
    "open_arrays",
    "parsed_header",
]
