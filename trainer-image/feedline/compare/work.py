"""What the process of a backend does for a comparison: it trains, or reads rows once and hashes them."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from feedline import manifest
from feedline.contract import ExitCode, Report
from feedline.errors import FeedlineError

Failure = tuple[int, str]
"""Exit code and message."""

_HASHED_ROWS = 4096
_MASK = (1 << 64) - 1


def make_answer(
    path: Path, volumes: Mapping[str, Path]
) -> Callable[[str, list[str], Path | None], tuple[Failure | None, Any]]:
    """Return what answers "hash" and "train" for a manifest and changes to it: a failure, or else the answer."""

    def answer(what: str, overrides: list[str], output: Path | None) -> tuple[Failure | None, Any]:
        try:
            document = manifest.parse(manifest.read(path, overrides))
            return (None, _hash(document, volumes)) if what == "hash" else _train(document, volumes, path, output)
        except FeedlineError as error:
            return (int(error.exit_code), str(error)), None

    return answer


def _train(
    document: manifest.Manifest, volumes: Mapping[str, Path], path: Path, output: Path | None
) -> tuple[Failure | None, Report]:
    from feedline.training import Output, execute, make_fresh

    if output is not None:
        make_fresh(output)
    kept = Output(output) if output is not None else None
    finished = execute(document, volumes, import_from=(path.resolve().parent, Path.cwd()), output=kept)
    if finished["exitCode"] == ExitCode.OK:
        return None, finished
    return (finished["exitCode"], f"{document.backend} {document.loader.engine}: {finished['message']}"), finished


def _hash(document: manifest.Manifest, volumes: Mapping[str, Path]) -> str:
    """Return a hash of the set of the first rows, read once by the cell's own loader."""
    from feedline.training import Run, open_split

    arrays = open_split(document, document.train_data, volumes)
    start, rows = document.train_data.start, min(arrays.rows, _HASHED_ROWS)
    stop = start + rows
    if arrays.windows is not None:
        start, stop = cast("tuple[int, int]", arrays.part(0, rows))
    changed = {**document.document, "spec": {**document.document["spec"]}}
    spec = changed["spec"]
    spec["data"] = {**spec["data"], "train": {**spec["data"]["train"], "rows": {"start": start, "stop": stop}}}
    spec["loader"] = {
        **spec["loader"],
        "lastBatch": "Keep",
        "batchSize": min(document.loader.batch_size, rows),
    }
    # What ways of loading have in common; a function of the user's is imported where it trains.
    spec["train"] = {name: value for name, value in spec["train"].items() if name != "transform"}
    run = Run(manifest.parse(changed), volumes)
    try:
        return f"{sum(_row_hashes(run)) & _MASK:016x}"
    finally:
        run.close()


def _row_hashes(run: Any) -> Iterator[int]:
    for batch in run.train:
        columns = [(name, _rows(batch[name])) for name in sorted(batch)]
        for number in range(len(columns[0][1])):
            digest = hashlib.blake2b(digest_size=8)
            for name, rows in columns:
                digest.update(name.encode() + b"\0" + rows[number])
            yield int.from_bytes(digest.digest(), "big")


def _rows(column: Any) -> list[bytes]:
    """Return the bytes of each row of a native column; text as UTF-8, whatever the framework makes of it."""
    import numpy as np

    array = np.asarray(column)
    if array.dtype.kind in "OSU":
        texts = array.reshape(len(array), -1).tolist()
        return ["\0".join(_text(each) for each in row).encode() for row in texts]
    return [row.tobytes() for row in np.ascontiguousarray(array)]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
