"""Rows on disk: files that are checked before a byte of them is used, and arrays that are made of them.

A format is one reader, which says of a file where its rows lie. Nothing in here knows in which order rows are wanted,
what a batch is, or a thread. Others take `open_arrays` with what it returns, and ways to read pieces of a file.
"""

from feedline.files.aio import Queue, advise, begin
from feedline.files.array import Array, Mapped
from feedline.files.arrays import Arrays, Residency, bytes_of, natural, open_arrays
from feedline.files.chosen import Rows
from feedline.files.clibrary import MAP_FAILED, libc
from feedline.files.file import File
from feedline.files.hdf5 import hdf5_datasets, hdf5_dtype, hdf5_file
from feedline.files.header import Header
from feedline.files.memory import Memory
from feedline.files.mounts import file_system
from feedline.files.npy import parsed_header
from feedline.files.safetensors import METADATA, MOST_HEADER_BYTES, TENSOR_DTYPES, Tensor, tensor_of
from feedline.files.stored import Format, Stored
from feedline.files.windows import Phase, Window

__all__ = [
    "MAP_FAILED",
    "METADATA",
    "MOST_HEADER_BYTES",
    "TENSOR_DTYPES",
    "Array",
    "Arrays",
    "File",
    "Format",
    "Header",
    "Mapped",
    "Memory",
    "Phase",
    "Queue",
    "Residency",
    "Rows",
    "Stored",
    "Tensor",
    "Window",
    "advise",
    "begin",
    "bytes_of",
    "file_system",
    "hdf5_datasets",
    "hdf5_dtype",
    "hdf5_file",
    "libc",
    "natural",
    "open_arrays",
    "parsed_header",
    "tensor_of",
]
