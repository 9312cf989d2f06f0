"""One file becomes the pixels that a viewer shows: turned as it says, in grey or RGB, over what lies behind it.

Files are not trusted: whatever they hold, they are an image, no image, or a `FeedlineError` in one sentence. This
module knows one file at a time, and neither folders nor labels nor features.
"""

import errno
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal

import numpy as np

from feedline.errors import DataError, FeedlineError, UsageError
from feedline.pack.folders import shown
from feedline.pack.source import Array, changed, opened, optional_module

_GREY: Final = frozenset({"1", "L", "LA"})
_SHALLOW: Final = _GREY | {"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB"}
"""Modes of 8 bits a channel, as far as Pillow has them."""
_DEEP: Final = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
"""Modes of grey of 16 bits; Pillow also has it in 32 (``I``), whose values are looked at."""
_GREY_AXES: Final = 2
_ORIENTATION: Final = 0x0112
_FLIPS: Final = ("", "", "FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM")
_TURNS: Final = ("TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
_UPRIGHT: Final = dict(enumerate(_FLIPS + _TURNS))
"""What shows a picture upright, by its EXIF orientation: the table of `PIL.ImageOps.exif_transpose`."""
_NO_PICTURES: Final = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "PDF", "WMF"})
"""Formats of Pillow's that are no raster pictures, or run a program: EPS starts Ghostscript, and IPTC opens what it
holds as whatever it is, EPS too."""
_WEAK: Final = frozenset({"DIB"})
"""Known by one of seven small numbers in four bytes, which other files start with as well."""
_PNG_TURNS: Final = (b"eXIf", b"zTXtRaw profile type exif", b"tEXtRaw profile type exif", b"iTXtXML:com.adobe.xmp")
"""The chunks of a PNG that may hold its orientation, by type and keyword."""
_OF_THE_CONTENT: Final = frozenset({None, errno.EINVAL, errno.EOVERFLOW})
"""Pillow's own complaints have no errno, and a damaged file sends it to offsets that no file has."""


@dataclass(frozen=True)
class Look:
    """What an image's header says.

    Attributes
    ----------
    width, height
        As shown, so after turning.
    grey
        Whether it is shown without colour.
    depth
        Bits of a value, 8 or 16.
    several
        Whether the file holds more pictures than the one that is read: an animation, pages.
    cut
        Whether it has 16 bits a channel, of which Pillow reads the upper 8.
    """

    width: int
    height: int
    grey: bool
    depth: Literal[8, 16]
    several: bool
    cut: bool


class Viewer:
    """Reads images as a viewer shows them, except that colour profiles (ICC) are not applied.

    A file is an image if Pillow can open it, whatever it is called; its first picture is read. Formats without a
    signature, such as TGA, are looked for under their own suffix only. Fractions (mode ``F``) are refused.

    Parameters
    ----------
    background
        The colour behind transparent pixels, as `PIL.ImageColor.getrgb` takes it, or None to refuse those.

    Raises
    ------
    EnvironmentInvalidError
        Pillow is not installed.
    UsageError
        The background is no opaque colour.
    """

    def __init__(self, background: str | None = None) -> None:
        self._image = optional_module("PIL.Image", "Pillow", "images")
        self._image.init()
        self._background = None if background is None else _color(background)
        formats = [name for name in self._image.ID if name not in _NO_PICTURES]
        self._unsigned = {name for name in formats if self._image.OPEN[name][1] is None or name in _WEAK}
        self._signed = tuple(name for name in formats if name not in self._unsigned)
        suffixes = self._image.registered_extensions()
        # MPO is what the reader of JPEG makes of some, and has none of its own.
        self._suffixes = {suffix: name for suffix, name in suffixes.items() if name in {*formats, "MPO"}}

    def look(self, path: Path) -> Look | None:
        """Return what an image's header says, without decoding it, or None if the file is no image.

        Raises
        ------
        DataError
            It has an image's suffix and is none, too many pixels, or pixels of a kind that is not read.
        InputMissingError, StorageError
            It cannot be opened, or not be read to its end.
        """
        with opened(path) as file, self._decoding(path):
            image = self._open(path, file)
            if image is None:
                return None
            deep = image.mode in _DEEP
            clear = image.has_transparency_data and self._background is not None
            grey = deep or (image.mode in _GREY and not (clear and len(set(self._background or ())) > 1))
            # A PSD's other pictures are its layers, all of which are in the first.
            several = image.format != "PSD" and bool(getattr(image, "is_animated", False))
            cut = not deep and _cut(image)
            width, height = self._size(image, file)
            return Look(width, height, grey, 16 if deep else 8, several, cut)

    def pixels(self, path: Path, shape: tuple[int, ...], *, resize: bool) -> Array | None:
        """Decode an image.

        Parameters
        ----------
        path
            The file.
        shape
            ``(height, width)`` for grey, ``(height, width, 3)`` for colour.
        resize
            Whether an image of another size is brought to this one; if not, it changed since it was looked at.

        Returns
        -------
        numpy.ndarray or None
            Of `shape`: uint8, or uint16 from grey of 16 bits. None if the file is no image.

        Raises
        ------
        DataError
            As `look` does; it is damaged; it has transparent pixels and there is no background.
        InputMissingError, StorageError
            It cannot be opened, or not be read to its end.
        """
        height, width = shape[:2]
        grey = len(shape) == _GREY_AXES
        with opened(path) as file, self._decoding(path):
            image = self._open(path, file)
            if image is None:
                return None
            image.load()
            picture = self._deep(path, image) if image.mode in _DEEP else self._shallow(path, image, grey=grey)
            if move := self._move(image):
                picture = picture.transpose(self._image.Transpose[move])
            if picture.size != (width, height):
                if not resize:
                    raise changed(path)
                picture = picture.resize((width, height), self._image.Resampling.BILINEAR)
            pixels = np.asarray(picture)
            if picture.mode != "I":
                return pixels
            pixels = pixels.astype(np.uint16)
            return pixels if grey else np.repeat(pixels[..., None], 3, axis=2)

    def _open(self, path: Path, file: IO[bytes]) -> Any:
        """Open an image, or return None if it is none."""
        kind = self._suffixes.get(path.suffix.lower())
        formats = (*self._signed, kind) if kind in self._unsigned else self._signed
        try:
            image = self._image.open(file, formats=formats)
        except (self._image.DecompressionBombWarning, self._image.DecompressionBombError):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno not in _OF_THE_CONTENT:
                raise
            # Notes that begin with "P2 " bring a reader to raise anything; a suffix says that it should be an image.
            if kind is None:
                return None
            raise _broken(path) from error
        if image.mode in _SHALLOW | _DEEP:
            return image
        raise DataError(f"{shown(path)} has pixels of mode {image.mode}: convert it to 8 bits a channel or 16 of grey")

    def _size(self, image: Any, file: IO[bytes]) -> tuple[int, int]:
        """Return width and height as shown."""
        if image.format == "PNG" and "exif" not in image.info and _tells_late(file):
            image.load()
        # Pillow turns a TIFF itself, and its size already, if the file's own tags say so.
        turned = _ORIENTATION in getattr(image, "tag_v2", ())
        width, height = image.size
        return (height, width) if self._move(image) in _TURNS and not turned else (width, height)

    def _move(self, image: Any) -> str:
        """Return what shows an image upright, or an empty string."""
        try:
            # The base class's, because that of a PNG without EXIF decodes all of it to look behind the pixels.
            move = _UPRIGHT.get(self._image.Image.getexif(image).get(_ORIENTATION, 1), "")
        except Exception:  # noqa: BLE001 - Pillow raises anything for damaged EXIF, without which a viewer does
            return ""
        return move

    def _shallow(self, path: Path, image: Any, *, grey: bool) -> Any:
        """Return an image of 8 bits a channel, decoded, as mode L or RGB."""
        if image.has_transparency_data:
            image = image.convert("RGBA")
            if image.getchannel("A").getextrema()[0] < 255:
                behind = self._image.new("RGBA", image.size, self._behind(path))
                image = self._image.alpha_composite(behind, image)
        if image.mode not in _GREY:
            image = image.convert("RGB")
        return image.convert("L" if grey else "RGB")

    def _deep(self, path: Path, image: Any) -> Any:
        """Return an image of grey of 16 bits, decoded, as mode I."""
        deep = image.convert("I")
        low, high = deep.getextrema()
        if low < 0 or high > 65535:
            raise DataError(f"{shown(path)} has values from {low} to {high}: convert it to 16 bits, 0 to 65535")
        transparent = image.info.get("transparency")
        if isinstance(transparent, int) and low <= transparent <= high:
            values = np.array(deep)
            hidden = values == transparent
            if hidden.any():
                behind = self._image.new("RGB", (1, 1), self._behind(path)).convert("L").getpixel((0, 0))
                values[hidden] = behind * 257  # 255 becomes 65535
                deep = self._image.fromarray(values)
        return deep

    def _behind(self, path: Path) -> tuple[int, int, int]:
        if self._background is None:
            raise DataError(f"{shown(path)} has transparent pixels: say what lies behind them with --background white")
        return self._background

    @contextmanager
    def _decoding(self, path: Path) -> Iterator[None]:
        """Tell in one sentence whatever goes wrong with an image's content, and let Pillow warn of nothing."""
        bombs = (self._image.DecompressionBombWarning, self._image.DecompressionBombError)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", self._image.DecompressionBombWarning)
                yield
        except FeedlineError:
            raise
        except bombs as error:
            raise DataError(
                f"{shown(path)} has more than the {self._image.MAX_IMAGE_PIXELS:,} pixels that are safe to decode: "
                "shrink it"
            ) from error
        except Exception as error:
            if isinstance(error, OSError) and error.errno not in _OF_THE_CONTENT:
                raise
            raise _broken(path) from error


def _broken(path: Path) -> DataError:
    return DataError(f"{shown(path)} cannot be decoded as an image: replace it, or take it out of the folder")


def _color(text: str) -> tuple[int, int, int]:
    try:
        red, green, blue, *alpha = optional_module("PIL.ImageColor", "Pillow", "images").getrgb(text)
    except ValueError:
        raise UsageError(f"--background {text} is no colour: give one such as white or #808080") from None
    if max(red, green, blue) > 255 or min(red, green, blue) < 0:
        raise UsageError(f"--background {text} is no colour: its parts go from 0 to 255")
    if alpha not in ([], [255]):
        raise UsageError(f"--background {text} is transparent itself: give an opaque colour, such as white")
    return red, green, blue


def _cut(image: Any) -> bool:
    """Whether Pillow, which has no colour of 16 bits, will leave out the lower 8."""
    for codec, _, _, given in image.tile:
        arguments = given if isinstance(given, tuple) else (given,)
        if codec == "SGI16" or any(isinstance(one, str) and ";16" in one for one in arguments):
            return True
        if codec in {"ppm", "ppm_plain"} and max(arguments[1:], default=0) > 255:
            return True
    return False


def _tells_late(file: IO[bytes]) -> bool:
    """Whether a PNG says how to turn it after its pixels, where Pillow sees it only once it has decoded them."""
    position = file.tell()
    file.seek(8)
    late = False
    while len(head := file.read(40)) >= 12:
        if late and head.startswith(_PNG_TURNS, 4):
            break
        late = late or head.startswith(b"IDAT", 4)
        file.seek(int.from_bytes(head[:4]) + 12 - len(head), os.SEEK_CUR)
    file.seek(position)
    return len(head) >= 12
