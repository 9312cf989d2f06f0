"""What kind of source a path is, by its suffix; and which files a folder of tables holds, in which order."""

from collections.abc import Sequence
from enum import Enum
from pathlib import Path

from feedline.errors import InputMissingError, UsageError
from feedline.files import natural
from feedline.pack.folders import Tally, shown
from feedline.pack.source import missing


class Kind(Enum):
    """A kind of source: what it is called in a sentence, and its files' suffixes."""

    TEXT = ("text tables", tuple(kind + packed for kind in (".csv", ".tsv") for packed in ("", ".gz", ".zst")))
    PARQUET = ("Parquet files", (".parquet", ".pq"))
    ARCHIVE = (".npz archives", (".npz",))
    HDF5 = ("HDF5 files", (".h5", ".hdf5", ".hdf", ".he5", ".nc", ".mat"))
    IMAGES = ("folders of images", ())

    @property
    def title(self) -> str:
        """The kind in a sentence, in the plural."""
        return str(self.value[0])

    @property
    def suffixes(self) -> tuple[str, ...]:
        """What the files' names end with."""
        suffixes: tuple[str, ...] = self.value[1]
        return suffixes


def sources_of(paths: Sequence[Path]) -> tuple[Kind, list[Path], tuple[str, ...]]:
    """Return the kind of all paths, the files or folders to read, and what was left out, in sentences.

    Raises
    ------
    UsageError
        There are none, of several kinds, or of none that can be packed.
    InputMissingError
        One is missing, or no regular file.
    """
    if not paths:
        raise UsageError("nothing to pack: name sources, then the output folder, as in feedline pack data.csv out/")
    left = Tally()
    found: list[Path] = []
    kinds: dict[Path, Kind] = {}
    for path in paths:
        for each in _tables_in(path, left) or [path]:
            kinds[each] = _kind_of(each)
            found.append(each)
    first = kinds[found[0]]
    for path, kind in kinds.items():
        if kind is not first:
            raise UsageError(
                f"{shown(path)} is of another kind than {shown(found[0])}: pack {kind.title} and {first.title} apart"
            )
    if not left.count:
        return first, found, ()
    what = "entry is no table and was" if left.count == 1 else "entries are no tables and were"
    return first, found, (f"{left.count:,} {what} left out: {left}.",)


def _tables_in(path: Path, left: Tally) -> list[Path]:
    """Return the tables right inside a folder; none where it is something else."""
    try:
        entries = sorted(path.iterdir(), key=natural) if path.is_dir() else []
    except OSError as error:
        raise missing(path, error) from error
    visible = [entry for entry in entries if not entry.name.startswith(".")]
    tables = [entry for entry in visible if _suffix_kind(entry) in (Kind.TEXT, Kind.PARQUET) and entry.is_file()]
    if tables:
        for entry in visible:
            if entry not in tables:
                left.add(shown(entry.name) + ("/" if entry.is_dir() else ""))
    return tables


def _kind_of(path: Path) -> Kind:
    try:
        path.stat()
    except OSError as error:
        raise missing(path, error) from error
    if path.is_dir():
        return Kind.IMAGES
    kind = _suffix_kind(path)
    if kind is None:
        every = ", ".join(suffix for each in Kind for suffix in each.suffixes)
        raise UsageError(
            f"{shown(path)} is of no kind that can be packed: give {every}, or a folder of images by class"
        )
    if not path.is_file():
        raise InputMissingError(f"{shown(path)} is no regular file, and sources are read twice: save it to a file")
    return kind


def _suffix_kind(path: Path) -> Kind | None:
    name = path.name.lower()
    return next((kind for kind in Kind if kind.suffixes and name.endswith(kind.suffixes)), None)
