"""Images from scratch: one static program, and nothing else, as an OCI archive."""

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_MEDIA = "application/vnd.oci.image"


def write_image(archive: Path, name: str, program: Path) -> Path:
    """Write an image whose entry point is `program`, run as a user that is not root, and return `archive`.

    Parameters
    ----------
    archive : Path
        Where the archive goes.
    name : str
        The full name with registry and tag, such as `localhost/probe:1`.
    program : Path
        A statically linked program.
    """
    layer = _tar({program.name: program.read_bytes()}, mode=0o755)
    config = {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Entrypoint": [f"/{program.name}"], "User": "65532:65532"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    blobs: dict[str, bytes] = {}
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_MEDIA}.manifest.v1+json",
        "config": _add(blobs, f"{_MEDIA}.config.v1+json", json.dumps(config).encode()),
        "layers": [_add(blobs, f"{_MEDIA}.layer.v1.tar", layer)],
    }
    described = _add(blobs, f"{_MEDIA}.manifest.v1+json", json.dumps(manifest).encode())
    index = {
        "schemaVersion": 2,
        "manifests": [{**described, "annotations": {"org.opencontainers.image.ref.name": name}}],
    }
    files = {**blobs, "index.json": json.dumps(index).encode(), "oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}
    archive.write_bytes(_tar(files, mode=0o644))
    return archive


def _add(blobs: dict[str, bytes], media_type: str, content: bytes) -> dict:
    digest = hashlib.sha256(content).hexdigest()
    blobs[f"blobs/sha256/{digest}"] = content
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}


def _tar(files: dict[str, bytes], mode: int) -> bytes:
    """Return a tar archive that is the same for the same files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
