"""Measure what a checkpoint costs the training: ``python benchmarks/checkpoint.py``.

Every measurement is a process of its own, which trains a small model from a feed, holds a large state beside it, and
saves that several times; rounds visit every way in turn, and ratios are taken within a round. Memory is looked at from
outside. Nothing is asserted: what is wanted is printed with the figure, as met or not met.
"""

import argparse
import ctypes
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import cold
import data
import machine
from measure import epochs

import feedline
from feedline import checkpoints
from feedline.contract import ExitCode
from feedline.errors import EnvironmentInvalidError, FeedlineError, StorageError
from feedline.paging import resident_bytes
from feedline.units import size

_ROOT = Path(__file__).resolve().parent.parent
_ROWS = 160_000
_BATCH = 256
_HIDDEN = 64
"""Units of the model that is trained: a step of about a millisecond."""
_LAYERS = 16
_STATE_BYTES_OF_WEIGHT = 12
"""Itself and two moments of Adam's, float32."""
_SAVES = 4
"""The first one, and three more."""
_BEFORE = 0
"""In place of a save's number: what a run does before the first one."""
_PLAIN_SECONDS = 1.5
"""Of training without a save, before and behind each."""
_SAMPLE_SECONDS, _FAMILY_SECONDS = 0.005, 0.1
_PATIENCE_SECONDS = 900
_BASE, _OURS = "torch.save", "feedline"
_FIRST, _LATER, _ALL = slice(0, 1), slice(1, None), slice(None)
_TARGETS: tuple[tuple[str, str, slice, bool, float], ...] = (
    ("the loop blocked by later saves / by `torch.save`", "blockedRatio", _LATER, True, 0.15),
    ("the loop blocked by the first save / by `torch.save`", "blockedRatio", _FIRST, True, 0.15),
    ("rows/s while a save is written / without", "rows", _ALL, False, 0.9),
    ("peak memory beyond that before / state", "memory", _ALL, True, 1.1),
    ("pages of the data that are still in memory", "pages", _ALL, False, 0.99),
)
"""What is wanted: its name for people, the figure, of which saves, whether it is the most, and how much."""

Save = Callable[[int], Callable[[], bool]]
"""Saves for the so-manieth time, and returns what tells whether that is still being written."""
Round = dict[str, Any]


@dataclass(frozen=True)
class Way:
    """A way to save: its name for people, and what makes it of a number of bytes and a folder."""

    title: str
    make: Callable[[int, Path], tuple[int, Save]]
    """Returns the state's bytes, too."""
    prepares: bool = False
    """Whether a run does something behind its first step, on another thread, for the saves to come."""
    first_differs: bool = False
    """Whether its first save has something to do that later ones find done."""


# --- the ways, each in a process of its own ---------------------------------------------------------------------------


def plain(wanted_bytes: int, folder: Path) -> tuple[int, Save]:
    """Save by `torch.save` and fsync, in the loop."""
    import torch

    objects, state_bytes = _torch_objects(wanted_bytes)

    def save(number: int) -> Callable[[], bool]:
        (folder / str(number)).mkdir()
        with (folder / str(number) / "state.pt").open("wb") as file:
            torch.save({name: each.state_dict() for name, each in objects.items()}, file)
            file.flush()
            os.fsync(file.fileno())
        return lambda: False

    return state_bytes, save


def ours(wanted_bytes: int, folder: Path) -> tuple[int, Save]:
    """Save as `run.checkpoint` does: a copy in the loop, which a thread writes."""
    objects, state_bytes = _torch_objects(wanted_bytes)
    states = {name: checkpoints.state_of(name, each) for name, each in objects.items()}
    writer = checkpoints.Writer(folder, "bench", keep=1)

    def save(number: int) -> Callable[[], bool]:
        if number == _BEFORE:
            writer.prepare(states)
            writer.wait()
            return is_busy
        now = datetime.now(UTC).isoformat(timespec="seconds")
        writer.copy(states, lambda: checkpoints.Record("bench", number, 0, now, "", None, {}, {}))
        writer.write("Periodic", None, ())
        return is_busy

    def is_busy() -> bool:
        if writer.kept.error is not None:
            raise StorageError(writer.kept.error)
        return writer.is_busy

    return state_bytes, save


def distributed(wanted_bytes: int, folder: Path, *, kind: str, keeps_stager: bool = False) -> tuple[int, Save]:
    """Save by torch's own way beside the training: a copy in the loop, which a thread or a process writes."""
    import torch.distributed as dist
    from torch.distributed.checkpoint import async_save, staging
    from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType

    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=0, world_size=1)
    objects, state_bytes = _torch_objects(wanted_bytes)
    how: dict[str, Any] = {"async_checkpointer_type": AsyncCheckpointerType(kind)}
    if keeps_stager:
        is_shared = kind == "process"
        how["async_stager"] = staging.DefaultStager(staging.StagingOptions(False, is_shared, False, False))

    def save(number: int) -> Callable[[], bool]:
        states = {name: each.state_dict() for name, each in objects.items()}
        saved = async_save(states, checkpoint_id=folder / str(number), **how)

        def is_busy() -> bool:
            # What went wrong is raised by the result.
            return not saved.done() or saved.result() is None

        return is_busy

    return state_bytes, save


def keras(wanted_bytes: int, folder: Path) -> tuple[int, Save]:
    """Save by Keras' own callback, in the loop; it leaves when its file is on the disk to the kernel."""
    import keras as k
    import numpy as np

    width = _width(wanted_bytes)
    model = k.Sequential([k.Input((width,)), *(k.layers.Dense(width) for _ in range(_LAYERS))])
    model.compile(optimizer="adam", loss="mse", jit_compile=False)
    model.train_on_batch(np.ones((1, width), np.float32), np.zeros((1, width), np.float32))
    callback = k.callbacks.BackupAndRestore(str(folder / "backup"))
    callback.set_model(model)
    callback.on_train_begin()

    def save(number: int) -> Callable[[], bool]:
        callback.on_epoch_end(number)
        return is_busy

    def is_busy() -> bool:
        for path in (folder / "backup").iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        return False

    return sum(int(np.prod(each.shape)) * 4 for each in (*model.variables, *model.optimizer.variables)), save


def _torch_objects(wanted_bytes: int) -> tuple[dict[str, Any], int]:
    """Return a model and its optimizer after a step, and the bytes of both states."""
    import torch

    width = _width(wanted_bytes)
    model = torch.nn.Sequential(*(torch.nn.Linear(width, width) for _ in range(_LAYERS)))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, width)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    moments = [each for of_one in optimizer.state.values() for each in of_one.values()]
    return {"model": model, "optimizer": optimizer}, sum(int(each.nbytes) for each in (*model.parameters(), *moments))


def _width(wanted_bytes: int) -> int:
    return math.isqrt(wanted_bytes // (_LAYERS * _STATE_BYTES_OF_WEIGHT))


WAYS: dict[str, Way] = {
    _BASE: Way("`torch.save` and fsync", plain),
    _OURS: Way("feedline", ours, prepares=True, first_differs=True),
    "dcp-thread": Way("`dcp.async_save`, a thread", partial(distributed, kind="thread")),
    "dcp-thread-kept": Way(
        "the same, its stager kept", partial(distributed, kind="thread", keeps_stager=True), first_differs=True
    ),
    "dcp-process": Way("`dcp.async_save`, a process", partial(distributed, kind="process"), first_differs=True),
    "dcp-process-kept": Way(
        "the same, its stager kept, in shared memory",
        partial(distributed, kind="process", keeps_stager=True),
        first_differs=True,
    ),
    "keras": Way("Keras `BackupAndRestore`, fsync behind it", keras),
}


# --- a measurement, in its process ------------------------------------------------------------------------------------


class Loop:
    """A training of a small model from a feed."""

    def __init__(self, feed: feedline.Feed) -> None:
        import torch

        from feedline import pytorch

        self._batches = epochs(pytorch.batches(feed))
        inputs = data.ROW_SHAPE[0] * data.ROW_SHAPE[1]
        self._model = torch.nn.Sequential(
            torch.nn.Flatten(),
            torch.nn.Linear(inputs, _HIDDEN),
            torch.nn.ReLU(),
            torch.nn.Linear(_HIDDEN, data.CLASSES),
        )
        self._optimizer = torch.optim.SGD(self._model.parameters(), 0.01)
        self._loss = torch.nn.functional.cross_entropy

    def rows_per_second(self, goes_on: Callable[[], bool]) -> float:
        """Train as long as that says so; 0 where it does not say so once."""
        rows, began = 0, time.perf_counter()
        while goes_on():
            batch = next(self._batches)
            loss = self._loss(self._model(batch["features"]), batch["labels"].long())
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            rows += _BATCH
        return rows / (time.perf_counter() - began)

    def rows_per_second_for(self, seconds: float) -> float:
        """Train for so long."""
        end = time.perf_counter() + seconds
        return self.rows_per_second(lambda: time.perf_counter() < end)


def measure(name: str, root: Path, wanted_bytes: int) -> Round:
    """Train and save in this process; say on the way when the memory is that before saving."""
    folder = root / "saved"
    arrays = feedline.open_arrays(data.prepare(root, _ROWS).paths)
    with feedline.Feed(arrays, _BATCH) as feed:
        loop = Loop(feed)
        state_bytes, save = WAYS[name].make(wanted_bytes, folder)
        loop.rows_per_second_for(_PLAIN_SECONDS)
        with suppress(AttributeError):
            # Memory that was freed and not given back would hide what a save takes.
            ctypes.CDLL(None).malloc_trim(0)
        print("ready", flush=True)
        if WAYS[name].prepares:
            save(_BEFORE)
        rates = [loop.rows_per_second_for(_PLAIN_SECONDS)]
        saves = []
        for number in range(1, _SAVES + 1):
            began = time.perf_counter()
            is_busy = save(number)
            blocked = time.perf_counter() - began
            rate = loop.rows_per_second(is_busy)
            saves.append({"blockedSeconds": blocked, "durableSeconds": time.perf_counter() - began, "rate": rate})
            shutil.rmtree(folder / str(number - 1), ignore_errors=True)
            _require_saved(folder, state_bytes)
            rates.append(loop.rows_per_second_for(_PLAIN_SECONDS))
        resident = resident_bytes(arrays)
    for each, around in zip(saves, pairwise(rates), strict=True):
        each["rowsRatio"] = each.pop("rate") / statistics.mean(around)
    return {
        "stateBytes": state_bytes,
        "rowsPerSecond": round(statistics.median(rates)),
        "saves": [{key: float(f"{value:.4g}") for key, value in each.items()} for each in saves],
        "residentShare": None if resident is None else round(resident / arrays.bytes, 4),
    }


def _require_saved(folder: Path, state_bytes: int) -> None:
    found = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if found < state_bytes:
        raise StorageError(f"a save has {size(found)} of {size(state_bytes)}")


# --- the processes, seen from outside ---------------------------------------------------------------------------------


class WayFailedError(Exception):
    """A way could not be measured; the message is one line."""


def measured(name: str, root: Path, gigabytes: float, join: Path | None) -> Round:
    """Measure a way once, in a process of its own.

    Parameters
    ----------
    join
        The file that takes it into a memory cgroup; None leaves it where it is.

    Raises
    ------
    WayFailedError
        It ended otherwise than it should.
    """
    shell = () if join is None else ("sh", "-c", f'echo $$ > {join}; exec "$@"', "sh")
    own = ("--measure", name, "--folder", str(root), "--gigabytes", str(gigabytes))
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "KERAS_BACKEND": "torch",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "MASTER_ADDR": "127.0.0.1",  # of the process that torch starts, which has to find this one
    }
    with tempfile.TemporaryFile("w+", dir=root) as errors:
        process = subprocess.Popen(
            (*shell, sys.executable, __file__, *own),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
            start_new_session=True,
        )
        patience = threading.Timer(_PATIENCE_SECONDS, os.killpg, (process.pid, 9))
        patience.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line == "ready\n":
                    break
            with memory_beyond(process.pid) as memory:
                told = process.stdout.readlines()
            process.wait()
        finally:
            patience.cancel()
            if process.poll() is None:
                os.killpg(process.pid, 9)
                process.wait()
        if process.returncode:
            errors.seek(0)
            last = (errors.read().strip().splitlines() or ["without a word"])[-1]
            raise WayFailedError(f"ended with {process.returncode}: {last}")
    found: Round = json.loads(told[-1])
    return {**found, "memoryRatio": round(memory[0] / found["stateBytes"], 3)}


@contextmanager
def memory_beyond(process: int) -> Iterator[list[int]]:
    """Yield a list whose only element becomes the most bytes that a process took beyond what it has now."""
    before, peak, stop = _memory(_family(process)), [0], threading.Event()

    def watch() -> None:
        family, known_at = _family(process), time.monotonic()
        while not stop.wait(_SAMPLE_SECONDS):
            if time.monotonic() - known_at > _FAMILY_SECONDS:
                family, known_at = _family(process), time.monotonic()
            peak[0] = max(peak[0], _memory(family) - before)

    thread = threading.Thread(target=watch, name="bench-memory")
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def _family(process: int) -> list[int]:
    """Return a process and all that it has started."""
    found = [process]
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):  # a thread that has just ended
            found += [each for child in path.read_text().split() for each in _family(int(child))]
    return found


def _memory(processes: Sequence[int]) -> int:
    """Return the bytes that no file stands for: the sum of what each has, and once what they share."""
    anonymous, shared = [0], [0]
    for process in processes:
        with suppress(OSError):
            for line in Path(f"/proc/{process}/status").read_text().splitlines():
                if line.startswith(("RssAnon:", "RssShmem:")):
                    (anonymous if "Anon" in line else shared).append(int(line.split()[1]) * 1024)
    return sum(anonymous) + max(shared)


# --- rounds and results -----------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the results; return the exit code."""
    options = _parser().parse_args(arguments)
    if options.measure:
        print(json.dumps(measure(options.measure, options.folder, int(options.gigabytes * 1e9))))
        return ExitCode.OK
    try:
        _run(options)
    except FeedlineError as error:
        sys.stderr.write(f"feedline: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("\nfeedline: interrupted; no results were written\n")
        return ExitCode.INTERRUPTED
    return ExitCode.OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure what a checkpoint costs the training.")
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured (3)")
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of state: a model and its optimizer (1.0)")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="measure only these")
    parser.add_argument("--memory", type=int, help="MiB of memory for everything, as root (no limit)")
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--name", default="checkpoint", help="of the files of results (checkpoint)")
    parser.add_argument("--out", type=Path, default=_ROOT / "benchmarks" / "results", help="folder of results")
    return parser


def _run(options: argparse.Namespace) -> None:
    if options.memory and os.geteuid() != 0:
        raise EnvironmentInvalidError("--memory: a memory cgroup takes root: run this as root, or leave it out")
    before = machine.describe()
    (_ROOT / ".cache").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-checkpoint-", dir=_ROOT / ".cache") as root:
        rounds, failed = _in_turn(options, Path(root))
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": before,
        "versions": machine.versions(),
        "gigabytes": options.gigabytes,
        "rounds": options.rounds,
        "memoryBytes": options.memory << 20 if options.memory else None,
        "dataBytes": _ROWS * data.ROW_BYTES,
        "batchSize": _BATCH,
        "ways": {name: found for name, found in rounds.items() if name not in failed},
        "failed": failed,
    }
    page = table(result)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{options.name}.json").write_text(json.dumps(result, indent=1) + "\n")
    (options.out / f"{options.name}.md").write_text(page)
    sys.stdout.write(page)


def _in_turn(options: argparse.Namespace, root: Path) -> tuple[dict[str, list[Round]], dict[str, str]]:
    """Return what was measured in each round, and what went wrong with a way, which is then left out."""
    rows = data.prepare(root, _ROWS)
    shutil.rmtree(rows.folder / "parts")
    rounds: dict[str, list[Round]] = {name: [] for name in options.ways}
    failed: dict[str, str] = {}
    for number in range(options.rounds):
        # To and fro, so that what is compared comes first as often as second.
        for name in options.ways if number % 2 == 0 else reversed(options.ways):
            if name in failed:
                continue
            (root / "saved").mkdir()
            with cold.cgroup(options.memory << 20) if options.memory else nullcontext() as join:
                if join is not None:
                    # What it has brought into memory itself counts as its own.
                    cold.forget(rows)
                try:
                    rounds[name].append(measured(name, root, options.gigabytes, join))
                except WayFailedError as error:
                    failed[name] = str(error)
            shutil.rmtree(root / "saved")
            sys.stderr.write(f"round {number + 1}: {name}: {failed.get(name) or rounds[name][-1]['saves']}\n")
    return rounds, failed


def figures(name: str, ways: dict[str, list[Round]], which: slice) -> dict[str, list[float]]:
    """Return what is told of these saves of a way: of each figure, the median of each round."""

    def medians(way: str, key: str, saves: slice) -> list[float]:
        return [statistics.median(save[key] for save in found["saves"][saves]) for found in ways.get(way, [])]

    blocked, bases = medians(name, "blockedSeconds", which), medians(_BASE, "blockedSeconds", _ALL)
    return {
        "blocked": blocked,
        "blockedRatio": [found / base for found, base in zip(blocked, bases, strict=False)],
        "durable": medians(name, "durableSeconds", which),
        "rows": medians(name, "rowsRatio", which),
        "memory": [found["memoryRatio"] for found in ways[name]],
        "pages": [found["residentShare"] for found in ways[name] if found["residentShare"] is not None],
    }


def table(result: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    here, ways = result["machine"], result["ways"]
    rates = [found["rowsPerSecond"] for rounds in ways.values() for found in rounds]
    limit = f"all in {size(result['memoryBytes'])} of memory; " if result["memoryBytes"] else ""
    described = (
        f"A state of {result['gigabytes']:g} GB (a model, and Adam's moments of it), saved {_SAVES} times by each "
        f"process, which trains a small model from {size(result['dataBytes'])} in the page cache, in batches of "
        f"{result['batchSize']} and on one thread, at {statistics.median(rates or [0]):,.0f} rows/s without a save; "
        f"rounds: {result['rounds']}, medians; {limit}{result['date']}, {here['cpus']:g} CPUs of {here['cpu']}, "
        f"{here['memoryBytes'] / 1e9:.0f} GB, {here['kernel']}, load {here['load']}; "
        f"{', '.join(f'{name} {number}' for name, number in result['versions'].items())}."
    )
    lines = ["# What a checkpoint costs the training", "", described, "", *_targets(ways)]
    lines += [
        (
            "| way | the loop blocked, s | by `torch.save` = 1 | on the disk after, s "
            "| rows/s while written, without = 1 | peak memory beyond before, state = 1 | pages of the data in memory |"
        ),
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, way in WAYS.items():
        if name in result["failed"]:
            lines.append(f"| {way.title} | {result['failed'][name]} | | | | | |")
        elif name in ways:
            parts = {", the first save": _FIRST, ", later ones": _LATER} if way.first_differs else {"": _ALL}
            for told, which in parts.items():
                cells = [_cell(found) for found in figures(name, ways, which).values()]
                lines.append(f"| {way.title}{told} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _targets(ways: dict[str, list[Round]]) -> Iterator[str]:
    """Yield what is wanted of feedline, and what was measured."""
    if _OURS not in ways:
        return
    yield from ("| feedline | wanted | median | least to most | |", "| --- | ---: | ---: | ---: | --- |")
    for title, key, which, is_most, wanted in _TARGETS:
        if found := figures(_OURS, ways, which)[key]:
            middle = statistics.median(found)
            is_met = middle <= wanted if is_most else middle >= wanted
            told = f"{middle:.3g} | {min(found):.3g} to {max(found):.3g} | {'met' if is_met else 'NOT MET'}"
            yield f"| {title} | {'≤' if is_most else '≥'} {wanted:g} | {told} |"
    yield ""


def _cell(found: Sequence[float]) -> str:
    return f"{statistics.median(found):.3g}" if found else "-"


if __name__ == "__main__":
    sys.exit(main())
