"""`feedline pack` over folders of images: classes, paths, which files are images, and what is left out."""

import os
import sys

import numpy as np
import pytest
from imagefiles import JUNK, PIXELS, as_shown, image, loaded, needs_avif, read, saved, written
from PIL import EpsImagePlugin, Image

from feedline.errors import DataError, EnvironmentInvalidError, InputMissingError, UsageError
from feedline.pack import pack
from feedline.pack.columns import Columns
from feedline.pack.images import ImageSource
from feedline.pack.source import FeatureFormat


def test_a_folder_of_images_becomes_pixels_classes_and_paths(tmp_path):
    image(tmp_path / "photos" / "dog" / "1.png", (1, 2, 3))
    image(tmp_path / "photos" / "cat" / "2.png", (4, 5, 6))
    image(tmp_path / "photos" / "cat" / "deep" / "0.bmp", (7, 8, 9))
    (tmp_path / "photos" / "cat" / "notes.txt").write_text("no image")
    packed = pack([tmp_path / "photos"], tmp_path / "out")

    features = loaded(tmp_path / "out", "features")
    assert (features.shape, features.dtype) == ((3, 3, 4, 3), np.dtype("uint8"))
    assert features[:, 0, 0].tolist() == [[4, 5, 6], [7, 8, 9], [1, 2, 3]]
    assert loaded(tmp_path / "out", "labels").tolist() == [0, 0, 1]
    assert loaded(tmp_path / "out", "names").tolist() == ["cat/2.png", "cat/deep/0.bmp", "dog/1.png"]
    assert packed.classes == ("cat", "dog")
    assert (tmp_path / "out" / "classes.txt").read_text() == "cat\ndog\n"


def test_grey_images_have_no_colour_axis(tmp_path):
    image(tmp_path / "photos" / "a" / "1.png", 9, mode="L")
    pack([tmp_path / "photos"], tmp_path / "out", scale=0.5)

    features = loaded(tmp_path / "out", "features")
    assert (features.shape, features.dtype, features[0, 0, 0]) == ((1, 3, 4), np.dtype("float32"), 4.5)


@pytest.mark.parametrize("shape", [pytest.param((6, 8), id="grey"), pytest.param((6, 8, 3), id="colour")])
def test_images_are_brought_to_one_shape(tmp_path, shape):
    image(tmp_path / "photos" / "a" / "1.png", (9, 9, 9))
    image(tmp_path / "photos" / "a" / "2.png", 9, mode="L", size=(50, 40))
    pack([tmp_path / "photos"], tmp_path / "out", shape=shape)

    np.testing.assert_array_equal(loaded(tmp_path / "out", "features"), np.full((2, *shape), 9))


def test_several_folders_share_their_classes(tmp_path):
    image(tmp_path / "one" / "b" / "1.png", (1, 1, 1))
    image(tmp_path / "two" / "a" / "1.png", (2, 2, 2))
    pack([tmp_path / "one", tmp_path / "two"], tmp_path / "out")

    assert loaded(tmp_path / "out", "labels").tolist() == [1, 0]
    assert loaded(tmp_path / "out", "names").tolist() == ["one/b/1.png", "two/a/1.png"]


# Turning


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param("1.jfif", "JPEG", id="jfif"),
        pytest.param("1", "PNG", id="no suffix"),
        pytest.param("1.jpg", "PNG", id="PNG called jpg"),
        pytest.param("1.txt", "WEBP", id="WebP called txt"),
        pytest.param("1.tga", "TGA", id="TGA, which has no signature"),
        pytest.param("1.DIB", "DIB", id="DIB, in capitals"),
        pytest.param("1.jp2", "JPEG2000", id="JPEG 2000"),
        pytest.param("1.avif", "AVIF", id="avif", marks=needs_avif),
    ],
)
def test_a_file_is_an_image_by_what_it_holds(tmp_path, name, kind):
    path = saved(tmp_path / "a" / name, PIXELS, kind)
    packed = read(tmp_path)

    assert packed.names == [f"a/{name}"]
    np.testing.assert_array_equal(packed.features, [as_shown(path)])
    assert not packed.left_out


@pytest.mark.parametrize("name", JUNK)
def test_a_file_that_is_no_image_is_left_out_and_named(tmp_path, name):
    image(tmp_path / "a" / "1.png", (1, 1, 1))
    written(tmp_path / "a" / name, JUNK[name])
    written(tmp_path / "a" / ".hidden", b"as if it were not there")

    assert read(tmp_path).left_out == f"1 file is no image and was left out: a/{name}"


def test_of_many_files_left_out_the_first_are_named(tmp_path):
    image(tmp_path / "photos" / "a" / "1.png", (1, 1, 1))
    for name in ("z.txt", "a/9\n.txt", "a/deep/2.txt", "a/1.txt", "a/0/1"):
        written(tmp_path / "photos" / name, b"no image")
    (tmp_path / "photos" / "a" / "more").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "photos" / "a" / "0.png")

    assert read(tmp_path / "photos").left_out == (
        "7 files are no images and were left out: a/0.png (no regular file), a/0/1, a/1.txt and 4 more"
    )
    (tmp_path / "photos" / "a" / "0" / "1").unlink()
    (tmp_path / "photos" / "a" / "1.txt").unlink()
    assert read(tmp_path / "photos").left_out == (
        "5 files are no images and were left out: a/0.png (no regular file), a/9\\n.txt, a/deep/2.txt and 2 more"
    )


def test_folders_behind_links_are_classes_but_lead_nowhere_below_them(tmp_path):
    image(tmp_path / "elsewhere" / "1.png", (1, 1, 1))
    image(tmp_path / "photos" / "b" / "2.png", (2, 2, 2))
    (tmp_path / "photos" / "a").symlink_to("../elsewhere")
    (tmp_path / "photos" / "b" / "again").symlink_to("..")
    (tmp_path / "photos" / "b" / "3.png").symlink_to("2.png")
    packed = read(tmp_path / "photos")

    assert packed.names == ["a/1.png", "b/2.png", "b/3.png"]
    assert packed.left_out == "1 file is no image and was left out: b/again (a link to a folder)"


def test_a_very_deep_folder_is_read(tmp_path):
    image(tmp_path / "a" / "/".join("b" * 400) / "1.png", (1, 1, 1))
    assert read(tmp_path).names == [f"a/{'b/' * 400}1.png"]


def test_several_pictures_in_a_file_are_told_and_the_first_is_taken(tmp_path):
    second = Image.new("RGB", (3, 4), "red")
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        more = {"save_all": True, "append_images": [second]}
        saved(tmp_path / "a" / kind.lower(), Image.new("RGB", (3, 4), "blue"), kind, **more)
    saved(tmp_path / "a" / "one", Image.new("RGB", (3, 4), "blue"), "GIF")
    written(tmp_path / "a" / "notes", b"")
    packed = read(tmp_path)

    np.testing.assert_array_equal(packed.features, np.broadcast_to([0, 0, 255], (5, 4, 3, 3)))
    assert packed.left_out == (
        "1 file is no image and was left out: a/notes; "
        "4 files hold several pictures, of which the first was taken: a/gif, a/png, a/tiff and 1 more"
    )


def test_postscript_is_left_out_and_starts_no_program(tmp_path, monkeypatch):
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("Ghostscript was started"))
    image(tmp_path / "a" / "1.png", (1, 1, 1))
    fields = b"".join(
        b"\x1c" + bytes(tag) + len(data).to_bytes(2, "big") + data
        for tag, data in [
            ((3, 60), b"\1\0"),
            ((3, 20), b"\3"),
            ((3, 30), b"\4"),
            ((3, 120), b"\1\1"),
            ((8, 10), JUNK["figure.eps"]),
        ]
    )
    written(tmp_path / "a" / "news.iim", fields)
    written(tmp_path / "a" / "figure.eps", JUNK["figure.eps"])
    written(tmp_path / "a" / "figure", JUNK["figure.eps"])

    assert read(tmp_path).left_out.startswith("3 files are no images and were left out")


# Colour and depth


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        pytest.param(
            ["val", "train"],
            "{root} holds train and val, which look like parts of a data set and not like classes: "
            "pack each by itself (feedline pack {root}/train ...), with --classes for the second",
            id="two",
        ),
        pytest.param(
            ["Testing", "Training", "dev"],
            "{root} holds Testing, Training and dev, which look like parts of a data set and not like classes: "
            "pack each by itself (feedline pack {root}/Training ...), with --classes for the second",
            id="three in capitals",
        ),
        pytest.param(
            ["test"],
            "{root} holds test, which looks like a part of a data set and not like a class: "
            "pack it by itself (feedline pack {root}/test ...)",
            id="one",
        ),
    ],
)
def test_the_parts_of_a_data_set_are_not_taken_for_classes(tmp_path, folders, message):
    for folder in folders:
        image(tmp_path / folder / "cat" / "1.png", (1, 1, 1))
    with pytest.raises(UsageError) as caught:
        read(tmp_path)

    assert str(caught.value) == message.format(root=tmp_path)
    assert read(tmp_path / folders[0]).classes == ("cat",)


def test_a_class_may_be_called_test(tmp_path):
    for folder in ("test", "cat"):
        image(tmp_path / folder / "1.png", (1, 1, 1))
    assert read(tmp_path).classes == ("cat", "test")


def test_the_classes_of_another_set_give_the_numbers(tmp_path):
    for folder in ("cat", "dog"):
        image(tmp_path / folder / "1.png", (1, 1, 1))
    packed = read(tmp_path, classes=("dog", "ant", "cat"))
    assert (packed.labels, packed.classes) == ([2, 0], ("dog", "ant", "cat"))

    with pytest.raises(DataError, match=r"'dog' is none of the 1 classes of --classes"):
        read(tmp_path, classes=("cat",))


# What cannot be packed


def broken(path):
    image(path / "a" / "1.png", (1, 1, 1))
    (path / "a" / "2.png").write_bytes((path / "a" / "1.png").read_bytes()[:40])


def cut_short(path):
    content = saved(path / "a" / "1", PIXELS, "BMP").read_bytes()
    (path / "a" / "1").write_bytes(content[:-20])


def named_so(name, content=b""):
    return lambda path: written(path / "a" / name, content)


def of_two_sizes(path):
    image(path / "a" / "1.png", (1, 1, 1))
    image(path / "a" / "2.png", (1, 1, 1), size=(5, 5))


def of_two_depths(path):
    image(path / "a" / "1.png", 9, mode="L")
    image(path / "b" / "2.png", 1000, mode="I;16")


def fractions(path):
    saved(path / "a" / "1", np.zeros((2, 2), np.float32), "TIFF")


def negative(path):
    saved(path / "a" / "1", np.array([[-3, 9]], np.int32), "TIFF")


def no_classes(path):
    image(path / "1.png", (1, 1, 1))


def loose(path):
    saved(path / "no suffix", PIXELS, "PNG")
    image(path / "a" / "1.png", (1, 1, 1))


def empty_class(path):
    (path / "a").mkdir(parents=True)


def phone(path):
    for number in range(4):
        written(path / "a" / f"IMG_{number}.heic", b"\0\0\0\x18ftypheic\0\0\0\0")


def odd_name(path):
    image(path / "a" / os.fsdecode(b"caf\xe9.png"), (1, 1, 1))


def odd_class(path):
    image(path / os.fsdecode(b"caf\xe9") / "1.png", (1, 1, 1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(broken, "2.png cannot be decoded as an image", id="broken"),
        pytest.param(cut_short, "a/1 cannot be decoded as an image", id="cut short"),
        pytest.param(named_so("1.jpg"), "1.jpg cannot be decoded as an image", id="0 bytes"),
        pytest.param(named_so("1.JPG", b"<html></html>"), "1.JPG cannot be decoded as an image", id="a web page"),
        pytest.param(named_so("1.tif", b"II*\0"), "1.tif cannot be decoded as an image", id="half a header"),
        pytest.param(of_two_sizes, "bring them to one size with --shape", id="two sizes"),
        pytest.param(of_two_depths, "b/2.png has 16 bits a channel where those before it have 8", id="two depths"),
        pytest.param(fractions, "has pixels of mode F: convert it", id="fractions"),
        pytest.param(negative, "has values from -3 to 9: convert it", id="negative values"),
        pytest.param(no_classes, "has no folders in it", id="no classes"),
        pytest.param(loose, "no suffix lies beside the class folders", id="a loose image"),
        pytest.param(empty_class, "holds no images: fill it", id="an empty class"),
        pytest.param(phone, "holds no images, only a/IMG_0.heic, a/IMG_1.heic, a/IMG_2.heic and 1 more", id="HEIC"),
        pytest.param(odd_name, "caf\\xe9.png has a name that is not UTF-8", id="a name of other bytes"),
        pytest.param(odd_class, "caf\\xe9: ", id="a class of other bytes"),
    ],
)
def test_bad_folders_of_images_are_told_and_leave_nothing(tmp_path, make, message):
    make(tmp_path / "photos")
    with pytest.raises(DataError) as caught:
        pack([tmp_path / "photos"], tmp_path / "out")

    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 11)
    saved(tmp_path / "photos" / "a" / "no suffix", PIXELS, "PNG")
    with pytest.raises(DataError, match="more than the 11 pixels that are safe"):
        pack([tmp_path / "photos"], tmp_path / "out")


@pytest.mark.parametrize("link", [pytest.param("nowhere.png", id="nowhere"), pytest.param("1.png", id="in a circle")])
def test_a_link_that_leads_nowhere_is_a_missing_input(tmp_path, link):
    (tmp_path / "photos" / "a").mkdir(parents=True)
    (tmp_path / "photos" / "a" / "1.png").symlink_to(link)
    with pytest.raises(InputMissingError, match=r"1\.png cannot be read"):
        pack([tmp_path / "photos"], tmp_path / "out")


def test_an_image_that_came_after_the_scan_is_told(tmp_path):
    image(tmp_path / "a" / "1.png", (1, 1, 1))
    source = ImageSource([tmp_path], FeatureFormat())
    scan = source.scan(lambda *_: None)
    image(tmp_path / "a" / "1.png", (1, 1, 1), size=(9, 9))
    with pytest.raises(DataError, match=r"1\.png changed while it was read"):
        list(source.chunks(scan))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        pytest.param({"shape": (8, 8, 4)}, "is not that of an image", id="four channels"),
        pytest.param({"columns": Columns(target="a")}, "--target does not go with folders of images", id="target"),
        pytest.param({"split": {"validation": 0.5}}, "--split of images needs --shuffle-seed", id="split"),
    ],
)
def test_wishes_that_images_cannot_meet_are_refused(tmp_path, keywords, message):
    image(tmp_path / "photos" / "a" / "1.png", (1, 1, 1))
    with pytest.raises(UsageError, match=message):
        pack([tmp_path / "photos"], tmp_path / "out", **keywords)


def test_the_output_may_not_lie_in_the_folder_being_packed(tmp_path):
    image(tmp_path / "photos" / "a" / "1.png", (1, 1, 1))
    with pytest.raises(UsageError, match="lies inside"):
        pack([tmp_path / "photos"], tmp_path / "photos" / "out")


def test_pillow_that_is_not_installed_is_named_with_its_extra(tmp_path, monkeypatch):
    image(tmp_path / "photos" / "a" / "1.png", (1, 1, 1))
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(EnvironmentInvalidError, match=r"pip install 'feedline\[pack\]'"):
        pack([tmp_path / "photos"], tmp_path / "out")
