"""Pictures to test with: files of many kinds, what a viewer shows of them, and what `pack` reads."""

import struct
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from feedline.pack.images import ImageSource
from feedline.pack.source import FeatureFormat

needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
ORIENTATION = 0x0112
PIXELS = np.arange(36, dtype=np.uint8).reshape(4, 3, 3) * 7
"""A colour image that looks different however it is turned."""
TURNED = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}
"""What a picture shows that is stored so, by its EXIF orientation."""


def loaded(folder, name):
    return np.load(folder / f"{name}.npy", allow_pickle=False)


def image(path, color, *, mode="RGB", size=(4, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)


def saved(path, pixels, kind, *, orientation=None, **keywords):
    """Save an array or an image; a lossy format is told to lose little."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.ascontiguousarray(pixels))
    if orientation is not None:
        keywords["exif"] = exif(orientation)
    lossless = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100}, "JPEG": {"quality": 95}}.get(kind, {})
    picture.save(path, kind, **{**lossless, **keywords})
    return path


def exif(orientation):
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return tags.tobytes()


def written(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def read(*folders, background=None, classes=None, **wishes):
    """Read folders as `pack` does, in both passes."""
    source = ImageSource(folders, FeatureFormat(**wishes), background=background, classes=classes)
    scan = source.scan(lambda *_: None)
    chunks = list(source.chunks(scan))
    rows = np.concatenate([chunk.features for chunk in chunks])
    assert (rows.shape, rows.dtype) == ((scan.rows, *scan.row_shape), scan.dtype)
    return SimpleNamespace(
        features=rows,
        labels=np.concatenate([chunk.labels for chunk in chunks]).tolist(),
        names=np.concatenate([chunk.names for chunk in chunks]).tolist(),
        classes=scan.labels.classes,
        left_out=source.left_out,
    )


def as_shown(path, mode="RGB"):
    # Not by its path: Pillow 13 maps a grey TIFF then, and one that lies on its side with the wrong width.
    with path.open("rb") as file, Image.open(file) as opened:
        return np.asarray(ImageOps.exif_transpose(opened).convert(mode))


def png(bits, color, rows, *chunks, size):
    """Make a PNG of a kind that Pillow does not write; `rows` are its bytes, `chunks` come before its pixels."""
    lines = b"".join(b"\0" + row for row in rows)
    head = struct.pack(">IIBBBBB", *size, bits, color, 0, 0, 0)
    every = ((b"IHDR", head), *chunks, (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in every)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


JUNK = {
    "notes.txt": b"no image",
    "README": b"P2 is the second prototype",
    "desktop.ini": b"[.ShellClassInfo]\r\nIconResource=icon.ico\r\n",
    "Thumbs.db": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
    "labels.json": b'{"a": 1}',
    "zeros": bytes(2000),
    "empty": b"",
    "art.h": b"/* no pixels */\n#define NAME 1\n",
    "figure.pdf": b"%PDF-1.4",
    "figure.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 3 4\n%%EndComments\n",
    "film.mpg": b"\x00\x00\x01\xb3\x01\x00\x10" + bytes(9),
    "head": b"\x28\0\0\0 begins as some bitmaps do" + bytes(40),
}

DEEP = np.array([[0, 1, 256], [257, 40000, 65535]], np.uint16)
