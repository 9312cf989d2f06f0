"""A run: from a manifest to native batches, where the time goes, what that means, and what is told of it.

It knows manifests, feeds and frameworks, and nothing of the command line. The way through it: `sources` opens a split,
`batches` hands it out and times it (`timeline`), `loop` keeps the limits; what has been done is a `snapshot`, of which
`report`, `verdict` and `collector` make what people and Prometheus see; `outcome`, `endpoint` and `process` are the
process around a loop, `run` is what a training function gets, and `execution` all of it.

What others take is imported when it is asked for, since half of it brings Prometheus' client along.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from feedline.training.backends import PACKAGES, require_backend
    from feedline.training.batches import Batches
    from feedline.training.classes import classes_in, largest_class, require_same_classes
    from feedline.training.execution import execute
    from feedline.training.gang import Progress
    from feedline.training.history import HISTORY, Reported
    from feedline.training.outcome import write_report
    from feedline.training.output import (
        PIPELINE,
        Output,
        is_finished,
        is_in_use,
        lock,
        make_fresh,
        remove_weights,
        report_in,
        require_new,
        run_of,
    )
    from feedline.training.process import (
        JsonLines,
        StoppedEarly,
        end_if_lost,
        logged,
        manifest_text,
        output_from_environment,
        port_from_environment,
        processes_from_environment,
        site_from_environment,
        volumes_from_environment,
    )
    from feedline.training.report import decimal, summarize
    from feedline.training.run import Run
    from feedline.training.sources import (
        boundaries_of,
        check_split,
        epoch_rows,
        open_split,
        require_memory,
        rows_of,
        stored,
    )
    from feedline.training.statistics import write_statistics
    from feedline.training.verdict import in_words
    from feedline.training.whole import write_text

__all__ = [
    "HISTORY",
    "PACKAGES",
    "PIPELINE",
    "Batches",
    "JsonLines",
    "Output",
    "Progress",
    "Reported",
    "Run",
    "StoppedEarly",
    "boundaries_of",
    "check_split",
    "classes_in",
    "decimal",
    "end_if_lost",
    "epoch_rows",
    "execute",
    "in_words",
    "is_finished",
    "is_in_use",
    "largest_class",
    "lock",
    "logged",
    "make_fresh",
    "manifest_text",
    "open_split",
    "output_from_environment",
    "port_from_environment",
    "processes_from_environment",
    "remove_weights",
    "report_in",
    "require_backend",
    "require_memory",
    "require_new",
    "require_same_classes",
    "rows_of",
    "run_of",
    "site_from_environment",
    "stored",
    "summarize",
    "volumes_from_environment",
    "write_report",
    "write_statistics",
    "write_text",
]

_PLACES = {
    "backends": ("PACKAGES", "require_backend"),
    "batches": ("Batches",),
    "classes": ("classes_in", "largest_class", "require_same_classes"),
    "execution": ("execute",),
    "gang": ("Progress",),
    "history": ("HISTORY", "Reported"),
    "outcome": ("write_report",),
    "output": (
        "PIPELINE",
        "Output",
        "is_finished",
        "is_in_use",
        "lock",
        "make_fresh",
        "remove_weights",
        "report_in",
        "require_new",
        "run_of",
    ),
    "process": (
        "StoppedEarly",
        "JsonLines",
        "end_if_lost",
        "logged",
        "manifest_text",
        "output_from_environment",
        "port_from_environment",
        "processes_from_environment",
        "site_from_environment",
        "volumes_from_environment",
    ),
    "report": ("decimal", "summarize"),
    "run": ("Run",),
    "sources": ("boundaries_of", "check_split", "epoch_rows", "open_split", "require_memory", "rows_of", "stored"),
    "statistics": ("write_statistics",),
    "verdict": ("in_words",),
    "whole": ("write_text",),
}


def __getattr__(name: str) -> Any:
    for module, names in _PLACES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
