"""`feedline pack` over folders of images: pixels, classes and paths."""

import sys

import numpy as np
import pytest
from PIL import Image

from feedline.errors import DataError, EnvironmentInvalidError, InputMissingError, UsageError
from feedline.pack import pack
from feedline.pack.columns import Columns


def loaded(folder, name):
    return np.load(folder / f"{name}.npy", allow_pickle=False)


def image(path, color, *, mode="RGB", size=(4, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)


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


def broken(path):
    image(path / "a" / "1.png", (1, 1, 1))
    (path / "a" / "2.png").write_bytes((path / "a" / "1.png").read_bytes()[:40])


def of_two_sizes(path):
    image(path / "a" / "1.png", (1, 1, 1))
    image(path / "a" / "2.png", (1, 1, 1), size=(5, 5))


def deep_pixels(path):
    image(path / "a" / "1.png", 1000, mode="I;16")


def no_classes(path):
    image(path / "1.png", (1, 1, 1))


def loose(path):
    no_classes(path)
    image(path / "a" / "1.png", (1, 1, 1))


def empty_class(path):
    (path / "a").mkdir(parents=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(broken, "2.png cannot be decoded as an image", id="broken"),
        pytest.param(of_two_sizes, "bring them to one size with --shape", id="two sizes"),
        pytest.param(deep_pixels, "has pixels of mode I;16: convert it", id="16 bits"),
        pytest.param(no_classes, "has no folders in it", id="no classes"),
        pytest.param(loose, "lies beside the class folders", id="a loose image"),
        pytest.param(empty_class, "holds no images", id="an empty class"),
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
    image(tmp_path / "photos" / "a" / "1.png", (1, 1, 1))
    with pytest.raises(DataError, match="more than the 11 pixels that are safe"):
        pack([tmp_path / "photos"], tmp_path / "out")


def test_a_link_to_nowhere_is_a_missing_input(tmp_path):
    (tmp_path / "photos" / "a").mkdir(parents=True)
    (tmp_path / "photos" / "a" / "1.png").symlink_to("nowhere.png")
    with pytest.raises(InputMissingError, match=r"1\.png cannot be read"):
        pack([tmp_path / "photos"], tmp_path / "out")


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
