"""feedline keeps accelerators fed: mini-batches straight from memory-mapped `.npy` files.

`import feedline` needs numpy only. The adapters live in `feedline.pytorch`, `feedline.tensorflow` and
`feedline.keras`; what a training function receives is a `feedline.Run`.

The folders are rooms, in the order that a row and then a run go through them: `files`, `order`, `transforms`, `paging`,
`feed`, the adapters, `classic`, `manifest`, `training`, then `models`, `pack`, `compare`, `launch` and `cli`. Each says
in its `__init__` what it is for, and imports only what comes before it.
"""

from typing import TYPE_CHECKING, Any

from feedline.errors import FeedlineError
from feedline.feed import Feed, FeedStats
from feedline.files import Arrays, Stored, Window, open_arrays
from feedline.transforms import ArraySpec, Cast, Concat, Context, OneHot, Scale, Select, Standardize

if TYPE_CHECKING:
    from feedline.training import Run

__version__ = "0.1.0"
__all__ = [
    "ArraySpec",
    "Arrays",
    "Cast",
    "Concat",
    "Context",
    "Feed",
    "FeedStats",
    "FeedlineError",
    "OneHot",
    "Run",
    "Scale",
    "Select",
    "Standardize",
    "Stored",
    "Window",
    "open_arrays",
]


def __getattr__(name: str) -> Any:
    # Run brings the metrics along, which a script that only wants the feed should not wait for.
    if name == "Run":
        from feedline.training import Run

        return Run
    raise AttributeError(f"module 'feedline' has no attribute {name!r}")
