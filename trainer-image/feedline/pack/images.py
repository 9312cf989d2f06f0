"""Folders of images, one folder a class: ``SOURCE/CLASS/…``.

Every visible file below a source is packed, or counted among what was left out. One decoded chunk and the names in
one folder are in memory at a time. Files come in sorted order, so the same folder gives the same rows. What a file
shows is the business of `feedline.pack.pixels`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from feedline.errors import DataError, UsageError
from feedline.pack.folders import Kind, Tally, beside, class_folders, shown, walk
from feedline.pack.labels import LabelScan
from feedline.pack.narrowing import narrowed
from feedline.pack.pixels import Look, Viewer
from feedline.pack.source import (
    MAX_NAME,
    Array,
    Chunk,
    Column,
    FeatureFormat,
    Labels,
    Progress,
    Scan,
    changed,
)

_GREY_AXES: Final = 2
_CHUNK_BYTES: Final = 1 << 23


@dataclass
class _Found:
    """What a scan has found so far; `shape` is that of `FeatureFormat`."""

    shape: tuple[int, ...] | None
    rows: int = 0
    longest: int = 0
    grey: bool = True
    first: Look | None = None
    left: Tally = field(default_factory=Tally)
    several: Tally = field(default_factory=Tally)
    cut: Tally = field(default_factory=Tally)

    def take(self, path: Path, name: str, look: Look) -> None:
        """Take an image, which has to go with those before it."""
        try:
            name.encode()
        except UnicodeEncodeError:
            raise DataError(f"{shown(path)} has a name that is not UTF-8, which cannot be stored: rename it") from None
        first = self.first = self.first or look
        if look.depth != first.depth:
            raise DataError(
                f"{shown(path)} has {look.depth} bits a channel where those before it have {first.depth}: "
                "convert it, or pack them apart"
            )
        if self.shape is None and (look.width, look.height) != (first.width, first.height):
            raise DataError(
                f"{shown(path)} is {look.width} wide and {look.height} high where those before it "
                f"are {first.width} and {first.height}: bring them to one size with --shape, such as 64,64,3"
            )
        self.rows += 1
        self.longest = max(self.longest, len(name))
        self.grey = self.grey and look.grey
        if look.several:
            self.several.add(shown(name))
        if look.cut:
            self.cut.add(shown(name))

    def left_out(self) -> str:
        """Return what the rows do not hold, in sentences."""
        tallies = (
            (self.left, "file is no image and was left out", "files are no images and were left out"),
            (
                self.several,
                "file holds several pictures",
                "files hold several pictures",
                "of which the first was taken",
            ),
            (self.cut, "file has 16 bits a channel", "files have 16 bits a channel", "of which the upper 8 were taken"),
        )
        said = []
        for tally, one, many, *which in tallies:
            if tally.count:
                what = ", ".join((f"1 {one}" if tally.count == 1 else f"{tally.count:,} {many}", *which))
                said.append(f"{what}: {tally}")
        return "; ".join(said)


@dataclass(frozen=True)
class _Row:
    path: Path
    name: str
    label: str
    pixels: Array


class ImageSource:
    """Folders of images by class, read as one; the classes are those of all folders together.

    Images are read as a viewer shows them: a file is an image if Pillow can open it, whatever its name; it is turned
    as its EXIF data say; of several pictures in it the first is taken. Colour profiles (ICC) are not applied. Grey of
    16 bits stays so; of colour in 16 bits a channel, Pillow reads the upper 8.

    Parameters
    ----------
    paths
        The folders.
    features
        How pixels become features. By default uint8, or uint16 if all images are grey of 16 bits; float32 if they
        are scaled. Its row shape is the size to bring images to: ``(height, width)`` for grey,
        ``(height, width, 3)`` for colour.
    background
        The colour behind transparent pixels, as `PIL.ImageColor.getrgb` takes it, such as ``"white"``.
    classes
        The classes of another set, in the order of their numbers, to number these by; by default those found, sorted.

    Attributes
    ----------
    left_out
        What is not in the rows, once `scan` is through: at most three sentences, with semicolons between them. It
        names files that are no images, and links to folders, which are followed for class folders only; files with
        several pictures; colour of 16 bits. Empty if there is nothing to say.

    Raises
    ------
    EnvironmentInvalidError
        Pillow is not installed.
    InputMissingError
        A folder or file may not be read.
    StorageError
        Reading a file failed midway.
    DataError
        No classes, or one that `classes` does not have; no images; an image that is broken, too large, of another
        size or depth than the first one, or has transparent pixels and no background.
    UsageError
        The shape is not that of an image, the background no opaque colour; the folders are the parts of a data set.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        features: FeatureFormat,
        *,
        background: str | None = None,
        classes: tuple[str, ...] | None = None,
    ) -> None:
        shape = features.row_shape
        if shape is not None and len(shape) != _GREY_AXES and shape[2:] != (3,):
            raise UsageError(
                f"--shape {','.join(map(str, shape))} is not that of an image: "
                "give HEIGHT,WIDTH for grey or HEIGHT,WIDTH,3 for colour"
            )
        self._viewer = Viewer(background)
        self._paths = paths
        self._features = features
        self._classes = classes
        self.left_out = ""

    def scan(self, progress: Progress) -> Scan:
        """Find the images and read their headers. Progress is in class folders."""
        found = _Found(self._features.row_shape)
        folders = [(path, label) for path in self._paths for label in class_folders(path)]
        labels = self._labels(folders)
        for path in self._paths:
            self._look_beside(path, found)
        for done, (path, label) in enumerate(folders, 1):
            self._look_into(path, label, found)
            progress("Reading", done, len(folders))
        if found.longest > MAX_NAME:
            raise DataError(f"{self._paths[0]} has a path of {found.longest} characters, at most {MAX_NAME} are stored")
        self.left_out = found.left_out()
        shape = found.shape
        deep = False
        if found.first is not None:
            size = (found.first.height, found.first.width)
            shape = shape or (size if found.grey else (*size, 3))
            deep = found.first.depth == 16
        default = "float32" if self._features.scale is not None else "uint16" if deep else "uint8"
        dtype = np.dtype(self._features.dtype or default)
        return Scan(found.rows, shape or (), dtype, labels, found.longest, "the folders' names")

    def chunks(self, scan: Scan) -> Iterator[Chunk]:
        """Yield the images, decoded and brought to one size, some 8 MB at a time."""
        size = max(1, _CHUNK_BYTES // int(np.prod(scan.row_shape, dtype=np.int64)))
        block: list[_Row] = []
        for row in self._rows(scan.row_shape):
            block.append(row)
            if len(block) == size:
                yield self._chunk(block, scan)
                block = []
        if block:
            yield self._chunk(block, scan)

    def columns(self) -> tuple[Column, ...]:
        """Return nothing: pictures have no columns."""
        return ()

    def said(self) -> tuple[str, ...]:
        """Return what was left out."""
        return (f"{self.left_out}.",) if self.left_out else ()

    def _labels(self, folders: Sequence[tuple[Path, str]]) -> Labels:
        scan = LabelScan(self._classes)
        for path, label in folders:
            try:
                scan.class_name(label)
            except ValueError as error:
                raise DataError(f"{shown(path / label)}: {error}") from None
        return scan.result()

    def _look_beside(self, source: Path, found: _Found) -> None:
        """Look at what lies beside the class folders, which may be anything but an image."""
        for path, kind in beside(source):
            if kind is Kind.FILE and self._viewer.look(path) is not None:
                raise DataError(f"{shown(path)} lies beside the class folders: move it into one of them, or away")
            found.left.add(shown(self._name(source, path)) + kind.value)

    def _look_into(self, source: Path, label: str, found: _Found) -> None:
        before = found.rows
        left = Tally()
        for path, kind in walk(source / label):
            name = self._name(source, path)
            look = self._viewer.look(path) if kind is Kind.FILE else None
            if look is None:
                left.add(shown(name) + kind.value)
            else:
                found.take(path, name, look)
        if found.rows == before:
            only = f", only {left}" if left.count else ""
            raise DataError(f"{shown(source / label)} holds no images{only}: fill it or take it away")
        found.left.merge(left)

    def _rows(self, shape: tuple[int, ...]) -> Iterator[_Row]:
        for source in self._paths:
            for label in class_folders(source):
                for path, kind in walk(source / label):
                    if kind is not Kind.FILE:
                        continue
                    pixels = self._viewer.pixels(path, shape, resize=self._features.row_shape is not None)
                    if pixels is not None:
                        yield _Row(path, self._name(source, path), label, pixels)

    def _name(self, source: Path, path: Path) -> str:
        return path.relative_to(source.parent if len(self._paths) > 1 else source).as_posix()

    def _chunk(self, block: Sequence[_Row], scan: Scan) -> Chunk:
        pixels = np.stack([row.pixels for row in block]).reshape(len(block), -1)

        def where(row: int, column: int) -> str:
            return f"{shown(block[row].path)}, value {column}"

        features = narrowed(pixels, scan.dtype, where, self._features.scale)
        numbers = scan.labels.numbers if scan.labels is not None else {}
        if not all(row.label in numbers for row in block):
            raise changed(block[0].path)
        labels = np.array([numbers[row.label] for row in block], dtype=np.int32)
        names = np.array([row.name for row in block], dtype=f"U{scan.name_width}")
        return Chunk(features.reshape(len(block), *scan.row_shape), labels, names)
