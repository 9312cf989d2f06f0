"""Archives of images and of data, as a node imports them: nothing is built for these."""

import hashlib
import json
import os
import tarfile

import pytest

from cluster import images, oci


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
