"""The images as they are built: what is in them, and what they say of themselves. No cluster runs here."""

import functools
import json
import re
from pathlib import Path

import pytest

from cluster import engines, images

ROOT = Path(__file__).parents[2]
NAMES = [*images.BACKENDS, "operator"]
BUILDING = ("gcc", "g++", "cc", "c++", "cpp", "as", "ld", "make", "nvcc")
INSTALLING = ("apt", "apt-get", "apt-cache", "dpkg", "dpkg-deb", "pip", "pip3", "uv", "uvx", "git", "curl", "wget")

# Runs in an image, as the image's user, and tells what is there. Nothing can be written where it runs, so that whether
# its user might is told by the files' own modes.
LOOK = f"""
import importlib.util, json, os, shutil, stat, subprocess, sys, tempfile
set_user_id, writable = [], []
groups = {{os.getgid(), *os.getgroups()}}
def look(path):
    if os.path.islink(path) or os.path.ismount(path) and path != "/":
        return False
    found = os.stat(path)
    mine = stat.S_IWOTH
    mine |= stat.S_IWUSR if found.st_uid == os.getuid() else 0
    mine |= stat.S_IWGRP if found.st_gid in groups else 0
    if found.st_mode & mine:
        writable.append(path)
    if stat.S_ISREG(found.st_mode) and found.st_mode & (stat.S_ISUID | stat.S_ISGID):
        set_user_id.append(path)
    return True
look("/")
for folder, folders, files in os.walk("/"):
    folders[:] = [name for name in folders if look(os.path.join(folder, name))]
    for name in files:
        look(os.path.join(folder, name))
installed = ("feedline", "feedline_operator", "torch", "tensorflow", "keras", "kopf", "kubernetes", "pip", "ensurepip")
compiled = {{name: importlib.util.find_spec(name).cached for name in ("asyncio", "feedline", "numpy")}}
json.dump(
    {{
        "user": [os.getuid(), os.getgid()],
        "process": os.getpid(),
        "read_only": bool(os.statvfs("/").f_flag & os.ST_RDONLY),
        "temporary": tempfile.gettempdir(),
        "python": sys.executable,
        "home": os.path.expanduser("~"),
        "set_user_id": set_user_id,
        "writable": writable,
        "tools": [name for name in {BUILDING + INSTALLING} if shutil.which(name)],
        "programs": [name for name in ("feedline", "feedline-operator") if shutil.which(name)],
        "installed": [name for name in installed if importlib.util.find_spec(name)],
        "folders": [path for path in ("/data", "/code") if os.path.exists(path)],
        "compiled": {{name: open(path, "rb").read(8)[4] for name, path in compiled.items() if os.path.exists(path)}},
    }},
    sys.stdout,
)
"""

OCI = "org.opencontainers.image."

# The first build takes minutes.
built = pytest.mark.timeout(engines.BUILD_SECONDS)


@functools.cache
def look(image):
    """Return what a program finds that runs in the image."""
    done = images.run(image, "python", "-c", LOOK)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def found(image):
    return look(image)


@built
class TestEveryImage:
    def test_runs_as_an_unprivileged_user_by_number(self, image, found):
        assert images.config(image)["User"] == "65532:65532"
        assert found["user"] == [65532, 65532]

    def test_holds_no_program_that_changes_the_user(self, found):
        assert found["set_user_id"] == []

    def test_holds_nothing_that_builds_or_installs(self, found):
        assert found["tools"] == []
        assert not {"pip", "ensurepip"} & set(found["installed"])

    def test_works_with_a_root_that_cannot_be_written_and_puts_temporary_files_into_tmp(self, found):
        assert found["read_only"]
        assert (found["home"], found["temporary"]) == ("/tmp", "/tmp")

    def test_has_nothing_that_its_user_may_write_but_tmp(self, found):
        assert found["writable"] == []

    def test_has_no_content_where_data_and_code_are_mounted(self, found):
        assert found["folders"] == []

    def test_has_the_command_line_on_the_path(self, image, found):
        assert "feedline" in found["programs"]
        done = images.run(image, "feedline", "version")
        assert re.search(rf"^feedline +{re.escape(images.version())}$", done.stdout, re.MULTILINE), done.stderr

    def test_takes_compiled_code_as_it_is_for_it_can_compile_nothing(self, found):
        assert found["compiled"] == {"asyncio": 1, "feedline": 1, "numpy": 1}  # PEP 552: by hash, not checked

    def test_is_named_by_its_ingredients_so_that_nothing_is_built_again(self, names):
        assert images.build_images() == names

    def test_tells_its_version_and_licence_in_labels(self, image):
        labels = images.config(image)["Labels"]
        told = {name.rpartition(".")[2]: value for name, value in labels.items() if name.startswith(OCI)}
        assert told.keys() == {
            *("title", "description", "url", "documentation", "vendor", "licenses", "version", "revision"),
        }
        assert told["version"] == images.version()
        assert told["licenses"] == "Apache-2.0"
        assert all(told.values())

    def test_is_stopped_by_sigterm(self, image):
        assert images.config(image)["StopSignal"] in {"SIGTERM", "15"}


@built
@pytest.mark.parametrize(
    ("image", "entrypoint", "installed"),
    [
        ("keras", ["python", "-m", "feedline.launch"], ["feedline", "tensorflow", "keras"]),
        ("tensorflow", ["python", "-m", "feedline.launch"], ["feedline", "tensorflow", "keras"]),
        ("pytorch", ["python", "-m", "feedline.launch"], ["feedline", "torch"]),
        ("operator", ["feedline-operator"], ["feedline", "feedline_operator", "kopf", "kubernetes"]),
    ],
    indirect=["image"],
    ids=NAMES,
)
def test_an_image_holds_what_its_program_needs_and_starts_it_without_a_shell(image, found, entrypoint, installed):
    assert images.config(image)["Entrypoint"] == entrypoint
    assert found["python"] == "/opt/feedline/bin/python"
    assert found["installed"] == installed
    assert set(entrypoint[:1]) <= {"python", *found["programs"]}


# What the operator does for each trial of a sweep, whose databases are not in the image.
ASK = """
from feedline.manifest import parse_sweep
from feedline.sweeps import State, Trial, suggest
rate = {"name": "rate", "float": {"min": "1e-4", "max": "1", "scale": "Log"}}
data = {"volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "d"}}]}
data["train"] = {"arrays": [{"name": "x", "path": "d/x.npy", "role": "Input"}]}
spec = {"backend": "pytorch", "data": data, "train": {"entrypoint": "own:train", "epochs": 1}}
objective = {"value": "loss", "goal": "Minimize"}
sweep = parse_sweep(
    {"metadata": {"name": "a"}, "spec": {"objective": objective, "parameters": [rate], "trials": 40, "template": {"spec": spec}}}
)
known = []
for index in range(20):
    values = suggest(sweep, index, known)
    known.append(Trial(index, values, State.COMPLETE, ((1, abs(values["rate"] - 0.1)),), 1))
print(min(each.best(sweep.objective) for each in known))
"""


@built
@pytest.mark.parametrize("image", ["operator"], indirect=True)
def test_the_operator_chooses_parameters(image):
    done = images.run(image, "python", "-c", ASK)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.1


@built
@pytest.mark.parametrize("image", ["keras", "tensorflow", "pytorch"], indirect=True)
def test_a_trainer_copies_rows_by_compiled_code(image):
    done = images.run(image, "python", "-c", "from feedline.native import copied_by; print(copied_by())")
    assert done.stdout == "native\n", done.stderr


DOCKERFILES = pytest.mark.parametrize("dockerfile", ["trainer-image/Dockerfile", "operator/Dockerfile"])


@DOCKERFILES
def test_a_dockerfile_takes_the_installer_that_is_locked(dockerfile):
    locked = re.search(r"^uv==(\S+)", (ROOT / "requirements/bootstrap.txt").read_text(), re.MULTILINE)[1]
    assert f"ARG UV=ghcr.io/astral-sh/uv:{locked}\n" in (ROOT / dockerfile).read_text()


@DOCKERFILES
def test_a_dockerfile_names_version_and_revision_only_after_the_last_layer(dockerfile):
    layers, _, rest = (ROOT / dockerfile).read_text().rpartition("\nCOPY ")
    assert "{VERSION}" not in layers
    assert "REVISION" not in layers
    assert "\nRUN " not in rest
    assert rest.index("ENTRYPOINT") < rest.index("ARG VERSION=unknown") < rest.index("ARG REVISION=unknown")
