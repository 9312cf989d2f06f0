"""A TrainingPipeline from a file or from the pod, checked as the API server would, all problems at once."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from feedline.contract import API_GROUP, API_VERSION, KIND, MAX_MANIFEST_BYTES, POD_FIELDS, SWEEP_KIND
from feedline.errors import InputMissingError, UsageError
from feedline.manifest.document import Manifest, frozen
from feedline.manifest.jsonvalues import MAX_TEXT_CHARACTERS, plain, read_json
from feedline.manifest.overrides import apply_override
from feedline.manifest.yamlread import read_yaml


class ManifestError(UsageError):
    """A document is no valid TrainingPipeline.

    Parameters
    ----------
    problems
        One sentence each, ``FIELD: what is wrong``.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def read(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a file with one TrainingPipeline, and change values in it.

    Parameters
    ----------
    path
        A YAML or JSON file, read as kubectl reads it.
    overrides
        Changes in turn, such as ``spec.loader.batchSize=64``. Setting one of several fields that exclude each other
        (epochs, steps, seconds) removes the others.

    Returns
    -------
    dict
        The document, for `parse`; nothing in it is checked but `apiVersion` and `kind`.

    Raises
    ------
    InputMissingError
        The file is missing or may not be read.
    ManifestError
        It is no YAML or holds something else than one TrainingPipeline, or an override does not fit.
    """
    return read_kind(path, overrides, KIND)


def read_kind(path: str | os.PathLike[str], overrides: Sequence[str], kind: str) -> dict[str, Any]:
    """Read a file with one document of a kind, as `read` does."""
    where = os.fspath(path)
    try:
        # Reading is bounded, so that a path such as /dev/zero ends, too.
        with Path(path).open("rb") as file:
            content = file.read(4 * MAX_TEXT_CHARACTERS + 1)
    except OSError as error:
        raise InputMissingError(f"{where}: cannot be read ({error.strerror}); check the path") from None
    try:
        documents = read_yaml(content.decode("utf-8-sig"), where)
    except UnicodeDecodeError:
        raise ManifestError([f"{where}: not valid text; save it as UTF-8"]) from None
    except UsageError as error:
        raise ManifestError([str(error)]) from None
    if len(documents) != 1:
        raise ManifestError([f"{where}: holds {len(documents)} documents; a file must hold one {kind}"])
    if problems := _kind_problems(documents[0], kind):
        raise ManifestError([f"{where}: {problem}" for problem in problems])
    document: dict[str, Any] = documents[0]
    try:
        for override in overrides:
            apply_override(document, override)
    except UsageError as error:
        raise ManifestError([str(error)]) from None
    return document


def parse(document: Mapping[str, Any]) -> Manifest:
    """Check a document, fill in the defaults and freeze it.

    Parameters
    ----------
    document
        A TrainingPipeline, such as from `read`; it is not changed.

    Raises
    ------
    ManifestError
        With all of the document's problems.
    """
    # CEL and jsonschema take most of a second to import, which only those pay who check a document.
    from feedline.manifest.schema import pipeline_schema

    try:
        full = plain(dict(document), "the manifest")
    except UsageError as error:
        raise ManifestError([str(error)]) from None
    if problems := _kind_problems(full, KIND):
        raise ManifestError(problems)
    schema = pipeline_schema()
    schema.apply_defaults(full)
    problems = [*schema.problems(full), *_parameter_problems(full)]
    if not problems:
        problems = [*_volume_problems(full), *_size_problems(full)]
    if problems:
        raise ManifestError(problems)
    return frozen(full)


def from_pod(text: str, name: str) -> Manifest:
    """Read the manifest that a pod gets: the JSON of what a spec says to the trainer.

    Parameters
    ----------
    text
        At most 128 KiB of JSON.
    name
        The pipeline's name.

    Raises
    ------
    ManifestError
        With all of its problems.
    """
    where = "the pod's manifest"
    size = len(text.encode(errors="replace"))
    if size > MAX_MANIFEST_BYTES:
        raise ManifestError([f"{where}: {size} bytes; it has at most {MAX_MANIFEST_BYTES}"])
    try:
        spec = read_json(text, where)
    except json.JSONDecodeError as error:
        raise ManifestError([f"{where}: not valid JSON: {error}"]) from None
    except UsageError as error:
        raise ManifestError([str(error)]) from None
    return parse({"apiVersion": f"{API_GROUP}/{API_VERSION}", "kind": KIND, "metadata": {"name": name}, "spec": spec})


def pod_part(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a spec that a pod gets, for `from_pod`."""
    return {field: spec[field] for field in POD_FIELDS if field in spec}


def _kind_problems(document: Any, kind: str) -> list[str]:
    if not isinstance(document, dict):
        return [f"must be a map, a {kind} with apiVersion, kind, metadata and spec"]
    problems = []
    for field, wanted in (("kind", kind), ("apiVersion", f"{API_GROUP}/{API_VERSION}")):
        got = document.get(field)
        if got != wanted:
            problems.append(f"{field}: must be {wanted} (got {json.dumps(got)}){_ELSEWHERE.get(str(got), '')}")
    return problems


_ELSEWHERE: Final = {
    KIND: "; feedline run takes it",
    SWEEP_KIND: "; feedline sweep run takes it",
}


def _parameter_problems(document: dict[str, Any]) -> list[str]:
    """Check a rule that is not in the CRD, whose schema cannot give types to the values of such a map."""
    train = document["spec"].get("train") if isinstance(document.get("spec"), dict) else None
    parameters = train.get("parameters") if isinstance(train, dict) else None
    return [
        f"spec.train.parameters.{key}: must be a string, a number or a boolean; write {key}: VALUE, or leave it out"
        for key, value in (parameters.items() if isinstance(parameters, dict) else ())
        if not isinstance(value, str | int | float)
    ]


def _volume_problems(document: dict[str, Any]) -> list[str]:
    data = document["spec"]["data"]
    splits = [data[split] for split in ("train", "validation") if split in data]
    used = {array["path"].split("/", 1)[0] for split in splits for array in split["arrays"]}
    return [
        f"spec.data.volumes[{volume['name']}]: no array lies on this volume; "
        f"remove it, or begin a path with {volume['name']}/"
        for volume in data["volumes"]
        if volume["name"] not in used
    ]


def _size_problems(document: dict[str, Any]) -> list[str]:
    size = len(json.dumps(pod_part(document["spec"]), ensure_ascii=False, separators=(",", ":")).encode())
    if size <= MAX_MANIFEST_BYTES:
        return []
    return [f"spec: {', '.join(POD_FIELDS)} are {size} bytes of JSON; a pod takes at most {MAX_MANIFEST_BYTES}"]
