#!/usr/bin/env python3
"""What a release decides, apart from the workflow that carries it out: `release.py check | pin | notes`.

check TAG      says the version, if tag, package, chart and changelog agree on it
pin FOLDER     writes the images' digests into the chart's values; each file of FOLDER is named after one image, and
               holds where it was pushed to and its digest
notes VERSION  says what the changelog says of the version

Knows the repository's files only, neither registries nor GitHub; needs nothing but Python.
"""

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHART = Path("charts/feedline")
VALUES_OF = {"operator": ("operator", "image")} | {
    backend: ("trainer", "images", backend) for backend in ("keras", "tensorflow", "pytorch")
}


class ReleaseError(Exception):
    """Why there can be no release; one sentence."""


def check(tag: str, root: Path = ROOT) -> str:
    """Return the version of a tag, if every file that names a version names this one."""
    if not re.fullmatch(r"v\d+\.\d+\.\d+", tag):
        raise ReleaseError(f"The tag {tag} is no vX.Y.Z.")
    version = tag[1:]
    chart = (root / CHART / "Chart.yaml").read_text()
    named = {"pyproject.toml": tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]}
    for field in ("version", "appVersion"):
        found = re.search(rf'^{field}: "?([^"\s]+)"?$', chart, re.MULTILINE)
        named[f"{field} in {CHART}/Chart.yaml"] = found[1] if found else "nothing"
    for place, other in named.items():
        if other != version:
            raise ReleaseError(f"The tag says {version}, and {place} says {other}.")
    notes(version, root)
    return version


def notes(version: str, root: Path = ROOT) -> str:
    """Return the changelog's section of a version."""
    _, *sections = re.split(r"^## ", (root / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    for section in sections:
        title, _, text = section.partition("\n")
        if title.startswith(f"[{version}]"):
            return text.strip()
    raise ReleaseError(f"CHANGELOG.md has no section [{version}].")


def pin(folder: Path, root: Path = ROOT) -> None:
    """Write digests into the chart's values, and leave every other line as it is."""
    digests = {path.name: path.read_text().split()[-1] for path in folder.iterdir()}
    if digests.keys() != VALUES_OF.keys():
        raise ReleaseError(f"There are digests of {sorted(digests)}, and the chart has images of {sorted(VALUES_OF)}.")
    for name, digest in digests.items():
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            raise ReleaseError(f"The digest of {name} is none: {digest}.")
    values = root / CHART / "values.yaml"
    wanted = {(*path, "digest"): digests[name] for name, path in VALUES_OF.items()}
    values.write_text("".join(_pinned(values.read_text(), wanted)))


def _pinned(text: str, wanted: Mapping[tuple[str, ...], str]) -> Iterator[str]:
    """Yield the lines of block-style YAML with the scalars at some paths replaced."""
    missing = dict(wanted)
    path: list[tuple[int, str]] = []
    for line in text.splitlines(keepends=True):
        found = re.match(r"( *)([\w-]+):", line)
        if found is not None:
            indent = len(found[1])
            path = [*(part for part in path if part[0] < indent), (indent, found[2])]
            digest = missing.pop(tuple(name for _, name in path), None)
            if digest is not None:
                yield f"{found[0]} {digest}\n"
                continue
        yield line
    if missing:
        raise ReleaseError(f"The chart's values have no {' and no '.join('.'.join(path) for path in missing)}.")


def main(arguments: list[str]) -> str:
    """Do what is asked for, and return what is to be said."""
    match arguments:
        case ["check", tag]:
            return check(tag)
        case ["pin", folder]:
            pin(Path(folder))
            return f"{CHART}/values.yaml names the images by digest."
        case ["notes", version]:
            return notes(version)
    raise ReleaseError("usage: release.py check TAG | pin FOLDER | notes VERSION")


if __name__ == "__main__":
    try:
        sys.stdout.write(main(sys.argv[1:]) + "\n")
    except ReleaseError as error:
        sys.exit(f"feedline: {error}")
