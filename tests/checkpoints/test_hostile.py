"""What a hostile checkpoint can do: be refused."""

import json
import zlib

import pytest

from feedline.checkpoints import Opened, checkpoints, read_state, record, safetensors
from feedline.errors import DataError


def file_of(header):
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    return len(text).to_bytes(8, "little") + text + bytes(64)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8,
        (2**63).to_bytes(8, "little") + b"{}",
        file_of(b"[" * 100_000),
        file_of(b"\x80not a pickle"),
        file_of([]),
        file_of({"a": 5}),
        file_of({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 400]}}),
        file_of({"a": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4]}}),
        file_of({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]}}),
        file_of({"a": {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}}),
        file_of({"a": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 4]}}),
        file_of({"a": {"dtype": "object", "shape": [1], "data_offsets": [0, 4]}}),
    ],
    ids=range(13),
)
def test_a_hostile_header_is_refused(content):
    with pytest.raises(ValueError):
        safetensors.read(content)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", ".", "", "a/b", 5])
def test_a_manifest_cannot_name_files_elsewhere(kept, name):
    path, whole = kept.save(1)
    content = json.loads(record.write(whole))["checkpoint"]
    content["files"][0]["name"] = name
    text = json.dumps({"crc32": zlib.crc32(record._canonical(content)), "checkpoint": content})
    (path / "manifest.json").write_text(text)
    (found,) = checkpoints(kept.path)
    assert found.record is None
    assert "elsewhere" in found.problem


def test_a_manifest_without_end_is_not_read_to_its_end(kept):
    path, _ = kept.save(1)
    with (path / "manifest.json").open("r+b") as file:
        file.truncate(1 << 40)
    (found,) = checkpoints(kept.path)
    assert found.record is None


def test_nothing_is_unpickled(kept):
    """A pickle in the place of every text of a file is a text, or refused."""
    import pickle

    class Bomb:
        def __reduce__(self):
            return pytest.fail, ("it was unpickled",)

    bomb = pickle.dumps(Bomb())
    path, whole = kept.save(1)
    target = path / "model.safetensors"
    header = json.dumps({"__metadata__": {"feedline": bomb.decode("latin-1")}}).encode()
    content = len(header).to_bytes(8, "little") + header
    target.write_bytes(content)
    found = record.Record(
        **{**vars(whole), "files": (record.File("model.safetensors", len(content), zlib.crc32(content)),)}
    )
    (path / "manifest.json").write_bytes(record.write(found))
    (there,) = checkpoints(kept.path)
    opened = Opened(there)
    with pytest.raises(DataError, match=r"model\.safetensors is damaged"):
        read_state(opened, "model")
    opened.close()
