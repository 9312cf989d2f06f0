"""What a release decides: which version it is, which digests the chart names, what the release page says."""

import importlib.util
import re
import shutil
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DIGEST = "sha256:" + 64 * "a"


@pytest.fixture(scope="module")
def release():
    """Return the release's script as a module."""
    spec = importlib.util.spec_from_file_location("release", ROOT / ".github/release.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def repository(tmp_path):
    """Return a copy of the files that name a version, at 1.2.3."""
    (tmp_path / "charts/feedline").mkdir(parents=True)
    for name in ("pyproject.toml", "charts/feedline/Chart.yaml", "charts/feedline/values.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    edit(tmp_path / "pyproject.toml", r'^version = ".*"', 'version = "1.2.3"')
    edit(tmp_path / "charts/feedline/Chart.yaml", r"^(version|appVersion): .*", r"\1: 1.2.3")
    changelog = (
        "# Changelog\n\n## [Unreleased]\n\n- later\n\n## [1.2.3] - 2026-12-01\n\n- Now.\n\n## [1.2.2]\n\n- then\n"
    )
    (tmp_path / "CHANGELOG.md").write_text(changelog)
    return tmp_path


@pytest.fixture
def digests(tmp_path):
    """Return the folder of digests that the images' jobs leave."""
    folder = tmp_path / "digests"
    folder.mkdir()
    for number, name in enumerate(("operator", "keras", "tensorflow", "pytorch")):
        (folder / name).write_text(f"ghcr.io/feedline/{name}:1.2.3 sha256:{number:064x}\n")
    return folder


def edit(path, pattern, replacement):
    text, count = re.subn(pattern, replacement, path.read_text(), flags=re.MULTILINE)
    assert count
    path.write_text(text)


def test_a_tag_on_which_everything_agrees_is_the_version(release, repository):
    assert release.check("v1.2.3", repository) == "1.2.3"


@pytest.mark.parametrize(
    ("file", "pattern", "replacement", "message"),
    [
        ("pyproject.toml", r'^version = ".*"', 'version = "1.2.4"', "and pyproject.toml says 1.2.4."),
        (
            "charts/feedline/Chart.yaml",
            "^version: .*",
            "version: 1.2.4",
            "and version in charts/feedline/Chart.yaml says",
        ),
        (
            "charts/feedline/Chart.yaml",
            "^appVersion: .*",
            "appVersion: 1.2",
            "and appVersion in charts/feedline/Chart.yaml",
        ),
        ("charts/feedline/Chart.yaml", "^appVersion: .*\n", "", "Chart.yaml says nothing."),
        ("CHANGELOG.md", r"\[1\.2\.3\]", "[1.2.30]", r"CHANGELOG.md has no section \[1.2.3\]."),
    ],
    ids=["package", "chart", "app", "app left out", "changelog"],
)
def test_a_file_that_names_another_version_stops_the_release(release, repository, file, pattern, replacement, message):
    edit(repository / file, pattern, replacement)
    with pytest.raises(release.ReleaseError, match=message):
        release.check("v1.2.3", repository)


@pytest.mark.parametrize("tag", ["1.2.3", "v1.2", "v1.2.3-rc1", "v1.2.3\n", "vv1.2.3", ""])
def test_a_tag_that_is_no_version_stops_the_release(release, repository, tag):
    with pytest.raises(release.ReleaseError, match=r"is no vX\.Y\.Z"):
        release.check(tag, repository)


def test_the_notes_are_the_changelogs_section(release, repository):
    assert release.notes("1.2.3", repository) == "- Now."


def test_the_chart_names_every_image_by_digest_and_is_else_as_it_was(release, repository, digests):
    path = repository / "charts/feedline/values.yaml"
    before, lines = yaml.safe_load(path.read_text()), path.read_text().splitlines()
    release.pin(digests, repository)
    after = yaml.safe_load(path.read_text())
    images = {
        "operator": ("operator", "image"),
        **{name: ("trainer", "images", name) for name in after["trainer"]["images"]},
    }
    for name, keys in images.items():
        of_before, of_after = before, after
        for key in keys:
            of_before, of_after = of_before[key], of_after[key]
        assert of_after["digest"] == (digests / name).read_text().split()[1]
        of_before["digest"] = of_after["digest"]
    assert after == before
    changed = [line for line in path.read_text().splitlines() if line not in lines]
    assert len(changed) == len(images) == 4


def test_a_digest_that_is_missing_is_named(release, repository, digests):
    (digests / "keras").unlink()
    with pytest.raises(
        release.ReleaseError, match=r"digests of \['operator', 'pytorch', 'tensorflow'\], and the chart"
    ):
        release.pin(digests, repository)


def test_a_digest_that_is_none_is_refused(release, repository, digests):
    (digests / "keras").write_text("ghcr.io/feedline/feedline-trainer:1.2.3-keras \n")
    with pytest.raises(release.ReleaseError, match="digest of keras is none"):
        release.pin(digests, repository)


def test_values_without_a_place_for_a_digest_are_refused(release, repository, digests):
    edit(repository / "charts/feedline/values.yaml", r"^    tensorflow:", "    other:")
    with pytest.raises(release.ReleaseError, match=r"no trainer\.images\.tensorflow\.digest"):
        release.pin(digests, repository)
