"""Folders of images, one folder a class: ``SOURCE/CLASS/….png``.

Decoding is Pillow's, with its limit on pixels kept and taken as an error. One decoded chunk and the names of one
class's files are in memory at a time. Files come in sorted order, so the same folder gives the same rows.
"""

import os
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from feedline.errors import DataError, FeedlineError, UsageError
from feedline.pack.labels import LabelScan, encode
from feedline.pack.source import (
    MAX_NAME,
    Array,
    Chunk,
    FeatureFormat,
    Progress,
    Scan,
    changed,
    missing,
    optional_module,
)

SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"})
_MODES: Final = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
"""What Pillow turns into 8 bits a channel without loss of range."""
_GREY: Final = frozenset({"1", "L"})
_GREY_AXES: Final = 2
_CHUNK_BYTES: Final = 1 << 23


@dataclass(frozen=True)
class _Image:
    path: Path
    name: str
    label: str


class ImageSource:
    """Folders of images by class, read as one; the classes are those of all folders together.

    Parameters
    ----------
    paths
        The folders.
    features
        How pixels become features; uint8 by default, float32 if they are scaled. Its row shape is the size to bring
        images to: ``(height, width)`` for grey, ``(height, width, 3)`` for colour.

    Raises
    ------
    EnvironmentInvalidError
        Pillow is not installed.
    InputMissingError
        A folder or file may not be read.
    DataError
        No classes, no images, an image that is broken, too large, or of another size than the first one.
    UsageError
        The shape is not that of an image.
    """

    def __init__(self, paths: Sequence[Path], features: FeatureFormat) -> None:
        shape = features.row_shape
        if shape is not None and len(shape) != _GREY_AXES and shape[2:] != (3,):
            raise UsageError(
                f"--shape {','.join(map(str, shape))} is not that of an image: "
                "give HEIGHT,WIDTH for grey or HEIGHT,WIDTH,3 for colour"
            )
        self._image = optional_module("PIL.Image", "Pillow", "images")
        self._paths = paths
        self._features = features

    def scan(self, progress: Progress) -> Scan:
        """Find the images, and their size and colour unless a shape was given. Progress is in class folders."""
        labels = LabelScan()
        shape = self._features.row_shape
        rows = longest = 0
        size: tuple[int, int] | None = None
        grey = True
        folders = [(path, folder) for path in self._paths for folder in _classes(path)]
        for done, (path, folder) in enumerate(folders, 1):
            try:
                labels.class_name(folder)
            except ValueError as error:
                raise DataError(f"{path / folder}: {error}") from None
            for image in _images(path, folder, several=len(self._paths) > 1):
                rows += 1
                longest = max(longest, len(image.name))
                if shape is None:
                    with self._opened(image.path) as opened:
                        if size not in (None, opened.size):
                            raise DataError(
                                f"{image.path} is {opened.width} wide and {opened.height} high where those before it "
                                f"are {size[0]} and {size[1]}: bring them to one size with --shape, such as 64,64,3"
                            )
                        size = opened.size
                        grey = grey and opened.mode in _GREY
            progress("Reading", done, len(folders))
        if longest > MAX_NAME:
            raise DataError(f"{self._paths[0]} has a path of {longest} characters, at most {MAX_NAME} are stored")
        if shape is None and size is not None:
            shape = (size[1], size[0]) if grey else (size[1], size[0], 3)
        dtype = self._features.dtype or ("uint8" if self._features.scale is None else "float32")
        return Scan(rows, shape or (), np.dtype(dtype), labels.result(), longest, "the folders' names")

    def chunks(self, scan: Scan) -> Iterator[Chunk]:
        """Yield the images, decoded and brought to one size, some 8 MB at a time."""
        size = max(1, _CHUNK_BYTES // int(np.prod(scan.row_shape, dtype=np.int64)))
        block: list[_Image] = []
        for path in self._paths:
            for folder in _classes(path):
                for image in _images(path, folder, several=len(self._paths) > 1):
                    block.append(image)
                    if len(block) == size:
                        yield self._chunk(block, scan)
                        block = []
        if block:
            yield self._chunk(block, scan)

    def _chunk(self, block: Sequence[_Image], scan: Scan) -> Chunk:
        pixels = np.stack([self._pixels(image.path, scan.row_shape) for image in block]).reshape(len(block), -1)

        def where(row: int, column: int) -> str:
            return f"{block[row].path}, value {column}"

        features = self._features.convert(pixels, scan.dtype, where)
        if scan.labels is None:
            raise changed(block[0].path)
        try:
            labels = encode(scan.labels, [image.label for image in block])
        except ValueError:
            raise changed(block[0].path) from None
        names = np.array([image.name for image in block], dtype=f"U{scan.name_width}")
        return Chunk(features.reshape(len(block), *scan.row_shape), labels, names)

    def _pixels(self, path: Path, shape: tuple[int, ...]) -> Array:
        height, width = shape[:2]
        with self._opened(path) as image:
            converted = image.convert("L" if len(shape) == _GREY_AXES else "RGB")
            if converted.size != (width, height):
                if self._features.row_shape is None:
                    raise changed(path)
                converted = converted.resize((width, height), self._image.Resampling.BILINEAR)
            return np.asarray(converted)

    @contextmanager
    def _opened(self, path: Path) -> Iterator[Any]:
        """Open an image; whatever goes wrong with it in the block is told in one sentence."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", self._image.DecompressionBombWarning)
                with self._image.open(path) as image:
                    if image.mode not in _MODES:
                        raise DataError(f"{path} has pixels of mode {image.mode}: convert it to 8 bits a channel")
                    yield image
        except FeedlineError:
            raise
        except (self._image.DecompressionBombWarning, self._image.DecompressionBombError) as error:
            raise DataError(
                f"{path} has more than the {self._image.MAX_IMAGE_PIXELS:,} pixels that are safe to decode: shrink it"
            ) from error
        except (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error) as error:
            # Pillow's own complaints about a file's content are of all these classes; only the system sets errno.
            if isinstance(error, OSError) and error.errno is not None:
                raise missing(path, error) from error
            raise DataError(
                f"{path} cannot be decoded as an image: replace it, or take it out of the folder"
            ) from error


def _classes(folder: Path) -> list[str]:
    """Return the names of a folder's class folders, sorted."""
    with _listing(folder) as entries:
        visible = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
        loose = next((entry for entry in visible if _is_image(entry.name) and entry.is_file()), None)
        classes = [entry.name for entry in visible if entry.is_dir()]
    if not classes:
        raise DataError(f"{folder} has no folders in it: put the images into one folder a class, such as cat/ and dog/")
    if loose is not None:
        raise DataError(f"{loose.path} lies beside the class folders: move it into one of them, or away")
    return classes


def _images(source: Path, label: str, *, several: bool) -> Iterator[_Image]:
    """Yield a class's images, those in folders below it too, sorted by path."""
    found = False
    for path in _walk(source / label):
        found = True
        yield _Image(path, path.relative_to(source.parent if several else source).as_posix(), label)
    if not found:
        raise DataError(f"{source / label} holds no images ({', '.join(sorted(SUFFIXES))}): fill it or take it away")


def _walk(folder: Path) -> Iterator[Path]:
    with _listing(folder) as entries:
        visible = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in visible:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))
        elif _is_image(entry.name):
            yield Path(entry.path)


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


@contextmanager
def _listing(folder: Path) -> Iterator[Iterator[os.DirEntry[str]]]:
    try:
        with os.scandir(folder) as entries:
            yield entries
    except FeedlineError:
        raise
    except OSError as error:
        raise missing(folder, error) from error
