"""The project's images, built once for all tests of this folder that look at them."""

import pytest

from cluster import images
from cluster.fixtures import said_where_it_cannot_run

NAMES = [*images.BACKENDS, "operator"]


@pytest.fixture(scope="session")
def names():
    """Return the names of all images, built, where they can be run."""
    with said_where_it_cannot_run():
        built = images.build_images()
        images.run(built["operator"], "true")
    return built


@pytest.fixture(scope="session", params=NAMES)
def image(request, names):
    """Return the name of each image in turn."""
    return names[request.param]
