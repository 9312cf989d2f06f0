"""feedline keeps accelerators fed: mini-batches straight from memory-mapped `.npy` files.

`import feedline` needs numpy only. The adapters live in `feedline.pytorch`, `feedline.tensorflow` and
`feedline.keras`; what a training function receives is a `feedline.Run`.
"""

from typing import TYPE_CHECKING, Any

from feedline.arrays import Arrays, open_arrays
from feedline.errors import FeedlineError
from feedline.feed import Feed, FeedStats

if TYPE_CHECKING:
    from feedline.run import Run

__version__ = "0.1.0"
__all__ = ["Arrays", "Feed", "FeedStats", "FeedlineError", "Run", "open_arrays"]


def __getattr__(name: str) -> Any:
    # Run brings the metrics along, which a script that only wants the feed should not wait for.
    if name == "Run":
        from feedline.run import Run

        return Run
    raise AttributeError(f"module 'feedline' has no attribute {name!r}")
