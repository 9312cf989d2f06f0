"""The project's images, built once for all tests of this folder that look at them."""

import os

import pytest

from cluster import images
from cluster.errors import NotHereError

NAMES = [*images.BACKENDS, "operator"]


@pytest.fixture(scope="session")
def names():
    """Return the names of all images, built, where they can be run."""
    try:
        built = images.build_images()
        images.run(built["operator"], "true")
    except NotHereError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
    return built


@pytest.fixture(scope="session", params=NAMES)
def image(request, names):
    """Return the name of each image in turn."""
    return names[request.param]
