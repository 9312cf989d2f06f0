"""Compiles native code into the wheel, where there is a C compiler; without one the wheel is pure Python.

`FEEDLINE_NATIVE` is ``auto`` (the default), ``0`` for a pure wheel, ``1`` to fail without a compiler.
`FEEDLINE_MACHINE` names another processor, such as aarch64. The compiler is zig (`requirements/native.txt`) where it is
installed, which builds for any machine and an old glibc, else `cc`.
"""

import os
import platform
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_FOLDER = Path("trainer-image", "feedline", "native")
_GLIBC = "2.28"
# Contraction would round once where NumPy rounds twice.
_FLAGS = (
    "-std=c11",
    "-O3",
    "-ffp-contract=off",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-s",
)


class NativeBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds `native.so` to a wheel, or puts it beside its sources for an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and tell hatchling of it."""
        folder, wanted = Path(self.root) / _FOLDER, os.environ.get("FEEDLINE_NATIVE", "auto")
        sources = sorted(map(str, folder.glob("*.c")))
        if wanted == "0" or not sources or sys.platform != "linux":
            return
        machine = os.environ.get("FEEDLINE_MACHINE", platform.machine())
        library = (folder if version == "editable" else Path(self.root, "build", machine)) / "native.so"
        library.parent.mkdir(parents=True, exist_ok=True)
        if find_spec("ziglang") is not None:
            compiler = [sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-linux-gnu.{_GLIBC}"]
            tag = f"manylinux_{_GLIBC.replace('.', '_')}_{machine}"
        elif shutil.which("cc") and machine == platform.machine():
            compiler, tag = ["cc"], f"linux_{machine}"
        elif wanted == "1":
            raise SystemExit(
                f"FEEDLINE_NATIVE=1: nothing here compiles C for {machine}: install requirements/native.txt"
            )
        else:
            self.app.display_warning("no C compiler: rows are copied by NumPy")
            return
        partial = library.with_suffix(".partial")
        made = subprocess.run([*compiler, *_FLAGS, *sources, "-o", str(partial)], check=False)  # noqa: S603
        if made.returncode:
            if wanted == "1":
                raise SystemExit(f"FEEDLINE_NATIVE=1: {folder} cannot be compiled by {' '.join(compiler)}")
            self.app.display_warning("C cannot be compiled here: rows are copied by NumPy")
            return
        partial.replace(library)
        if version != "editable":
            build_data["force_include"][str(library)] = "feedline/native/native.so"
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{tag}"
