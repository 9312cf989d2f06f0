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
    from feedline.training.execution import StoppedEarly, execute
    from feedline.training.outcome import write_report
    from feedline.training.process import logged, manifest_text, port_from_environment, volumes_from_environment
    from feedline.training.report import decimal, summarize
    from feedline.training.run import Run
    from feedline.training.sources import check_order, open_split, paths, require_memory
    from feedline.training.verdict import in_words

__all__ = [
    "PACKAGES",
    "Batches",
    "Run",
    "StoppedEarly",
    "check_order",
    "decimal",
    "execute",
    "in_words",
    "logged",
    "manifest_text",
    "open_split",
    "paths",
    "port_from_environment",
    "require_backend",
    "require_memory",
    "summarize",
    "volumes_from_environment",
    "write_report",
]

_PLACES = {
    "backends": ("PACKAGES", "require_backend"),
    "batches": ("Batches",),
    "execution": ("StoppedEarly", "execute"),
    "outcome": ("write_report",),
    "process": ("logged", "manifest_text", "port_from_environment", "volumes_from_environment"),
    "report": ("decimal", "summarize"),
    "run": ("Run",),
    "sources": ("check_order", "open_split", "paths", "require_memory"),
    "verdict": ("in_words",),
}


def __getattr__(name: str) -> Any:
    for module, names in _PLACES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
