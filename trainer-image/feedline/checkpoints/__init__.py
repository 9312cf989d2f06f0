"""A run that can go on after its process: its state is copied at a border, written beside the training, found again.

What is saved of an object is for `states` (and `variables`) to say; a state is taken apart into JSON and tensors
(`tree`), which are copied into a buffer as the bytes of files (`safetensors`, `copying`), and those are written
(`durable`, `writer`) into a folder that counts once its manifest is there (`record`, `folder`). When to save, and what
a run's progress is, is not known here, nor are manifests and loops. Frameworks are taken as the run has imported them.
"""

from feedline.checkpoints.copying import Buffer, is_of_a_state, packed, read_state, require_savable, unpacked
from feedline.checkpoints.durable import sync_folder
from feedline.checkpoints.folder import SUFFIX, Found, Opened, checkpoints, problem_of, remove_checkpoints
from feedline.checkpoints.randomness import Randomness
from feedline.checkpoints.record import Record
from feedline.checkpoints.states import State, state_of
from feedline.checkpoints.writer import Kept, Writer

__all__ = [
    "SUFFIX",
    "Buffer",
    "Found",
    "Kept",
    "Opened",
    "Randomness",
    "Record",
    "State",
    "Writer",
    "checkpoints",
    "is_of_a_state",
    "packed",
    "problem_of",
    "read_state",
    "remove_checkpoints",
    "require_savable",
    "state_of",
    "sync_folder",
    "unpacked",
]
