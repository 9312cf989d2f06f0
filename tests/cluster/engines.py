"""What builds images here: docker if an engine answers, else buildah with all it stores below `.cache/cluster/`.

An engine builds a Dockerfile, says how to run a command in an image, and hands an image over as an OCI archive. It
knows neither which images there are nor what goes into them.
"""

import base64
import contextlib
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cluster import build, bundle, oci, packages
from cluster.build import CACHE
from cluster.errors import ClusterError, NotHereError

ROOT = Path(__file__).parents[2]
STORE = CACHE / "images"
SCRATCH = STORE / "tmp"
BUILD_SECONDS = 3600

_SUITE = "bookworm"
_BASE_RECIPE = ("debootstrap", "--variant=minbase", "--include=python3,ca-certificates", _SUITE)
# debootstrap copies the first two from this machine; nobody reads the others in a pod.
_NOT_IN_BASE = (
    *("etc/resolv.conf", "etc/hostname", "dev/*", "var/log/*", "var/cache/apt/*", "var/lib/apt/lists/*"),
    *("usr/share/doc/*", "usr/share/man/*", "usr/share/locale/*"),
)


@dataclass(frozen=True)
class Part:
    """Something for a node to import: what the node calls it, and what writes its archive to a path."""

    name: str
    write: Callable[[Path], None]


class Engine(Protocol):
    """Builds images, and knows them by name."""

    def inputs(self) -> str:
        """Return what every image here is made of, besides the files of the repository."""

    def build(self, dockerfile: str, name: str, arguments: Mapping[str, str]) -> None:
        """Build an image from the repository's root, of the layers that are there as far as they go."""

    def has(self, name: str) -> bool:
        """Return whether the image was built."""

    def remove_others(self, name: str) -> None:
        """Remove the images of the same repository under other tags, and what only they were made of."""

    def config(self, name: str) -> dict[str, Any]:
        """Return the image's configuration: User, Env, Entrypoint and so on."""

    def save(self, name: str, path: Path) -> None:
        """Write the whole image as an archive."""

    def parts(self, name: str) -> list[Part]:
        """Return what a node needs to have the image, in order: what it has already need not be written."""

    def container(self, name: str, *command: str) -> AbstractContextManager[Sequence[str]]:
        """Yield what runs a command in the image as a pod would.

        It is the first process, with the image's user and environment, no capability, no network, and a root that
        cannot be written but for /tmp. Signals are handed on to it, and its exit code is handed back.
        """


def engine() -> Engine:
    """Return docker where it answers, else buildah.

    Raises
    ------
    NotHereError
        There is neither, or buildah is here without root.
    """
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run(["docker", "info"], capture_output=True, check=True, timeout=20)
        return Docker()
    packages.require(packages.IMAGES, "Building images, where no docker engine answers,")
    if os.geteuid() != 0:
        raise NotHereError(
            "Images cannot be built: no docker engine answers here, and buildah needs root: become root."
        )
    return Buildah()


class Docker:
    """An engine that somebody runs here; the base and the installer come from their registries."""

    def inputs(self) -> str:
        return "docker"

    def build(self, dockerfile: str, name: str, arguments: Mapping[str, str]) -> None:
        with _uv_settings() as settings:
            _build(
                name,
                *("docker", "build", "--file", dockerfile, "--tag", name, *_arguments(arguments)),
                *("--secret", f"id=uv.toml,src={settings}", str(ROOT)),
            )

    def has(self, name: str) -> bool:
        return _succeeds("docker", "image", "inspect", name)

    def remove_others(self, name: str) -> None:
        listed = _output("docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", name.partition(":")[0])
        for other in set(listed.split()) - {name}:
            _output("docker", "image", "rm", other)

    def config(self, name: str) -> dict[str, Any]:
        config: dict[str, Any] = json.loads(_output("docker", "image", "inspect", name))[0]["Config"]
        return config

    def save(self, name: str, path: Path) -> None:
        _output("docker", "save", "--output", str(path), name)

    def parts(self, name: str) -> list[Part]:
        return [Part(name, lambda path: self.save(name, path))]

    @contextlib.contextmanager
    def container(self, name: str, *command: str) -> Iterator[Sequence[str]]:
        limits = ("--read-only", "--tmpfs", "/tmp", "--network", "none", "--cap-drop", "ALL")
        limits += ("--security-opt", "no-new-privileges")
        yield ("docker", "run", "--rm", *limits, "--entrypoint", command[0], name, *command[1:])


class Buildah:
    """Builds as root without a daemon, on a base of its own making: no registry is asked for anything."""

    def __init__(self) -> None:
        recipe = hashlib.sha256(repr((_BASE_RECIPE, _NOT_IN_BASE)).encode()).hexdigest()
        locked = re.search(r"^uv==(\S+)", (ROOT / "requirements/bootstrap.txt").read_text(), re.MULTILINE)
        assert locked is not None
        self.base = f"feedline.dev/base:{recipe[:16]}"
        self._uv = f"feedline.dev/uv:{locked[1]}"
        self._storage = STORE / "storage"
        self._command = ("buildah", "--storage-driver", "overlay", "--root", str(self._storage))
        self._command += ("--runroot", str(STORE / "run"))

    def inputs(self) -> str:
        return f"{self.base} {self._uv}"

    def build(
        self,
        dockerfile: str,
        name: str,
        arguments: Mapping[str, str],
        *,
        context: Path = ROOT,
        anew: bool = False,
    ) -> None:
        """Build an image; `anew` makes every layer again, whichever are there."""
        # What a build that was killed has left: gigabytes.
        _output(*self._command, "rm", "--all")
        if not self.has(self.base):
            self._make_base()
        if not self.has(self._uv):
            self._make_uv()
        cache = _output(_uv(), "cache", "dir").strip()
        Path(cache).mkdir(parents=True, exist_ok=True)
        with _uv_settings() as settings:
            self._build(
                name,
                *("--file", str(context / dockerfile), "--layers", "--force-rm", *(["--no-cache"] if anew else [])),
                *_arguments({**arguments, "BASE": self.base, "UV": self._uv}),
                *("--secret", f"id=uv.toml,src={settings}"),
                # The environment that this runs in was made of the same packages: they are there already.
                *("--volume", f"{cache}:/var/cache/uv", "--volume", "/etc/ssl/certs:/etc/ssl/certs:ro"),
                str(context),
            )

    def has(self, name: str) -> bool:
        return _succeeds(*self._command, "inspect", "--type", "image", name)

    def remove_others(self, name: str) -> None:
        listed = _output(*self._command, "images", "--format", "{{.Name}}:{{.Tag}}").split()
        for other in set(listed) - {name}:
            if other.startswith(f"{name.partition(':')[0]}:"):
                self.remove(other)

    def remove(self, name: str) -> None:
        """Remove an image, and what only it was made of."""
        _output(*self._command, "rmi", name)

    def config(self, name: str) -> dict[str, Any]:
        config: dict[str, Any] = json.loads(self.image(name).config)["config"]
        return config

    def save(self, name: str, path: Path) -> None:
        oci.write_archive(path, name, self.image(name))

    def parts(self, name: str) -> list[Part]:
        """Return the layers below the topmost as a part of their own: they are gigabytes, and seldom change."""
        image = self.image(name)
        below = oci.foundation(image)
        below_name = oci.foundation_name(image)
        digests = {layer.digest for layer in below.layers}
        return [
            Part(below_name, lambda path: oci.write_archive(path, below_name, below)),
            Part(name, lambda path: oci.write_archive(path, name, image, leave_out=digests)),
        ]

    @contextlib.contextmanager
    def container(self, name: str, *command: str) -> Iterator[Sequence[str]]:
        runtime = build.program("runc", build.RUNC)
        container = _output(*self._command, "from", "--pull-never", name).strip()
        try:
            root = _output(*self._command, "mount", container).strip()
            with bundle.make(Path(root), self.config(name), command) as folder:
                yield bundle.command(runtime, folder)
        finally:
            _output(*self._command, "rm", container)

    def _build(self, name: str, *arguments: str) -> None:
        # Equal files have equal times, and so equal layers.
        reproducible = ("--isolation", "chroot", "--pull-never", "--timestamp", "0")
        _build(name, *self._command, "build", *reproducible, "--tag", name, *arguments)

    def _make_base(self) -> None:
        with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
            system, context = Path(folder, "system"), Path(folder, "context")
            context.mkdir()
            _output(*_BASE_RECIPE, str(system))
            excluded = [f"--exclude=./{pattern}" for pattern in _NOT_IN_BASE]
            _output("tar", "-C", str(system), *excluded, "-cf", str(context / "base.tar"), ".")
            (context / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
            self._build(self.base, str(context))

    def _make_uv(self) -> None:
        with tempfile.TemporaryDirectory(dir=SCRATCH) as context:
            shutil.copy(_uv(), context)
            Path(context, "Dockerfile").write_text("FROM scratch\nCOPY uv /uv\n")
            self._build(self._uv, context)

    def image(self, name: str) -> oci.Image:
        """Return an image, layers and all, from the places where containers/storage keeps it."""
        config = json.loads(_output(*self._command, "inspect", "--type", "image", name))["Config"].encode()
        stored = json.loads((self._storage / "overlay-layers/layers.json").read_text())
        by_digest = {layer["diff-digest"]: layer for layer in stored if layer.get("diff-digest")}
        layers = [by_digest[digest] for digest in json.loads(config)["rootfs"]["diff_ids"]]
        return oci.Image(
            config,
            tuple(
                oci.Layer(layer["diff-digest"], layer["diff-size"], _Stored(self._storage, layer["id"]))
                for layer in layers
            ),
        )


class _Stored:
    """The bytes of a layer that lies unpacked in containers/storage.

    Beside the files lies what else was in the layer's tar, headers and padding, in the format of
    https://github.com/vbatts/tar-split: one JSON object a line, of type 1 for a file and of type 2 for bytes.
    """

    def __init__(self, storage: Path, layer: str) -> None:
        self._files = storage / "overlay" / layer / "diff"
        self._rest = storage / "overlay-layers" / f"{layer}.tar-split.gz"

    def __iter__(self) -> Iterator[bytes]:
        with gzip.open(self._rest) as lines:
            for line in lines:
                entry = json.loads(line)
                if entry["type"] == 2:
                    if entry["payload"]:
                        yield base64.b64decode(entry["payload"])
                elif entry.get("size"):
                    yield from oci.read_chunks(self._files / entry["name"])


def _arguments(values: Mapping[str, str]) -> list[str]:
    return [f"--build-arg={name}={value}" for name, value in values.items()]


def _uv() -> str:
    return str(Path(sys.executable).with_name("uv"))


@contextlib.contextmanager
def _uv_settings() -> Iterator[Path]:
    """Make a file that tells uv of the index and the certificates that uv or pip use on this machine."""
    own = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config", "uv/uv.toml")
    index = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL")
    if index is None and not own.is_file():
        listed = _output(sys.executable, "-m", "pip", "config", "list")
        found = re.search(r"^[^=]*\.index-url='(.*)'$", listed, re.MULTILINE)
        index = found[1] if found else None
    text = own.read_text() if index is None and own.is_file() else "system-certs = true\n"
    if index is not None:
        text += f"[[index]]\nurl = {json.dumps(index)}\ndefault = true\n"
    with tempfile.NamedTemporaryFile("w", dir=SCRATCH, suffix=".toml") as file:
        file.write(text)
        file.flush()
        yield Path(file.name)


def _build(name: str, *command: str) -> None:
    """Run what makes an image; its output goes to a log, whose end is told if it fails."""
    log = STORE / f"{re.sub('[^a-z0-9.-]+', '-', name.partition(':')[0])}.log"
    sys.stderr.write(f"Building {name} (log: {log})\n")
    with log.open("w") as output:
        done = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, env=_environment(), timeout=BUILD_SECONDS, check=False
        )
    if done.returncode:
        last = "\n".join(log.read_text(errors="replace").strip().splitlines()[-5:])
        raise ClusterError(f"The image {name} could not be built ({log}): {last}")


def _output(*command: str) -> str:
    done = _run(*command)
    if done.returncode:
        raise ClusterError(f"{' '.join(command[:8])} … failed with {done.returncode}: {done.stderr.strip()[-1000:]}")
    return done.stdout


def _succeeds(*command: str) -> bool:
    return _run(*command).returncode == 0


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, env=_environment(), timeout=BUILD_SECONDS, check=False
    )


def _environment() -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(SCRATCH), "DOCKER_BUILDKIT": "1"}
