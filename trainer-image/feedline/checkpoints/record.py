"""What makes a folder a checkpoint: a manifest, written last, that names each file with its size and checksum. Pure."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

FORMAT: Final = 1
MOST_BYTES: Final = 16 << 20


@dataclass(frozen=True)
class File:
    """A file of a checkpoint; `crc32` is that of all its bytes."""

    name: str
    bytes: int
    crc32: int


@dataclass(frozen=True)
class Record:
    """What a manifest says.

    Attributes
    ----------
    run
        Whose it is: of no other run is anything gone on with.
    step, epoch
        Steps trained, and epochs that were trained to their end.
    time
        When the state was copied, RFC 3339.
    reason
        Why it was saved: Periodic, Best, Stopped or End.
    objective
        The objective's value at that time, as text; None where there is none.
    facts
        What another run must have in common to go on from here, by what people call it.
    progress
        The rest of what a run knows of itself; JSON, which is not looked into here.
    files
        All but the manifest itself.
    """

    run: str
    step: int
    epoch: int
    time: str
    reason: str
    objective: str | None
    facts: Mapping[str, Any]
    progress: Mapping[str, Any]
    files: tuple[File, ...] = ()

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(file.bytes for file in self.files)


def write(record: Record) -> bytes:
    """Return the manifest's text."""
    content = {"format": FORMAT, **asdict(record)}
    text = json.dumps({"crc32": zlib.crc32(_canonical(content)), "checkpoint": content}, ensure_ascii=False, indent=1)
    return text.encode()


def read(text: bytes) -> Record:
    """Return what a manifest says.

    Raises
    ------
    ValueError
        It is cut short or was changed, or is of another format.
    """
    try:
        document = json.loads(text)
        content = document["checkpoint"]
        if zlib.crc32(_canonical(content)) != document["crc32"]:
            raise ValueError("its manifest was changed or damaged")
        if content.pop("format") != FORMAT:
            raise ValueError("it is of a format that this version of feedline does not know")
        files = tuple(File(**file) for file in content.pop("files"))
        record = Record(**content, files=files)
    except (KeyError, TypeError, AttributeError, RecursionError, json.JSONDecodeError, UnicodeError) as error:
        raise ValueError("its manifest is cut short or damaged") from error
    if not all(_is_name(file.name) for file in record.files):
        raise ValueError("its manifest names a file that lies elsewhere")
    return record


def _is_name(name: object) -> bool:
    return isinstance(name, str) and bool(name) and "/" not in name and not name.startswith(".")


def _canonical(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode()
