"""The workflows, which nothing here can run: what they name is there, and they may do no more than they must."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github/workflows"
NAMES = sorted(path.name for path in FOLDER.iterdir())
DOCKERFILES = ("operator/Dockerfile", "trainer-image/Dockerfile")

PINNED = re.compile(r"[\w.-]+(/[\w.-]+)+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
# What may be written, and by which jobs.
WRITING = {
    "ci.yaml": {},
    "release.yaml": {
        "package": {"id-token", "attestations"},
        "image": {"id-token", "attestations", "packages"},
        "chart": {"id-token", "attestations", "packages"},
        "release": {"contents"},
    },
}


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def text(name):
    return (FOLDER / name).read_text()


@pytest.fixture
def workflow(text):
    return yaml.safe_load(text)


@pytest.fixture(scope="module")
def release():
    return yaml.safe_load((FOLDER / "release.yaml").read_text())


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job.get("steps", ())]


def expanded(release):
    """Return what the matrix makes of the image job's build arguments and names, by image."""
    job = release["jobs"]["image"]
    known = {
        "env.REGISTRY": release["env"]["REGISTRY"],
        "needs.prepare.outputs.version": "1.2.3",
        "needs.prepare.outputs.base": "base",
        "github.sha": "revision",
    }

    def fill(text, entry):
        values = {**known, **{f"matrix.{key}": value for key, value in entry.items()}}
        backend = "" if entry["name"] == "operator" else f"BACKEND={entry['name']}"
        text = re.sub(
            r"\$\{\{ matrix\.name != 'operator' && format\('BACKEND=\{0\}', matrix\.name\) \|\| '' \}\}", backend, text
        )
        return re.sub(r"\$\{\{ ([\w.-]+) \}\}", lambda found: values[found[1]], text)

    build, note = (next(s for s in job["steps"] if wanted(s)) for wanted in (
        lambda step: step.get("id") == "build", lambda step: step.get("name") == "Note the digest"))  # fmt: skip
    return {
        entry["name"]: {
            "dockerfile": entry["dockerfile"],
            "arguments": dict(line.split("=", 1) for line in fill(build["with"]["build-args"], entry).split()),
            "pushed": re.search(r"name=([^,]+)", fill(build["with"]["outputs"], entry))[1],
            "target": fill(note["env"]["TARGET"], entry),
        }
        for entry in job["strategy"]["matrix"]["include"]
    }


class TestEveryWorkflow:
    def test_says_in_its_header_that_it_has_not_been_run(self, text):
        header = text[: text.index("\nname:")]
        assert "This file has not been run" in header

    def test_pins_every_action_by_the_commit_of_a_release(self, text):
        used = re.findall(r"uses: (.*)", text)
        assert used
        for action in used:
            assert action.startswith("./.github/workflows/") or PINNED.fullmatch(action), action

    def test_pins_an_action_in_one_way_everywhere(self, text):
        every = "".join(path.read_text() for path in FOLDER.iterdir())
        for action, pin in re.findall(r"uses: ([\w./-]+)@(.*)", text):
            assert set(re.findall(rf"uses: {action}@(.*)", every)) == {pin}

    def test_grants_nothing_to_all_jobs_and_to_each_what_it_writes(self, name, workflow):
        assert workflow["permissions"] == {}
        writing = {}
        for job, content in workflow["jobs"].items():
            granted = content["permissions"]
            assert set(granted.values()) <= {"read", "write"}
            if written := {scope for scope, level in granted.items() if level == "write"}:
                writing[job] = written
        assert writing == WRITING[name]

    def test_bounds_the_time_of_every_job_that_runs_here(self, workflow):
        for job, content in workflow["jobs"].items():
            assert "uses" in content or content["timeout-minutes"] <= 180, job

    def test_leaves_no_credentials_in_the_checkout(self, workflow):
        for step in steps(workflow):
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False

    def test_puts_no_expression_into_a_script(self, workflow):
        for step in steps(workflow):
            assert "${{" not in step.get("run", "")

    def test_names_only_files_that_are_there(self, text):
        named = set(
            re.findall(r"(?<![\w./$-])(?:\./)?((?:\.github|\.ci|charts|crds|requirements|tests)/[\w./-]*\w)", text)
        )
        named |= set(re.findall(r"(?:operator|trainer-image)/Dockerfile", text))
        assert named
        assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


class TestTheRelease:
    def test_is_made_of_a_tag_and_only_after_the_tests(self, release):
        assert release[True] == {"push": {"tags": ["v*"]}}  # YAML 1.1 reads `on` as true
        jobs = release["jobs"]

        def before(job):
            needed = jobs[job].get("needs", [])
            needed = [needed] if isinstance(needed, str) else needed
            return set(needed).union(*(before(each) for each in needed))

        assert jobs["test"]["uses"] == "./.github/workflows/ci.yaml"
        for job in ("package", "image", "chart", "release"):
            assert "test" in before(job)
        assert {"package", "image", "chart"} <= before("release")

    def test_builds_every_image_from_its_dockerfile_with_arguments_that_it_takes(self, release):
        built = expanded(release)
        assert built.keys() == {"operator", "keras", "tensorflow", "pytorch"}
        for name, image in built.items():
            taken = set(re.findall(r"^ARG (\w+)", (ROOT / image["dockerfile"]).read_text(), re.MULTILINE))
            assert set(image["arguments"]) <= taken
            assert image["arguments"].get("BACKEND") == (None if name == "operator" else name)
            assert image["arguments"].keys() >= {"BASE", "VERSION", "REVISION"}

    def test_names_the_images_as_the_chart_does(self, release):
        values = yaml.safe_load((ROOT / "charts/feedline/values.yaml").read_text())
        wanted = {"operator": (values["operator"]["image"], "1.2.3")}
        wanted |= {name: (image, f"1.2.3-{name}") for name, image in values["trainer"]["images"].items()}
        for name, image in expanded(release).items():
            of_chart, tag = wanted[name]
            repository = f"{of_chart['registry']}/{of_chart['repository']}"
            assert (image["pushed"], image["target"]) == (repository, f"{repository}:{tag}")

    def test_takes_one_base_that_both_dockerfiles_name(self):
        bases = {re.search(r"^ARG BASE=(.*)", (ROOT / path).read_text(), re.MULTILINE)[1] for path in DOCKERFILES}
        assert len(bases) == 1

    def test_takes_no_tag_before_everything_is_signed(self, release):
        build = next(step for step in release["jobs"]["image"]["steps"] if step.get("id") == "build")
        assert "tags" not in build["with"]
        assert "push-by-digest=true" in build["with"]["outputs"]
        assert (build["with"]["provenance"], build["with"]["sbom"]) == ("mode=max", True)
        assert "SOURCE_DATE_EPOCH" in build["env"]
        assert "rewrite-timestamp=true" in build["with"]["outputs"]

    def test_hands_no_output_on_that_is_not_there(self, release):
        outputs = release["jobs"]["prepare"]["outputs"]
        used = set(re.findall(r"needs\.prepare\.outputs\.(\w+)", (FOLDER / "release.yaml").read_text()))
        assert used == set(outputs)
