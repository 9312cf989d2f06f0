"""What becomes of rows between their files and a batch: other dtypes, scales and columns, and functions of the user's.

Nothing here knows a file, an order or a thread. Others take `Chain`, which applies transforms in turn, and the
transforms by their names.
"""

from feedline.transforms.chain import Chain
from feedline.transforms.columns import Concat, OneHot, Select
from feedline.transforms.context import Context
from feedline.transforms.function import Function
from feedline.transforms.scaling import Cast, Scale, Standardize
from feedline.transforms.spec import ArraySpec
from feedline.transforms.spent import Spent
from feedline.transforms.statistics import Moments, Statistics, load_statistics
from feedline.transforms.transform import Batch, Transform

__all__ = [
    "ArraySpec",
    "Batch",
    "Cast",
    "Chain",
    "Concat",
    "Context",
    "Function",
    "Moments",
    "OneHot",
    "Scale",
    "Select",
    "Spent",
    "Standardize",
    "Statistics",
    "Transform",
    "load_statistics",
]
