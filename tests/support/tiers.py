"""What a test needs is its tier, a marker; and what each tier cost is said at the end of a run.

A test's tier follows from the fixtures that it takes, or is given where it needs more than these say, by
`pytestmark = pytest.mark.trainer` and the like. Where tests run in several processes (pytest-xdist), those of the api
and of the node tier each run in one of them, since they share a cluster.
"""

import time
from collections import Counter

import pytest

TIERS = {
    "unit": "nothing, and no child process that imports a framework",
    "trainer": "frameworks, or processes of their own",
    "programs": "programs that are built from Go modules",
    "api": "a real API server",
    "node": "a real node, or the images",
}
# Fixtures that say what a test needs, whether it takes them by itself or through another one.
FIXTURES = {
    "node": {"node_cluster", "node_level", "names", "images"},
    "api": {"api_cluster", "oldest_api_cluster", "api_level", "api_levels"},
    "programs": {"helm_level", "promtool", "actionlint"},
    "trainer": {"processes", "apart", "apart_on_tensorflow", "python"},
}


def pytest_configure(config):
    for name, needs in TIERS.items():
        config.addinivalue_line("markers", f"{name}: needs {needs}")
    config.pluginmanager.register(Costs(), "costs-of-tiers")


def fixtures_of(item):
    """Return the names of the fixtures that a test takes, by itself or through others; a parameter is none."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return set(getattr(item, "fixturenames", ())) - parameters.keys()


def tier_of(item):
    """Return the tier of a test."""
    given = [name for name in TIERS if item.get_closest_marker(name)]
    taken = [name for name, fixtures in FIXTURES.items() if fixtures & fixtures_of(item)]
    return max([*given, *taken, "unit"], key=list(TIERS).index)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Mark each test, and put what needs less first; of several processes, two begin with what takes longest."""
    order = ["api", "node", "unit", "trainer", "programs"] if hasattr(config, "workerinput") else list(TIERS)
    tiers = {item: tier_of(item) for item in items}
    for item, tier in tiers.items():
        if item.get_closest_marker(tier) is None:
            item.add_marker(tier)
        if tier in {"api", "node"}:
            item.add_marker(pytest.mark.xdist_group(tier))
        item.user_properties.append(("tier", tier))
    # A test that starts a node of its own needs the machine before the session's node is there.
    items.sort(key=lambda item: (order.index(tiers[item]), "node_cluster" in fixtures_of(item)))


def pytest_collection_finish(session):
    """Refuse to run where the tests of a cluster would be dealt to several processes, each with a cluster of its own."""
    if hasattr(session.config, "workerinput"):
        for item in session.items:
            if item.get_closest_marker("xdist_group") and "@" not in item.nodeid:
                raise pytest.UsageError("this pytest-xdist does not group tests with this pytest: see pyproject.toml")


class Costs:
    """Adds up what the tests of each tier take."""

    def __init__(self):
        self.began = time.monotonic()
        self.seconds, self.tests = Counter(), Counter()

    def pytest_runtest_logreport(self, report):
        tier = dict(report.user_properties).get("tier", "unit")
        self.seconds[tier] += report.duration
        self.tests[tier] += report.when == "call"

    def pytest_terminal_summary(self, terminalreporter):
        terminalreporter.section("what each tier cost")
        for tier in (name for name in TIERS if name in self.seconds):
            terminalreporter.line(f"{tier:10}{self.tests[tier]:6} tests {self.seconds[tier]:8.0f} s")
        terminalreporter.line(
            f"{'all':10}{self.tests.total():6} tests {time.monotonic() - self.began:8.0f} s by the clock"
        )
