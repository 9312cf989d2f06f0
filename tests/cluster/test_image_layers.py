"""The layers of the images: how heavy, how shared, and equal when they are built again."""

import shutil
from pathlib import Path

import pytest
import yaml

from cluster import engines, images, oci

ROOT = Path(__file__).parents[2]
BUDGET = yaml.safe_load(Path(__file__).with_name("image_budget.yaml").read_text())

pytestmark = pytest.mark.timeout(engines.BUILD_SECONDS)


@pytest.fixture
def buildah(names):
    """Return the engine, one that knows layers."""
    engine = engines.engine()
    if isinstance(engine, engines.Docker):
        pytest.skip("docker hands images over whole: their layers are looked at where buildah builds")
    return engine


@pytest.fixture
def built(buildah):
    """Return a function that builds the operator's image under another name, and returns its layers' digests."""
    name = "feedline.dev/operator-again:test"

    def built(**options):
        buildah.build(images.OPERATOR_DOCKERFILE, name, {"VERSION": images.version()}, **options)
        return digests(buildah.image(name))

    with images.alone():
        yield built
        if buildah.has(name):
            buildah.remove(name)


@pytest.fixture
def sources(tmp_path):
    """Return a copy of what the images are made of, with times of its own."""
    for path in images.sources():
        (tmp_path / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, tmp_path / path.relative_to(ROOT))
    return tmp_path


def digests(image):
    return [layer.digest for layer in image.layers]


@pytest.mark.parametrize("kind", BUDGET)
def test_an_image_keeps_within_its_budget(buildah, names, kind):
    base = digests(buildah.image(buildah.base))
    over = sum(layer.size_bytes for layer in buildah.image(names[kind]).layers if layer.digest not in base)
    assert over / 1e6 <= BUDGET[kind]


def test_there_is_a_budget_for_every_image(names):
    assert BUDGET.keys() == names.keys()


def test_a_node_that_has_the_packages_is_given_only_the_layer_of_feedline(buildah, image, tmp_path):
    *_, last = buildah.parts(image)
    last.write(tmp_path / "image.tar")
    sent = oci.blobs(tmp_path / "image.tar")
    assert [digest in sent for digest in digests(buildah.image(image))][-2:] == [False, True]
    assert (tmp_path / "image.tar").stat().st_size < 10e6


def test_backends_share_their_layers_if_their_locks_are_equal(buildah, names):
    keras, tensorflow = ((ROOT / f"requirements/{backend}.txt").read_bytes() for backend in ("keras", "tensorflow"))
    shared = digests(buildah.image(names["keras"])) == digests(buildah.image(names["tensorflow"]))
    assert shared == (keras == tensorflow)


def test_built_again_from_nothing_every_layer_is_the_same(built, sources):
    before = built(context=sources)
    assert built(context=sources, anew=True) == before


def test_a_change_of_the_readme_remakes_only_the_last_layer(built, sources):
    before = built(context=sources)
    with (sources / "README.md").open("a") as readme:
        readme.write("\nOne line more.\n")
    after = built(context=sources)
    assert after[:-1] == before[:-1]
    assert after[-1] != before[-1]
