"""The verdict: does the data or the model hold the run back, by how much, and what to do about it. Pure.

The share of time spent waiting decides; rates, faults and sizes only explain it. Where the evidence does not name a
cause, the cause is Unknown.
"""

from dataclasses import dataclass

from feedline.contract import Cause, Verdict
from feedline.transforms import Spent
from feedline.units import rate, size

INPUT_BOUND_PERMILLE = 100
_SMALL_BATCH_BYTES = 64 * 1024
_SMALL_WAIT_SECONDS = 200e-6
_FAULTS_PER_BATCH = 0.5
_DISK_SHARE = 0.02
_WORTH_BLOCKS = 2
_FEED_KEEPS_UP = 1.25
_TRANSFORM_PERMILLE = 500
_BLOCKED = 0.3
_ONE_CPU = 0.7


@dataclass(frozen=True)
class Evidence:
    """What a run has shown so far.

    Attributes
    ----------
    wait_permille
        1000 · wait / (wait + step); None where the time cannot be seen.
    feed_rate, model_rate
        Rows per second that the gather threads can deliver and that the steps alone would take; None if unknown.
    epochs
        Finished ones.
    major_faults, batches
        Page faults that waited for the disk, and the batches they were needed for.
    disk_share
        Share of the rows that were not in memory when they were due.
    disk_random, disk_sequential
        Rows per second that the disk gives at random and in order; None if it was not measured.
    shuffle
        The loader's order: full, block or none.
    batch_bytes, wait_seconds
        Bytes of a batch, and seconds waited for one on average.
    data_bytes, memory_bytes
        Size of the training rows, and the memory this process may use.
    threads, cpus
        Gather threads, and the CPUs this process may use.
    transform_permille
        1000 · time in transforms / time of the gather threads.
    functions
        What functions of the user's took of it.
    engine, in_memory, on_accelerator
        The loader's engine, whether the rows were loaded into memory, whether batches are copied to a device.
    """

    wait_permille: int | None
    feed_rate: float | None
    model_rate: float | None
    epochs: int
    major_faults: int
    batches: int
    disk_share: float
    disk_random: float | None
    disk_sequential: float | None
    shuffle: str
    batch_bytes: int
    wait_seconds: float
    data_bytes: int
    memory_bytes: int
    threads: int
    cpus: float
    transform_permille: int
    functions: Spent
    engine: str
    in_memory: bool
    on_accelerator: bool


_UNSEEN = "The time spent waiting cannot be seen behind this loader; run once with loader.engine: Feed."
_TOO_SHORT = "Too few steps were made to tell what is waited for: the first one does not count."


def judge(evidence: Evidence) -> Verdict:
    """Return whether the run is input bound, the likely cause, and one sentence of advice."""
    if evidence.wait_permille is None:
        return {
            "inputBound": False,
            "cause": Cause.UNKNOWN,
            "advice": _UNSEEN if evidence.batches > 1 else _TOO_SHORT,
        }
    if evidence.wait_permille <= INPUT_BOUND_PERMILLE:
        return {"inputBound": False, "cause": Cause.NONE, "advice": "The model is the bottleneck; the data keep up."}
    cause, advice = _cause(evidence)
    return {"inputBound": True, "cause": cause, "advice": advice}


def _cause(evidence: Evidence) -> tuple[Cause, str]:  # noqa: PLR0911 - a list of cases, the likeliest evidence first
    if not evidence.in_memory and (from_disk := _from_disk(evidence)) is not None:
        return from_disk
    if evidence.engine == "Classic":
        return Cause.CPU, "Try loader.engine: Feed."
    keeps_up = (
        evidence.feed_rate is not None
        and evidence.model_rate is not None
        and evidence.feed_rate > _FEED_KEEPS_UP * evidence.model_rate
    )
    if evidence.batch_bytes < _SMALL_BATCH_BYTES and evidence.wait_seconds < _SMALL_WAIT_SECONDS:
        return Cause.SMALL_BATCHES, "Handing a batch over takes longer than filling it: raise loader.batchSize."
    if keeps_up and evidence.on_accelerator:
        return Cause.TRANSFER, "Copies to the device are slower than the feed: store a smaller dtype and cast there."
    if keeps_up:
        return Cause.UNKNOWN, "The feed is faster than the model, yet the loop waits: look for other load on the CPUs."
    if evidence.transform_permille >= _TRANSFORM_PERMILLE:
        return Cause.TRANSFORM, _transforms(evidence)
    if evidence.threads < int(evidence.cpus):
        return Cause.CPU, f"Raise loader.threads from {evidence.threads} to {int(evidence.cpus)}."
    return Cause.CPU, f"The gather threads use the {evidence.cpus:g} CPUs there are: raise resources.cpu."


def _transforms(evidence: Evidence) -> str:
    """Return what is to be done about transforms that take most of the feed's time."""
    functions, threads, cpus = evidence.functions, evidence.threads, int(evidence.cpus)
    share = f"{evidence.transform_permille / 10:.0f} % of the feed's time goes into transforms"
    seconds = max(functions.seconds, 1e-9)
    # Threads that take turns are on a CPU for one of them, all together; those that wait for files are on less.
    if functions.blocked > _BLOCKED * seconds and functions.cpu * threads > _ONE_CPU * seconds:
        return (
            f"{share}, and the function holds the interpreter, so that its {threads} threads take turns: call NumPy on "
            "whole batches in place of a loop over rows, or do it in the model."
        )
    if threads < cpus:
        return f"{share}: raise loader.threads from {threads} to {cpus}."
    return f"{share}: raise resources.cpu, do it once by feedline pack, or in the model."


def _from_disk(evidence: Evidence) -> tuple[Cause, str] | None:
    """Return what is to be done about rows that come from the disk; None where they do not."""
    faults = evidence.major_faults > _FAULTS_PER_BATCH * max(1, evidence.batches)
    if evidence.disk_share <= _DISK_SHARE and not faults:
        return None
    sizes = f"{size(evidence.data_bytes)} of {size(evidence.memory_bytes)}"
    if evidence.data_bytes >= 0.8 * evidence.memory_bytes:
        return Cause.DISK, f"The data do not fit into memory ({sizes}){_instead(evidence)}"
    if evidence.disk_share <= _DISK_SHARE:
        return Cause.PAGE_FAULTS, f"Try loader.residency: Memory ({sizes})."
    if evidence.epochs:
        return Cause.DISK, f"What is read does not stay in memory: try loader.residency: Memory ({sizes})."
    return Cause.DISK, "The rows come from the disk for the first time; later epochs take them from memory."


def _instead(evidence: Evidence) -> str:
    random, in_order, model = evidence.disk_random, evidence.disk_sequential, evidence.model_rate
    if evidence.shuffle == "full" and random and in_order and model and model > random:
        rates = f"{rate(random)} at random, {rate(in_order, unit='')} in order"
        # Never chosen silently: it mixes less.
        if in_order > _WORTH_BLOCKS * random:
            return (
                f", and the disk gives {rates}, where the model could take {rate(model, unit='')}: "
                "set loader.shuffle.mode: Block, or give more memory."
            )
    return ": give more memory or a faster disk."


def in_words(verdict: Verdict, wait_permille: int | None, feed_rate: int | None, model_rate: int | None) -> str:
    """Return the verdict as a person would say it."""
    if wait_permille is None:
        return str(verdict["advice"])
    sentences = [f"Waiting for data {wait_permille / 10:.0f} % of the time."]
    if feed_rate and model_rate:
        sentences.append(f"The feed can deliver {rate(feed_rate)}, the model could take {rate(model_rate, unit='')}.")
    elif model_rate:
        sentences.append(f"The model could take {rate(model_rate)}.")
    if verdict["inputBound"]:
        sentences.append(f"Cause: {_CAUSE_WORDS[Cause(verdict['cause'])]}.")
    sentences.append(verdict["advice"])
    return " ".join(sentences)


_CAUSE_WORDS = {
    Cause.NONE: "none",
    Cause.PAGE_FAULTS: "page faults",
    Cause.DISK: "the disk",
    Cause.CPU: "the CPU",
    Cause.SMALL_BATCHES: "small batches",
    Cause.TRANSFER: "copies to the device",
    Cause.TRANSFORM: "transforms",
    Cause.UNKNOWN: "unknown",
}
