"""The images that the tests and `make cluster` run: the real Dockerfiles, built once for what goes into them.

An image bears the hash of its ingredients as its tag: one that is there is right, and a change in feedline's sources
makes new names, but remakes only the last small layer, here and on the node. Which program builds is not known here.
"""

import contextlib
import fcntl
import hashlib
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import psutil

from cluster import engines, oci
from cluster.engines import ROOT, SCRATCH, STORE

BACKENDS = ("keras", "tensorflow", "pytorch")
RUN_SECONDS = 600

TRAINER_DOCKERFILE, OPERATOR_DOCKERFILE = DOCKERFILES = ("trainer-image/Dockerfile", "operator/Dockerfile")

_COMMON = (".dockerignore", "LICENSE", "README.md", "pyproject.toml", "hatch_build.py", "requirements/bootstrap.txt")


class Node(Protocol):
    """What is asked of a cluster here."""

    def has_image(self, name: str) -> bool:
        """Return whether the node has the image."""

    def import_image(self, archive: Path) -> None:
        """Give the node an OCI archive."""


def build_images(backends: Sequence[str] = BACKENDS, *, operator: bool = True) -> dict[str, str]:
    """Build what is missing; return the images' names by backend, and the operator's by ``operator``.

    Raises
    ------
    NotHereError
        Nothing here builds images; the message says what to install.
    ClusterError
        A build failed.
    """
    with alone() as engine:
        names = {backend: _trainer(engine, backend) for backend in backends}
        if operator:
            names["operator"] = _operator(engine)
        return names


def ensure_images(cluster: Node, backends: Sequence[str] = BACKENDS, *, operator: bool = True) -> dict[str, str]:
    """Build what is missing here, import what the node lacks, and return the names as `build_images` does."""
    names = build_images(backends, operator=operator)
    with alone() as engine, tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        path = Path(folder, "image.tar")
        for name in names.values():
            if not cluster.has_image(name):
                for part in engine.parts(name):
                    if not cluster.has_image(part.name):
                        part.write(path)
                        cluster.import_image(path)
    return names


def image_archive(name: str) -> Path:
    """Write a built image, whole, as an archive below ``.cache/cluster/``; the caller removes it."""
    with alone() as engine:
        path = _archives() / f"{name.replace('/', '-').replace(':', '-')}.tar"
        engine.save(name, path)
        return path


def data_image(folder: Path, name: str) -> Path:
    """Write the files of a folder as an image to be mounted as a volume; the caller removes the archive."""
    path = _archives() / f"{name.replace('/', '-').replace(':', '-')}.tar"
    oci.write_archive(path, name, oci.folder_image(folder))
    return path


def config(name: str) -> dict[str, Any]:
    """Return the configuration of a built image: User, Env, Entrypoint and so on."""
    with alone() as engine:
        return engine.config(name)


def run(name: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a built image, as a pod would."""
    with alone() as engine, engine.container(name, *command) as words:
        return subprocess.run(words, capture_output=True, text=True, timeout=RUN_SECONDS, check=False)


@contextlib.contextmanager
def running(name: str, *command: str) -> Iterator[subprocess.Popen[str]]:
    """Start a command in a built image, as `run` does, and end it, if it still runs, at the end."""
    with (
        alone() as engine,
        engine.container(name, *command) as words,
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
    ):
        try:
            yield process
        finally:
            if process.poll() is None:
                for contained in psutil.Process(process.pid).children():  # runc clears up once they are gone
                    contained.kill()
                process.terminate()


def sources() -> list[Path]:
    """Return every file that may go into an image, as the Dockerfiles' contexts have it."""
    locks = (f"requirements/{name}.txt" for name in (*BACKENDS, "operator", "native"))
    folders = ("operator/feedline_operator", "trainer-image/feedline")
    return list(_files(*_COMMON, *DOCKERFILES, *locks, *folders))


def version() -> str:
    """Return the project's version, which the images bear as a label."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return str(project["version"])


def _trainer(engine: engines.Engine, backend: str) -> str:
    own = (f"requirements/{backend}.txt", "requirements/native.txt", "trainer-image/feedline")
    return _built(engine, f"trainer-{backend}", TRAINER_DOCKERFILE, own, {"BACKEND": backend})


def _operator(engine: engines.Engine) -> str:
    own = ("requirements/operator.txt", "trainer-image/feedline", "operator/feedline_operator")
    return _built(engine, "operator", OPERATOR_DOCKERFILE, own, {})


def _built(
    engine: engines.Engine, image: str, dockerfile: str, sources: Sequence[str], arguments: dict[str, str]
) -> str:
    repository = f"feedline.dev/{image}"
    digest = hashlib.sha256(engine.inputs().encode())
    for path in _files(*_COMMON, dockerfile, *sources):
        digest.update(f"\0{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    name = f"{repository}:{digest.hexdigest()[:16]}"
    if not engine.has(name):
        engine.build(dockerfile, name, {**arguments, "VERSION": version()})
        engine.remove_others(name)
    return name


def _files(*paths: str) -> Iterator[Path]:
    for path in (ROOT / path for path in paths):
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        made = (file for file in inside if file.parent.name != "__pycache__" and file.suffix != ".so")
        yield from (file for file in made if file.is_file())


def _archives() -> Path:
    folder = STORE / "archives"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def alone() -> Iterator[engines.Engine]:
    """Yield the engine, and hold its store, which no two runs may change at once; what a killed run left goes first."""
    STORE.mkdir(parents=True, exist_ok=True)
    with (STORE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(SCRATCH, ignore_errors=True)
        SCRATCH.mkdir()
        yield engines.engine()
