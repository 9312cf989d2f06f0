"""Folders of images made from a model, and files of any bytes: packed as shown, left out, or refused in a sentence."""

import io
import warnings
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imagefiles import (
    DEEP,
    JUNK,
    PIXELS,
    TURNED,
    as_shown,
    exif,
    read,
    saved,
    written,
)
from PIL import Image

from feedline.errors import FeedlineError

FOLDERS = ("a/", "a/deep/", "b/")
SUFFIXES = ("", ".png", ".jpg", ".txt", ".tga", " x")
TURNING = ("PNG", "TIFF", "WEBP", "JPEG")
pictures = st.tuples(
    st.sampled_from([*TURNING, "BMP", "GIF"]),
    st.sampled_from([*TURNED]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
junk = st.sampled_from([content for name, content in JUNK.items() if not name.endswith(".mpg")])
placed = st.tuples(st.sampled_from(FOLDERS), st.sampled_from(SUFFIXES))


def stored_as(shown, orientation):
    return TURNED[{6: 8, 8: 6}.get(orientation, orientation)](shown)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(placed, pictures), max_size=6), st.lists(st.tuples(st.sampled_from(FOLDERS), junk), max_size=6)
)
def test_a_file_is_packed_as_it_is_shown_or_left_out(tmp_path_factory, images, others):
    root = tmp_path_factory.mktemp("photos")
    images = [*images, (("a/", ""), ("PNG", 1, False, 0)), (("b/", ""), ("BMP", 1, True, 1))]
    rows = {}
    for number, ((folder, suffix), (kind, orientation, grey, seed)) in enumerate(images):
        shown = np.random.default_rng(seed).integers(0, 256, (4, 3) if grey else (4, 3, 3), np.uint8)
        name = f"{folder}{number}{suffix}"
        if kind in TURNING:
            saved(root / name, stored_as(shown, orientation), kind, orientation=orientation)
        else:
            saved(root / name, shown, kind)
        rows[name] = as_shown(root / name)
        if kind in {"PNG", "TIFF", "WEBP", "BMP"}:
            np.testing.assert_array_equal(rows[name], shown if shown.ndim == 3 else np.stack([shown] * 3, 2))
    left = []
    for number, (folder, content) in enumerate(others):
        left.append(f"{folder}note{number}")
        written(root / left[-1], content)
    packed = read(root)

    assert packed.names == sorted(rows)
    np.testing.assert_array_equal(packed.features, [rows[name] for name in packed.names])
    assert packed.labels == ["ab".index(name[0]) for name in packed.names]
    first = ", ".join(sorted(left)[:3])
    assert packed.left_out == {
        0: "",
        1: f"1 file is no image and was left out: {first}",
        2: f"2 files are no images and were left out: {first}",
        3: f"3 files are no images and were left out: {first}",
    }.get(len(left), f"{len(left)} files are no images and were left out: {first} and {len(left) - 3} more")


KINDS = {
    "RGB": ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "DIB", "PPM", "TGA", "PCX", "SGI", "JPEG2000", "QOI", "DDS", "AVIF"],
    "RGBA": ["PNG", "TIFF", "WEBP", "ICO", "ICNS", "TGA", "DDS", "JPEG2000"],
    "P": ["PNG", "GIF", "TIFF", "BMP", "PCX", "BLP"],
    "L": ["PNG", "JPEG", "GIF", "TIFF", "PPM", "SGI", "TGA"],
    "1": ["PNG", "TIFF", "BMP", "PPM", "XBM", "MSP", "PCX"],
    "CMYK": ["JPEG", "TIFF"],
    "I;16": ["PNG", "TIFF", "PPM", "JPEG2000"],
}
SEVERAL = ["PNG", "GIF", "TIFF", "WEBP", "MPO"]


@cache
def samples():
    """Return small files of the kinds above, as far as this Pillow writes them."""
    Image.init()
    found = []
    for mode, kinds in KINDS.items():
        picture = Image.fromarray(DEEP) if mode == "I;16" else Image.fromarray(PIXELS).convert(mode)
        for kind in {*kinds} & {*Image.SAVE}:
            found.append(encoded(picture, kind, exif=exif(6)))
            if kind == "TIFF" and mode != "I;16":
                found.append(encoded(picture, kind, compression="tiff_lzw"))
    picture = Image.fromarray(PIXELS)
    found += [encoded(picture, kind, save_all=True, append_images=[picture.rotate(180)]) for kind in SEVERAL]
    return sorted(found)


def encoded(picture, kind, **keywords):
    file = io.BytesIO()
    picture.save(file, kind, **keywords)
    return file.getvalue()


places = st.one_of(st.integers(0, 80), st.integers(0, 2000))
edits = st.lists(
    st.tuples(places, st.one_of(st.sampled_from([b"\0", b"\xff", b""]), st.binary(max_size=4))), max_size=6
)
lengths = st.one_of(st.none(), st.integers(0, 2000))


@settings(max_examples=300)
@given(st.data(), edits, lengths, st.sampled_from(("", ".png", ".tga", ".im", ".dib", ".pcd", ".txt")))
def test_whatever_a_file_holds_no_other_error_is_raised(tmp_path_factory, data, edits, length, suffix):
    content = bytearray(data.draw(st.sampled_from(samples())))
    for place, new in edits:
        content[place : place + max(1, len(new))] = new
    root = tmp_path_factory.mktemp("photos")
    written(root / "a" / f"1{suffix}", bytes(content[:length]))
    with warnings.catch_warnings(record=True) as warned, pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("always")
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 1 << 16)  # a damaged size makes no test slow
        try:
            found = read(root, row_shape=(4, 4, 3), background="white").names
        except FeedlineError as error:
            found = str(error)

    assert found == [f"a/1{suffix}"] or found.startswith(str(root))
    assert not warned
