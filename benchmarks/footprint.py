"""What the feed costs besides time: memory of its own while it runs, and the time to import it.

Each figure comes from a child process in which no framework is imported. As a program this module is such a child:
``footprint.py FOLDER ROWS`` reads one epoch and prints what it then holds.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from data import Data

from feedline import Feed, open_arrays
from feedline.errors import StorageError

BATCH_SIZE = 256
IMPORTS = 9
MAX_IMPORT_MILLIS = 30
MAX_FIXED_BYTES = 100_000_000

_FRAMEWORKS = ("torch", "tensorflow", "keras", "jax")
_IMPORT = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def measure(data: Data) -> dict[str, int | float]:
    """Return anonymous bytes after an epoch and what is allowed, and the milliseconds of the imports.

    Raises
    ------
    StorageError
        A child process failed.
    """
    memory = json.loads(_child(__file__, str(data.folder), str(data.rows)))
    seconds: dict[str, list[float]] = {"numpy": [], "feedline": []}
    _child("-c", "import feedline")  # whose bytecode then lies ready, as it does after an installation
    for _ in range(IMPORTS):
        for module, taken in seconds.items():
            taken.append(float(_child("-c", _IMPORT.format(module))))
    numpy_millis, feedline_millis = (1e3 * statistics.median(taken) for taken in seconds.values())
    return {
        **memory,
        "importNumpyMillis": round(numpy_millis, 1),
        "importFeedlineMillis": round(feedline_millis, 1),
        "importOverNumpyMillis": round(feedline_millis - numpy_millis, 1),
        "importAllowedMillis": MAX_IMPORT_MILLIS,
    }


def _child(*arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
        raise StorageError(f"the measuring process {arguments[0]} ended with {done.returncode}: {last}")
    return done.stdout


def after_an_epoch(data: Data) -> dict[str, Any]:
    """Read an epoch in this process and return its anonymous bytes, and how many are allowed."""
    with Feed(open_arrays(data.paths), BATCH_SIZE) as feed:
        for _ in feed:
            pass
        stats = feed.stats()
        anonymous = _anonymous_bytes()
    loaded = [name for name in _FRAMEWORKS if name in sys.modules]
    if loaded:
        raise StorageError(f"the memory of a feed without a framework cannot be told: {', '.join(loaded)} is imported")
    # Slots that wait to be taken; those in the hands of threads and consumer are left out, to the feed's disadvantage.
    slot_bytes = stats.queue_capacity * stats.bytes // stats.batches
    order_bytes = 2 * 4 * data.rows
    return {
        "anonymousBytes": anonymous,
        "slotBytes": slot_bytes,
        "orderBytes": order_bytes,
        "allowedBytes": MAX_FIXED_BYTES + slot_bytes + order_bytes,
    }


def _anonymous_bytes() -> int:
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise StorageError("/proc/self/smaps_rollup: has no line Anonymous: this needs Linux 4.14 or newer")


if __name__ == "__main__":
    print(json.dumps(after_an_epoch(Data(Path(sys.argv[1]), int(sys.argv[2])))))
