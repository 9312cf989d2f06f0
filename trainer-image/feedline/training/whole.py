"""Files that are there as a whole or not at all, whatever ends the process."""

from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a text, in UTF-8, as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file in the place of what has its name, in one moment.

    Raises
    ------
    OSError
        It cannot be written; what was there before still is.
    """
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)
