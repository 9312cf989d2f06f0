"""The ways of loading that are measured, by name; this module imports none of them.

A module in here has `MAKERS`: for each of its ways a function from the data and a batch size to a measure. Ways that
need the same framework run in one process. Every way draws the rows of an epoch at random from all rows.
"""

from dataclasses import dataclass

ALL: tuple[int, ...] = ()
SLOW = (256,)


@dataclass(frozen=True)
class Way:
    """One way of loading, or of training behind it.

    Attributes
    ----------
    name
        On the command line and in the results.
    label
        In tables.
    process
        Of which process it is one.
    module
        In this package.
    kind
        ``"bound"``: what the machine can do; ``"feedline"``; ``"other"``; ``"training"``: a model behind it.
    only_at
        Batch sizes it is measured at; all where empty.
    needs
        Packages to import.
    """

    name: str
    label: str
    process: str
    module: str
    kind: str
    only_at: tuple[int, ...] = ALL
    needs: tuple[str, ...] = ()

    def is_measured_at(self, batch_size: int) -> bool:
        """Tell whether it is measured at a batch size."""
        return not self.only_at or batch_size in self.only_at


_TORCH = ("torch",)
_TENSORFLOW = ("tensorflow",)
_KERAS = ("tensorflow", "keras")

WAYS = (
    Way("take", "`np.take` loop, one thread", "numpy", "raw", "bound"),
    Way("two-threads", "two threads that only gather", "numpy", "raw", "bound"),
    Way("feed", "feedline, NumPy batches", "numpy", "raw", "feedline"),
    Way("feed-8-files", "feedline, NumPy batches, 8 files as one array", "numpy", "raw", "feedline", SLOW),
    Way("feed-pytorch", "feedline, PyTorch batches", "torch", "pytorch", "feedline", ALL, _TORCH),
    Way("feed-tensorflow", "feedline, TensorFlow batches", "tensorflow", "tensorflow", "feedline", ALL, _TENSORFLOW),
    Way("feed-keras", "feedline, Keras dataset", "tensorflow", "keras", "feedline", ALL, _KERAS),
    Way("keras-generator", "Keras generator", "numpy", "raw", "other"),
    Way("thread-runner", "TensorFlow ThreadRunner", "tensorflow", "tensorflow", "other", ALL, _TENSORFLOW),
    Way("from-generator", "tf.data `from_generator`", "tensorflow", "tensorflow", "other", ALL, _TENSORFLOW),
    Way("numpy-function", "tf.data `numpy_function`", "tensorflow", "tensorflow", "other", ALL, _TENSORFLOW),
    Way("dataloader-0", "torch DataLoader, no workers", "torch", "pytorch", "other", SLOW, _TORCH),
    Way("dataloader-2", "torch DataLoader, 2 workers", "torch", "pytorch", "other", SLOW, _TORCH),
    Way("getitems-0", "torch DataLoader, `__getitems__`, no workers", "torch", "pytorch", "other", ALL, _TORCH),
    Way("getitems-2", "torch DataLoader, `__getitems__`, 2 workers", "torch", "pytorch", "other", ALL, _TORCH),
    Way("tensordataset", "torch TensorDataset in RAM", "torch", "pytorch", "other", SLOW, _TORCH),
    Way("grain-0", "grain, no read threads", "grain", "grain", "other", SLOW, ("grain",)),
    Way("grain-16", "grain, 16 read threads", "grain", "grain", "other", SLOW, ("grain",)),
    Way("spdl", "spdl, 2 threads", "spdl", "spdl", "other", ALL, ("spdl.pipeline",)),
    Way("fit-keras-feed", "Keras `fit`, feedline", "tensorflow", "keras", "training", SLOW, _KERAS),
    Way("fit-keras-classic", "Keras `fit`, generator", "tensorflow", "keras", "training", SLOW, _KERAS),
    Way(
        "fit-keras-ready",
        "Keras `fit`, one ready batch again and again",
        "tensorflow",
        "keras",
        "training",
        SLOW,
        _KERAS,
    ),
    Way("loop-pytorch-feed", "PyTorch loop, feedline", "torch", "pytorch", "training", SLOW, _TORCH),
    Way("loop-pytorch-classic", "PyTorch loop, DataLoader", "torch", "pytorch", "training", SLOW, _TORCH),
)
