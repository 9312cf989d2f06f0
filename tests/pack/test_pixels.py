"""What the pixels of a picture become: turned as a viewer turns it, over a background, as deep as they were."""

import struct

import numpy as np
import pytest
from imagefiles import DEEP, ORIENTATION, PIXELS, TURNED, as_shown, chunk, exif, needs_avif, png, read, saved, written
from PIL import Image

from feedline.errors import DataError, UsageError


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG", pytest.param("AVIF", marks=needs_avif)])
def test_a_picture_stands_as_its_exif_orientation_says(tmp_path, kind, orientation):
    path = saved(tmp_path / "a" / "1", PIXELS, kind, orientation=orientation)
    (row,) = read(tmp_path).features

    np.testing.assert_array_equal(row, as_shown(path))
    if kind not in {"JPEG", "AVIF"}:
        np.testing.assert_array_equal(row, TURNED[orientation](PIXELS))


def test_the_sizes_that_are_compared_are_those_shown(tmp_path):
    saved(tmp_path / "a" / "1.png", PIXELS, "PNG")
    saved(tmp_path / "a" / "2.png", np.rot90(PIXELS), "PNG", orientation=6)
    np.testing.assert_array_equal(read(tmp_path).features, [PIXELS, PIXELS])

    saved(tmp_path / "a" / "3.png", PIXELS, "PNG", orientation=6)
    with pytest.raises(DataError, match=r"3\.png is 4 wide and 3 high where those before it are 3 and 4"):
        read(tmp_path)


XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def png_that_tells_late(path, kind, data):
    """Have a PNG say how to turn it only after its pixels."""
    content = saved(path, PIXELS, "PNG").read_bytes()
    path.write_bytes(content[:-12] + chunk(b"tEXt", b"date:create\0now") + chunk(kind, data) + content[-12:])


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: png_that_tells_late(path, b"eXIf", exif(6)[6:]), id="EXIF after a PNG's pixels"),
        pytest.param(
            lambda path: png_that_tells_late(path, b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
            id="XMP after a PNG's pixels",
        ),
        pytest.param(lambda path: saved(path, PIXELS, "TIFF", tiffinfo={700: XMP}), id="XMP in a TIFF"),
        pytest.param(lambda path: saved(path, PIXELS, "WEBP", xmp=XMP), id="XMP in a WebP"),
        pytest.param(
            lambda path: saved(path, PIXELS, "TIFF", orientation=6, compression="tiff_lzw"), id="a compressed TIFF"
        ),
    ],
)
def test_an_orientation_is_found_where_pillow_finds_it(tmp_path, make):
    path = tmp_path / "a" / "1"
    make(path)
    np.testing.assert_array_equal(read(tmp_path).features, [as_shown(path)])
    np.testing.assert_array_equal(as_shown(path), TURNED[6](PIXELS))


@pytest.mark.parametrize(
    "damaged",
    [
        pytest.param(b"Exif\0\0no header", id="no header"),
        pytest.param(b"Exif\0\0II*\0\xff\xff\xff\xff", id="points nowhere"),
        pytest.param(exif(6)[:-9], id="cut short"),
        pytest.param(exif(6).replace(struct.pack(">H", ORIENTATION), b"\x01\x1a"), id="another tag"),
        pytest.param(exif(99), id="no such orientation"),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_with_damaged_exif_is_packed_as_it_is_stored(tmp_path, kind, damaged, recwarn):
    saved(tmp_path / "a" / "1", PIXELS, kind, exif=damaged)
    packed = read(tmp_path)
    assert not recwarn.list

    np.testing.assert_allclose(packed.features, [PIXELS], atol=0 if kind != "JPEG" else 9)


# What is an image, and what is left out

TRANSPARENT_RED = [(255, 0, 0, 128), (255, 0, 0, 255), (0, 0, 0, 0), (0, 0, 0, 255)]


def with_alpha(path, pixels):
    picture = Image.new("RGBA", (2, 2))
    picture.putdata(pixels)
    return saved(path, picture, "PNG")


def palette(path, transparency):
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putdata([0, 1])
    return saved(path, picture, "PNG", transparency=transparency)


def grey_alpha(path, alpha):
    return saved(path, Image.merge("LA", (Image.new("L", (2, 1), 100), Image.new("L", (2, 1), alpha))), "PNG")


SEE_THROUGH = [
    pytest.param(
        lambda path: with_alpha(path, TRANSPARENT_RED),
        [[[255, 127, 127], [255, 0, 0]], [[255, 255, 255], [0, 0, 0]]],
        id="RGBA",
    ),
    pytest.param(lambda path: palette(path, b"\0\xff"), [[[255, 255, 255], [0, 0, 255]]], id="palette with alpha"),
    pytest.param(lambda path: palette(path, 1), [[[255, 0, 0], [255, 255, 255]]], id="palette with a clear entry"),
    pytest.param(lambda path: grey_alpha(path, 0), [[255, 255]], id="grey with alpha"),
    pytest.param(
        lambda path: saved(path, Image.new("L", (2, 1), 7), "PNG", transparency=7), [[255, 255]], id="a clear grey"
    ),
    pytest.param(
        lambda path: saved(path, Image.new("RGB", (1, 1), "lime"), "PNG", transparency=(0, 255, 0)),
        [[[255, 255, 255]]],
        id="a clear colour",
    ),
    pytest.param(
        lambda path: saved(path, np.array([[7, 300]], np.uint16), "PNG", transparency=300),
        [[7, 65535]],
        id="a clear grey of 16 bits",
    ),
]


@pytest.mark.parametrize(("make", "over_white"), SEE_THROUGH)
def test_transparent_pixels_show_the_background_or_are_refused(tmp_path, make, over_white):
    make(tmp_path / "a" / "1.png")
    np.testing.assert_array_equal(read(tmp_path, background="white").features, [over_white])

    with pytest.raises(
        DataError, match=r"1\.png has transparent pixels: say what lies behind them with --background white"
    ):
        read(tmp_path)


@pytest.mark.parametrize(
    ("make", "opaque"),
    [
        pytest.param(
            lambda path: with_alpha(path, [(1, 2, 3, 255)] * 4), np.broadcast_to([1, 2, 3], (2, 2, 3)), id="RGBA"
        ),
        pytest.param(lambda path: grey_alpha(path, 255), [[100, 100]], id="grey with alpha"),
        pytest.param(lambda path: palette(path, b"\xff\xff"), [[[255, 0, 0], [0, 0, 255]]], id="palette"),
        pytest.param(
            lambda path: saved(path, np.array([[7, 300]], np.uint16), "PNG", transparency=8),
            [[7, 300]],
            id="a clear grey of 16 bits that is not there",
        ),
    ],
)
def test_an_alpha_channel_that_hides_nothing_is_dropped(tmp_path, make, opaque):
    make(tmp_path / "a" / "1.png")
    np.testing.assert_array_equal(read(tmp_path).features, [opaque])


def test_clear_grey_over_a_colour_is_in_colour(tmp_path):
    grey_alpha(tmp_path / "a" / "1.png", 0)
    packed = read(tmp_path, background="#ff0000")
    np.testing.assert_array_equal(packed.features, [[[[255, 0, 0], [255, 0, 0]]]])


@pytest.mark.parametrize(
    ("background", "message"),
    [
        pytest.param("whiteish", "--background whiteish is no colour", id="a word"),
        pytest.param("", "--background  is no colour", id="empty"),
        pytest.param("rgb(0,0,256)", "go from 0 to 255", id="too bright"),
        pytest.param("#ffffff80", "is transparent itself", id="transparent"),
    ],
)
def test_a_background_has_to_be_a_colour(tmp_path, background, message):
    with pytest.raises(UsageError, match="--background") as caught:
        read(tmp_path, background=background)
    assert message in str(caught.value)


def pgm(path):
    return written(path, b"P5 3 2 65535\n" + DEEP.astype(">u2").tobytes())


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: saved(path, DEEP, "PNG"), id="PNG"),
        pytest.param(lambda path: saved(path, DEEP, "TIFF"), id="TIFF"),
        pytest.param(lambda path: saved(path, Image.fromarray(DEEP.astype(">u2")), "TIFF"), id="big-endian TIFF"),
        pytest.param(
            lambda path: saved(path, DEEP.astype(np.int32), "TIFF"), id="TIFF of 32 bits, of which 16 are used"
        ),
        pytest.param(lambda path: saved(path, DEEP, "JPEG2000", irreversible=False), id="JPEG 2000"),
        pytest.param(pgm, id="PGM"),
    ],
)
def test_grey_of_16_bits_is_kept(tmp_path, make):
    make(tmp_path / "a" / "1")
    packed = read(tmp_path)

    assert packed.features.dtype == np.dtype("uint16")
    assert packed.features.dtype.isnative
    np.testing.assert_array_equal(packed.features, [DEEP])
    assert not packed.left_out


def test_grey_of_16_bits_is_turned_and_resized_in_16_bits(tmp_path):
    saved(tmp_path / "a" / "1", DEEP, "PNG", orientation=6)
    np.testing.assert_array_equal(read(tmp_path).features, [TURNED[6](DEEP)])

    saved(tmp_path / "a" / "1", np.array([[1000, 3001]], np.uint16), "PNG")
    np.testing.assert_array_equal(read(tmp_path, row_shape=(1, 1)).features, [[[2001]]])
    np.testing.assert_array_equal(read(tmp_path, row_shape=(1, 2, 3)).features, [[[[1000] * 3, [3001] * 3]]])
    assert read(tmp_path, scale=0.5).features.tolist() == [[[500.0, 1500.5]]]


def test_grey_of_16_bits_goes_into_8_only_where_it_fits(tmp_path):
    saved(tmp_path / "a" / "1", DEEP % 256, "PNG")
    np.testing.assert_array_equal(read(tmp_path, dtype="uint8").features, [DEEP % 256])

    saved(tmp_path / "a" / "2", DEEP, "PNG")
    with pytest.raises(DataError, match="a/2, value 2: 256 does not fit uint8"):
        read(tmp_path, dtype="uint8")


def colour_of_16_bits(path):
    return written(path, png(16, 2, [bytes([9, 1, 8, 2, 7, 3])], size=(1, 1)))


@pytest.mark.parametrize(
    ("make", "upper"),
    [
        pytest.param(colour_of_16_bits, [[[9, 8, 7]]], id="PNG"),
        pytest.param(
            lambda path: written(path, png(16, 4, [bytes([9, 1, 255, 255])], size=(1, 1))),
            [[[9] * 3]],
            id="grey, alpha",
        ),
        pytest.param(
            lambda path: written(path, b"P6 1 1 65535\n" + bytes([9, 0, 8, 0, 7, 0])), [[[9, 8, 7]]], id="PPM"
        ),
    ],
)
def test_colour_of_16_bits_loses_half_of_them_and_that_is_told(tmp_path, make, upper):
    make(tmp_path / "a" / "1")
    packed = read(tmp_path)

    np.testing.assert_array_equal(packed.features, [upper])
    assert packed.left_out == "1 file has 16 bits a channel, of which the upper 8 were taken: a/1"


CMYK = Image.merge("CMYK", [Image.new("L", (3, 2), value) for value in (10, 60, 110, 30)])
LAB = Image.merge("LAB", [Image.new("L", (3, 2), value) for value in (120, 140, 90)])


@pytest.mark.parametrize(
    ("make", "mode"),
    [
        pytest.param(lambda path: saved(path, CMYK, "TIFF"), "RGB", id="CMYK"),
        pytest.param(lambda path: saved(path, CMYK, "JPEG"), "RGB", id="CMYK in a JPEG"),
        pytest.param(lambda path: saved(path, CMYK.convert("RGB").convert("YCbCr"), "TIFF"), "RGB", id="YCbCr"),
        pytest.param(lambda path: saved(path, LAB, "TIFF"), "RGB", id="LAB"),
        pytest.param(lambda path: palette(path, None), "RGB", id="palette"),
        pytest.param(lambda path: written(path, b"P1 3 2\n101\n010\n"), "L", id="black and white"),
    ],
)
def test_other_kinds_of_colour_become_grey_or_rgb(tmp_path, make, mode):
    path = make(tmp_path / "a" / "1")
    np.testing.assert_array_equal(read(tmp_path).features, [as_shown(path, mode)])

    height, width = as_shown(path).shape[:2]
    np.testing.assert_array_equal(
        read(tmp_path, row_shape=(height, width)).features, [np.asarray(Image.fromarray(as_shown(path)).convert("L"))]
    )


# Folders and classes
