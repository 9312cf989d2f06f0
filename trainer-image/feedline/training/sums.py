"""Sums over the steps of an epoch that outlive the process: a mean of an epoch is that of all of its steps."""

from collections.abc import Iterator, Mapping
from typing import Any


class Sums(Mapping[str, Any]):
    """Sums by name, of numbers or of tensors, which stay on their device; they begin anew with each epoch.

    ::

        for _ in run.epochs():
            for batch in run.train:
                ...
                run.sums.add(loss=loss.detach() * len(labels), rows=len(labels))
            run.report(loss=run.sums["loss"] / run.sums["rows"])

    They are in the checkpoint, so that an epoch in whose middle a run went on reports what it would have reported.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Any] = {}

    def add(self, **values: Any) -> None:
        """Add numbers or tensors, each to the sum of its name."""
        for name, value in values.items():
            plain = value.detach() if hasattr(value, "detach") else value
            self._sums[name] = _beside(self._sums[name], plain) + plain if name in self._sums else plain

    def clear(self) -> None:
        """Begin anew."""
        self._sums = {}

    def restore(self, sums: Mapping[str, Any]) -> None:
        """Go on with sums that were saved."""
        self._sums = dict(sums)

    def __getitem__(self, name: str) -> Any:
        return self._sums[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sums)

    def __len__(self) -> int:
        return len(self._sums)


def _beside(kept: Any, value: Any) -> Any:
    """Return a sum on the device of what is added to it: what was saved comes back on the host."""
    is_elsewhere = hasattr(kept, "to") and hasattr(value, "device") and kept.device != value.device
    return kept.to(value.device) if is_elsewhere else kept
