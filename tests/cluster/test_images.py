"""The images as they are built: what is in them, who runs them, and what a node imports; no cluster runs here."""

import functools
import hashlib
import json
import os
import re
import tarfile
from pathlib import Path

import pytest

from cluster import engines, images, oci
from cluster.errors import NotHereError

ROOT = Path(__file__).parents[2]
NAMES = [*images.BACKENDS, "operator"]
TOOLS = ("gcc", "cc", "make", "apt", "apt-get", "dpkg", "pip", "pip3", "uv", "git", "curl", "wget")

# Runs in an image, as the image's user, and tells what is there.
LOOK = f"""
import importlib.util, json, os, shutil, stat, subprocess, sys, tempfile
set_user_id, writable = [], []
for folder, folders, files in os.walk("/"):
    folders[:] = [name for name in folders if not os.path.ismount(os.path.join(folder, name))]
    if os.access(folder, os.W_OK):
        writable.append(folder)
    for path in (os.path.join(folder, name) for name in files):
        if os.path.islink(path) or os.path.ismount(path):
            continue
        if os.stat(path).st_mode & (stat.S_ISUID | stat.S_ISGID):
            set_user_id.append(path)
        if os.access(path, os.W_OK):
            writable.append(path)
installed = ("feedline", "feedline_operator", "torch", "tensorflow", "keras", "kopf", "kubernetes", "pip")
numpy = importlib.util.find_spec("numpy")
json.dump(
    {{
        "user": [os.getuid(), os.getgid()],
        "python": sys.executable,
        "home": os.path.expanduser("~"),
        "set_user_id": set_user_id,
        "writable": writable,
        "tools": [name for name in {TOOLS} if shutil.which(name)],
        "programs": [name for name in ("feedline", "feedline-operator") if shutil.which(name)],
        "installed": [name for name in installed if importlib.util.find_spec(name)],
        "folders": [path for path in ("/data", "/code") if os.path.exists(path)],
        "version": subprocess.run(["feedline", "version"], capture_output=True, text=True).stdout,
        "bytecode_flags": open(numpy.cached, "rb").read(8)[4],
    }},
    sys.stdout,
)
"""

# The first build takes minutes.
built = pytest.mark.timeout(engines.BUILD_SECONDS)


@pytest.fixture(scope="module")
def names():
    """Return the names of all images, built."""
    try:
        return images.build_images()
    except NotHereError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=NAMES)
def image(request, names):
    """Return the name of each image in turn."""
    return names[request.param]


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
        assert "pip" not in found["installed"]

    def test_lets_its_user_write_to_places_for_temporary_files_only(self, found):
        assert set(found["writable"]) <= {"/tmp", "/var/tmp", "/run/lock"}
        assert found["home"] == "/tmp"

    def test_has_no_content_where_data_and_code_are_mounted(self, found):
        assert found["folders"] == []

    def test_has_the_command_line_on_the_path(self, found):
        assert "feedline" in found["programs"]
        assert re.search(r"^feedline +0\.", found["version"], re.MULTILINE)

    def test_takes_compiled_code_as_it_is_for_it_can_compile_nothing(self, found):
        assert found["bytecode_flags"] == 1  # PEP 552: by hash, not checked

    def test_is_named_by_its_ingredients_so_that_nothing_is_built_again(self, names):
        assert images.build_images() == names

    def test_gives_a_node_that_has_the_packages_only_the_layer_of_feedline(self, image, tmp_path):
        if isinstance(engines.engine(), engines.Docker):
            pytest.skip("docker hands images over whole")
        *_, last = engines.engine().parts(image)
        last.write(tmp_path / "image.tar")
        manifest, blobs = read(tmp_path / "image.tar")
        sent = [layer["digest"] for layer in manifest["layers"] if layer["digest"] in blobs]
        assert sent == [manifest["layers"][-1]["digest"]]
        assert (tmp_path / "image.tar").stat().st_size < 10e6


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


@built
@pytest.mark.parametrize("image", images.BACKENDS, indirect=True)
def test_a_trainer_without_a_manifest_says_so_and_ends_with_64(image):
    done = images.run(image, *images.config(image)["Entrypoint"])
    assert done.returncode == 64
    assert "/etc/feedline/manifest: No such file" in done.stderr


@pytest.mark.parametrize("dockerfile", ["trainer-image/Dockerfile", "operator/Dockerfile"])
def test_a_dockerfile_takes_the_installer_that_is_locked(dockerfile):
    locked = re.search(r"^uv==(\S+)", (ROOT / "requirements/bootstrap.txt").read_text(), re.MULTILINE)[1]
    assert f"ARG UV=ghcr.io/astral-sh/uv:{locked}\n" in (ROOT / dockerfile).read_text()


class TestAnArchive:
    def test_holds_every_blob_under_its_digest(self, tmp_path):
        oci.write_archive(tmp_path / "a.tar", "example.org/two:1", two_layers(b"low", b"high"))
        manifest, blobs = read(tmp_path / "a.tar")
        wanted = {descriptor["digest"] for descriptor in [manifest["config"], *manifest["layers"]]}
        assert wanted < set(blobs)
        assert all(digest == f"sha256:{hashlib.sha256(content).hexdigest()}" for digest, content in blobs.items())

    def test_leaves_out_layers_that_the_reader_has(self, tmp_path):
        image = two_layers(b"low", b"high")
        oci.write_archive(tmp_path / "a.tar", "example.org/two:1", image, {image.layers[0].digest})
        manifest, blobs = read(tmp_path / "a.tar")
        assert [layer["digest"] in blobs for layer in manifest["layers"]] == [False, True]

    def test_of_a_damaged_layer_is_refused_and_not_left_half_written(self, tmp_path):
        image = two_layers(b"low", b"high")
        damaged = oci.Layer(image.layers[0].digest, 3, [b"lot"])
        with pytest.raises(ValueError, match="damaged"):
            oci.write_archive(tmp_path / "a.tar", "example.org/two:1", oci.Image(image.config, (damaged,)))
        assert not (tmp_path / "a.tar").exists()

    def test_of_a_foundation_is_the_same_for_all_images_upon_it(self):
        assert oci.foundation_name(two_layers(b"low", b"1")) == oci.foundation_name(two_layers(b"low", b"2"))
        assert oci.foundation_name(two_layers(b"low", b"1")) != oci.foundation_name(two_layers(b"LOW", b"1"))


class TestADataImage:
    def test_holds_the_files_of_the_folder_readable_by_everyone(self, tmp_path):
        folder = tmp_path / "digits"
        (folder / "train").mkdir(parents=True)
        (folder / "train/labels.npy").write_bytes(b"labels")
        (folder / "train/labels.npy").chmod(0o600)
        with tarfile.open(layer_of(folder, tmp_path)) as tar:
            assert tar.getnames() == ["train", "train/labels.npy"]
            assert tar.extractfile("train/labels.npy").read() == b"labels"
            assert [oct(tar.getmember(name).mode) for name in tar.getnames()] == ["0o755", "0o644"]

    def test_is_equal_for_equal_files_whenever_they_were_written(self, tmp_path):
        for name, seconds in (("a", 1), ("b", 2)):
            (tmp_path / name).mkdir()
            (tmp_path / name / "x.npy").write_bytes(b"x")
            os.utime(tmp_path / name / "x.npy", (seconds, seconds))
        assert oci.folder_image(tmp_path / "a") == oci.folder_image(tmp_path / "b")


def two_layers(low, high):
    layers = tuple(
        oci.Layer(f"sha256:{hashlib.sha256(content).hexdigest()}", len(content), [content]) for content in (low, high)
    )
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"diff_ids": [layer.digest for layer in layers]}}
    return oci.Image(json.dumps(config).encode(), layers)


def read(archive):
    """Return the manifest, and the blobs by digest, of an archive."""
    with tarfile.open(archive) as tar:
        files = {name: tar.extractfile(name).read() for name in tar.getnames()}
    blobs = {name.removeprefix("blobs/").replace("/", ":"): files[name] for name in files if name.startswith("blobs/")}
    return json.loads(blobs[json.loads(files["index.json"])["manifests"][0]["digest"]]), blobs


def layer_of(folder, tmp_path):
    archive = images.data_image(folder, "example.org/test-data:1")
    manifest, blobs = read(archive)
    archive.unlink()
    (tmp_path / "layer.tar").write_bytes(blobs[manifest["layers"][0]["digest"]])
    return tmp_path / "layer.tar"
