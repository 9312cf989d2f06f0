"""Random words that are a function of a key and a counter alone: Philox 4x32, ten rounds. Pure.

J. K. Salmon and others, "Parallel Random Numbers: As Easy as 1, 2, 3", SC'11. Numbers that depend on a row, and not on
what was drawn before, are the same in whichever batch, thread, process or life of a run the row comes.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

_ROUNDS: Final = 10
_MULTIPLIERS: Final = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL: Final = 0x9E3779B9, 0xBB67AE85
_LOW: Final = np.uint64(0xFFFFFFFF)
_HALF: Final = np.uint64(32)


def philox(key: int, counters: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return 128 random bits for each counter.

    Parameters
    ----------
    key
        Of 64 bits.
    counters
        ``[n, 4]``, each below 2**32.

    Returns
    -------
    ndarray
        ``[n, 4]`` uint64, each below 2**32.
    """
    first, second, third, fourth = counters.T
    keys = key & 0xFFFFFFFF, key >> 32
    for _ in range(_ROUNDS):
        one, other = first * _MULTIPLIERS[0], third * _MULTIPLIERS[1]
        first, second, third, fourth = (
            (other >> _HALF) ^ second ^ np.uint64(keys[0]),
            other & _LOW,
            (one >> _HALF) ^ fourth ^ np.uint64(keys[1]),
            one & _LOW,
        )
        keys = (keys[0] + _WEYL[0]) & 0xFFFFFFFF, (keys[1] + _WEYL[1]) & 0xFFFFFFFF
    return np.stack((first, second, third, fourth), 1)
