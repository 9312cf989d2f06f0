import pytest
from dashboards.queries import NAMES, loaded


@pytest.fixture(params=NAMES)
def dashboard(request):
    return loaded(request.param)


@pytest.fixture(params=NAMES)
def name(request):
    return request.param
