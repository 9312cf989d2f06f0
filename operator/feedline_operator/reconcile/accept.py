"""Problems of a spec that the schema and its rules cannot see."""

from typing import Final

from feedline.contract import MAX_MANIFEST_BYTES
from feedline_operator.build import manifest_text
from feedline_operator.reconcile.observed import Object, Refusal
from feedline_operator.untrusted import clean

_SCALARS: Final = (str, int, float, bool)
_SHOWN_CHARACTERS: Final = 64


def problem(spec: Object, refusal: Refusal | None) -> str | None:
    """Return what is wrong with a spec and what to do, None if nothing is.

    Parameters
    ----------
    spec
        The pipeline's.
    refusal
        What the API server said of the Job that was made of it.
    """
    if refusal is not None and refusal.invalid:
        return f"The API server does not take the Job: {refusal.message}"
    data = spec["data"]
    arrays = [array for split in ("train", "validation") if split in data for array in data[split]["arrays"]]
    used = {array["path"].split("/", 1)[0] for array in arrays}
    for volume in data["volumes"]:
        if volume["name"] not in used:
            return (
                f"spec.data.volumes[{volume['name']}]: no array lies on this volume; "
                f"remove it, or begin a path with {volume['name']}/"
            )
    for name, value in spec["train"].get("parameters", {}).items():
        if not isinstance(value, _SCALARS):
            shown = clean(name, _SHOWN_CHARACTERS)
            return (
                f"spec.train.parameters.{shown}: must be a string, a number or a boolean; "
                f"write {shown}: VALUE, or leave it out"
            )
    if (size := len(manifest_text(spec).encode())) > MAX_MANIFEST_BYTES:
        return (
            f"spec: backend, data, loader, train are {size} bytes of JSON; a pod takes at most {MAX_MANIFEST_BYTES}; "
            "shorten train.parameters or train.command"
        )
    return None
