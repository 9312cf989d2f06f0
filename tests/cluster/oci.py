"""OCI archives, written straight from layers: what `ctr images import` reads, without a registry.

Layers stay uncompressed, so that a layer's digest is that of its content, whoever packs it: a node that has it is
never sent it again, and no core is spent on compressing gigabytes that stay on this machine. Knows the image format
only, neither builders nor clusters.
"""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Layer:
    """An uncompressed layer: its digest (``sha256:…``), its size, and where its bytes come from."""

    digest: str
    size_bytes: int
    chunks: Iterable[bytes]


@dataclass(frozen=True)
class Image:
    """The layers, the lowest first, and the configuration as JSON, which names their digests in the same order."""

    config: bytes
    layers: tuple[Layer, ...]


def foundation(image: Image) -> Image:
    """Return the image of all layers but the topmost, which any image upon the same layers shares.

    Its configuration holds nothing but the layers, so that equal layers make an equal image.
    """
    layers = image.layers[:-1]
    system = json.loads(image.config)
    config = {"architecture": system["architecture"], "os": system["os"], "rootfs": _root_fs(layers)}
    return Image(_json(config), layers)


def foundation_name(image: Image) -> str:
    """Return the name under which a node keeps the image's foundation: the same for the same layers."""
    return f"feedline.dev/layers:{hashlib.sha256(foundation(image).config).hexdigest()[:16]}"


def folder_image(folder: Path) -> Image:
    """Return an image from scratch with the files of `folder`, readable by everyone; equal files, equal image."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for path in sorted(folder.rglob("*")):
            tar.add(path, path.relative_to(folder).as_posix(), recursive=False, filter=_anonymous)
    layer = Layer(_digest(content.getvalue()), content.tell(), [content.getvalue()])
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    config = {"architecture": architecture, "os": "linux", "config": {}, "rootfs": _root_fs((layer,))}
    return Image(_json(config), (layer,))


def write_archive(path: Path, name: str, image: Image, leave_out: Collection[str] = ()) -> None:
    """Write an image as an OCI archive, all or nothing.

    Parameters
    ----------
    path
        The file, a tar.
    name
        What the image is called after its import, ``REPOSITORY:TAG``.
    image
        What to write.
    leave_out
        Digests of layers that the reader has already.

    Raises
    ------
    ValueError
        A layer's bytes are not those of its digest.
    """
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor(_CONFIG, _digest(image.config), len(image.config)),
            "layers": [_descriptor(_LAYER, layer.digest, layer.size_bytes) for layer in image.layers],
        }
    )
    names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
    index = {
        "schemaVersion": 2,
        "manifests": [{**_descriptor(_MANIFEST, _digest(manifest), len(manifest)), "annotations": names}],
    }
    partial = path.with_name(f".{path.name}.partial")
    try:
        with tarfile.open(partial, "w", copybufsize=_CHUNK_BYTES) as tar:
            _add(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
            _add(tar, "index.json", _json(index))
            _add(tar, _blob_path(_digest(manifest)), manifest)
            _add(tar, _blob_path(_digest(image.config)), image.config)
            for layer in {layer.digest: layer for layer in image.layers if layer.digest not in leave_out}.values():
                source = _Checked(layer)
                tar.addfile(_entry(_blob_path(layer.digest), layer.size_bytes), source)  # type: ignore[arg-type]
                source.verify()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def blobs(archive: Path) -> set[str]:
    """Return the digests of what lies in an archive."""
    with tarfile.open(archive) as tar:
        paths = (Path(name) for name in tar.getnames())
        return {f"{path.parent.name}:{path.name}" for path in paths if path.parts[0] == "blobs"}


class _Checked:
    """A layer as a file to read from, hashed on the way."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._chunks = iter(layer.chunks)
        self._rest = bytearray()
        self._hash = hashlib.sha256()

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and (chunk := next(self._chunks, b"")):
            self._rest += chunk
        taken = bytes(self._rest[:size])
        del self._rest[:size]
        self._hash.update(taken)
        return taken

    def verify(self) -> None:
        if f"sha256:{self._hash.hexdigest()}" != self._layer.digest or self._rest or next(self._chunks, b""):
            raise ValueError(f"the stored layer {self._layer.digest} is damaged: remove .cache/cluster/images")


def read_chunks(path: Path) -> Iterator[bytes]:
    """Yield a file's bytes in chunks."""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _root_fs(layers: Iterable[Layer]) -> Mapping[str, Any]:
    return {"type": "layers", "diff_ids": [layer.digest for layer in layers]}


def _descriptor(media_type: str, digest: str, size_bytes: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size_bytes}


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755 if entry.isdir() else 0o644
    return entry


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    tar.addfile(_entry(name, len(content)), io.BytesIO(content))


def _entry(name: str, size_bytes: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = size_bytes
    return entry


def _blob_path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
