"""Transforms one after the other: what comes out, which arrays they concern, and where each writes its result."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedline.errors import UsageError
from feedline.native import Conversion
from feedline.transforms.context import Context
from feedline.transforms.function import Function, called, name_of, require_alike, spec_of
from feedline.transforms.spec import ArraySpec
from feedline.transforms.spent import Spent, Stopwatch
from feedline.transforms.transform import Batch, Transform


class Chain:
    """Transforms that are applied in turn.

    Parameters
    ----------
    inputs
        What is stored.
    transforms
        Declared ones, and functions.
    seed, rank, is_training
        What functions are told.
    sample
        Returns some rows of each array and their numbers, with which functions are tried once, to see what they return.

    Raises
    ------
    UsageError
        A transform does not take what comes to it.
    UserFunctionError
        A function returns no batch; what it raises is raised.

    Attributes
    ----------
    specs
        What comes out.
    direct
        Arrays that only functions may change: they can be gathered right where they end.
    converted
        Arrays that compiled code converts where they end, and how; `apply` wants them converted.
    gathered
        The other arrays that are taken from the files.
    is_empty, has_functions
        Whether there is no transform for `apply`, and whether there is a function, which takes whole batches.
    """

    def __init__(
        self,
        inputs: Mapping[str, ArraySpec],
        transforms: Sequence[Transform | Function],
        seed: int,
        rank: int,
        *,
        is_training: bool,
        sample: Callable[[], tuple[Batch, NDArray[np.intp]]],
    ) -> None:
        if not isinstance(transforms, Sequence):
            raise UsageError(f"transforms: must be a list of them (got {transforms!r})")
        for each in transforms:
            if not isinstance(each, Transform) and not callable(each):
                raise UsageError(f"transforms: {each!r} is none, and no function: see feedline.Cast and its like")
        self._transforms = tuple(transforms)
        self._seed, self._rank, self._is_training = seed, rank, is_training
        self.has_functions = not all(isinstance(each, Transform) for each in transforms)
        self._inputs, self._after = dict(inputs), list[dict[str, ArraySpec]]()
        specs, tried = dict(inputs), sample() if self.has_functions else None
        for number, each in enumerate(self._transforms):
            if tried is not None:
                batch, rows = tried
                context = self._context(number, rows, 0, 0)
                if isinstance(each, Transform):
                    specs = each.outputs(specs)
                    tried = self._declared(each, batch, specs, None, rows), rows
                else:
                    made = called(each, batch, context)
                    specs, tried = {name: spec_of(array) for name, array in made.items()}, (made, rows)
            elif isinstance(each, Transform):
                specs = each.outputs(specs)
            self._after.append(specs)
        self.specs = specs
        declared = [each for each in self._transforms if isinstance(each, Transform)]
        concerned = {name for each in declared for name in (*each.reads, each.writes)}
        self.direct = [name for name in inputs if name not in concerned and specs.get(name) == inputs[name]]
        # The last declared transform of an array writes it where it is to end, unless a function makes it another one.
        last = {each.writes: number for number, each in enumerate(self._transforms) if isinstance(each, Transform)}
        self._final = {number for name, number in last.items() if specs.get(name) == self._after[number].get(name)}
        self._left = list(range(len(self._transforms)))
        self.converted = self._convert()
        self.gathered = [name for name in inputs if name not in self.direct and name not in self.converted]
        self.is_empty = not self._left

    def _convert(self) -> dict[str, Conversion]:
        """Return the arrays that compiled code converts, whose transforms are not left to do."""
        found = {}
        for number, each in enumerate(self._transforms):
            if not isinstance(each, Transform):
                break  # what comes after a function is of its making
            concerned = [other for other in self._transforms if isinstance(other, Transform) and _concern(other, each)]
            if number in self._final and concerned == [each] and each.reads == (each.writes,):
                conversion = each.conversion(self._inputs[each.writes])
                if conversion is not None:
                    found[each.writes] = conversion
                    self._left.remove(number)
        return found

    def told(self) -> list[Any]:
        """Return what is done, as JSON: functions by their names."""
        return [each.told() if isinstance(each, Transform) else name_of(each) for each in self._transforms]

    @property
    def widest(self) -> int:
        """Bytes of a row of the widest array on the way, at least 1."""
        return max(1, *(spec.row_bytes for specs in (self._inputs, *self._after) for spec in specs.values()))

    @property
    def bytes_of_row(self) -> int:
        """Bytes of all that is made of a row on the way, those of the arrays that are gathered for it among them."""
        found = sum(self._inputs[name].row_bytes for name in self.gathered)
        for number in self._left:
            each, after = self._transforms[number], self._after[number]
            made = [each.writes] if isinstance(each, Transform) else list(after)
            found += sum(after[name].row_bytes for name in made)
        return found

    def apply(self, batch: Batch, outs: Batch, rows: NDArray[np.intp], epoch: int, step: int) -> Spent:
        """Write what comes out of a batch to `outs`; return what functions took.

        Parameters
        ----------
        batch
            Rows as they are stored; those of `direct` and `converted` lie in `outs` already.
        outs
            For each array that comes out ``[n, *row_shape]``.
        rows
            Their numbers, ``[n]``.
        epoch, step
            Which batch it is of.
        """
        watch = Stopwatch()
        for number in self._left:
            each = self._transforms[number]
            if isinstance(each, Transform):
                out = outs[each.writes] if number in self._final else None
                batch = self._declared(each, batch, self._after[number], out, rows)
            else:
                context = self._context(number, rows, epoch, step)
                with watch.running():
                    batch = called(each, batch, context)
                require_alike(each, batch, self._after[number], context)
        if self.has_functions:
            _put(batch, outs)
        return watch.spent

    def _context(self, number: int, rows: NDArray[np.intp], epoch: int, step: int) -> Context:
        return Context(rows, epoch, step, self._seed, is_training=self._is_training, rank=self._rank, number=number)

    @staticmethod
    def _declared(
        transform: Transform,
        batch: Batch,
        specs: Mapping[str, ArraySpec],
        out: NDArray[Any] | None,
        rows: NDArray[np.intp],
    ) -> Batch:
        """Return a batch after a declared transform, which writes to `out`, or to new memory."""
        spec = specs[transform.writes]
        made = np.empty((len(rows), *spec.row_shape), spec.dtype) if out is None else out
        transform.apply(batch, made, rows)
        return {name: made if name == transform.writes else batch[name] for name in specs}


def _concern(one: Transform, other: Transform) -> bool:
    """Return whether two concern the same array."""
    return bool({*one.reads, one.writes} & {*other.reads, other.writes})


def _put(batch: Batch, outs: Batch) -> None:
    """Copy the arrays of a batch to where they are to end, if they are not there."""
    elsewhere = {name: array for name, array in batch.items() if array is not outs[name]}
    for name, array in elsewhere.items():
        # Of what ends in another place, or of its own place in another order: all of it is read before any is written.
        if any(np.may_share_memory(array, out) for out in outs.values()):
            elsewhere[name] = array.copy()
    for name, array in elsewhere.items():
        outs[name][...] = array
