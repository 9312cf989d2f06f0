"""The compiled library, where it was built.

`FEEDLINE_NATIVE` is ``auto`` (the default), ``0`` for NumPy, or ``1`` to refuse to do without.
"""

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import Any, Final

from feedline.errors import EnvironmentInvalidError

PATH: Final = Path(__file__).with_name("native.so")
_POINTER, _NUMBER, _WORD, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_uint64, ctypes.c_float
_FUNCTIONS: Final = {
    "feedline_gather": (_POINTER, _NUMBER, _NUMBER, _NUMBER, _POINTER, _NUMBER, _POINTER),
    "feedline_convert": (_NUMBER, _NUMBER, _NUMBER, _FLOAT, _FLOAT, _POINTER),
    "feedline_deal": (_WORD, _WORD, _WORD, _NUMBER, _WORD, _POINTER, _POINTER),
    "feedline_shuffle": (_WORD, _WORD, _WORD, _POINTER, _NUMBER, _POINTER, _POINTER, _POINTER),
}


@cache
def library() -> Any:
    """Return the compiled functions; None where there are none.

    Raises
    ------
    EnvironmentInvalidError
        `FEEDLINE_NATIVE` is 1, and there are none, or it is none of auto, 0 and 1.
    """
    wanted = os.environ.get("FEEDLINE_NATIVE", "auto")
    if wanted not in ("auto", "0", "1"):
        raise EnvironmentInvalidError(f"FEEDLINE_NATIVE: must be auto, 0 or 1 (got {wanted!r})")
    if wanted == "0":
        return None
    try:
        found = ctypes.CDLL(str(PATH))
        for name, arguments in _FUNCTIONS.items():
            function = getattr(found, name)
            function.argtypes, function.restype = arguments, _NUMBER
    except (OSError, AttributeError) as error:
        if wanted == "1":
            raise EnvironmentInvalidError(
                f"FEEDLINE_NATIVE: is 1, and {PATH} cannot be used ({error}): install a wheel of this platform, or "
                "build it where there is a C compiler"
            ) from None
        return None
    return found


def wrong(what: str) -> EnvironmentInvalidError:
    """Return the error of a library that does not give what NumPy gives."""
    return EnvironmentInvalidError(f"{PATH} {what} here: set FEEDLINE_NATIVE=0, and report it")


def copied_by() -> str:
    """Return what copies rows, in a word: native or numpy."""
    return "numpy" if library() is None else "native"
