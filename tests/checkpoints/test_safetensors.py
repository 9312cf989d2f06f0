"""The files are those of the safetensors library: it reads ours, and we read its."""

import numpy as np
import pytest
from safetensors.numpy import load, save

from feedline.checkpoints import packed, safetensors, unpacked

DTYPES = [
    "bool",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "float16",
    "uint32",
    "int32",
    "float32",
    "uint64",
    "int64",
    "float64",
]


def some(dtype, shape=(3, 2)):
    return (np.arange(np.prod(shape)).reshape(shape) % 2).astype(dtype)


def written(tensors, metadata=None):
    layout = safetensors.lay_out({name: (str(a.dtype), a.shape) for name, a in tensors.items()}, metadata or {})
    content = bytearray(layout.size)
    content[: len(layout.header)] = layout.header
    for tensor in layout.tensors:
        content[tensor.start : tensor.stop] = tensors[tensor.name].tobytes()
    return bytes(content), layout


def test_the_library_reads_what_is_written():
    tensors = {dtype: some(dtype) for dtype in DTYPES} | {
        "none": np.zeros((0, 3), "f4"),
        "one": np.float32(7).reshape(()),
    }
    content, _ = written(tensors, {"of": "me"})
    found = load(content)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert np.array_equal(found[name], tensor)


def test_what_the_library_writes_is_read():
    tensors = {dtype: some(dtype, (5,)) for dtype in DTYPES}
    content = save(tensors, {"of": "them"})
    found, metadata = safetensors.read(content)
    assert metadata == {"of": "them"}
    for name, tensor in tensors.items():
        assert np.array_equal(safetensors.as_array(content, found[name]), tensor)


@pytest.mark.parametrize("dtype", [">f4", ">i8", ">u2", "<f8", ">f2"])
def test_whatever_the_order_of_its_bytes_an_array_is_what_it_was(dtype):
    class Kept:
        is_model = False

        def get(self):
            return {"numbers": np.array([[1, 2], [3, 258]], dtype)}

    assert unpacked(packed("kept", Kept()))["numbers"].tolist() == [[1, 2], [3, 258]]


def test_every_tensor_begins_where_its_elements_can():
    _, layout = written({dtype: some(dtype, (3,)) for dtype in DTYPES})
    for tensor in layout.tensors:
        assert tensor.start % np.dtype(tensor.dtype).itemsize == 0
    assert len(layout.header) % 64 == 0


@pytest.mark.parametrize("length", [0, 7, 8, 30, 100])
def test_a_file_that_is_cut_short_is_refused(length):
    content, _ = written({"a": some("float32")})
    with pytest.raises(ValueError, match=r"header|bytes of|delimiter|Expecting"):
        safetensors.read(content[:length])
